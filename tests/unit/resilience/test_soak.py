"""A million calls with every outcome: nothing grows, and nothing is left: no permit, timer or task."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import tracemalloc

from chaos.resilience import (
    BadRequest,
    BreakerSettings,
    Command,
    CommandSettings,
    IsolationError,
    RequestContext,
)
from tests.unit.resilience.virtual import virtual

CALLS = 1_000_000
SLOW_S = 5.0


class Unlucky(Exception):  # noqa: N818 - it says how the call went
    pass


async def dependency(outcome):
    if outcome == "ok":
        return outcome
    if outcome == "fail":
        raise Unlucky
    if outcome == "bad":
        raise BadRequest
    await asyncio.sleep(SLOW_S if outcome == "slow" else 0.001)
    return outcome


async def last_resort(cause, outcome):
    if outcome != "ok":
        await asyncio.sleep(0.001)
    if outcome == "slow":
        raise LookupError
    return "fallback"


def make(name, **settings):
    breaker = BreakerSettings(window_s=0.1, error_threshold_percent=60, open_s=0.1)
    settings = {"timeout_s": 0.05, "max_concurrent": 8, "fallback_max_concurrent": 4, "breaker": breaker, **settings}
    return Command(
        name,
        dependency,
        fallback=last_resort,
        settings=CommandSettings(**settings),
        rng=random.Random(4),
        cache_key=(lambda outcome: outcome) if name == "cached" else None,
    )


async def one(command, outcome):
    with contextlib.suppress(Unlucky, BadRequest, IsolationError):
        await command(outcome)


async def many(commands, calls, rng):
    """Mostly one call after the other, and now and then a crowd, some of whom go away."""
    done = 0
    while done < calls:
        command = rng.choice(commands)
        weights = [10, 980, 8, 2] if rng.random() < 0.02 else [950, 40, 8, 2]
        for _ in range(200):
            await one(command, rng.choices(["ok", "fail", "bad", "short"], weights)[0])
        with RequestContext():
            crowd = [asyncio.create_task(one(command, rng.choice(["ok", "short", "slow", "fail"]))) for _ in range(12)]
            await asyncio.sleep(0)
            for task in rng.sample(crowd, 2):
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
        done += 212
    return done


def grown():
    gc.collect()
    return len(gc.get_objects())


@virtual
async def test_a_million_calls_with_every_outcome_leave_nothing_behind():
    rng = random.Random(9)
    commands = [make("plain"), make("queued", queue_max=4), make("cached")]
    await many(commands, CALLS // 20, rng)
    objects = grown()
    await many(commands, CALLS - 2 * (CALLS // 20), rng)
    assert grown() < objects + 1_000
    tracemalloc.start()
    await many(commands, CALLS // 80, rng)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    await many(commands, CALLS // 40, rng)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after < before + 200_000
    assert sum(command.counts.calls for command in commands) >= 0.98 * CALLS
    for command in commands:
        assert (command.in_flight, command.fallbacks_in_flight, command.bulkhead.waiting) == (0, 0, 0)
        assert command._expiry.waiting == 0
        assert not command._expiry.timers
    seen = {name for command in commands for name, count in vars_of(command.counts).items() if count}
    missing = {"refused"}  # nobody below refuses here
    assert seen >= set(vars_of(commands[0].counts)) - missing
    assert len(asyncio.get_running_loop()._scheduled) < 200


def vars_of(counts):
    return {name: getattr(counts, name) for name in type(counts).__slots__}
