"""The request context: what belongs to one incoming request, such as the answers it has got already.

Within one request the same question is often asked twice, by parts of the code that do not know of each other. A
command with a ``cache_key`` asks once, and shares the answer, or the failure, among all who ask in the same context::

    with RequestContext():
        await asyncio.gather(title("t1"), title("t1"))    # one call

The shared call runs in a task of its own, so that the first to ask may go away without taking the answer from the
others; when the last one has gone, the call is cancelled and forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

ENTRIES_MAX = 1_000
"""The most answers that one context keeps; beyond it calls are not shared any more."""


class _Shared:
    """One call that several wait for."""

    __slots__ = ("error", "task", "traceback", "waiting")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.waiting = 0
        self.error: BaseException | None = None
        self.traceback: TracebackType | None = None
        task.add_done_callback(self._note)

    def _note(self, task: asyncio.Task[Any]) -> None:
        """Take the exception out of the task, which would complain when nobody ever asked for it."""
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

    def shared(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]]) -> tuple[bool, Coroutine[Any, Any, T]]:
        """Return whether somebody has asked for ``key`` before, and the answer to be awaited; ``start`` makes the call.

        What is returned must be awaited.
        """
        shared = self._shared.get(key)
        if shared is None and len(self._shared) >= ENTRIES_MAX:
            return False, start()
        hit = shared is not None
        if shared is None:
            shared = self._shared[key] = _Shared(asyncio.get_running_loop().create_task(start()))
        shared.waiting += 1
        return hit, self._answer(key, shared)

    async def _answer(self, key: Hashable, shared: _Shared) -> Any:
        try:
            if not shared.task.done():
                # Unlike awaiting the task, this leaves it alone when we are cancelled.
                await asyncio.wait((shared.task,))
        finally:
            shared.waiting -= 1
            if not shared.task.done() and shared.waiting == 0:
                shared.task.cancel()
                if self._shared.get(key) is shared:
                    del self._shared[key]
        if shared.task.cancelled():
            raise asyncio.CancelledError
        error = shared.task.exception()
        if error is not None:
            # Without this the traceback would grow with each one who asks.
            raise error.with_traceback(shared.traceback)
        return shared.task.result()


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)
