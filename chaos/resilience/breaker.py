"""The circuit breaker: after too many failures a dependency is left alone for a while, then tried with one call.

::

            failures or slow calls >= threshold         open time over: trials
        CLOSED ---------------------------> OPEN ----------------------------> HALF-OPEN
          ^                                  ^                                  |    |
          |                                  '---------- a trial failed --------'    |
          '-------------------------------------- all trials succeeded --------------'

pybreaker is the state machine underneath, by its public API alone and on transitions only. It makes a new state
object at every transition, and that object is our *generation token*: a call takes the current one when it is
admitted and hands it back when it ends. A result whose token is no longer the current one belongs to an earlier
generation and is ignored; so a call that began before the breaker opened can neither close it nor spoil a trial.

All of it is synchronous and takes the moment as an argument: between reading the state and acting on it
nothing else can run, and 100 calls that arrive at once at half-open get exactly one trial.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

import pybreaker

from chaos.resilience.settings import BreakerSettings, Force
from chaos.resilience.window import RollingWindow

Token = pybreaker.CircuitBreakerState
"""A generation of the breaker; see the module's text."""

_TIMES_OPEN_MAX = 100
"""Keeps the power of the growth within what a float can hold; the cap on the open time comes long before."""


BreakerListener: TypeAlias = Callable[["Breaker", str, str], None]
"""Told of every transition: the breaker, and the names of the state before and the state after."""


class Breaker:
    """A circuit breaker for one dependency; several commands may share one.

    Every admitted call must be settled exactly once, with its token: ``succeeded``, ``failed``, ``answered``,
    ``released``, ``cancelled`` or ``rejected``. Moments are seconds on any clock that does not go back. ``rng`` gives
    the jitter of the open time.

    ``closed`` is the token to take while the breaker is closed, else None; callers in a hurry read it and call
    ``admit`` only when it is None and ``refuses_until_s`` has passed. ``counts_at_once`` says whether a success while
    it is closed may be counted by ``window.successes += 1`` until ``window.quiet_until_s``.
    """

    __slots__ = ("__weakref__", "_force", "_machine", "_places", "_retry_at_s", "_rng", "_settings", "_slow_call_s",
                 "_succeeded",
                 "_times_open", "closed", "counts_at_once", "generation", "listeners", "name", "refuses_until_s",
                 "window")  # fmt: skip

    def __init__(self, name: str, *, settings: BreakerSettings, rng: random.Random) -> None:
        self.name = name
        self.window = RollingWindow(settings.window_s, settings.buckets)
        self.listeners: list[BreakerListener] = []
        self.counts_at_once = settings.slow_call_s is None
        self.refuses_until_s = -math.inf
        self._settings = settings
        self._slow_call_s = math.inf if settings.slow_call_s is None else settings.slow_call_s
        self._rng = rng
        self._retry_at_s = -math.inf
        self._times_open = 0
        self._places = 0
        self._succeeded = 0
        self._force: Force | None = None
        self._machine = pybreaker.CircuitBreaker(
            name=name,
            state_storage=_Storage(name, self.window),
            listeners=[_Follower(self)],
            throw_new_error_on_trip=False,
        )
        self.generation: Token = self._machine.state
        self.closed: Token | None = self.generation
        self.force(settings.force)

    @property
    def settings(self) -> BreakerSettings:
        """The settings it was made with."""
        return self._settings

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``. It stays ``open`` until a trial is really let through."""
        return self.generation.name

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for trials."""
        return self.state != pybreaker.STATE_CLOSED

    def share(self) -> None:
        """Note that several commands use it: then none of them may take for granted what it saw last."""
        self.counts_at_once = False
        self.window.quiet_until_s = -math.inf

    def admits(self, now_s: float) -> bool:
        """Whether ``admit`` would let a call through; asking changes nothing."""
        return self.closed is not None or now_s > self.refuses_until_s

    def admit(self, now_s: float) -> Token | None:
        """Return the token of an admitted call, or None: refused. A call admitted while not closed is a trial."""
        if self.closed is not None:
            return self.closed
        if now_s <= self.refuses_until_s:
            return None
        if self.state == pybreaker.STATE_OPEN:
            self._machine.half_open()
        self._places -= 1
        if self._places == 0:
            self.refuses_until_s = math.inf
        return self.generation

    def succeeded(self, token: Token, now_s: float, duration_s: float = 0.0) -> None:
        """Settle a call that gave an answer in time, after ``duration_s``."""
        slow = duration_s > self._slow_call_s
        if token is self.closed:
            window = self.window
            window.succeeded(now_s)
            if slow:
                window.was_slow(now_s)
            # A success can be the call that reaches the minimum volume, with enough bad ones before it.
            if window.has_failures or not self.counts_at_once:
                self._evaluate(now_s)
        elif token is self.generation:
            if slow:
                self._open(now_s)
            else:
                self._trial_succeeded()

    def failed(self, token: Token, now_s: float, duration_s: float = 0.0) -> None:
        """Settle a call that failed or ran out of time, after ``duration_s``."""
        if token is self.closed:
            self.window.failed(now_s)
            if duration_s > self._slow_call_s:
                self.window.was_slow(now_s)
            self._evaluate(now_s)
        elif token is self.generation:
            self._open(now_s)

    def answered(self, token: Token, now_s: float) -> None:  # noqa: ARG002 - a stricter breaker needs the moment
        """Settle a call that the dependency turned down as the caller's mistake: not counted, but proof of life."""
        if token is self.generation and token is not self.closed:
            self._trial_succeeded()

    def released(self, token: Token) -> None:
        """Settle a call that tells nothing: not counted; a trial's place is free again."""
        if token is self.generation and token is not self.closed:
            self._places += 1
            self.refuses_until_s = -math.inf

    def cancelled(self, token: Token, now_s: float) -> None:  # noqa: ARG002 - a stricter breaker needs the moment
        """Settle a call whose caller went away: it tells nothing."""
        self.released(token)

    def rejected(self, token: Token, now_s: float) -> None:  # noqa: ARG002 - a stricter breaker needs the moment
        """Settle a call that our own bulkhead refused: no evidence against the dependency."""
        self.released(token)

    def force(self, force: Force | None) -> None:
        """Hold the breaker open or closed, or let go of it: then a forced-open one lets a trial through at once."""
        self._force = force
        if force is Force.CLOSED:
            self._machine.close()
        elif force is Force.OPEN:
            self._retry_at_s = math.inf
            self._machine.open()
        elif self.state == pybreaker.STATE_OPEN:
            self._retry_at_s = self.refuses_until_s = -math.inf

    def _trial_succeeded(self) -> None:
        self._succeeded += 1
        if self._succeeded >= self._settings.trials:
            self._machine.close()

    def _evaluate(self, now_s: float) -> None:
        settings = self._settings
        successes, failures = self.window.counts(now_s)
        total = successes + failures
        if total < settings.minimum_calls or self._force is Force.CLOSED:
            return
        if 100 * failures >= settings.error_threshold_percent * total or (
            settings.slow_call_s is not None
            and 100 * self.window.slow_calls(now_s) >= settings.slow_call_threshold_percent * total
        ):
            self._open(now_s)

    def _open(self, now_s: float) -> None:
        settings = self._settings
        open_s = settings.open_s * settings.open_growth ** min(self._times_open, _TIMES_OPEN_MAX)
        spread = settings.open_jitter * (2.0 * self._rng.random() - 1.0)
        self._retry_at_s = now_s + min(open_s, max(settings.open_max_s, settings.open_s)) * (1.0 + spread)
        self._times_open += 1
        self._machine.open()

    def _enter(self, generation: Token) -> None:
        """Take note that the state machine has entered a new state."""
        before, self.generation = self.generation.name, generation
        after = generation.name
        self.closed = generation if after == pybreaker.STATE_CLOSED else None
        self._places = self._settings.trials
        self._succeeded = 0
        if after == pybreaker.STATE_OPEN:
            self.refuses_until_s = self._retry_at_s
        else:
            self.refuses_until_s = -math.inf
        if after == pybreaker.STATE_CLOSED:
            self._times_open = 0
        if before != after:
            for listener in self.listeners:
                listener(self, before, after)


class _Follower(pybreaker.CircuitBreakerListener):
    """Tells the breaker of every transition of pybreaker's state machine, also of one that somebody else causes."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,  # noqa: ARG002 - pybreaker's signature
        old_state: Token | None,  # noqa: ARG002 - pybreaker's signature
        new_state: Token,
    ) -> None:
        self._breaker._enter(new_state)  # noqa: SLF001 - one idea in two classes, because pybreaker has two interfaces


class _Storage(pybreaker.CircuitBreakerStorage):
    """pybreaker's memory, whose failure counter is our rolling window: closing the breaker clears it."""

    def __init__(self, name: str, window: RollingWindow) -> None:
        super().__init__(name)
        self._window = window
        self._state: str = pybreaker.STATE_CLOSED

    @property
    def state(self) -> str:
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state

    def reset_counter(self) -> None:
        self._window.clear()

    @property
    def counter(self) -> int:
        return int(self._window.has_failures)

    @property
    def success_counter(self) -> int:
        return 0

    @property
    def opened_at(self) -> datetime | None:
        return None

    @opened_at.setter
    def opened_at(self, moment: datetime) -> None:
        """Forget pybreaker's own time of day: the breaker keeps the moment on the event loop's clock."""
