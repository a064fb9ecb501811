"""The Command: one call to a dependency, isolated, so that its failure does not become its caller's.

::

    call --> breaker --> bulkhead --> run, until the deadline --> answer
                |           |                  |
             is open     is full        fails or is late
                '-----------+------------------'
                            v
            fallback, each with a bulkhead of its own --> the next fallback --> FallbackFailed

A ``BadRequest`` and a cancellation come out at once: the one is an answer, and for the other nobody waits.
"""

from __future__ import annotations

import asyncio
import math
import random
from asyncio import current_task, get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

from chaos.resilience.breaker import Breaker, Token
from chaos.resilience.bulkhead import Bulkhead
from chaos.resilience.deadline import innermost
from chaos.resilience.errors import (
    BadRequest,
    BulkheadFull,
    DeadlineExceeded,
    DeadlineSpent,
    FallbackFailed,
    Refusal,
    ShortCircuited,
)
from chaos.resilience.expiry import Expiry, RunningCall
from chaos.resilience.metrics import CommandSnapshot, Counts
from chaos.resilience.settings import CommandSettings, Force, Switches

P = ParamSpec("P")
T = TypeVar("T")

Fallback: TypeAlias = Callable[Concatenate[Exception, P], Awaitable[T] | T]
"""What answers instead: called with the cause and the call's own arguments; a coroutine function or a plain one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """A command's answer and where it is from.

    ``fallback`` is False for the dependency's own answer. ``cause`` is why it had none (None otherwise), and
    ``execution_s`` how long ``run`` took, in seconds (None where it was not begun).
    """

    value: T
    fallback: bool
    cause: Exception | None
    execution_s: float | None


class _Story:
    """What ``execute`` wants to know of a call, and a plain call does not pay for."""

    __slots__ = ("cause", "execution_s", "fallback")

    def __init__(self) -> None:
        self.fallback = False
        self.cause: Exception | None = None
        self.execution_s: float | None = None


class Command(Generic[P, T]):
    """``run``, isolated. Calling the command takes what ``run`` takes and gives what ``run`` gives.

    ``fallback`` is one function or several, tried in order; each gets the cause as its first argument. ``rng`` spreads
    the breaker's open times. ``breaker`` shares another command's breaker instead of making one from the
    settings. ``switches`` takes protections away, for controls.

    A call raises ``BadRequest`` as ``run`` raised it. Where no fallback answers, it raises what ``run`` raised, or
    ``DeadlineExceeded``, ``DeadlineSpent``, ``ShortCircuited`` or ``BulkheadFull``; and ``FallbackFailed`` when the
    fallbacks failed too. A ``run`` that resists cancellation is waited for: a deadline cannot stop code that does
    not let itself be stopped.

    Example: ``rank = Command("rank", fetch_rank, fallback=static_rank, rng=rng); await rank(title)``.
    """

    __slots__ = ("__name__", "__weakref__", "_bare", "_breaker", "_bulkhead", "_expiry", "_fallbacks",
                 "_inherits_deadline", "_run", "_settings", "_timeout_s", "counts", "name")  # fmt: skip

    def __init__(
        self,
        name: str,
        run: Callable[P, Awaitable[T]],
        *,
        fallback: Fallback[P, T] | Sequence[Fallback[P, T]] = (),
        settings: CommandSettings | None = None,
        rng: random.Random,
        breaker: Breaker | None = None,
        switches: Switches | None = None,
    ) -> None:
        settings = settings or CommandSettings()
        switches = switches or Switches()
        fallbacks = [fallback] if callable(fallback) else list(fallback)
        with_fallback = settings.fallback_enabled and switches.fallback
        self.name = self.__name__ = name
        self.counts = Counts()
        self._run: Callable[..., Awaitable[T]] = run
        self._settings = settings
        self._bare = not switches.enabled
        self._timeout_s = math.inf if settings.timeout_s is None or not switches.deadline else settings.timeout_s
        self._inherits_deadline = switches.deadline
        self._bulkhead = Bulkhead(settings.max_concurrent if switches.bulkhead else math.inf)
        self._fallbacks: list[tuple[Callable[..., Awaitable[T] | T], Bulkhead]] = [
            (one, Bulkhead(settings.fallback_max_concurrent)) for one in fallbacks if with_fallback
        ]
        self._expiry = Expiry()
        if breaker is None or not switches.breaker:
            kept_closed = replace(settings.breaker, force=Force.CLOSED)
            breaker = Breaker(name, settings=settings.breaker if switches.breaker else kept_closed, rng=rng)
        self._breaker = breaker

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Call ``run`` isolated, and return its answer or a fallback's."""
        if self._bare:
            return self._unprotected(args, kwargs)
        return self._isolated(None, args, kwargs)

    async def execute(self, *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """Call ``run`` isolated, and return the answer together with where it is from."""
        if self._bare:
            begun_s = get_running_loop().time()
            value = await self._run(*args, **kwargs)
            taken_s = get_running_loop().time() - begun_s
            return Answer(value=value, fallback=False, cause=None, execution_s=taken_s)
        story = _Story()
        value = await self._isolated(story, args, kwargs)
        try:
            return Answer(value=value, fallback=story.fallback, cause=story.cause, execution_s=story.execution_s)
        finally:
            del story  # as in _isolated: the cause's traceback leads to this frame

    @property
    def breaker(self) -> Breaker:
        """Its circuit breaker, to be shared with another command or forced by an operator."""
        return self._breaker

    @property
    def settings(self) -> CommandSettings:
        """The settings it was made with."""
        return self._settings

    @property
    def in_flight(self) -> int:
        """Calls of ``run`` in progress."""
        return self._bulkhead.in_use

    @property
    def fallbacks_in_flight(self) -> int:
        """Calls of its fallbacks in progress."""
        return sum(bulkhead.in_use for _, bulkhead in self._fallbacks)

    @property
    def full(self) -> bool:
        """Whether its bulkhead would refuse a call now."""
        return self._bulkhead.in_use >= self._bulkhead.limit

    def snapshot(self) -> CommandSnapshot:
        """Return its state and numbers as they are now."""
        counts = self.counts
        return CommandSnapshot(
            command=self.name,
            state=self._breaker.state,
            calls=counts.calls,
            errors=counts.failure + counts.timeout,
            short_circuited=counts.short_circuited,
            rejected=counts.rejected,
            timeouts=counts.timeout,
            fallbacks=counts.fallback_success,
            in_flight=self.in_flight,
        )

    def __repr__(self) -> str:
        return f"<Command {self.name} {self._breaker.state}, {self.in_flight} in flight>"

    async def _unprotected(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        return await self._run(*args, **kwargs)

    async def _isolated(  # noqa: C901, PLR0912, PLR0915 - see below
        self, story: _Story | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        # Every call takes this path. What a success needs is written out here (the shortest ways through the scopes,
        # the breaker, the bulkhead and the expiry); whatever is less common is a call to where it belongs.
        loop = get_running_loop()
        task = current_task(loop)
        assert task is not None, "a command is awaited in an asyncio task"
        now_s = loop.time()
        breaker = self._breaker
        token = breaker.closed
        if token is None:
            token = breaker.admit(now_s)
        bulkhead = self._bulkhead
        scope = innermost.get()
        while scope.holder is None:
            scope = scope.outer
        at_s = now_s + self._timeout_s
        if scope.at_s < at_s and self._inherits_deadline:
            at_s = scope.at_s
        if token is None or bulkhead.in_use >= bulkhead.limit or at_s <= now_s:
            return await self._fall_back(self._refusal(token), story, args, kwargs)

        bulkhead.in_use += 1
        call = RunningCall()
        call.at_s = at_s
        call.outer = scope
        call.holder = task
        call.cancelling = task.cancelling()
        expiry = self._expiry
        queue = expiry.queue
        if at_s < expiry.armed_at_s or loop is not expiry.loop or (queue and at_s < queue[-1].at_s):
            expiry.begin(loop, call)
        else:
            queue.append(call)
        innermost.set(call)
        try:
            value = await (self._run(*args, **kwargs) if kwargs else self._run(*args))
            if call.holder is None:
                # ``run`` swallowed our cancellation and answered too late: nobody waits for that answer.
                raise asyncio.CancelledError  # noqa: TRY301 - one place judges late calls, whatever they ended with
        except BaseException as error:
            ended_s = loop.time()
            if story is not None:
                story.execution_s = ended_s - now_s
            cause = self._judge(error, call, token, (now_s, ended_s))
            bulkhead.release()
            expiry.end(call)
            if cause is None or (cause is error and not self._fallbacks):
                raise
        else:
            bulkhead.in_use -= 1
            call.holder = None
            while queue and queue[0].holder is None:
                queue.popleft()
            if expiry.timers:
                expiry.end(call)
            ended_s = loop.time()
            window = breaker.window
            if token is breaker.closed and ended_s < window.next_bucket_s and window.failures == window.failures_before:
                window.successes += 1
            else:
                breaker.succeeded(token, ended_s)
            self.counts.success += 1
            if story is not None:
                story.execution_s = ended_s - now_s
            return value
        try:
            return await self._fall_back(cause, story, args, kwargs)
        finally:
            # The cause's traceback refers to this frame, which must not refer back: else the garbage collector would
            # have to clear up after every failure.
            del cause, story

    def _refusal(self, token: Token | None) -> Refusal:
        """Count a call that is not begun, and say why: the first reason in the order of the protections."""
        if token is None:
            self.counts.short_circuited += 1
            return ShortCircuited(self.name)
        self._breaker.released(token)
        if self.full:
            self.counts.rejected += 1
            return BulkheadFull(self.name, self._bulkhead.limit)
        self.counts.refused += 1
        return DeadlineSpent(self.name)

    def _judge(
        self, error: BaseException, call: RunningCall, token: Token, span: tuple[float, float]
    ) -> Exception | None:
        """Settle a call that did not succeed; return the cause for the fallback, or None to let ``error`` out.

        ``span`` is when it began and when it ended.
        """
        begun_s, ended_s = span
        if call.expired or (isinstance(error, asyncio.CancelledError) and ended_s >= call.at_s):
            # The second case is the deadline of a command around this one, the same moment as ours, that fired first.
            self._breaker.failed(token, ended_s)
            self.counts.timeout += 1
            return self._late(error, call, call.at_s - begun_s)
        cause: Exception | None = None
        if isinstance(error, BadRequest):
            self._breaker.answered(token)
            self.counts.bad_request += 1
        elif isinstance(error, Refusal):
            self._breaker.released(token)
            self.counts.refused += 1
            cause = error
        elif isinstance(error, Exception):
            self._breaker.failed(token, ended_s)
            self.counts.failure += 1
            cause = None if isinstance(error, MemoryError) else error  # a fallback would fail of the same
        else:
            self._breaker.released(token)
            self.counts.cancelled += 1
        return cause

    def _late(self, error: BaseException, call: RunningCall, allowed_s: float) -> DeadlineExceeded | None:
        """Return the exception for a call that was cut off, or None when somebody else wants its task cancelled."""
        ours_alone = call.take_back()
        if isinstance(error, Exception):  # it made something else of our cancellation
            exceeded = DeadlineExceeded(self.name, allowed_s)
            exceeded.__cause__ = error
            return exceeded
        if isinstance(error, asyncio.CancelledError) and ours_alone:
            return DeadlineExceeded(self.name, allowed_s)
        return None

    async def _fall_back(
        self, cause: Exception, story: _Story | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        """Return the answer of the first fallback that has one; raise ``cause`` where there is no fallback."""
        if not self._fallbacks:
            try:
                raise cause from cause.__cause__
            finally:
                del cause
        errors: list[Exception] = []
        try:
            for fallback, bulkhead in self._fallbacks:
                if not bulkhead.try_acquire():
                    self.counts.fallback_rejected += 1
                    errors.append(BulkheadFull(f"{self.name} (fallback)", bulkhead.limit))
                    continue
                try:
                    answer = fallback(cause, *args, **kwargs)
                    value: T = await answer if hasattr(answer, "__await__") else answer
                except BadRequest:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it is, the next fallback may do better
                    self.counts.fallback_failure += 1
                    errors.append(error)
                else:
                    self.counts.fallback_success += 1
                    if story is not None:
                        story.fallback, story.cause = True, cause
                    return value
                finally:
                    bulkhead.release()
            raise FallbackFailed(self.name, cause, tuple(errors)) from errors[-1]
        finally:
            del cause, errors
