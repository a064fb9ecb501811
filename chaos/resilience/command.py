"""The Command: one call to a dependency, isolated, so that its failure does not become its caller's.

::

    call --> request cache --> breaker --> bulkhead --> run, until the deadline --> answer
                  |               |            |                 |
               has it          is open      is full       fails or is late
                  |               '------------+-----------------'
                  v                            v
               answer      fallback, each with a bulkhead of its own --> the next fallback --> FallbackFailed

A ``BadRequest`` and a cancellation come out at once: the one is an answer, and for the other nobody waits.
"""

from __future__ import annotations

import asyncio
import math
import random
from asyncio import current_task, get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, overload

from chaos.resilience.breaker import Breaker
from chaos.resilience.budget import budgeted
from chaos.resilience.deadline import current_scope, innermost_get, innermost_set
from chaos.resilience.errors import DeadlineExceeded, Refusal, ShortCircuited
from chaos.resilience.events import Listener
from chaos.resilience.expiry import RunningCall
from chaos.resilience.guard import Guard
from chaos.resilience.lifecycle import Lifecycle
from chaos.resilience.request import GaveUp, RequestContext
from chaos.resilience.retry import Retry
from chaos.resilience.settings import CommandSettings, Switches

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")

_NEVER_S = math.inf
_NOWHERE: deque[RunningCall] = deque(maxlen=0)
"""Where a call without a deadline is put, which the expiry must not hold: it keeps nothing."""

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


class Command(Lifecycle[T], Generic[P, T]):
    """``run``, isolated. Calling the command takes what ``run`` takes and gives what ``run`` gives.

    ``fallback`` is one function or several, tried in order; each gets the cause as its first argument. ``rng`` spreads
    the breaker's open times and the pauses between retries. ``breaker`` shares another command's breaker instead of
    making one from the settings. ``cache_key`` is given the call's arguments; within one ``RequestContext`` calls with
    equal keys are one call, and share its answer or failure; each waits for it until their own deadline. ``switches``
    takes protections away, for controls. ``listeners`` are told of every call that ends.

    A call raises ``BadRequest`` as ``run`` raised it. Where no fallback answers, it raises what ``run`` raised, or
    ``DeadlineExceeded``, ``DeadlineSpent``, ``ShortCircuited`` or ``BulkheadFull``; and ``FallbackFailed`` when the
    fallbacks failed too. A ``run`` that resists cancellation is waited for: a deadline cannot stop code that does
    not let itself be stopped.

    Example: ``rank = Command("rank", fetch_rank, fallback=static_rank, rng=rng); await rank(title)``.
    """

    __slots__ = (
        "__name__",
        "__weakref__",
        "_answer_type",
        "_bare",
        "_cache_key",
        "_parts",
        "_plain_fallback",
        "_run",
    )

    def __init__(
        self,
        name: str,
        run: Callable[P, Awaitable[T]],
        *,
        fallback: Fallback[P, T] | Sequence[Fallback[P, T]] = (),
        settings: CommandSettings | None = None,
        rng: random.Random,
        breaker: Breaker | None = None,
        cache_key: Callable[P, Hashable] | None = None,
        switches: Switches | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        settings = settings or CommandSettings()
        switches = switches or Switches()
        fallbacks = [fallback] if callable(fallback) else list(fallback)
        super().__init__(
            name,
            fallbacks=fallbacks,
            settings=settings,
            rng=rng,
            breaker=breaker,
            switches=switches,
            listeners=listeners,
        )
        self.__name__ = name
        self._run: Callable[..., Awaitable[T]] = run
        if settings.retry is not None and switches.retry:
            self._run = Retry(run, settings=budgeted(settings.retry, switches), rng=rng)
        first = self._fallbacks[0][0] if self._fallbacks else None
        self._plain_fallback = None if asyncio.iscoroutinefunction(first) else first
        self._answer_type: type | None = None
        self._bare = not switches.enabled
        self._cache_key: Callable[..., Hashable] | None = cache_key if switches.cache else None
        self._note_parts()

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: C901, PLR0911, PLR0912, PLR0915 - below
        """Call ``run`` isolated, and return its answer or a fallback's."""
        # Nearly every call takes this way, so what a success needs is written out here: the shortest ways through the
        # breaker, the bulkhead, the scopes and the expiry. Whatever is less common is a call to where it belongs, and
        # whatever is rare goes the thorough way, which does the same thing plainly. So does a short circuit, which must
        # cost next to nothing while the dependency is down.
        parts = self._parts
        if parts is None:
            return await self._specially(args, kwargs)
        breaker, window, bulkhead, expiry, queue, timeout_s, run = parts
        loop = get_running_loop()
        now_s = loop.time()
        token = breaker.closed
        if token is None:
            fallback = self._plain_fallback
            if now_s > breaker.refuses_until_s or fallback is None:
                return (await self._thoroughly(args, kwargs)).value
            self.counts.short_circuited += 1
            if now_s >= self._meter.next_step_s:
                self._meter.roll(now_s, bulkhead.take_peak())
            refusal = ShortCircuited(self.name)
            try:
                answer = fallback(refusal, *args, **kwargs) if kwargs else fallback(refusal, *args)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next fallback may do better
                return await self.fall_back(refusal, args, kwargs, failed=error)
            if answer.__class__ is not self._answer_type:
                if hasattr(answer, "__await__"):
                    self._plain_fallback = None
                    return await self.fall_back(refusal, args, kwargs, begun=answer)
                self._answer_type = answer.__class__
            self.counts.fallback_success += 1
            return answer  # type: ignore[return-value] # no awaitable, as was just seen

        scope = innermost_get()
        while scope.holder is None:
            scope = scope.outer
        at_s = now_s + timeout_s
        if scope.at_s <= at_s:
            at_s = scope.at_s
            if at_s - self._minimum_s <= now_s:
                return (await self._thoroughly(args, kwargs)).value
            if at_s == _NEVER_S:
                queue = _NOWHERE
        if bulkhead.in_use >= bulkhead.calm_limit:
            return (await self._thoroughly(args, kwargs)).value
        task = current_task(loop)
        assert task is not None, "a command is awaited in an asyncio task"

        bulkhead.in_use += 1
        call = RunningCall()
        call.at_s = at_s
        call.outer = scope
        call.holder = task
        call.cancelling = task.cancelling()
        if at_s < expiry.armed_at_s or loop is not expiry.loop or (queue and at_s < queue[-1].at_s):
            expiry.begin(loop, call)
            last = False
        else:
            queue.append(call)
            last = True
        innermost_set(call)
        try:
            value = await (run(*args, **kwargs) if kwargs else run(*args))
            if call.holder is None:
                # ``run`` swallowed our cancellation and answered too late: nobody waits for that answer.
                raise asyncio.CancelledError  # noqa: TRY301 - one place judges late calls, whatever they ended with
        except BaseException as error:
            call.token = token
            call.begun_s = now_s
            cause = self.ended_badly(call, error, loop.time())
            if cause is None or (cause is error and not self._fallbacks):
                del cause  # see below
                raise
        else:
            ended_s = loop.time()
            if ended_s < window.quiet_until_s and last and token is breaker.closed:
                window.successes += 1
                self.counts.success += 1
                bulkhead.in_use -= 1
                call.holder = None
                while queue and queue[0].holder is None:
                    queue.popleft()
            else:
                call.token = token
                call.begun_s = now_s
                self.ended_well(call, ended_s)
            return value
        try:
            return await self.fall_back(cause, args, kwargs)
        finally:
            # The cause's traceback refers to this frame, which must not refer back: else the garbage collector would
            # have to clear up after every failure.
            del cause

    async def execute(self, *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """Call ``run`` isolated, and return the answer together with where it is from."""
        if self._bare:
            begun_s = get_running_loop().time()
            value = await self._run(*args, **kwargs)
            taken_s = get_running_loop().time() - begun_s
            return Answer(value=value, fallback=False, cause=None, execution_s=taken_s)
        return await self._cached(args, kwargs)

    def guard(self) -> Guard:
        """Return an ``async with`` block that is isolated in the place of ``run``, for calls that stream.

        The block has the breaker, a permit and the deadline from its begin to its end; what it raises is judged as
        what ``run`` raises would be. Nothing can answer in its place, so fallbacks are not called: entering raises the
        refusal, and leaving ``DeadlineExceeded`` for a block that was cut off.

        Example: ``async with download.guard(), session.get(url) as response: ...``.
        """
        return Guard(None if self._bare else self)

    @overload
    def __get__(self, instance: None, owner: type) -> Command[P, T]: ...
    @overload
    def __get__(self: Command[Concatenate[S, Q], T], instance: S, owner: type) -> BoundCommand[Q, T]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """Bind a command that decorates a method: all instances share its breaker, permits and numbers."""
        return self if instance is None else BoundCommand(self, instance)

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` told of every call that ends from now on."""
        self._listeners = (*self._listeners, listener)
        self._note_parts()

    def _note_parts(self) -> None:
        """Keep at hand what a call needs in a hurry; None: it needs more than that."""
        special = self._bare or self._cache_key is not None or self._listeners or not self._inherits_deadline
        self._parts = (
            None
            if special
            else (
                self._breaker,
                self._breaker.window,
                self._bulkhead,
                self._expiry,
                self._expiry.queue,
                self._timeout_s,
                self._run,
            )
        )

    async def _specially(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        if self._bare:
            return await self._run(*args, **kwargs)
        return (await self._cached(args, kwargs)).value

    async def _cached(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[T]:
        """Return the answer that this request has got already or is getting, or get it."""
        context = RequestContext.current() if self._cache_key is not None else None
        if context is None or self._cache_key is None:
            return await self._thoroughly(args, kwargs)
        loop = get_running_loop()
        begun_s = loop.time()
        until_s = current_scope().at_s if self._inherits_deadline else _NEVER_S
        key = (self, self._cache_key(*args, **kwargs))
        if until_s - self._minimum_s <= begun_s and not context.answered(key):
            return await self._thoroughly(args, kwargs)  # which refuses it, for want of time, and for nobody else
        hit, answer = context.shared(key, lambda: self._thoroughly(args, kwargs), until_s=until_s)
        if hit:
            self.counts.from_cache += 1
        try:
            return await answer
        except GaveUp:
            cause = DeadlineExceeded(self.name, until_s - begun_s)
        execution_s = loop.time() - begun_s
        try:
            value = await self.fall_back(cause, args, kwargs)
            return Answer(value=value, fallback=True, cause=cause, execution_s=execution_s)
        finally:
            del cause  # as in __call__

    async def _thoroughly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[T]:
        """Do a call from begin to end: what ``__call__`` does in a hurry, and everything that is rare."""
        loop = get_running_loop()
        call = await self.begin(loop)
        if isinstance(call, Refusal):
            try:
                value = await self.fall_back(call, args, kwargs)
                return Answer(value=value, fallback=True, cause=call, execution_s=None)
            finally:
                del call  # as in __call__
        try:
            value = await self._run(*args, **kwargs)
            if call.expired:
                raise asyncio.CancelledError  # noqa: TRY301 - as in __call__
        except BaseException as error:
            execution_s = loop.time() - call.begun_s
            cause = self.ended_badly(call, error, loop.time())
            if cause is None or (cause is error and not self._fallbacks):
                del cause  # see below
                raise
        else:
            ended_s = loop.time()
            self.ended_well(call, ended_s)
            return Answer(value=value, fallback=False, cause=None, execution_s=ended_s - call.begun_s)
        try:
            value = await self.fall_back(cause, args, kwargs)
            return Answer(value=value, fallback=True, cause=cause, execution_s=execution_s)
        finally:
            del cause, call  # as in __call__


class BoundCommand(Generic[P, T]):
    """A command that decorates a method, bound to an instance: ``service.rank(title)``, ``service.rank.execute(1)``."""

    __slots__ = ("_instance", "command")

    def __init__(self, command: Command[..., T], instance: object) -> None:
        self.command = command
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Call the method isolated."""
        return self.command(self._instance, *args, **kwargs)

    def execute(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Answer[T]]:
        """Call the method isolated, and return the answer together with where it is from."""
        return self.command.execute(self._instance, *args, **kwargs)
