"""The request context: what belongs to one incoming request, such as the answers it has got already.

Within one request the same question is often asked twice, by parts of the code that do not know of each other. A
command with a ``cache_key`` asks once, and shares the answer, or the failure, among all who ask in the same context::

    with RequestContext():
        await asyncio.gather(title("t1"), title("t1"))    # one call

The shared call runs in a task of its own and under no caller's deadline, so that the first to ask may go away, or have
little time, without taking the answer from the others. Each gives up at their own deadline. When the last one has
gone, the call is cancelled and forgotten; if it was a deadline that made them go, the call counts as one that was late.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Hashable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

from chaos.resilience.deadline import Scope, current_scope, innermost

T = TypeVar("T")

ENTRIES_MAX = 1_000
"""The most answers that one context keeps; beyond it calls are not shared any more."""


_EARLY_S = 0.001
"""So much before its moment a timer may fire: uvloop knows whole milliseconds."""


class GaveUp(Exception):  # noqa: N818 - it names what happened
    """Whoever waited for a shared call has no time left for it."""


class _Shared:
    """One call that several wait for. ``scope`` is what it runs in: without an end for as long as somebody waits."""

    __slots__ = ("error", "scope", "task", "traceback", "waiting")

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.scope = Scope()
        self.scope.at_s = math.inf
        self.scope.holder = self
        self.scope.outer = current_scope()
        self.task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(_inside(self.scope, start))
        self.waiting = 0
        self.error: BaseException | None = None
        self.traceback: TracebackType | None = None
        self.task.add_done_callback(self._note)

    def abandon(self, now_s: float, *, late: bool) -> None:
        """Cancel the call, for nobody waits any more; ``late`` says that those who did had their deadlines."""
        if late:
            self.scope.at_s = now_s
        self.task.cancel()

    def _note(self, task: asyncio.Task[Any]) -> None:
        """Take the exception out of the task, which would complain when nobody ever asked for it."""
        self.scope.holder = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error, self.traceback = error, error.__traceback__


class RequestContext:
    """What belongs to one request. ``with`` makes it the current one; a nested one hides the outer one.

    Leaving it cancels what still runs for it. A task that outlives it has no context any more.
    """

    __slots__ = ("__weakref__", "_closed", "_outer", "_shared")

    def __init__(self) -> None:
        self._shared: dict[Hashable, _Shared] = {}
        self._closed = True
        self._outer: RequestContext | None = None

    @classmethod
    def current(cls) -> RequestContext | None:
        """Return the context of the request in progress, or None."""
        context = _current.get()
        while context is not None and context._closed:  # noqa: SLF001 - its own class
            context = context._outer  # noqa: SLF001 - likewise
        return context

    def __enter__(self) -> Self:
        if self._outer is not None or not self._closed or self._shared:
            raise RuntimeError("a RequestContext is for one request; make a new one")
        self._closed = False
        self._outer = RequestContext.current()
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        for shared in self._shared.values():
            shared.task.cancel()
        self._shared.clear()

    def answered(self, key: Hashable) -> bool:
        """Whether the answer for ``key`` is there already."""
        shared = self._shared.get(key)
        return shared is not None and shared.task.done()

    def shared(
        self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]], *, until_s: float = math.inf
    ) -> tuple[bool, Coroutine[Any, Any, T]]:
        """Return whether somebody has asked for ``key`` before, and the answer to be awaited; ``start`` makes the call.

        What is returned must be awaited. It raises ``GaveUp`` at ``until_s``, on the event loop's clock (infinity: it
        waits for as long as it takes).
        """
        shared = self._shared.get(key)
        if shared is None and len(self._shared) >= ENTRIES_MAX:
            return False, start()
        hit = shared is not None
        if shared is None:
            shared = self._shared[key] = _Shared(start)
        shared.waiting += 1
        return hit, self._answer(key, shared, until_s)

    async def _answer(self, key: Hashable, shared: _Shared, until_s: float) -> Any:
        loop = asyncio.get_running_loop()
        gave_up = False
        try:
            if not shared.task.done():
                # Unlike awaiting the task, this leaves it alone when we are cancelled.
                await asyncio.wait((shared.task,), timeout=None if until_s == math.inf else until_s - loop.time())
                gave_up = not shared.task.done()
        finally:
            shared.waiting -= 1
            if not shared.task.done() and shared.waiting == 0:
                # The deadline may be that of a command around us, which cancels us in the same moment.
                shared.abandon(loop.time(), late=gave_up or loop.time() >= until_s - _EARLY_S)
                if self._shared.get(key) is shared:
                    del self._shared[key]
        if gave_up:
            raise GaveUp
        if shared.task.cancelled():
            raise asyncio.CancelledError
        error = shared.task.exception()
        if error is not None:
            # Without this the traceback would grow with each one who asks.
            raise error.with_traceback(shared.traceback)
        return shared.task.result()


async def _inside(scope: Scope, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    innermost.set(scope)
    return await start()


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)
