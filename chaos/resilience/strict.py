"""The breaker that does all as Hystrix does (its master branch), for whoever moves from there and wants no surprise.

=========================================  =================================  ==================================
case                                       Hystrix, and ``strict``            ours
=========================================  =================================  ==================================
a call refused by our own bulkhead         counts as an error                 no evidence against the dependency
a late success from before it opened,      closes it, and it stays closed     ignored
while the trial runs                       when the trial fails
a late failure from before it opened,      re-opens it, and the trial's       ignored
while the trial runs                       success is lost
a bad request as the trial                 re-opens it                        closes it: the dependency answered
a cancelled trial                          re-opens it                        the next call is the trial
the window                                 finished buckets, looked at when   counted to the call, looked at
                                           the next one begins                whenever a call ends
the error percentage                       truncated to a whole number        exact
jitter, growth, slow calls, more trials    none                               as set
=========================================  =================================  ==================================

So a dependency that fails within a millisecond is called some 400 times before the breaker opens after half a second,
and twenty times with ours.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pybreaker

from chaos.resilience.breaker import Breaker, Token
from chaos.resilience.settings import BreakerSettings, Force


class HystrixBreaker(Breaker):
    """A breaker that takes every call through ``admit`` and knows only states, no generations."""

    __slots__ = ("_looked_until_s",)

    def __init__(self, name: str, *, settings: BreakerSettings, rng: random.Random) -> None:
        plain = replace(settings, open_jitter=0.0, open_growth=1.0, trials=1, slow_call_s=None)
        super().__init__(name, settings=plain, rng=rng)
        self._looked_until_s = float("-inf")
        self.counts_at_once = False

    def admits(self, now_s: float) -> bool:
        """Whether ``admit`` would let a call through; asking looks at the window when that is due."""
        self._look(now_s)
        return self.state == pybreaker.STATE_CLOSED or now_s > self.refuses_until_s

    def admit(self, now_s: float) -> Token | None:
        """Return the token of an admitted call, or None: refused."""
        self._look(now_s)
        return self.generation if self.state == pybreaker.STATE_CLOSED else super().admit(now_s)

    def succeeded(self, token: Token, now_s: float, duration_s: float = 0.0) -> None:  # noqa: ARG002 - the interface
        """Count a success; whichever call it was, while a trial runs it closes the breaker."""
        self._look(now_s)
        self.window.succeeded(now_s)
        if self.state == pybreaker.STATE_HALF_OPEN:
            self._machine.close()

    def failed(self, token: Token, now_s: float, duration_s: float = 0.0) -> None:  # noqa: ARG002 - the interface
        """Count a failure; whichever call it was, while a trial runs it opens the breaker again."""
        self._look(now_s)
        self.window.failed(now_s)
        if self.state == pybreaker.STATE_HALF_OPEN:
            self._open(now_s)

    def answered(self, token: Token, now_s: float) -> None:  # noqa: ARG002 - the interface
        """Take a bad request: not counted, but no success either."""
        if self.state == pybreaker.STATE_HALF_OPEN:
            self._open(now_s)

    def cancelled(self, token: Token, now_s: float) -> None:
        """Take a cancellation: not counted, but no success either."""
        self.answered(token, now_s)

    def rejected(self, token: Token, now_s: float) -> None:
        """Count a call that our own bulkhead refused, as an error."""
        self.failed(token, now_s)

    def _look(self, now_s: float) -> None:
        """Judge the finished buckets, once after the end of each."""
        self.window.counts(now_s)
        if self.window.next_bucket_s <= self._looked_until_s:
            return
        self._looked_until_s = self.window.next_bucket_s
        successes, failures = self.window.finished_counts(now_s)
        total = successes + failures
        if (
            self.state == pybreaker.STATE_CLOSED
            and self._force is not Force.CLOSED
            and total >= self._settings.minimum_calls
            and 100 * failures // total >= self._settings.error_threshold_percent
        ):
            self._open(now_s)

    def _enter(self, generation: Token) -> None:
        super()._enter(generation)
        self.closed = None  # so that every call goes through ``admit``, which looks at the window first


def make_breaker(name: str, *, settings: BreakerSettings, rng: random.Random) -> Breaker:
    """Return the breaker that ``settings`` ask for: ours, or with ``strict`` the one that does all as Hystrix."""
    return (HystrixBreaker if settings.strict else Breaker)(name, settings=settings, rng=rng)
