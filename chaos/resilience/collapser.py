"""The collapser: calls that come within a few milliseconds become one, for dependencies that take many at a time.

::

    await price("a") --.
    await price("b") ---+--> after window_s, or batch_max arguments --> batch(["a", "b"]) --> [1.0, 2.0]
    await price("c") --'                                                                       |     |
                                                     each caller gets its own result <---------'-----'

The batch is usually a ``Command``, so that it is isolated as one call. It runs in a task of its own, under the latest
of its callers' deadlines; each caller gives up at its own, and the batch is cancelled when all of them have gone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from chaos.resilience.deadline import Deadline, current_scope
from chaos.resilience.errors import DeadlineExceeded, DeadlineSpent
from chaos.resilience.request import RequestContext

A = TypeVar("A")
T = TypeVar("T")

WINDOW_S = 0.010
"""Hystrix's timer delay."""


class _Caller(Generic[A, T]):
    """One who waits for the result of one argument."""

    __slots__ = ("argument", "at_s", "result")

    def __init__(self, argument: A, at_s: float, result: asyncio.Future[T]) -> None:
        self.argument = argument
        self.at_s = at_s
        self.result = result


class _Batch(Generic[A, T]):
    """Callers that are answered together. ``task`` is None until it has gone."""

    __slots__ = ("callers", "task", "timer")

    def __init__(self) -> None:
        self.callers: list[_Caller[A, T]] = []
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Collapser(Generic[A, T]):
    """Collects single calls into calls of ``batch``, which takes a list of arguments and gives a result for each.

    A result that is an exception is raised to its caller alone; an exception of the batch to all of them. A batch goes
    ``window_s`` seconds after its first argument, or at once with ``batch_max`` arguments. Calls are collected within
    one ``RequestContext``; with ``across_requests``, or where there is no context, among everybody.

    Raises ``DeadlineExceeded`` for a caller whose deadline comes first, and ``ValueError`` when the batch gives another
    number of results than it was asked for.

    Example: ``price = Collapser("price", fetch_prices); await price("title-0001")``.
    """

    __slots__ = ("_across_requests", "_batch", "_batch_max", "_everybody", "_open", "_window_s", "batches", "collapsed",
                 "name")  # fmt: skip

    def __init__(
        self,
        name: str,
        batch: Callable[[list[A]], Awaitable[Sequence[T | Exception]]],
        *,
        window_s: float = WINDOW_S,
        batch_max: int = 100,
        across_requests: bool = False,
    ) -> None:
        if not (window_s > 0 and math.isfinite(window_s)):
            raise ValueError(f"{name}: window_s is {window_s!r}; it must be a number over 0")
        if batch_max < 1:
            raise ValueError(f"{name}: batch_max is {batch_max!r}; it must be 1 or more")
        self.name = name
        self._batch = batch
        self._window_s = window_s
        self._batch_max = batch_max
        self._across_requests = across_requests
        self._open: WeakKeyDictionary[RequestContext, _Batch[A, T]] = WeakKeyDictionary()
        self._everybody = RequestContext()
        self.collapsed = 0
        """Arguments that came."""
        self.batches = 0
        """Batches that went."""

    async def __call__(self, argument: A) -> T:
        """Return the result for ``argument``, asked for together with others."""
        loop = asyncio.get_running_loop()
        at_s = current_scope().at_s
        if at_s <= loop.time():
            raise DeadlineSpent(self.name)
        caller: _Caller[A, T] = _Caller(argument, at_s, loop.create_future())
        batch = self._join(caller, loop)
        begun_s = loop.time()
        timer = None if at_s == math.inf else loop.call_at(at_s, self._give_up, caller, at_s - begun_s)
        try:
            return await caller.result
        finally:
            if timer is not None:
                timer.cancel()
            self._left(batch)

    def _join(self, caller: _Caller[A, T], loop: asyncio.AbstractEventLoop) -> _Batch[A, T]:
        context = (None if self._across_requests else RequestContext.current()) or self._everybody
        batch = self._open.get(context)
        if batch is None:
            batch = self._open[context] = _Batch()
            batch.timer = loop.call_later(self._window_s, self._send, context, batch)
        batch.callers.append(caller)
        self.collapsed += 1
        if len(batch.callers) >= self._batch_max:
            self._send(context, batch)
        return batch

    def _send(self, context: RequestContext, batch: _Batch[A, T]) -> None:
        if self._open.get(context) is batch:
            del self._open[context]
        if batch.timer is not None:
            batch.timer.cancel()
        batch.callers = [caller for caller in batch.callers if not caller.result.done()]
        if batch.callers:
            self.batches += 1
            batch.task = asyncio.get_running_loop().create_task(self._run(batch))

    async def _run(self, batch: _Batch[A, T]) -> None:
        callers = batch.callers
        try:
            with Deadline.none(), Deadline(max(caller.at_s for caller in callers)):
                results = await self._batch([caller.argument for caller in callers])
            if len(results) != len(callers):
                raise ValueError(  # noqa: TRY301 - told to the callers like any other failure of the batch
                    f"{self.name}: the batch gave {len(results)} results for {len(callers)} arguments; "
                    "it must give one for each, in their order"
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            results = [error] * len(callers)
        except BaseException:
            for caller in callers:
                caller.result.cancel()
            raise
        for caller, result in zip(callers, results, strict=True):
            if caller.result.done():
                continue
            if isinstance(result, Exception):
                caller.result.set_exception(result.with_traceback(None))
            else:
                caller.result.set_result(result)

    def _give_up(self, caller: _Caller[A, T], allowed_s: float) -> None:
        if not caller.result.done():
            caller.result.set_exception(DeadlineExceeded(self.name, allowed_s))

    def _left(self, batch: _Batch[A, T]) -> None:
        """Note that a caller has gone; when it was the last one nobody needs the batch."""
        if batch.task is not None and not batch.task.done() and all(one.result.done() for one in batch.callers):
            batch.task.cancel()
