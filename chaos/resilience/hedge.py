"""Hedging: a second request to another replica when the first is slower than usual; whoever answers first wins.

::

    first  |------------------------- ... slow ------X cancelled
                       second |------> answer
           |<-- delay ->|

The delay is a high quantile of the latencies seen lately, so that few calls need a second request, and those are
the ones whose first is in trouble. Dean and Barroso ("The Tail at Scale") took a 99.9th percentile from
1 800 ms to 74 ms for 2 % more requests. A budget keeps a slow service from getting its load doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chaos.resilience.budget import RetryBudget
from chaos.resilience.latency import LatencyWindow, LearnedQuantile
from chaos.resilience.settings import HedgeSettings

T = TypeVar("T")

_BUCKETS = 10
_SAMPLES_MAX = 100

Attempt = Callable[[], Coroutine[Any, Any, T]]
"""Begins an attempt."""


class Hedge:
    """When to hedge, learned from the latencies of successful attempts, and the race between the attempts."""

    __slots__ = ("_budget", "_settings", "_usual", "hedges", "won")

    def __init__(self, settings: HedgeSettings) -> None:
        self._settings = settings
        self._budget = RetryBudget(settings.budget)
        self._usual = LearnedQuantile(
            LatencyWindow(settings.window_s, buckets=_BUCKETS, samples_max=_SAMPLES_MAX),
            settings.quantile,
            minimum_calls=settings.minimum_calls,
        )
        self.hedges = 0
        """Second requests that were made."""
        self.won = 0
        """Those of them that answered first."""

    def record(self, now_s: float, duration_s: float) -> None:
        """Learn from an attempt that succeeded at ``now_s`` after ``duration_s``."""
        self._usual.record(now_s, duration_s)

    def delay_s(self, now_s: float) -> float | None:
        """Return how long the first attempt gets before a second is made; None while too little is known."""
        usual_s = self._usual.value(now_s)
        return None if usual_s is None else max(self._settings.delay_min_s, usual_s)

    async def race(self, first: Attempt[T], second: Callable[[], Attempt[T] | None]) -> T:
        """Return the first success of the two. ``second`` is asked when it is time; None: there is no other replica.

        Where both fail it raises what the first one did. When this returns, however it does, neither attempt runs any
        more: the loser has been cancelled and waited for, so that its connection is free again. (A loser that
        resists being cancelled holds up the answer; so does any code in a command that does.)
        """
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        self._budget.first_attempt(begun_s)
        delay_s = self.delay_s(begun_s)
        if delay_s is None:
            answer = await first()
            self.record(loop.time(), loop.time() - begun_s)
            return answer
        tasks = [loop.create_task(self._timed(first))]
        try:
            await asyncio.wait(tasks, timeout=delay_s)
            if not tasks[0].done() and self._budget.left(loop.time()) and (other := second()) is not None:
                self._budget.try_spend(loop.time())
                self.hedges += 1
                tasks.append(loop.create_task(self._timed(other)))
            return await self._first_success(tasks)
        finally:
            await _end(tasks)
            del tasks

    async def _first_success(self, tasks: list[asyncio.Task[T]]) -> T:
        running = set(tasks)
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task in done and not task.cancelled() and task.exception() is None:
                    self.won += task is not tasks[0]
                    return task.result()
        return tasks[0].result()  # raises what the first one did

    async def _timed(self, attempt: Attempt[T]) -> T:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        answer = await attempt()
        self.record(loop.time(), loop.time() - begun_s)
        return answer


async def _end(tasks: list[asyncio.Task[T]]) -> None:
    """Cancel what still runs and wait for its end; take the exceptions that nobody will ask for."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
