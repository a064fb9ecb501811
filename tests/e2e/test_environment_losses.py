"""An environment that loses what it depends on, or shares a Toxiproxy with others."""

import asyncio
import os
import signal
import sys

import pytest

from chaos.environment.probe import http_get
from chaos.errors import EnvironmentFailure
from chaos.events import Note
from chaos.processes import host
from chaos.processes.guardian import run_folder_path
from chaos.processes.ledger import LEDGER_NAME, Entry, Ledger, Owner, Undo
from tests.e2e.environments import LATENCY, ask, eventually, name_of, run_of
from tests.e2e.little_target import processes_with
from tests.ports import free_port
from tests.processes import started

pytestmark = pytest.mark.e2e


async def test_when_the_launcher_is_killed_everything_ends_and_the_next_step_says_why(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        os.kill(environment.launcher.pid, signal.SIGKILL)
        await eventually(lambda: environment.addresses() == [])
        with pytest.raises(EnvironmentFailure, match="the launcher, the process that all others"):
            await environment.start("back-1")


async def test_when_the_proxy_server_is_killed_it_is_told(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        server = next(pid for pid in host.marked_processes(run_of(environment)) if name_of(pid) == "proxy-server")
        os.kill(server, signal.SIGKILL)
        await eventually(lambda: environment.deaths)
        assert environment.deaths[0].instance == "the proxy server"
        assert await environment.unhealed() == ("the proxy server is dead",)
        await environment.stop_target()
        await environment.start_target(seed=1)
        assert await environment.unhealed() == ()


async def test_when_the_guardian_is_killed_the_run_cleans_up_itself(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        guardian = next(line for line in processes_with(harness.marker) if "chaos.processes.guardian" in line)
        os.kill(int(guardian.split()[0]), signal.SIGKILL)


async def test_what_an_earlier_run_left_is_cleaned_and_told(harness):
    folder = run_folder_path("dead")
    folder.mkdir()
    with started(["sleep", "600"], start_new_session=True) as sleeper:
        ledger = Ledger(folder / LEDGER_NAME, Owner(pid=2**22 + 1, start_ticks=1))
        ledger.add(Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid)))
        ledger.close()
        async with harness.environment():
            pass
        assert sleeper.wait(5) == -signal.SIGKILL
    assert [note.text for note in harness.seen(Note)] == [
        f"left behind by an earlier run: killed process group {sleeper.pid}",
        f"left behind by an earlier run: removed {folder}",
    ]


# --- a Toxiproxy that others use as well ---


@pytest.fixture
async def external(monkeypatch):
    """The embedded server, started by somebody else."""
    port = free_port()
    command = [sys.executable, "-m", "chaos.proxy.embedded", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, env={"PATH": os.environ["PATH"]}):
        async with asyncio.timeout(10):
            while True:
                try:
                    await http_get("127.0.0.1", port, "/version", timeout_s=1)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"


async def proxies_at(url):
    return await ask(url.removeprefix("http://"), "/proxies")


async def test_an_external_toxiproxy_is_used_and_left_as_it_was(harness, external):
    async with harness.environment(toxiproxy_url=external) as environment:
        await environment.start_target(seed=1)
        assert environment.backend_name == f"embedded at {external}"
        await environment.add_toxic("users.front-1", LATENCY)
        assert len(await proxies_at(external)) == 8
        assert (await ask(environment.client_config("users").calls["front"][0].address))[0] == "front-1"
    assert await proxies_at(external) == {}


async def test_proxies_of_others_with_our_names_are_not_touched(harness, external):
    async with harness.environment(toxiproxy_url=external) as first:
        await first.start_target(seed=1)
        async with harness.environment(toxiproxy_url=external) as second:
            with pytest.raises(
                EnvironmentFailure, match=r"already has proxies named like ours: front-1\.back-1, .* and more"
            ):
                await second.start_target(seed=1)
        assert len(await proxies_at(external)) == 8
        assert await first.unhealed() == ()
