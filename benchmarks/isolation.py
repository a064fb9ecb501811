"""What isolation costs a call, beside others; what it costs in memory; how many calls a failing dependency gets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable

from benchmarks.peers import installed, work
from chaos.resilience import BreakerSettings, Command, CommandSettings, Deadline, Force, ShortCircuited

ROUNDS = 31
CALLS = 5_000

Call = Callable[[], Awaitable[object]]


def instead(_: Exception) -> int:
    return 2


async def instead_later(_: Exception) -> int:
    return 2


def command(fallback: Callable[..., object] | None = instead, *, force: Force | None = None) -> Command:
    return Command(
        "bench",
        work,
        fallback=() if fallback is None else fallback,
        settings=CommandSettings(timeout_s=1.0, max_concurrent=10, breaker=BreakerSettings(force=force)),
        rng=random.Random(1),
    )


def ours() -> dict[str, Call]:
    refused = command(None, force=Force.OPEN)

    async def catching() -> None:
        with contextlib.suppress(ShortCircuited):
            await refused()

    return {
        "**Command: deadline, bulkhead, breaker, fallback**": command(),
        "Command.execute": command().execute,
        "**Command, short-circuited, with a fallback**": command(force=Force.OPEN),
        "Command, short-circuited, with an async fallback": command(instead_later, force=Force.OPEN),
        "Command, short-circuited, no fallback": catching,
    }


async def primitives() -> dict[str, Call]:
    permits = asyncio.Semaphore(10)

    async def semaphore() -> int:
        async with permits:
            return await work()

    async def limited() -> int:
        async with asyncio.timeout(1.0):
            return await work()

    return {"asyncio.Semaphore": semaphore, "asyncio.timeout": limited}


async def timed(call: Call) -> float:
    begun_s = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - begun_s) / CALLS * 1e9


async def costs() -> None:
    peers, missing = installed()
    calls: dict[str, Call] = {"a bare await": work, **ours(), **await primitives(), **peers}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    rng = random.Random(2)
    for _ in range(ROUNDS):
        rng.shuffle(order)
        gc.collect()
        gc.disable()
        for name in order:
            taken[name].append(await timed(calls[name]))
        gc.enable()
    bare = taken["a bare await"]
    print("| per call | ns | x a bare await |")
    print("|---|---|---|")
    for name, values in taken.items():
        ratio = statistics.median(one / base for one, base in zip(values, bare, strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.1f} |")
    for name in missing:
        print(f"(not installed: {name}; pip install -r requirements-bench.lock)")


async def memory() -> None:
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    idle = [command() for _ in range(1_000)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"| memory of an idle command | {(after - before) / len(idle) / 1024:.2f} KiB | 8 KiB |")


async def half_open() -> None:
    calls = 0

    async def fails_then_answers() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        if calls <= 20:
            raise ConnectionError

    one = Command(
        "half-open",
        fails_then_answers,
        settings=CommandSettings(max_concurrent=1_000, breaker=BreakerSettings(open_s=0.05, open_jitter=0.0)),
        rng=random.Random(1),
    )
    await asyncio.gather(*(one() for _ in range(20)), return_exceptions=True)
    await asyncio.sleep(0.06)
    before = calls
    await asyncio.gather(*(one() for _ in range(100)), return_exceptions=True)
    print(f"| callers let through at half-open, of 100 at once | {calls - before} | exactly 1 |")


async def cut_off() -> None:
    calls = 0

    async def fails() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.001)
        raise ConnectionError

    one = Command("cut-off", fails, settings=CommandSettings(), rng=random.Random(1))
    end_s = time.perf_counter() + 1.0
    while time.perf_counter() < end_s:
        with contextlib.suppress(ConnectionError, ShortCircuited):
            await one()
    print(f"| calls run before a dependency that fails in 1 ms is cut off | {calls} | 20 (Hystrix: 410) |")


async def nested() -> None:
    call = command()
    with Deadline.within(0.5):
        inside = statistics.median([await timed(call) for _ in range(9)])
    bare = statistics.median([await timed(work) for _ in range(9)])
    print(f"| a Command inside a shorter deadline, x a bare await | {inside / bare:.1f} | |")


async def _main() -> None:
    print(f"## What isolation costs a call (CPython {sys.version.split()[0]}, asyncio's own event loop)\n")
    await costs()
    print("\n| | measured | to reach |")
    print("|---|---|---|")
    await memory()
    await half_open()
    await cut_off()
    await nested()


def main() -> None:
    asyncio.run(_main())


if __name__ == "__main__":
    main()
