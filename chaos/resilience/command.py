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
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, overload

from chaos.resilience.breaker import Breaker
from chaos.resilience.bulkhead import Bulkhead
from chaos.resilience.deadline import current_scope, innermost
from chaos.resilience.errors import (
    BadRequest,
    BulkheadFull,
    DeadlineExceeded,
    DeadlineSpent,
    FallbackFailed,
    Refusal,
    ShortCircuited,
)
from chaos.resilience.events import CallEnded, Listener
from chaos.resilience.expiry import Expiry, RunningCall
from chaos.resilience.limits import make_limit
from chaos.resilience.metrics import CommandSnapshot, Meter
from chaos.resilience.request import RequestContext
from chaos.resilience.retry import Retry
from chaos.resilience.settings import CommandSettings, Force, Switches
from chaos.resilience.strict import make_breaker

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
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


class Command(Generic[P, T]):
    """``run``, isolated. Calling the command takes what ``run`` takes and gives what ``run`` gives.

    ``fallback`` is one function or several, tried in order; each gets the cause as its first argument. ``rng`` spreads
    the breaker's open times and the pauses between retries. ``breaker`` shares another command's breaker instead of
    making one from the settings. ``cache_key`` is given the call's arguments; within one ``RequestContext`` calls with
    equal keys are one call, and share its answer or failure. ``switches`` takes protections away, for controls.
    ``listeners`` are told of every call that ends.

    A call raises ``BadRequest`` as ``run`` raised it. Where no fallback answers, it raises what ``run`` raised, or
    ``DeadlineExceeded``, ``DeadlineSpent``, ``ShortCircuited`` or ``BulkheadFull``; and ``FallbackFailed`` when the
    fallbacks failed too. A ``run`` that resists cancellation is waited for: a deadline cannot stop code that does
    not let itself be stopped.

    Example: ``rank = Command("rank", fetch_rank, fallback=static_rank, rng=rng); await rank(title)``.
    """

    __slots__ = ("__name__", "__weakref__", "_answer_type", "_bare", "_breaker", "_bulkhead", "_cache_key", "_expiry",
                 "_fallbacks", "_inherits_deadline", "_listeners", "_meter", "_minimum_s", "_plain_fallback",
                 "_run", "_settings", "_special", "_timeout_s", "counts", "name")  # fmt: skip

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
        with_fallback = settings.fallback_enabled and switches.fallback
        self.name = self.__name__ = name
        self._settings = settings
        self._meter = Meter()
        self.counts = self._meter.counts
        self._run: Callable[..., Awaitable[T]] = run
        if settings.retry is not None and switches.retry:
            self._run = Retry(run, settings=settings.retry, rng=rng)
        self._timeout_s = math.inf if settings.timeout_s is None or not switches.deadline else settings.timeout_s
        self._minimum_s = settings.minimum_s
        self._inherits_deadline = switches.deadline
        self._bulkhead = _make_bulkhead(settings, enabled=switches.bulkhead)
        self._fallbacks: list[tuple[Callable[..., Awaitable[T] | T], Bulkhead]] = [
            (one, Bulkhead(settings.fallback_max_concurrent)) for one in fallbacks if with_fallback
        ]
        first = self._fallbacks[0][0] if self._fallbacks else None
        self._plain_fallback = None if asyncio.iscoroutinefunction(first) else first
        self._answer_type: type | None = None
        self._expiry = Expiry()
        if breaker is None or not switches.breaker:
            kept_closed = replace(settings.breaker, force=Force.CLOSED)
            breaker = make_breaker(name, settings=settings.breaker if switches.breaker else kept_closed, rng=rng)
        else:
            breaker.share()
        self._breaker = breaker
        self._bare = not switches.enabled
        self._cache_key: Callable[..., Hashable] | None = cache_key if switches.cache else None
        self._listeners: tuple[Listener, ...] = tuple(listeners)
        self._special = False
        self._note_special()

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: C901, PLR0911, PLR0912, PLR0915 - below
        """Call ``run`` isolated, and return its answer or a fallback's."""
        # Nearly every call takes this way, so what a success needs is written out here: the shortest ways through the
        # breaker, the bulkhead, the scopes and the expiry. Whatever is less common is a call to where it belongs, and
        # whatever is rare goes the thorough way, which does the same thing plainly. So does a short circuit, which must
        # cost next to nothing while the dependency is down.
        if self._special:
            return await self._specially(args, kwargs)
        loop = get_running_loop()
        clock = loop.time
        now_s = clock()
        breaker = self._breaker
        token = breaker.closed
        if token is None:
            fallback = self._plain_fallback
            if now_s > breaker.refuses_until_s or fallback is None:
                return (await self._thoroughly(args, kwargs)).value
            self.counts.short_circuited += 1
            if now_s >= self._meter.next_step_s:
                self._meter.roll(now_s, self._bulkhead.take_peak())
            refusal = ShortCircuited(self.name)
            try:
                answer = fallback(refusal, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next fallback may do better
                return await self._fall_back(refusal, args, kwargs, failed=error)
            if answer.__class__ is not self._answer_type:
                if hasattr(answer, "__await__"):
                    self._plain_fallback = None
                    return await self._fall_back(refusal, args, kwargs, begun=answer)
                self._answer_type = answer.__class__
            self.counts.fallback_success += 1
            return answer  # type: ignore[return-value] # no awaitable, as was just seen

        bulkhead = self._bulkhead
        scope = innermost.get()
        while scope.holder is None:
            scope = scope.outer
        at_s = now_s + self._timeout_s
        if scope.at_s < at_s:
            at_s = scope.at_s
            if at_s - self._minimum_s <= now_s:
                return (await self._thoroughly(args, kwargs)).value
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
        expiry = self._expiry
        queue = expiry.queue
        if at_s < expiry.armed_at_s or loop is not expiry.loop or (queue and at_s < queue[-1].at_s):
            expiry.begin(loop, call)
            last = False
        else:
            queue.append(call)
            last = True
        innermost.set(call)
        try:
            value = await (self._run(*args, **kwargs) if kwargs else self._run(*args))
            if call.holder is None:
                # ``run`` swallowed our cancellation and answered too late: nobody waits for that answer.
                raise asyncio.CancelledError  # noqa: TRY301 - one place judges late calls, whatever they ended with
        except BaseException as error:
            call.token = token
            call.begun_s = now_s
            cause = self._ended_badly(call, error, loop.time())
            if cause is None or (cause is error and not self._fallbacks):
                raise
        else:
            ended_s = clock()
            window = breaker.window
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
                self._ended_well(call, ended_s)
            return value
        try:
            return await self._fall_back(cause, args, kwargs)
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
        return Guard(self)

    @overload
    def __get__(self, instance: None, owner: type) -> Command[P, T]: ...
    @overload
    def __get__(self: Command[Concatenate[S, Q], T], instance: S, owner: type) -> BoundCommand[Q, T]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """Bind a command that decorates a method: all instances share its breaker, permits and numbers."""
        return self if instance is None else BoundCommand(self, instance)

    @property
    def breaker(self) -> Breaker:
        """Its circuit breaker, to be shared with another command or forced by an operator."""
        return self._breaker

    @property
    def bulkhead(self) -> Bulkhead:
        """Its bulkhead."""
        return self._bulkhead

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
        """Whether its bulkhead would refuse a call now, or have it wait."""
        return self._bulkhead.in_use >= self._bulkhead.limit

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` told of every call that ends from now on."""
        self._listeners = (*self._listeners, listener)
        self._note_special()

    def snapshot(self) -> CommandSnapshot:
        """Return its state and numbers as they are now; to be called in the event loop's thread."""
        now_s = get_running_loop().time()
        bulkhead, meter = self._bulkhead, self._meter
        counts = self.counts.copy()
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
            waiting=bulkhead.waiting,
            limit=bulkhead.limit,
            counts=counts,
            rolling=meter.rolling(now_s),
            peak_in_flight=meter.peak(now_s, bulkhead.peak),
            latency=meter.latency(now_s),
            settings=self._settings,
        )

    def __repr__(self) -> str:
        return f"<Command {self.name} {self._breaker.state}, {self.in_flight} in flight>"

    def _note_special(self) -> None:
        self._special = bool(
            self._bare or self._cache_key is not None or self._listeners or not self._inherits_deadline
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
        key = (self, self._cache_key(*args, **kwargs))
        hit, answer = context.shared(key, lambda: self._thoroughly(args, kwargs))
        if hit:
            self.counts.from_cache += 1
        return await answer

    async def _thoroughly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[T]:
        """Do a call from begin to end: what ``__call__`` does in a hurry, and everything that is rare."""
        loop = get_running_loop()
        call: RunningCall | None = None
        ended_s = math.nan
        try:
            call = await self._begin(loop)
            value = await self._run(*args, **kwargs)
            if call.expired:
                raise asyncio.CancelledError  # noqa: TRY301 - as in __call__
        except BaseException as error:
            ended_s = loop.time()
            cause: Exception | None = error if call is None and isinstance(error, Refusal) else None
            if call is not None:
                cause = self._ended_badly(call, error, ended_s)
            if cause is None or (cause is error and not self._fallbacks):
                raise
        else:
            ended_s = loop.time()
            self._ended_well(call, ended_s)
            return Answer(value=value, fallback=False, cause=None, execution_s=ended_s - call.begun_s)
        try:
            value = await self._fall_back(cause, args, kwargs)
            taken_s = None if call is None else ended_s - call.begun_s
            return Answer(value=value, fallback=True, cause=cause, execution_s=taken_s)
        finally:
            del cause, call  # as in __call__

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> RunningCall:
        """Pass the breaker, the bulkhead and its queue; return the call, which must be ended. Raises a Refusal."""
        now_s = loop.time()
        breaker, bulkhead = self._breaker, self._bulkhead
        task = current_task(loop)
        assert task is not None, "a command is awaited in an asyncio task"
        token = breaker.admit(now_s)
        if token is None:
            raise self._refused(ShortCircuited(self.name), now_s)
        scope = current_scope()
        call = RunningCall()
        call.at_s = now_s + self._timeout_s
        if scope.at_s < call.at_s and self._inherits_deadline:
            call.at_s = scope.at_s
        call.outer = scope
        call.holder = task
        call.cancelling = task.cancelling()
        call.token = token
        call.begun_s = now_s
        permitted = bulkhead.try_acquire()
        if not permitted and (bulkhead.queue_max == 0 or call.at_s - self._minimum_s <= now_s):
            breaker.rejected(token, now_s)
            raise self._refused(BulkheadFull(self.name, bulkhead.limit), now_s)
        if not permitted:
            await self._wait_for_permit(loop, call)
            call.begun_s = loop.time()
            # While it waited the breaker may have opened, or the time may have gone.
            if token is not breaker.generation:
                bulkhead.release()
                self._expiry.end(call)
                raise self._refused(ShortCircuited(self.name), call.begun_s)
        if call.at_s - self._minimum_s <= call.begun_s:
            bulkhead.release()
            breaker.released(token)
            self._expiry.end(call)
            raise self._refused(DeadlineSpent(self.name), call.begun_s)
        if permitted:
            self._expiry.begin(loop, call)
        innermost.set(call)
        return call

    async def _wait_for_permit(self, loop: asyncio.AbstractEventLoop, call: RunningCall) -> None:
        """Wait in the bulkhead's queue, no longer than the call's deadline. Raises BulkheadFull."""
        self._expiry.begin(loop, call)
        try:
            await self._bulkhead.wait(self.name)
            if call.expired:  # cut off in the moment in which it got its permit
                self._bulkhead.release()
                raise asyncio.CancelledError  # noqa: TRY301 - judged below like one that came in time
        except BaseException as error:
            now_s = loop.time()
            late = isinstance(error, asyncio.CancelledError) and call.take_back()
            self._expiry.end(call)
            if late or isinstance(error, BulkheadFull):
                self._breaker.rejected(call.token, now_s)
                raise self._refused(BulkheadFull(self.name, self._bulkhead.limit), now_s) from None
            self._breaker.cancelled(call.token, now_s)
            self.counts.cancelled += 1
            raise

    def _refused(self, refusal: Refusal, now_s: float) -> Refusal:
        """Count a call that was not begun, and return why."""
        if isinstance(refusal, ShortCircuited):
            self._ended("short_circuited", now_s, None)
        elif isinstance(refusal, BulkheadFull):
            self._ended("rejected", now_s, None)
        else:
            self._ended("refused", now_s, None)
        return refusal

    def _ended_well(self, call: RunningCall, ended_s: float) -> None:
        """Settle a call that gave its answer in time."""
        duration_s = ended_s - call.begun_s
        breaker, bulkhead, latencies = self._breaker, self._bulkhead, self._meter.latencies
        breaker.succeeded(call.token, ended_s, duration_s)
        bulkhead.ended(ended_s, duration_s, failed=False)
        self._expiry.end(call)
        self._ended("success", ended_s, duration_s)
        # Until then the next success has nothing to tell but that it was one: see ``__call__``.
        window = breaker.window
        if breaker.counts_at_once and bulkhead.plain and not window.has_failures:
            window.quiet_until_s = min(latencies.full_until_s, window.next_bucket_s, self._meter.next_step_s)

    def _ended_badly(self, call: RunningCall, error: BaseException, ended_s: float) -> Exception | None:
        """Settle a call that did not succeed; return the cause for the fallback, or None to let ``error`` out."""
        duration_s = ended_s - call.begun_s
        breaker, token = self._breaker, call.token
        told_s: float | None = None
        cause: Exception | None = None
        if call.expired or (isinstance(error, asyncio.CancelledError) and ended_s >= call.at_s):
            # The second case is the deadline of a command around this one, the same moment as ours, that fired first.
            outcome, told_s = "timeout", duration_s
            breaker.failed(token, ended_s, duration_s)
            cause = self._late(error, call, call.at_s - call.begun_s)
        elif isinstance(error, BadRequest):
            outcome, told_s = "bad_request", duration_s
            breaker.answered(token, ended_s)
        elif isinstance(error, Refusal):
            outcome, cause = "refused", error
            breaker.released(token)
        elif isinstance(error, Exception):
            outcome, told_s = "failure", duration_s
            breaker.failed(token, ended_s, duration_s)
            cause = None if isinstance(error, MemoryError) else error  # a fallback would fail of the same
        else:
            outcome = "cancelled"
            breaker.cancelled(token, ended_s)
        self._bulkhead.ended(ended_s, told_s, failed=outcome in {"timeout", "failure"})
        self._expiry.end(call)
        self._ended(outcome, ended_s, told_s)
        return cause

    def _ended(self, outcome: str, now_s: float, duration_s: float | None) -> None:
        """Count a call, and tell those who listen."""
        meter = self._meter
        if now_s >= meter.next_step_s:
            meter.roll(now_s, self._bulkhead.take_peak())
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        if duration_s is not None:
            meter.latencies.record(now_s, duration_s)
        for listener in self._listeners:
            listener(CallEnded(command=self.name, outcome=outcome, at_s=now_s, execution_s=duration_s))

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
        self,
        cause: Exception,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        begun: Awaitable[T] | None = None,
        failed: Exception | None = None,
    ) -> T:
        """Return the answer of the first fallback that has one; raise ``cause`` where there is no fallback.

        The first fallback may have been called already: ``begun`` is what it gave to be awaited, ``failed`` what it
        raised.
        """
        if not self._fallbacks:
            try:
                raise cause from cause.__cause__
            finally:
                del cause
        counts = self.counts
        errors: list[Exception] = []
        try:
            for fallback, bulkhead in self._fallbacks:
                if not bulkhead.try_acquire():
                    counts.fallback_rejected += 1
                    errors.append(BulkheadFull(f"{self.name} (fallback)", bulkhead.limit))
                    if begun is not None:
                        _drop(begun)
                        begun = None
                    continue
                try:
                    if failed is not None:
                        raise failed  # noqa: TRY301 - judged as if it had been raised here
                    answer = fallback(cause, *args, **kwargs) if begun is None else begun
                    value: T = await answer if hasattr(answer, "__await__") else answer
                except BadRequest:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it is, the next fallback may do better
                    counts.fallback_failure += 1
                    errors.append(error)
                else:
                    counts.fallback_success += 1
                    return value
                finally:
                    bulkhead.release()
                    begun = failed = None
            raise FallbackFailed(self.name, cause, tuple(errors)) from errors[-1]
        finally:
            del cause, errors


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


class Guard:
    """One ``async with`` block in the place of a command's ``run``; see ``Command.guard``."""

    __slots__ = ("_call", "_command")

    def __init__(self, command: Command[..., Any]) -> None:
        self._command = command
        self._call: RunningCall | None = None

    async def __aenter__(self) -> None:
        if self._call is not None:
            raise RuntimeError(f"{self._command.name}: a guard is for one block; call guard() again")
        if not self._command._bare:  # noqa: SLF001 - one idea in two classes, as Python has it for ``with``
            self._call = await self._command._begin(get_running_loop())  # noqa: SLF001

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call, command = self._call, self._command
        if call is None:
            return
        now_s = get_running_loop().time()
        if error is None and not call.expired:
            command._ended_well(call, now_s)  # noqa: SLF001
            return
        error = error or asyncio.CancelledError()
        cause = command._ended_badly(call, error, now_s)  # noqa: SLF001
        try:
            if cause is not None and cause is not error:
                raise cause from cause.__cause__
        finally:
            del cause, error


def _make_bulkhead(settings: CommandSettings, *, enabled: bool) -> Bulkhead:
    if not enabled:
        return Bulkhead(math.inf)
    adaptive = None if settings.adaptive is None else make_limit(settings.adaptive)
    limit = settings.max_concurrent if adaptive is None else adaptive.value
    return Bulkhead(limit, queue_max=settings.queue_max, adaptive=adaptive)


def _drop(begun: object) -> None:
    """Close a coroutine that will not be awaited, which else would complain."""
    if isinstance(begun, Coroutine):
        begun.close()
