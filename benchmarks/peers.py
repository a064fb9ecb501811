"""What others offer for isolating an async call, each as its documentation shows it: the full stack where it has one.

They are no dependencies of the project. Those not installed are left out; ``requirements-bench.lock`` names them.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable

Call = Callable[[], Awaitable[int]]


async def work() -> int:
    return 1


def pybreaker_alone() -> Call:
    """Its ``calling`` context manager, for its decorator never trips on coroutines."""
    pybreaker = importlib.import_module("pybreaker")
    breaker = pybreaker.CircuitBreaker(fail_max=5)

    async def call() -> int:
        with breaker.calling():
            return await work()

    return call


def circuitbreaker_alone() -> Call:
    return importlib.import_module("circuitbreaker").CircuitBreaker(failure_threshold=5)(work)


def aiobreaker_alone() -> Call:
    return importlib.import_module("aiobreaker").CircuitBreaker(fail_max=5)(work)


def purgatory_alone() -> Call:
    factory = importlib.import_module("purgatory").AsyncCircuitBreakerFactory()
    return factory("peer")(work)


def stacked(breaker_alone: Callable[[], Call]) -> Callable[[], Call]:
    """What a careful person writes around a breaker by hand: a semaphore, a time limit, and an except."""

    def make() -> Call:
        guarded = breaker_alone()
        permits = asyncio.Semaphore(10)

        async def call() -> int:
            try:
                async with permits, asyncio.timeout(1.0):
                    return await guarded()
            except Exception:  # noqa: BLE001 - each library has its own for "open"; the answer is the fallback's
                return 2

        return call

    return make


def hyx_stack() -> Call:
    breaker = importlib.import_module("hyx.circuitbreaker").consecutive_breaker(failure_threshold=5)
    permits = importlib.import_module("hyx.bulkhead").bulkhead(max_concurrency=10, max_capacity=20)
    limit = importlib.import_module("hyx.timeout").timeout(1.0)

    async def instead(*_: object) -> int:
        return 2

    return importlib.import_module("hyx.fallback").fallback(instead)(breaker(permits(limit(work))))


def nopanic_stack() -> Call:
    nopanic = importlib.import_module("nopanic")

    async def instead(*_: object) -> int:
        return 2

    return nopanic.compose(
        nopanic.fallback(instead), nopanic.circuit_breaker(), nopanic.bulkhead(10), nopanic.deadline(1.0)
    )(work)


PEERS: dict[str, Callable[[], Call]] = {
    "pybreaker (breaker alone)": pybreaker_alone,
    "circuitbreaker (breaker alone)": circuitbreaker_alone,
    "aiobreaker (breaker alone)": aiobreaker_alone,
    "purgatory (breaker alone)": purgatory_alone,
    "pybreaker + Semaphore + asyncio.timeout, by hand": stacked(pybreaker_alone),
    "circuitbreaker + Semaphore + asyncio.timeout, by hand": stacked(circuitbreaker_alone),
    "aiobreaker + Semaphore + asyncio.timeout, by hand": stacked(aiobreaker_alone),
    "purgatory + Semaphore + asyncio.timeout, by hand": stacked(purgatory_alone),
    "hyx (breaker, bulkhead, timeout, fallback)": hyx_stack,
    "nopanic (breaker, bulkhead, deadline, fallback)": nopanic_stack,
}


def installed() -> tuple[dict[str, Call], list[str]]:
    """Return the peers that are here, ready to be called, and the names of those that are not."""
    here: dict[str, Call] = {}
    missing: list[str] = []
    for name, make in PEERS.items():
        try:
            here[name] = make()
        except ImportError:
            missing.append(name)
    return here, missing
