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
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

from chaos.resilience.budget import RetryBudget
from chaos.resilience.errors import BadRequest
from chaos.resilience.expiry import Expiry, RunningCall
from chaos.resilience.latency import LearnedQuantile
from chaos.resilience.settings import HedgeSettings

T = TypeVar("T")

_BUCKETS = 30
_SAMPLES_MAX = 100

Attempt = Callable[[], Coroutine[Any, Any, T]]
"""One request to one replica."""


class _Race(RunningCall):
    """A first attempt, which runs in its caller's own task, and the second that may overtake it.

    ``at_s`` is when the second is due; ``ask`` gives it, and ``context`` is what it runs in. When the second answers
    first, the first is cut off like a call at its deadline. So a call that is fast enough, as nearly all are, needs
    neither a task nor a timer of its own.
    """

    __slots__ = ("ask", "context", "second")

    ask: Callable[[], Attempt[Any] | None]
    context: Context
    second: asyncio.Task[Any] | None

    def second_ended(self, second: asyncio.Task[Any]) -> None:
        """End the first attempt when the second has the answer."""
        if _answered(second):
            self.cut_off()


class Hedge:
    """When to hedge, learned from the latencies of first attempts, and the race between the attempts.

    Example: ``hedge = Hedge(HedgeSettings()); await hedge.race(lambda: fetch(a), lambda: lambda: fetch(b))``.
    """

    __slots__ = ("_budget", "_due", "_settings", "_usual", "hedges", "won")

    def __init__(self, settings: HedgeSettings) -> None:
        self._settings = settings
        self._budget = RetryBudget(settings.budget)
        self._usual = LearnedQuantile(
            settings.window_s,
            buckets=_BUCKETS,
            samples_max=_SAMPLES_MAX,
            fraction=settings.quantile,
            minimum_calls=settings.minimum_calls,
        )
        self._due = Expiry(self._begin_second)
        self.hedges = 0
        """Second requests made."""
        self.won = 0
        """Those of them that answered first."""

    def record(self, now_s: float, duration_s: float) -> None:
        """Learn from a first attempt that succeeded at ``now_s``, or was overtaken then, after ``duration_s``."""
        self._usual.record(now_s, duration_s)

    def delay_s(self, now_s: float) -> float | None:
        """Return how long to wait for the first attempt, or None: too little is known to hedge."""
        usual_s = self._usual.value(now_s)
        return None if usual_s is None else max(usual_s, self._settings.delay_min_s)

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
            answer = await first()
            self.record(loop.time(), loop.time() - begun_s)
            return answer
        race = self._begin(loop, begun_s + delay_s, second)
        try:
            try:
                answer = await first()
            except BaseException as error:
                overtaken = race.expired
                if not overtaken:
                    self._due.end(race)
                    if race.second is None or isinstance(error, BadRequest) or not isinstance(error, Exception):
                        raise
                    await asyncio.wait((race.second,))
                    if not _answered(race.second):
                        raise
                elif not race.take_back():  # somebody else wants the task to end as well
                    raise asyncio.CancelledError from None
            else:
                overtaken = race.expired
                if not overtaken:
                    self.record(loop.time(), loop.time() - begun_s)
                    return answer
                if not race.take_back():
                    raise asyncio.CancelledError
            assert race.second is not None, "who else would have the answer?"
            self.won += 1
            if overtaken:
                self.record(loop.time(), loop.time() - begun_s)
            return race.second.result()  # type: ignore[no-any-return] # it is the second attempt's own answer
        finally:
            self._due.end(race)
            if race.second is not None:
                await _end(race.second)
                # What is raised here refers to this frame, which must not refer back to it by way of a task: else the
                # garbage collector would have to clear up after every failure.
                race.second = None

    def _begin(self, loop: asyncio.AbstractEventLoop, at_s: float, second: Callable[[], Attempt[T] | None]) -> _Race:
        task = asyncio.current_task(loop)
        assert task is not None, "a hedge is awaited in an asyncio task"
        race = _Race()
        race.at_s = at_s
        race.holder = task
        race.cancelling = task.cancelling()
        race.ask = second
        race.context = copy_context()
        race.second = None
        self._due.begin(loop, race)
        return race

    def _begin_second(self, race: RunningCall) -> None:
        assert isinstance(race, _Race), "nothing else is put into this queue"
        loop = asyncio.get_running_loop()
        if race.holder is None or not self._budget.left(loop.time()) or (other := race.ask()) is None:
            return
        self._budget.try_spend(loop.time())
        self.hedges += 1
        race.second = loop.create_task(other(), context=race.context)
        race.second.add_done_callback(race.second_ended)


def _answered(task: asyncio.Task[Any]) -> bool:
    """Whether an attempt has ended with an answer, and be it that the request is bad."""
    return not task.cancelled() and isinstance(task.exception(), BadRequest | None)


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel an attempt, unless it has ended, and wait for its end whatever happens to the caller."""
    task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.cancelled():
        task.exception()  # which nobody asks for
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled, task
