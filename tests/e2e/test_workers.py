"""Several workers behind one port, as real processes: one unit for every fault, and each of them seen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.environment import Environment
from chaos.errors import EnvironmentFailure
from chaos.processes import host
from chaos.topology.model import HealthCheck, Service, worker_name
from tests.e2e.environments import Harness, address_of, ask, eventually, pid_of
from tests.e2e.little_target import little_topology

pytestmark = pytest.mark.e2e

WORKERS = 2


def with_workers(harness: Harness, number: int = WORKERS, **changes: object) -> dict[str, Service]:
    """Return a front of two instances with so many workers each, and one back."""
    services = little_topology(harness.folder, backs=1).services
    front = replace(services["front"], workers=number, **changes)
    return {"front": front, "back": services["back"]}


def log_of(environment: Environment, instance: str) -> list[str]:
    return (environment.run_dir / "logs" / f"{instance}.log").read_text().splitlines()


def workers_of(environment: Environment, instance: str) -> list[int]:
    return sorted(host.descendants(pid_of(environment, instance)))


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_every_worker_serves_and_is_asked_and_named(harness: Harness):
    async with harness.environment(services=with_workers(harness)) as environment:
        await environment.start_target(seed=7)
        assert len(workers_of(environment, "front-1")) == WORKERS
        # The kernel spreads connections by their ports: of sixty-four each of two workers gets some.
        through_proxy = environment.client_config("users").calls["front"][0].address
        answers = await asyncio.gather(*(ask(through_proxy) for _ in range(64)))
        served = Counter((name, pid) for name, pid, *_ in answers)
        assert sorted(name for name, _ in served) == ["front-1-w1", "front-1-w2"]
        assert sorted(pid for _, pid in served) == workers_of(environment, "front-1")
        assert min(served.values()) >= 8

        running = next(one for one in environment.addresses() if one.instance == "front-1")
        assert [(await ask(address))[0] for address in running.workers] == ["front-1-w1", "front-1-w2"]
        # Each has circuit breakers of its own; none is seen by chance, and none is missed.
        states = await environment.isolation_states()
        names = [worker_name(instance, number) for instance in ("front-1", "front-2") for number in (1, 2)]
        assert [(state.instance, state.command) for state in states] == [(name, name) for name in names]

        assert (await ask(through_proxy, "/call/back-1"))[0] == "back-1"
        assert await environment.unhealed() == ()
        await environment.stop("front-1")
        said = log_of(environment, "front-1")
        for number in (1, 2):
            assert f"front-1-w{number}: front-1-w{number} serves" in said
            assert f"front-1-w{number}: stopped as asked" in said
    assert environment.deaths == []


async def test_pause_kill_and_restart_hit_all_workers(harness: Harness):
    async with harness.environment(services=with_workers(harness)) as environment:
        await environment.start_target(seed=1)
        address, before = address_of(environment, "front-1"), workers_of(environment, "front-1")

        await environment.pause("front-1")
        await eventually(lambda: [state_of(pid) for pid in before] == ["T", "T"])
        for _ in range(4):  # whichever of them a connection would go to
            with pytest.raises(TimeoutError):
                await ask(address, timeout_s=0.1)
        assert {state.instance for state in await environment.isolation_states()} == {"front-2-w1", "front-2-w2"}
        await environment.resume("front-1")
        assert (await ask(address))[0].startswith("front-1-w")

        await environment.kill("front-1")
        # Gone when the kill returns, and not a little later: the next start needs their port.
        assert not any(host.is_alive(pid, None) for pid in before)
        assert await environment.unhealed() == ("front-1 is dead",)
        with pytest.raises(ConnectionRefusedError):
            await ask(address)

        await environment.start("front-1")
        after = workers_of(environment, "front-1")
        assert len(after) == WORKERS
        assert not set(after) & set(before)
        pids = {pid for _, pid, *_ in await asyncio.gather(*(ask(address) for _ in range(64)))}
        assert sorted(pids) == after
        assert await environment.unhealed() == ()
    assert environment.deaths == []


async def test_a_worker_that_dies_is_replaced_and_nobody_who_comes_meanwhile_is_turned_away(harness: Harness):
    async with harness.environment(services=with_workers(harness)) as environment:
        await environment.start_target(seed=1)
        parent, address = pid_of(environment, "front-1"), address_of(environment, "front-1")
        name, victim, *_ = await ask(address)
        os.kill(victim, signal.SIGKILL)
        answers = await asyncio.gather(*(ask(address) for _ in range(64)))
        assert {answer[0] for answer in answers} == {"front-1-w1", "front-1-w2"}
        assert victim not in {pid for _, pid, *_ in answers}
        assert pid_of(environment, "front-1") == parent
        assert await environment.unhealed() == ()
        said = f"worker {name} (pid {victim}) ended by itself: killed by SIGKILL; another one takes its place"
        assert said in log_of(environment, "front-1")
        await eventually(lambda: environment.deaths != [])
    assert [(death.instance, death.status) for death in environment.deaths] == [
        (name, "killed by SIGKILL; another worker took its place")
    ]
    assert said in environment.deaths[0].last_lines


async def test_an_instance_whose_workers_die_again_and_again_ends_and_says_why(harness: Harness):
    async with harness.environment(services=with_workers(harness)) as environment:
        with pytest.raises(
            EnvironmentFailure, match=r"front-2 ended while it was being started: exit status 7"
        ) as caught:
            await environment.start_target(seed=1, settings={"exits": "front-2-w1"})
        assert "front-2-w1: the cupboard is bare" in caught.value.details
        assert any("more than 5 ended within 10 s, so the instance ends" in line for line in caught.value.details)
        assert environment.addresses() == []


async def test_an_instance_is_not_healthy_before_every_worker_is(harness: Harness):
    services = with_workers(harness, health=HealthCheck(http_path="/healthz", timeout_s=1.0))
    async with harness.environment(services=services) as environment:
        with pytest.raises(EnvironmentFailure, match=r"front-1 did not become healthy .* the workers' own ports"):
            await environment.start_target(seed=1, settings={"unhealthy": "front-1-w2"})


async def test_no_worker_outlives_its_parent_or_the_launcher(harness: Harness):
    async with harness.environment(services=with_workers(harness)) as environment:
        await environment.start_target(seed=1)
        one, others = workers_of(environment, "front-1"), workers_of(environment, "front-2")
        os.kill(pid_of(environment, "front-1"), signal.SIGKILL)
        await eventually(lambda: not any(host.is_alive(pid, None) for pid in one), within_s=2.0)
        await eventually(lambda: [death.instance for death in environment.deaths] == ["front-1"])
        os.kill(environment.launcher.pid, signal.SIGKILL)
        await eventually(lambda: not any(host.is_alive(pid, None) for pid in others), within_s=2.0)


async def test_a_command_is_told_how_many_workers_it_is_to_have(harness: Harness):
    script = (
        "import http.server as h, sys; print('workers:', sys.argv[1], flush=True); "
        "h.HTTPServer(('{host}', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    )
    files = Service(name="files", command=("python", "-c", script, "{workers}"), workers=3)
    async with harness.environment(services={"files": files}, clients={"users": ("files",)}) as environment:
        await environment.start_target(seed=1)
        assert log_of(environment, "files-1")[0] == "workers: 3"
