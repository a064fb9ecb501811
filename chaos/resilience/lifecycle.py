"""The life of a call: begun behind breaker, bulkhead and queue; ended well or badly; replaced by a fallback.

This is the thorough way, which does everything in its plainest form. ``Command.__call__`` takes a shorter one for what
happens nearly always, and hands over to this one for the rest.
"""

from __future__ import annotations

import asyncio
import math
import random
from asyncio import current_task, get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

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
from chaos.resilience.settings import CommandSettings, Force, Switches
from chaos.resilience.strict import make_breaker

T = TypeVar("T")


class Lifecycle(Generic[T]):
    """What a command has (policies, numbers), and what its calls go through. ``Command`` documents the parameters."""

    __slots__ = ("_breaker", "_bulkhead", "_expiry", "_fallbacks", "_inherits_deadline", "_listeners", "_meter",
                 "_minimum_s", "_settings", "_timeout_s", "counts", "name")  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        fallbacks: Sequence[Callable[..., Awaitable[T] | T]],
        settings: CommandSettings,
        rng: random.Random,
        breaker: Breaker | None,
        switches: Switches,
        listeners: Sequence[Listener],
    ) -> None:
        with_fallback = settings.fallback_enabled and switches.fallback
        self.name = name
        self._settings = settings
        self._meter = Meter()
        self.counts = self._meter.counts
        self._timeout_s = math.inf if settings.timeout_s is None or not switches.deadline else settings.timeout_s
        self._minimum_s = settings.minimum_s
        self._inherits_deadline = switches.deadline
        self._bulkhead = _make_bulkhead(settings, enabled=switches.bulkhead)
        self._fallbacks: list[tuple[Callable[..., Awaitable[T] | T], Bulkhead]] = [
            (one, Bulkhead(settings.fallback_max_concurrent)) for one in fallbacks if with_fallback
        ]
        self._expiry = Expiry()
        if breaker is None or not switches.breaker:
            kept_closed = replace(settings.breaker, force=Force.CLOSED)
            breaker = make_breaker(name, settings=settings.breaker if switches.breaker else kept_closed, rng=rng)
        else:
            breaker.share()
        self._breaker = breaker
        self._listeners: tuple[Listener, ...] = tuple(listeners)

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

    def snapshot(self) -> CommandSnapshot:
        """Return its state and numbers as they are now; to be called in the event loop's thread."""
        now_s = get_running_loop().time()
        bulkhead, meter = self._bulkhead, self._meter
        if now_s >= meter.next_step_s:
            meter.roll(now_s, bulkhead.take_peak())
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

    async def begin(self, loop: asyncio.AbstractEventLoop) -> RunningCall | Refusal:
        """Pass the breaker, the bulkhead and its queue; return the call, which must be ended, or why there is none."""
        now_s = loop.time()
        breaker, bulkhead = self._breaker, self._bulkhead
        task = current_task(loop)
        assert task is not None, "a command is awaited in an asyncio task"
        token = breaker.admit(now_s)
        if token is None:
            return self._refused(ShortCircuited(self.name), now_s)
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
            return self._refused(BulkheadFull(self.name, bulkhead.limit), now_s)
        if not permitted:
            refusal = await self._wait_for_permit(loop, call)
            if refusal is not None:
                return refusal
            call.begun_s = loop.time()
            # While it waited the breaker may have opened, or the time may have gone.
            if token is not breaker.generation:
                bulkhead.release()
                self._expiry.end(call)
                return self._refused(ShortCircuited(self.name), call.begun_s)
        if call.at_s - self._minimum_s <= call.begun_s:
            bulkhead.release()
            breaker.released(token)
            self._expiry.end(call)
            return self._refused(DeadlineSpent(self.name), call.begun_s)
        if permitted:
            self._expiry.begin(loop, call)
        innermost.set(call)
        return call

    async def _wait_for_permit(self, loop: asyncio.AbstractEventLoop, call: RunningCall) -> Refusal | None:
        """Wait in the bulkhead's queue, no longer than the call's deadline; return why there was no permit, if so."""
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
                return self._refused(BulkheadFull(self.name, self._bulkhead.limit), now_s)
            self._breaker.cancelled(call.token, now_s)
            self.counts.cancelled += 1
            raise
        return None

    def _refused(self, refusal: Refusal, now_s: float) -> Refusal:
        """Count a call that was not begun, and return why."""
        if isinstance(refusal, ShortCircuited):
            self._ended("short_circuited", now_s, None)
        elif isinstance(refusal, BulkheadFull):
            self._ended("rejected", now_s, None)
        else:
            self._ended("refused", now_s, None)
        return refusal

    def ended_well(self, call: RunningCall, ended_s: float) -> None:
        """Settle a call that gave its answer in time."""
        duration_s = ended_s - call.begun_s
        breaker, bulkhead, meter = self._breaker, self._bulkhead, self._meter
        breaker.succeeded(call.token, ended_s, duration_s)
        bulkhead.ended(ended_s, duration_s, failed=False)
        self._expiry.end(call)
        # As ``_ended`` does it, for what happens most.
        if ended_s >= meter.next_step_s:
            meter.roll(ended_s, bulkhead.take_peak())
        self.counts.success += 1
        latencies = meter.latencies
        if ended_s >= latencies.full_until_s:
            latencies.record(ended_s, duration_s)
        if self._listeners:
            self._tell("success", ended_s, duration_s)
        # Until then the next success has nothing to tell but that it was one: see ``__call__``.
        window = breaker.window
        if breaker.counts_at_once and bulkhead.plain and not window.has_failures:
            window.quiet_until_s = min(latencies.full_until_s, window.next_bucket_s, meter.next_step_s)

    def ended_badly(self, call: RunningCall, error: BaseException, ended_s: float) -> Exception | None:
        """Settle a call that did not succeed; return the cause for the fallback, or None to let ``error`` out."""
        duration_s = ended_s - call.begun_s
        breaker, token = self._breaker, call.token
        told_s: float | None = None
        cause: Exception | None = None
        if call.expired or (isinstance(error, asyncio.CancelledError) and self._is_late(call, ended_s)):
            # The second case is a deadline around this call that came first: that of a command, the same moment as
            # ours, or that of the last one who waited for a shared call.
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

    def _is_late(self, call: RunningCall, now_s: float) -> bool:
        """Whether a deadline has come, the call's own or one around it that it keeps."""
        if now_s >= call.at_s:
            return True
        scope = call.outer
        while self._inherits_deadline and scope.at_s > now_s and scope.outer is not scope:
            scope = scope.outer
        return self._inherits_deadline and now_s >= scope.at_s

    def _ended(self, outcome: str, now_s: float, duration_s: float | None) -> None:
        """Count a call, and tell those who listen."""
        meter = self._meter
        if now_s >= meter.next_step_s:
            meter.roll(now_s, self._bulkhead.take_peak())
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        if duration_s is not None:
            meter.latencies.record(now_s, duration_s)
        if self._listeners:
            self._tell(outcome, now_s, duration_s)

    def _tell(self, outcome: str, now_s: float, duration_s: float | None) -> None:
        event = CallEnded(command=self.name, outcome=outcome, at_s=now_s, execution_s=duration_s)
        for listener in self._listeners:
            listener(event)

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

    async def fall_back(
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
