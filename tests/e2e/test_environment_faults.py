"""What faults do to processes, proxies and edges, and that all of it is healed."""

import asyncio
import os
import signal

import pytest

from chaos.errors import EnvironmentFailure
from chaos.events import InstanceDied
from chaos.processes import host
from tests.e2e.environments import LATENCY, address_of, ask, eventually, pid_of

pytestmark = pytest.mark.e2e


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


async def test_healing_waits_for_a_restart_that_is_under_way(harness):
    async with harness.environment() as environment:
        await environment.start_target(seed=1)
        await environment.kill("back-1")
        environment.restart_later("back-1", 0.0)
        await eventually(lambda: any(one.instance == "back-1" for one in environment.addresses()))
        restarted_pid = pid_of(environment, "back-1")
        await environment.heal_everything()
        assert await environment.unhealed() == ()
        assert pid_of(environment, "back-1") == restarted_pid


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
