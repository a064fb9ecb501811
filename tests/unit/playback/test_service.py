"""The frame of every service, and the topology that names them."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from chaos.resilience import Switches
from chaos.topology.parser import load_topology
from targets.playback import main, valkey
from targets.playback.service import SWITCHES, Context, application, serve, switches_of
from tests.ports import free_port
from tests.unit.playback.little_target import LittleTarget, config

TARGET = Path(main.__file__).parent


async def test_a_service_serves_until_it_is_told_to_stop_and_then_leaves_its_port():
    told = config("gateway", port=free_port())
    stop, started = asyncio.Event(), asyncio.Event()
    serving = asyncio.ensure_future(serve(told, application, stop, started=started.set))
    await started.wait()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{told.port}/healthz") as response:
            assert response.status == 200
        stop.set()
        await serving
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{told.port}/healthz")


async def test_a_service_whose_background_loop_breaks_ends_with_that_mistake():
    def build(context):
        async def step():
            raise KeyError("a mistake of ours")

        context.repeat(step, period_s=1.0)
        return application(context)

    with pytest.raises(KeyError, match="a mistake of ours"):
        await serve(config("gateway", port=free_port()), build, asyncio.Event())


async def test_a_taken_port_is_an_error():
    told = config("gateway", port=free_port())
    stop, started = asyncio.Event(), asyncio.Event()
    serving = asyncio.ensure_future(serve(told, application, stop, started=started.set))
    await started.wait()
    with pytest.raises(OSError, match="in use"):
        await serve(told, application, asyncio.Event())
    stop.set()
    await serving


def test_the_topology_says_which_services_may_have_workers_and_which_are_a_fixed_number():
    services = load_topology(TARGET).services.values()
    # Whoever serves from the memory of one process has one: reports, the log and its lease, the ledger, an OCA's load.
    assert {one.name: one.scaling.workers_most for one in services if one.scaling.workers_most > 1} == {
        "gateway": 8,
        "signup_api": 4,
        "discovery_api": 8,
        "play_api": 8,
        "playback_apps": 8,
        "steering": 8,
    }
    assert {one.name: one.scaling.replicas_most for one in services if one.scaling.replicas_most is not None} == {
        "elb": 1,
        "events": 1,
        "cache": 2,
        "store": 3,
        "oca": 96,
    }


async def test_a_worker_serves_two_ports_and_is_administered_at_its_own_alone():
    shared = socket.socket()
    shared.bind(("127.0.0.1", 0))
    whole = replace(config("gateway", port=shared.getsockname()[1]), workers=2, worker_ports=(free_port(), free_port()))
    told = whole.for_worker(2, shared_fd=shared.detach())

    def build(context):
        async def show(_):
            return web.json_response("the table of this worker")

        app = application(context)
        app.router.add_get("/admin/routes", show)
        return app

    stop, started = asyncio.Event(), asyncio.Event()
    serving = asyncio.ensure_future(serve(told, build, stop, started=started.set))
    await started.wait()
    async with aiohttp.ClientSession() as session:
        for port, status in ((whole.port, 409), (told.port, 200)):
            async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                assert response.status == 200
            async with session.get(f"http://127.0.0.1:{port}/admin/routes") as response:
                assert response.status == status
                if status == 409:
                    assert ", ".join(map(str, whole.worker_ports)) in (await response.json())["error"]
        stop.set()
        await serving
        for port in (whole.port, told.port):
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://127.0.0.1:{port}/healthz")


async def test_a_background_loop_hurries_until_it_has_succeeded_once():
    moments = []

    def build(context):
        async def step():
            moments.append(asyncio.get_running_loop().time())
            return len(moments) == 3

        context.repeat(step, period_s=30.0)
        return application(context)

    async with LittleTarget() as target:
        await target.serve(build(Context(config("gateway"))))
        while len(moments) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    assert len(moments) == 3
    assert moments[2] - moments[0] >= 0.03


async def test_a_service_that_is_not_ready_says_so():
    async with LittleTarget() as target:
        address = await target.serve(application(Context(config("gateway")), ready=lambda: False))
        async with target.http.get(f"http://{address}/healthz") as response:
            assert response.status == 503


async def test_settings_that_are_missing_or_no_numbers_are_named():
    context = Context(config("gateway", settings={"cache_ttl_s": "long"}))
    with pytest.raises(ValueError, match=r"settings\.cache_ttl_s is 'long'; a number is needed"):
        context.number("cache_ttl_s", 60.0)
    with pytest.raises(ValueError, match=r"settings\.nothing is missing; gateway needs it"):
        context.text("nothing")
    assert context.number("absent", 1.5) == 1.5
    await context.close()


async def test_the_same_instance_of_the_same_run_has_the_same_chance():
    contexts = [Context(config("steering", index=index)) for index in (1, 1, 2)]
    first, again, other = (context.rng.random() for context in contexts)
    for context in contexts:
        await context.close()

    assert first == again != other


async def test_a_mistake_of_ours_is_not_taken_for_a_failure_behind_us():
    async def mistaken(_):
        raise KeyError("ours")

    async with LittleTarget() as target:
        app = application(Context(config("gateway")))
        app.router.add_get("/mistake", mistaken)
        address = await target.serve(app)
        async with target.http.get(f"http://{address}/mistake") as response:
            assert response.status == 500


def test_an_unknown_service_ends_with_the_names_of_those_there_are():
    with pytest.raises(SystemExit, match="no service 'billing'; there are cache, events, elb, gateway"):
        main.run(config("billing"))


def test_the_topology_names_the_services_that_there_are():
    topology = load_topology(TARGET)

    assert set(topology.services) == {*main.SERVICES, *valkey.SETTINGS}
    assert len(topology.instances()) == 38
    assert topology.preload == main.__name__
    assert [dict(labels)["isp"] for labels in topology.services["oca"].instances] == [
        isp for isp in ("alpha", "beta", "gamma", "ixp") for _ in range(3)
    ]


def test_every_protection_of_the_topology_is_asked_for_somewhere():
    source = "".join(path.read_text() for path in TARGET.glob("*.py"))
    asked = set(re.findall(r'\.on\("(\w+)"\)', source)) | set(re.findall(r'"(\w+)" not in disabled', source))

    assert asked | set(SWITCHES) == set(load_topology(TARGET).protections)
    assert not asked & set(SWITCHES)


def test_protections_of_commands_are_switched_off_for_all_or_for_one():
    everywhere, named = switches_of(["isolation_of_something_else", "deadlines", "fallbacks@rank", "breakers@rank"])
    assert everywhere == Switches(deadline=False)
    assert named == {"rank": Switches(deadline=False, fallback=False, breaker=False)}
    assert all(switches_of([name])[0] == Switches(**{switch: False}) for name, switch in SWITCHES.items())


def test_every_setting_of_the_topology_is_used_somewhere():
    source = "".join(path.read_text() for path in TARGET.glob("*.py"))

    assert [name for name in load_topology(TARGET).settings if f'"{name}"' not in source] == []
