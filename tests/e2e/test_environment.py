"""The environment with real processes, real sockets and the embedded proxy server."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from chaos.environment import Backend, Environment
from chaos.environment.probe import http_get
from chaos.errors import EnvironmentFailure, UsageError
from chaos.events import InstanceDied, Note, TargetReady, TargetStarting
from chaos.faults.base import Stream, ToxicSpec
from chaos.processes import host
from chaos.processes.guardian import run_folder_path
from chaos.processes.ledger import LEDGER_NAME, Entry, Ledger, Owner, Undo
from chaos.proxy.server import TOXIPROXY_VERSION, find_toxiproxy
from chaos.topology.model import HealthCheck, Service
from tests.e2e.little_target import assert_nothing_left, little_topology, processes_with

pytestmark = pytest.mark.e2e

LATENCY = ToxicSpec(name="1-latency", type="latency", stream=Stream.DOWNSTREAM, toxicity=1.0, attributes={"latency": 1})


class Harness:
    """Environments of one test: their events, and the check that nothing is left of them."""

    def __init__(self, folder: Path, temporary: Path, marker: str) -> None:
        self.folder, self.temporary, self.marker = folder, temporary, marker
        self.events = []

    def environment(self, *, backend=Backend.EMBEDDED, toxiproxy_url=None, **topology) -> Environment:
        return Environment(
            little_topology(self.folder, **topology),
            emit=self.events.append,
            backend=backend,
            toxiproxy_url=toxiproxy_url,
        )

    def seen(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def harness(tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    marker = f"CHAOS_TEST={tmp_path}"
    monkeypatch.setenv(*marker.split("=", 1))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield Harness(tmp_path / "target", temporary, marker)
    # The environment has been left: nothing has to be waited for.
    assert_nothing_left(marker, temporary, within_s=0.0)


async def ask(address, path="/whoami", *, timeout_s=5.0):
    where, port = address.split(":")
    _, body = await http_get(where, int(port), path, timeout_s=timeout_s)
    return json.loads(body)


def address_of(environment, instance):
    return next(one.address for one in environment.addresses() if one.instance == instance)


def pid_of(environment, instance):
    return next(one.pid for one in environment.addresses() if one.instance == instance)


def run_of(environment):
    return environment.run_dir.name.rpartition("-")[2]


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def eventually(condition, *, within_s=5.0):
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


# --- starting and stopping ---


async def test_the_target_starts_behind_its_proxies_and_stops_without_a_trace(harness):
    async with harness.environment() as environment:
        duration_s = await environment.start_target(seed=7, disabled=["isolation"], settings={"size": 3})
        assert duration_s > 0
        assert environment.backend_name == "embedded"
        assert [one.instance for one in environment.addresses()] == ["front-1", "front-2", "back-1", "back-2", "back-3"]
        client = environment.client_config("users")
        through_proxy = client.calls["front"][1].address
        assert await ask(through_proxy) == [
            "front-2", pid_of(environment, "front-2"), 7, ["isolation"], {"colour": "blue", "size": 3},
        ]  # fmt: skip
        # front-2 reaches back-3 through a proxy of its own, which counts what passes.
        assert (await ask(through_proxy, "/call/back-3"))[0] == "back-3"
        traffic = await environment.edge_traffic(["front-2.back-3", "front-1.back-3", "users.front-2"])
        assert traffic["front-2.back-3"].bytes > 0
        assert traffic["front-1.back-3"].bytes == 0
        assert environment.reached_by("front-2") == {"users": through_proxy}
        assert await environment.unhealed() == ()
        pids = [one.pid for one in environment.addresses()]
        begun_s = time.monotonic()
        await environment.stop_target()
        assert time.monotonic() - begun_s < 2.0
        assert not any(host.is_alive(pid, None) for pid in pids)
        assert environment.addresses() == []
    assert [event.instances for event in harness.seen(TargetStarting)] == [5]
    assert [event.edges for event in harness.seen(TargetStarting)] == [8]
    assert len(harness.seen(TargetReady)) == 1
    assert environment.deaths == []


async def test_the_target_starts_again_with_other_settings_on_the_same_ports_and_empty_folders(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1, disabled=[], settings={})
        ports = [one.address for one in environment.addresses()]
        await environment.add_toxic("users.front-1", LATENCY)
        await environment.set_edge_enabled("front-1.back-1", enabled=False)
        await environment.stop_target()
        await environment.start_target(seed=2, disabled=["x"], settings={"colour": "red"})
        assert [one.address for one in environment.addresses()] == ports
        assert (await ask(address_of(environment, "back-2")))[2:] == [2, ["x"], {"colour": "red"}]
        assert environment.client_config("users").seed == 2
        assert (environment.run_dir / "data" / "back-2" / "visited").read_text() == "x"
        assert await environment.unhealed() == ()


async def test_the_real_toxiproxy_is_taken_where_there_is_one_else_the_embedded_server(harness):
    real = find_toxiproxy()
    async with harness.environment(backend=Backend.AUTO) as environment:
        await environment.start_target(seed=1)
        assert environment.backend_name == (f"toxiproxy {TOXIPROXY_VERSION}" if real else "embedded")
        assert (await ask(environment.client_config("users").calls["front"][0].address, "/call/back-2"))[0] == "back-2"
        await environment.add_toxic("users.front-1", LATENCY)
        await environment.set_edge_enabled("front-1.back-2", enabled=False)
        assert len(await environment.unhealed()) == 2
        await environment.heal_everything()
        assert await environment.unhealed() == ()


async def test_a_service_that_ignores_sigterm_is_killed_in_time(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1, settings={"stubborn": "back-1"})
        begun_s = time.monotonic()
        await environment.stop_target()
        assert 0.9 < time.monotonic() - begun_s < 2.0
    assert environment.deaths == []


async def test_a_command_is_a_service_too(harness):
    script = (
        "import http.server as h, os, sys; print(sys.argv[1:], os.environ['SPICE'], 'CHAOS_INSTANCE' in os.environ,"
        " flush=True); h.HTTPServer(('{host}', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    )
    files = Service(
        name="files",
        command=("python", "-c", script, "{instance}", "{data_dir}", "{settings[colour]}"),
        health=HealthCheck(http_path="/"),
        environment={"SPICE": "salt"},
    )
    async with harness.environment(services={"files": files}, clients={"users": ("files",)}) as environment:
        await environment.start_target(seed=1)
        data = environment.run_dir / "data" / "files-1"
        log = (environment.run_dir / "logs" / "files-1.log").read_text()
        assert log.splitlines()[0] == f"['files-1', '{data}', 'blue'] salt True"


# --- what does not start ---


async def test_a_service_that_ends_while_starting_is_shown_with_its_log(harness):
    async with harness.environment() as environment:
        with pytest.raises(
            EnvironmentFailure, match=r"back-2 ended while it was being started: exit status 7"
        ) as caught:
            await environment.start_target(seed=1, settings={"exits": "back-2"})
        assert caught.value.details == ("the cupboard is bare",)
        assert environment.addresses() == []
        # The environment is still good for another try.
        await environment.start_target(seed=1)
    assert environment.deaths == []


async def test_a_service_that_never_gets_healthy_is_shown_with_its_log(harness):
    topology = little_topology(harness.folder)
    back = topology.services["back"]
    impatient = Service(
        name="back", python=back.python, instances=back.instances, health=HealthCheck(http_path="/h", timeout_s=0.3)
    )
    async with harness.environment(services={"front": topology.services["front"], "back": impatient}) as environment:
        with pytest.raises(
            EnvironmentFailure, match=r"back-3 did not become healthy within 0\.3 s .*GET /h on 127"
        ) as caught:
            await environment.start_target(seed=1, settings={"unhealthy": "back-3"})
        assert caught.value.details == ("back-3 serves",)
        assert environment.addresses() == []


async def test_a_preload_that_fails_is_named(harness):
    async with harness.environment(preload="no_such_module") as environment:
        with pytest.raises(EnvironmentFailure, match=r"topology\.yaml: preload: cannot import 'no_such_module'"):
            await environment.start_target(seed=1)


async def test_a_program_that_is_not_there_is_named(harness):
    lost = {"lost": Service(name="lost", command=("no-such-program",))}
    async with harness.environment(services=lost, clients={}) as environment:
        with pytest.raises(EnvironmentFailure, match=r"lost-1 could not be started: cannot start 'no-such-program'"):
            await environment.start_target(seed=1)


async def test_a_fixed_port_that_is_taken_is_named_before_anything_starts(harness):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        fixed = {"back": Service(name="back", python="little_service:main", port=port)}
        with pytest.raises(
            EnvironmentFailure, match=rf"port {port}, wanted by back-1, is taken by .*pid {os.getpid()}"
        ):
            await harness.environment(services=fixed, clients={}).__aenter__()
    assert processes_with(harness.marker) == []


async def test_a_toxiproxy_that_is_not_there_is_named(harness, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(EnvironmentFailure, match=f"the Toxiproxy at http://127.0.0.1:{port} does not answer"):
        await harness.environment(toxiproxy_url=f"http://127.0.0.1:{port}").__aenter__()
    with pytest.raises(UsageError, match="another machine"):
        await harness.environment(toxiproxy_url="http://192.0.2.1:8474").__aenter__()
    monkeypatch.delenv("CHAOS_TOXIPROXY", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
    with pytest.raises(EnvironmentFailure, match="no Toxiproxy was found"):
        await harness.environment(backend=Backend.TOXIPROXY).__aenter__()


@pytest.mark.parametrize("moment_s", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4])
async def test_a_cancelled_start_leaves_nothing(harness, moment_s):
    async def use():
        async with harness.environment() as environment:
            await environment.start_target(seed=1)
            await asyncio.sleep(60)

    using = asyncio.ensure_future(use())
    await asyncio.sleep(moment_s)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    # The fixture checks that no process and no folder is there.


async def test_an_exception_in_the_run_leaves_nothing(harness):
    async def use():
        async with harness.environment() as environment:
            await environment.start_target(seed=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    # The fixture checks that no process and no folder is there.


async def test_a_folder_that_cannot_be_made_is_told(harness, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self")  # where not even root may make folders
    with pytest.raises(EnvironmentFailure, match=r"cannot make the run's folder /proc/self/chaos-.*TMPDIR"):
        await harness.environment().__aenter__()


# --- what faults do ---


async def test_a_killed_instance_comes_back_on_its_port_with_its_data(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        before = pid_of(environment, "back-1"), address_of(environment, "back-1")
        await environment.kill("back-1")
        await environment.kill("back-1")
        assert not host.is_alive(before[0], None)
        assert await environment.unhealed() == ("back-1 is dead",)
        await environment.start("back-1")
        await environment.start("back-1")
        assert address_of(environment, "back-1") == before[1]
        assert pid_of(environment, "back-1") != before[0]
        assert (await ask(before[1]))[0] == "back-1"
        assert (environment.run_dir / "data" / "back-1" / "visited").read_text() == "xx"
        assert await environment.unhealed() == ()
    assert environment.deaths == []


async def test_a_stopped_instance_ends_by_itself(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        await environment.stop("back-1")
        await environment.stop("back-1")
        assert "stopped as asked" in (environment.run_dir / "logs" / "back-1.log").read_text()
        assert await environment.unhealed() == ("back-1 is dead",)
    assert environment.deaths == []


async def test_a_paused_instance_answers_nothing_and_what_waits_for_it_is_counted(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        where = environment.client_config("users").calls["front"][0].address
        assert await environment.open_connections(["front-1", "users.front-1"]) == 0
        await environment.pause("front-1")
        await environment.pause("front-1")
        with pytest.raises(TimeoutError):
            await ask(where, timeout_s=0.2)
        assert await environment.unhealed() == ("front-1 is frozen",)
        asking = asyncio.ensure_future(ask(where))
        # At the proxy and at the instance; the instance's side waits to be accepted, its request unread.
        await eventually_async(environment, ["front-1"])
        assert [state.instance for state in await environment.isolation_states()] == ["front-2"]
        await environment.resume("front-1")
        await environment.resume("front-1")
        assert (await asking)[0] == "front-1"
        assert await environment.unhealed() == ()


async def eventually_async(environment, instances):
    async with asyncio.timeout(5):
        while not (
            await environment.open_connections(instances) >= 1 and await environment.waiting_bytes(instances) >= 10
        ):
            await asyncio.sleep(0.01)


async def test_toxics_and_closed_edges_show_until_they_are_healed(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        await environment.add_toxic("users.front-1", LATENCY)
        await environment.set_edge_enabled("front-1.back-2", enabled=False)
        await environment.kill("back-1")
        await environment.pause("back-3")
        assert set(await environment.unhealed()) == {
            "edge users.front-1 still has the toxic 1-latency",
            "edge front-1.back-2 is still closed",
            "back-1 is dead",
            "back-3 is frozen",
        }
        await environment.heal_everything()
        assert await environment.unhealed() == ()
        await environment.add_toxic("users.front-1", LATENCY)
        await environment.remove_toxic("users.front-1", LATENCY.name)
        await environment.remove_toxic("users.front-1", LATENCY.name)
        assert await environment.unhealed() == ()


async def test_the_supervisor_restarts_after_a_delay_unless_healing_comes_first(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        await environment.kill("back-1")
        environment.restart_later("back-1", 0.05)
        await eventually(lambda: any(one.instance == "back-1" for one in environment.addresses()))
        await environment.kill("back-2")
        environment.restart_later("back-2", 0.3)
        await environment.heal_everything()
        healed_pid = pid_of(environment, "back-2")
        await asyncio.sleep(0.4)
        assert pid_of(environment, "back-2") == healed_pid
        await environment.kill("back-3")
        environment.restart_later("back-3", 60)
        await environment.stop_target()
        assert environment.addresses() == []
    assert environment.deaths == []


async def test_an_instance_that_dies_by_itself_is_told_with_its_log(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        with pytest.raises(ValueError, match="does not answer in HTTP"):
            await ask(address_of(environment, "back-2"), "/exit")
        await eventually(lambda: environment.deaths)
        os.kill(pid_of(environment, "back-3"), signal.SIGSEGV)
        await eventually(lambda: len(environment.deaths) == 2)
    assert [(death.instance, death.status) for death in environment.deaths] == [
        ("back-2", "exit status 5"),
        ("back-3", "killed by SIGSEGV"),
    ]
    assert environment.deaths[0].last_lines == ("back-2 serves", "leaving by myself")
    assert harness.seen(InstanceDied) == environment.deaths


async def test_names_that_do_not_exist_are_told_with_the_nearest(harness):
    async with harness.environment() as environment:
        with pytest.raises(EnvironmentFailure, match=r"no instance 'back-9', did you mean 'back-"):
            await environment.kill("back-9")
        with pytest.raises(
            EnvironmentFailure, match=r"no edge or instance 'users\.front-3', did you mean 'users\.front-"
        ):
            await environment.open_connections(["users.front-3"])


async def test_breakers_are_read_from_all_that_have_some(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        await environment.kill("front-2")
        assert [(state.instance, state.command) for state in await environment.isolation_states()] == [
            ("front-1", "front-1")
        ]


# --- losing what we depend on ---


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
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as sleeper:
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
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "chaos.proxy.embedded", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, env={"PATH": os.environ["PATH"]}) as process:
        async with asyncio.timeout(10):
            while True:
                try:
                    await http_get("127.0.0.1", port, "/version", timeout_s=1)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


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


async def test_two_environments_live_side_by_side(harness):
    async with harness.environment() as one, harness.environment() as two:
        await asyncio.gather(one.start_target(seed=1), two.start_target(seed=2))
        addresses = [running.address for environment in (one, two) for running in environment.addresses()]
        assert len(set(addresses)) == 10
        assert (await ask(address_of(one, "back-1")))[2] == 1
        assert (await ask(address_of(two, "back-1")))[2] == 2
