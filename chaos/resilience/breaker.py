"""The circuit breaker: after too many failures a dependency is left alone for a while, then tried with one call.

::

                  failures >= threshold               open_s over: one trial
        CLOSED ---------------------------> OPEN ----------------------------> HALF-OPEN
          ^                                  ^                                  |    |
          |                                  '------------ trial failed --------'    |
          '------------------------------------------- trial succeeded --------------'

pybreaker is the state machine underneath, by its public API alone and on transitions only. It makes a new state
object at every transition, and that object is our *generation token*: a call takes the current one when it is
admitted and hands it back when it ends. A result whose token is no longer the current one belongs to an earlier
generation and is ignored; so a call that began before the breaker opened can neither close it nor spoil a trial.

All of it is synchronous and takes the moment as an argument: between reading the state and acting on it
nothing else can run, and 100 calls that arrive at once at half-open get exactly one trial.
"""

from __future__ import annotations

import random
from datetime import datetime

import pybreaker

from chaos.resilience.settings import BreakerSettings, Force
from chaos.resilience.window import RollingWindow

Token = pybreaker.CircuitBreakerState
"""A generation of the breaker; see the module's text."""


class Breaker:
    """A circuit breaker for one dependency; several commands may share one.

    Every admitted call must be settled exactly once, with its token: ``succeeded``, ``failed``, ``answered`` or
    ``released``. Moments are seconds on any clock that does not go back. ``rng`` gives the jitter of the open time.

    ``closed`` is the token to take while the breaker is closed, else None; callers in a hurry read it and
    call ``admit`` only when it is None.
    """

    __slots__ = ("__weakref__", "_force", "_machine", "_retry_at_s", "_rng", "_settings", "_trial_runs", "closed",
                 "generation", "name", "window")  # fmt: skip

    def __init__(self, name: str, *, settings: BreakerSettings, rng: random.Random) -> None:
        self.name = name
        self.window = RollingWindow(settings.window_s, settings.buckets)
        self._settings = settings
        self._rng = rng
        self._retry_at_s = float("-inf")
        self._trial_runs = False
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
        """Whether calls are refused, but for a trial."""
        return self.closed is None

    def admits(self, now_s: float) -> bool:
        """Whether ``admit`` would let a call through; asking changes nothing."""
        if self.closed is not None:
            return True
        if self._force is Force.OPEN:
            return False
        return not self._trial_runs if self.state == pybreaker.STATE_HALF_OPEN else now_s > self._retry_at_s

    def admit(self, now_s: float) -> Token | None:
        """Return the token of an admitted call, or None: refused. A call admitted while not closed is the trial."""
        if self.closed is not None:
            return self.closed
        if not self.admits(now_s):
            return None
        if self.state == pybreaker.STATE_OPEN:
            self._machine.half_open()
        self._trial_runs = True
        return self.generation

    def succeeded(self, token: Token, now_s: float) -> None:
        """Settle a call that gave an answer in time."""
        if token is self.closed:
            self.window.succeeded(now_s)
            # A success can be the call that reaches the minimum volume, with enough failures before it.
            if self.window.has_failures:
                self._evaluate(now_s)
        elif token is self.generation:
            self._machine.close()

    def failed(self, token: Token, now_s: float) -> None:
        """Settle a call that failed or ran out of time."""
        if token is self.closed:
            self.window.failed(now_s)
            self._evaluate(now_s)
        elif token is self.generation:
            self._open(now_s)

    def answered(self, token: Token) -> None:
        """Settle a call that the dependency turned down as the caller's mistake: not counted, but proof of life."""
        if token is self.generation and token is not self.closed:
            self._machine.close()

    def released(self, token: Token) -> None:
        """Settle a call that tells nothing (cancelled, refused): not counted; the next call may be the trial."""
        if token is self.generation:
            self._trial_runs = False

    def force(self, force: Force | None) -> None:
        """Hold the breaker open or closed, or let go of it: then a forced-open one lets a trial through at once."""
        self._force = force
        if force is Force.CLOSED:
            self._machine.close()
        elif force is Force.OPEN:
            self._retry_at_s = float("-inf")
            self._machine.open()

    def _evaluate(self, now_s: float) -> None:
        successes, failures = self.window.counts(now_s)
        total = successes + failures
        if (
            total >= self._settings.minimum_calls
            and 100 * failures >= self._settings.error_threshold_percent * total
            and self._force is not Force.CLOSED
        ):
            self._open(now_s)

    def _open(self, now_s: float) -> None:
        spread = self._settings.open_jitter * (2.0 * self._rng.random() - 1.0)
        self._retry_at_s = now_s + self._settings.open_s * (1.0 + spread)
        self._machine.open()

    def _enter(self, generation: Token) -> None:
        """Take note that the state machine has entered a new state."""
        self.generation = generation
        self.closed = generation if generation.name == pybreaker.STATE_CLOSED else None
        self._trial_runs = False


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
