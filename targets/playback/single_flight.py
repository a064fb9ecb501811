"""Single flight: equal questions that are asked at the same moment, by different requests, become one question.

::

    await flight("title-0001", ask) --.
    await flight("title-0001", ask) ---+--> ask() --> answer, or failure --> everybody who waited
    await flight("title-0001", ask) --'                      '--> forgotten: whoever comes later asks anew

The question runs in a task of its own, under no caller's deadline and in no caller's request: whoever asked first may
go away without taking the answer from the others, and each gives up at their own deadline. It is not ended when all
have gone, for its answer fills a cache; how long it may take is the business of the Command that it asks through.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from chaos.resilience import Deadline, DeadlineExceeded, DeadlineSpent, RequestContext
from chaos.resilience.deadline import current_scope

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

KEYS_MAX = 1_024
"""Questions under way at the same time; beyond them each caller asks for itself."""


class _Flight(Generic[T]):
    """One question under way, and those who wait for its answer."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiting: list[asyncio.Future[T]] = []


class SingleFlight(Generic[K, T]):
    """Shares the answer to ``ask`` among all who ask for the same key at the same time.

    Calling raises whatever ``ask`` raised, and ``DeadlineExceeded`` or ``DeadlineSpent`` for a caller whose deadline
    comes first.

    Example: ``flight = SingleFlight("title"); title = await flight(name, lambda: fetch(name))``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._flights: dict[K, _Flight[T]] = {}
        self.asked = 0
        """Questions that were asked."""
        self.shared = 0
        """Callers who had the answer to somebody else's question."""

    async def __call__(self, key: K, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to ``ask``, or to the question for ``key`` that is under way."""
        loop = asyncio.get_running_loop()
        at_s, begun_s = current_scope().at_s, loop.time()
        if at_s <= begun_s:
            raise DeadlineSpent(self.name)
        flight = self._flights.get(key)
        if flight is None:
            self.asked += 1
            if len(self._flights) >= KEYS_MAX:
                return await ask()
            flight = self._flights[key] = _Flight(loop.create_task(self._run(ask)))
            flight.task.add_done_callback(partial(self._landed, key))
        else:
            self.shared += 1
        answer: asyncio.Future[T] = loop.create_future()
        flight.waiting.append(answer)
        timer = None if at_s == math.inf else loop.call_at(at_s, self._give_up, answer, at_s - begun_s)
        try:
            return await answer
        finally:
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """End what is under way; whoever waits for it is cancelled."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, ask: Callable[[], Awaitable[T]]) -> T:
        # What the first caller's request has, among it its deadline and its answers, ends with that request.
        with Deadline.none(), RequestContext():
            return await ask()

    def _landed(self, key: K, task: asyncio.Task[T]) -> None:
        """Give what became of a question to all who wait, and forget it."""
        waiting = [answer for answer in self._flights.pop(key).waiting if not answer.done()]
        if task.cancelled():
            for answer in waiting:
                answer.cancel()
        elif (error := task.exception()) is not None:
            for answer in waiting:
                answer.set_exception(error.with_traceback(None))
        else:
            for answer in waiting:
                answer.set_result(task.result())

    def _give_up(self, answer: asyncio.Future[T], allowed_s: float) -> None:
        if not answer.done():
            answer.set_exception(DeadlineExceeded(self.name, allowed_s))
