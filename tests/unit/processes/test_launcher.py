"""The launcher and its client, with real processes."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from chaos.errors import EnvironmentFailure
from chaos.processes import host
from chaos.processes.client import Launcher
from chaos.topology.model import InstanceConfig
from chaos.topology.wire import config_to_json

SERVICES = """
import atexit, os, signal, sys, time
atexit.register(lambda: print("the launcher's atexit ran"))
print("imported in", os.getpid(), flush=True)

def tell(config):
    print(config.instance, config.settings["greeting"], os.environ["SPICE"], os.getcwd())

def wait(config):
    print("waiting", flush=True)
    signal.pause()

def leave(config):
    sys.exit(3)

def leave_with_words(config):
    sys.exit("no more")

def fail(config):
    raise RuntimeError("broken on purpose")

def open_files(config):
    links = [f"/proc/self/fd/{fd}" for fd in range(256)]
    print([os.readlink(link) for link in links if os.path.lexists(link)])

def handlers(config):
    print([signal.getsignal(n) == signal.SIG_DFL for n in (signal.SIGTERM, signal.SIGCHLD)],
          signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def config(name="oca-7"):
    return config_to_json(
        InstanceConfig(
            service="oca",
            instance=name,
            index=7,
            host="127.0.0.1",
            port=1,
            labels={},
            calls={},
            reached_by={},
            settings={"greeting": "hello"},
            disabled=(),
            seed=1,
            data_dir="/nowhere",
        )
    )


class Kitchen:
    """A launcher, and a folder for its children."""

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self.launcher, self.folder, self.log = launcher, folder, folder / "log"

    async def command(self, *argv, **env):
        return await self.launcher.spawn_command(argv, env=env, cwd=self.folder, log=self.log)

    async def shell(self, script, **env):
        return await self.command("sh", "-c", script, **env)

    async def python(self, name):
        return await self.launcher.spawn_python(
            f"little_services:{name}", config(), env={"SPICE": "salt"}, cwd=self.folder, log=self.log
        )

    async def logged(self, text, *, within_s=5.0):
        async with asyncio.timeout(within_s):
            while text not in (self.log.read_text() if self.log.exists() else ""):
                await asyncio.sleep(0.005)
        return self.log.read_text()


@pytest.fixture
async def kitchen(tmp_path):
    (tmp_path / "little_services.py").write_text(SERVICES)
    launcher = await Launcher.open(python_path=[tmp_path], log=tmp_path / "launcher.log")
    yield Kitchen(launcher, tmp_path)
    await launcher.close()
    assert not host.is_alive(launcher.pid, None)


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def gone(pid, *, within_s=5.0):
    async with asyncio.timeout(within_s):
        while host.is_alive(pid, None):
            await asyncio.sleep(0.005)


async def test_a_command_runs_in_its_folder_with_its_variables_and_a_log(kitchen):
    process = await kitchen.shell('echo "$SPICE in $(pwd)"; echo trouble >&2; exit 4', SPICE="pepper")
    assert await process.wait() == 4
    assert process.exit_status == 4
    assert kitchen.log.read_text() == f"pepper in {kitchen.folder}\ntrouble\n"


async def test_a_wrong_command_or_folder_is_an_error_and_the_launcher_lives_on(kitchen):
    with pytest.raises(EnvironmentFailure, match=r"cannot start 'no-such-program' in .*: No such file"):
        await kitchen.command("no-such-program")
    with pytest.raises(EnvironmentFailure, match="No such file"):
        await kitchen.launcher.spawn_command(["true"], env={}, cwd=kitchen.folder / "none", log=kitchen.log)
    with pytest.raises(EnvironmentFailure, match=r"No such file or directory: .*none/log"):
        await kitchen.launcher.spawn_command(["true"], env={}, cwd=kitchen.folder, log=kitchen.folder / "none" / "log")
    assert await (await kitchen.command("true")).wait() == 0


async def test_a_python_service_is_called_with_its_configuration(kitchen):
    await kitchen.launcher.preload("little_services")
    process = await kitchen.python("tell")
    assert await process.wait() == 0
    assert kitchen.log.read_text() == f"oca-7 hello salt {kitchen.folder}\n"


async def test_a_python_service_neither_imports_again_nor_runs_the_launchers_end(kitchen):
    await kitchen.launcher.preload("little_services")
    processes = [await kitchen.python("tell") for _ in range(3)]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert kitchen.log.read_text().count("hello") == 3
    assert "atexit" not in kitchen.log.read_text()
    assert (kitchen.folder / "launcher.log").read_text() == f"imported in {kitchen.launcher.pid}\n"


async def test_the_end_of_a_python_service_is_its_exit_status(kitchen):
    assert await (await kitchen.python("leave")).wait() == 3
    assert await (await kitchen.python("leave_with_words")).wait() == 1
    assert await (await kitchen.python("fail")).wait() == 1
    log = kitchen.log.read_text()
    assert "no more\n" in log
    assert "RuntimeError: broken on purpose\n" in log


async def test_a_python_service_has_no_file_of_the_launchers(kitchen):
    assert await (await kitchen.python("open_files")).wait() == 0
    assert kitchen.log.read_text() == f"['/dev/null', '{kitchen.log}', '{kitchen.log}']\n"


async def test_a_python_service_gets_default_signal_handlers(kitchen):
    assert await (await kitchen.python("handlers")).wait() == 0
    assert kitchen.log.read_text() == "[True, True] set()\n"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("no_such_module:main", "cannot import 'no_such_module': ModuleNotFoundError"),
        ("little_services:none", "'little_services:none' is not a function"),
        ("little_services:os", "is not a function"),
        ("little_services", "'module:name' is wanted"),
    ],
)
async def test_a_wrong_module_or_function_is_an_error(kitchen, function, said):
    with pytest.raises(EnvironmentFailure, match=said):
        await kitchen.launcher.spawn_python(function, config(), env={}, cwd=kitchen.folder, log=kitchen.log)
    assert await (await kitchen.command("true")).wait() == 0


async def test_a_wrong_configuration_or_folder_is_an_error(kitchen):
    for argument, cwd, said in (
        ("{}", kitchen.folder, "not an instance's configuration"),
        ("[]", kitchen.folder, "not list"),
        (config(), kitchen.folder / "none", "no such folder"),
    ):
        with pytest.raises(EnvironmentFailure, match=said):
            await kitchen.launcher.spawn_python("little_services:tell", argument, env={}, cwd=cwd, log=kitchen.log)


async def test_a_preload_that_fails_says_where(kitchen):
    (kitchen.folder / "broken.py").write_text("x = 1\ny = x / 0\n")
    with pytest.raises(EnvironmentFailure, match=r"cannot import 'broken': ZeroDivisionError: .*broken\.py:2"):
        await kitchen.launcher.preload("broken")
    (kitchen.folder / "leaving.py").write_text("import sys\nsys.exit(1)\n")
    with pytest.raises(EnvironmentFailure, match="SystemExit"):
        await kitchen.launcher.preload("leaving")
    assert await (await kitchen.command("true")).wait() == 0


async def test_a_preload_that_starts_threads_is_refused(kitchen):
    (kitchen.folder / "busy.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='ticker', daemon=True).start()\n"
    )
    with pytest.raises(EnvironmentFailure, match=r"starts threads \(ticker\)"):
        await kitchen.launcher.preload("busy")


async def test_signals_reach_a_process_and_are_harmless_when_it_is_gone(kitchen):
    process = await kitchen.python("wait")
    await kitchen.logged("waiting")
    await process.signal(signal.SIGTERM)
    assert await process.wait() == -signal.SIGTERM
    await process.signal(signal.SIGTERM)
    await process.kill_group()
    assert process.ended


async def test_the_launcher_sends_no_signal_to_a_process_that_is_not_its_own(kitchen):
    assert (await kitchen.launcher.request("signal", pid=os.getpid(), number=15, group=False)) == {
        "id": 1,
        "sent": False,
    }
    assert (await kitchen.launcher.request("kill_group", pid=os.getppid()))["sent"] is False


async def test_killing_ends_all_that_a_process_started_even_in_other_sessions(kitchen):
    process = await kitchen.shell("sleep 600 & echo $! >a; setsid sleep 601 & echo $! >b; sleep 602; true")
    async with asyncio.timeout(5):
        while len(host.descendants(process.pid)) < 3:
            await asyncio.sleep(0.005)
    started = host.descendants(process.pid)
    await process.kill_group()
    assert await process.wait() == -signal.SIGKILL
    for pid in started:
        await gone(pid)


async def test_what_a_process_leaves_in_its_group_ends_with_it(kitchen):
    process = await kitchen.shell("sleep 600 & echo $!")
    assert await process.wait() == 0
    await gone(int(kitchen.log.read_text()))


async def test_pausing_freezes_the_whole_group(kitchen):
    process = await kitchen.shell("sleep 600 & sleep 601; true")
    async with asyncio.timeout(5):
        # Not before both have become sleep: frozen on its way there, a child may keep its parent from freezing too.
        while [name_of(pid) for pid in host.descendants(process.pid)] != ["sleep", "sleep"]:
            await asyncio.sleep(0.005)
    family = [process.pid, *host.descendants(process.pid)]

    def states():
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in family}

    await process.signal(signal.SIGSTOP, group=True)
    async with asyncio.timeout(5):
        while states() != {"T"}:
            await asyncio.sleep(0.005)
    await process.signal(signal.SIGCONT, group=True)
    async with asyncio.timeout(5):
        while "T" in states():
            await asyncio.sleep(0.005)


async def test_closing_ends_everything_orphans_in_other_sessions_too(tmp_path):
    launcher = await Launcher.open()
    kitchen = Kitchen(launcher, tmp_path)
    daemon = await kitchen.shell("(setsid sleep 600 & echo $!)")
    assert await daemon.wait() == 0
    orphan = int(kitchen.log.read_text())
    frozen = await kitchen.command("sleep", "601")
    await frozen.signal(signal.SIGSTOP)
    begun = time.monotonic()
    await launcher.close()
    assert time.monotonic() - begun < 2.0
    assert frozen.exit_status == -signal.SIGKILL
    assert not host.is_alive(orphan, None)
    assert not host.is_alive(launcher.pid, None)
    await launcher.close()
    with pytest.raises(EnvironmentFailure, match="launcher is closed"):
        await kitchen.command("true")


async def test_when_the_launcher_dies_every_wait_ends_and_its_children_are_dead(tmp_path):
    launcher = await Launcher.open()
    kitchen = Kitchen(launcher, tmp_path)
    process = await kitchen.command("sleep", "600")
    waiting = asyncio.ensure_future(process.wait())
    os.kill(launcher.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match="launcher, the process that all others of this run depend on, died"):
        await waiting
    await gone(process.pid)
    with pytest.raises(EnvironmentFailure, match="died"):
        await kitchen.command("true")
    await process.signal(signal.SIGTERM)
    await launcher.close()


async def test_a_request_under_way_fails_when_the_launcher_dies(kitchen):
    (kitchen.folder / "slow.py").write_text("import time\ntime.sleep(60)\n")
    loading = asyncio.ensure_future(kitchen.launcher.preload("slow"))
    await asyncio.sleep(0)  # the request is on its way
    os.kill(kitchen.launcher.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match="died"):
        await loading


async def test_a_cancelled_spawn_leaves_no_process(kitchen):
    spawning = asyncio.ensure_future(kitchen.shell("echo $$; exec sleep 600"))
    await asyncio.sleep(0)  # the request is on its way
    spawning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spawning
    # Requests are carried out in order: once this one is answered, the kill has been, or will be right after.
    assert await (await kitchen.command("true")).wait() == 0
    async with asyncio.timeout(5):
        while host.descendants(kitchen.launcher.pid):
            await asyncio.sleep(0.005)


async def test_many_spawns_at_once_come_back_right(kitchen):
    processes = await asyncio.gather(*(kitchen.shell(f"exit {number}") for number in range(40)))
    assert await asyncio.gather(*(process.wait() for process in processes)) == list(range(40))


async def test_every_process_carries_the_launchers_variables(tmp_path):
    launcher = await Launcher.open(environment={host.RUN_VARIABLE: "r-u-n"})
    process = await Kitchen(launcher, tmp_path).command("sleep", "600", SPICE="salt")
    assert set(host.marked_processes("r-u-n")) == {launcher.pid, process.pid}
    await launcher.close()
    assert host.marked_processes("r-u-n") == []
