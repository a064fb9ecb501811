"""Hedging: a second request to another replica when the first is slower than usual; whoever answers first wins.

::

    first  |------------------------- ... slow ------X cancelled
                       second |------> answer
           |<-- delay ->|

The delay is a high quantile of the latencies seen lately, so that few calls need a second request, and those are
the ones whose first is in trouble. Dean and Barroso ("The Tail at Scale") took a 99.9th percentile from
1 800 ms to 74 ms for 2 % more requests. A budget keeps a slow service from getting its load doubled.

What is learned from is each call's first attempt. One that was overtaken counts with the time that it had taken until
then: were it left out, the slow calls would be missing from the quantile, the delay would shrink to where the budget is
spent on calls that are not slow, and the slow ones would go without. So where more than ``1 - quantile`` of the calls
are slow, slow is what is usual, and the delay rises to it by and by: that takes a lower quantile and a larger budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from chaos.resilience.budget import RetryBudget
from chaos.resilience.errors import BadRequest
from chaos.resilience.latency import LatencyWindow, LearnedQuantile
from chaos.resilience.settings import HedgeSettings

T = TypeVar("T")

_BUCKETS = 10
_SAMPLES_MAX = 100

Attempt = Callable[[], Coroutine[Any, Any, T]]
"""Begins an attempt."""


class Hedge:
    """When to hedge, learned from the latencies of first attempts, and the race between the attempts.

    Example: ``hedge = Hedge(HedgeSettings()); await hedge.race(lambda: fetch(a), lambda: lambda: fetch(b))``.
    """

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
        """Learn from a first attempt that succeeded at ``now_s``, or was overtaken then, after ``duration_s``."""
        self._usual.record(now_s, duration_s)

    def delay_s(self, now_s: float) -> float | None:
        """Return how long the first attempt gets before a second is made; None while too little is known."""
        usual_s = self._usual.value(now_s)
        return None if usual_s is None else max(self._settings.delay_min_s, usual_s)

    async def race(self, first: Attempt[T], second: Callable[[], Attempt[T] | None]) -> T:
        """Return the first success of the two. ``second`` is asked when it is time; None: there is no other replica.

        A ``BadRequest`` is an answer, so the first of these ends the race too. Where both fail it raises what the first
        one did. When this returns, however it does, neither attempt runs any more: the loser has been cancelled and
        waited for, so that its connection is free again, even if the caller is cancelled meanwhile. (A loser that
        resists being cancelled holds up the answer; so does any code in a command that does. The deadline of its own
        command cancels it once more.)
        """
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        self._budget.first_attempt(begun_s)
        delay_s = self.delay_s(begun_s)
        if delay_s is None:
            return await self._learning(first)
        tasks = [loop.create_task(self._learning(first))]
        try:
            await asyncio.wait(tasks, timeout=delay_s)
            if not tasks[0].done() and self._budget.left(loop.time()) and (other := second()) is not None:
                self._budget.try_spend(loop.time())
                self.hedges += 1
                tasks.append(loop.create_task(other()))
            winner = await _first_answer(tasks)
            if winner > 0:
                self.won += 1
                if not tasks[0].done():
                    self.record(loop.time(), loop.time() - begun_s)
            return tasks[winner].result()
        finally:
            await _end(tasks)
            # What is raised here refers to this frame, which must not refer back to it by way of a task: else the
            # garbage collector would have to clear up after every failure.
            tasks.clear()

    async def _learning(self, first: Attempt[T]) -> T:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        answer = await first()
        self.record(loop.time(), loop.time() - begun_s)
        return answer


async def _first_answer(tasks: Sequence[asyncio.Task[T]]) -> int:
    """Wait for the first answer, and return which attempt's it is; 0, the first attempt, when all have failed."""
    running: Collection[asyncio.Task[T]] = tasks
    while running:
        _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for number, task in enumerate(tasks):
            if task.done() and not task.cancelled() and isinstance(task.exception(), BadRequest | None):
                return number
    return 0


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs and wait for its end, whatever happens to the caller; take exceptions nobody asks for."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while running:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
        running = [task for task in running if not task.done()]
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled, tasks
