"""The environment with real processes, sockets and the embedded proxy server: it starts, and stops without a trace."""

import asyncio
import os
import socket
import tempfile
import time
from dataclasses import replace

import pytest

from chaos.environment import Backend, instances
from chaos.errors import EnvironmentFailure, UsageError
from chaos.events import TargetReady, TargetStarting
from chaos.processes import host
from chaos.proxy.server import TOXIPROXY_VERSION, find_toxiproxy
from chaos.topology.model import HealthCheck, Service
from tests.e2e.environments import LATENCY, address_of, ask, pid_of
from tests.e2e.little_target import little_topology, processes_with
from tests.ports import free_port

pytestmark = pytest.mark.e2e


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
        assert time.monotonic() - begun_s < 10.0
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


@pytest.mark.parametrize(("own_s", "limit_s"), [(1.0, 60.0), (60.0, instances.STOP_LIMIT_S)])
async def test_a_service_that_ignores_sigterm_is_killed_when_its_own_grace_or_the_longest_is_over(
    harness, monkeypatch, own_s, limit_s
):
    monkeypatch.setattr(instances, "STOP_LIMIT_S", limit_s)
    services = little_topology(harness.folder).services
    stubborn = replace(services["back"], stop_timeout_s=own_s)
    async with harness.environment(services={**services, "back": stubborn}) as environment:
        await environment.start_target(seed=1, settings={"stubborn": "back-1"})
        pid = pid_of(environment, "back-1")
        begun_s = time.monotonic()
        await environment.stop_target()
        took_s = time.monotonic() - begun_s
        assert not host.is_alive(pid, None)
    assert min(own_s, limit_s) - 0.1 < took_s < 30.0, "not the longer of the two, of a minute"
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
    port = free_port()
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


async def test_two_environments_live_side_by_side(harness):
    async with harness.environment() as one, harness.environment() as two:
        await asyncio.gather(one.start_target(seed=1), two.start_target(seed=2))
        addresses = [running.address for environment in (one, two) for running in environment.addresses()]
        assert len(set(addresses)) == 10
        assert (await ask(address_of(one, "back-1")))[2] == 1
        assert (await ask(address_of(two, "back-1")))[2] == 2
