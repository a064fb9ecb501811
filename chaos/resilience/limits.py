"""Limits that find themselves: how many calls at once a dependency can take, learned from how long they take.

Netflix's answer to bulkheads whose size nobody knows (its library concurrency-limits, whose formulas and defaults these
are). Both are pure: the moment is an argument, and memory does not grow.

The idea of ``Gradient2Limit``: while a dependency has room, calls take as long with ten of them in flight as with one;
once they queue up inside it, they take longer. So the ratio of what calls took over a long time to what they take now
says how much of the limit is too much::

    gradient = clamp(tolerance * long_s / short_s, 0.5, 1)
    limit    = (1 - smoothing) * limit + smoothing * (limit * gradient + queue)
"""

from __future__ import annotations

import math
from typing import Protocol

from chaos.resilience.settings import AdaptiveSettings, AimdSettings, Gradient2Settings

_DRIFT = 2.0
"""When the long average is this many times the latest latency, it is out of date, and made to follow faster."""

_DRIFT_DECAY = 0.95

_WARM_UP_CALLS = 10
"""The first measurements are averaged evenly, before the long average moves exponentially."""


class Limit(Protocol):
    """What a bulkhead asks for its size."""

    value: int
    """The most calls at once, now."""

    def observe(self, now_s: float, duration_s: float, in_flight: int, *, failed: bool) -> None:
        """Learn from a call that ended at ``now_s`` after ``duration_s``, with ``in_flight`` calls, itself included."""


class AimdLimit:
    """Additive increase, multiplicative decrease: one more for a good call, a tenth less for a bad one.

    Calls that had begun before the last decrease tell nothing about the limit that holds since, so that a hundred calls
    that end badly together shrink it once.
    """

    __slots__ = ("_settings", "_shrunk_s", "value")

    def __init__(self, settings: AimdSettings) -> None:
        self._settings = settings
        self._shrunk_s = -math.inf
        self.value = settings.initial

    def observe(self, now_s: float, duration_s: float, in_flight: int, *, failed: bool) -> None:
        """Learn from a call: a failure or a slow call shrinks the limit; a good one lets it grow while it is in use."""
        settings = self._settings
        if now_s - duration_s < self._shrunk_s:
            return
        if failed or duration_s > settings.slow_s:
            self.value = max(settings.minimum, math.floor(self.value * settings.backoff))
            self._shrunk_s = now_s
        elif in_flight * 2 >= self.value:
            self.value = min(settings.maximum, self.value + 1)


class Gradient2Limit:
    """Follows the gradient of latency; see the module's text.

    Calls are taken together to measurements of at least ``sample_calls`` calls and ``sample_s`` seconds, whose mean is
    the latest latency. A measurement with a failed call in it may shrink the limit but never lets it grow: calls that
    fail fast are no sign of room.
    """

    __slots__ = ("_calls", "_estimate", "_failed", "_in_flight", "_long_s", "_measurements", "_sample_from_s",
                 "_settings", "_sum_s", "value")  # fmt: skip

    def __init__(self, settings: Gradient2Settings) -> None:
        self._settings = settings
        self.value = settings.initial
        self._estimate = float(settings.initial)
        self._long_s = 0.0
        self._measurements = 0
        self._sample_from_s = -math.inf
        self._calls = 0
        self._sum_s = 0.0
        self._in_flight = 0
        self._failed = False

    def observe(self, now_s: float, duration_s: float, in_flight: int, *, failed: bool) -> None:
        """Learn from a call."""
        if self._calls == 0 and now_s > self._sample_from_s:
            self._sample_from_s = now_s
        self._calls += 1
        self._sum_s += duration_s
        self._in_flight = max(self._in_flight, in_flight)
        if failed:
            self._failed = True
        settings = self._settings
        if self._calls >= settings.sample_calls and now_s - self._sample_from_s >= settings.sample_s:
            self._measured(self._sum_s / self._calls)
            self._begin_sample()

    def _begin_sample(self) -> None:
        self._calls = 0
        self._sum_s = 0.0
        self._in_flight = 0
        self._failed = False

    def _measured(self, short_s: float) -> None:
        settings = self._settings
        self._measurements += 1
        if self._measurements <= _WARM_UP_CALLS:
            self._long_s += (short_s - self._long_s) / self._measurements
        else:
            self._long_s += (short_s - self._long_s) * 2.0 / (settings.long_window_calls + 1)
        if short_s > 0 and self._long_s / short_s > _DRIFT:
            self._long_s *= _DRIFT_DECAY
        if self._in_flight * 2 < self._estimate:
            return  # the limit was not what held calls back, so nothing is known about a larger one
        gradient = max(0.5, min(1.0, settings.tolerance * self._long_s / short_s)) if short_s > 0 else 1.0
        wanted = self._estimate * gradient + settings.queue
        estimate = self._estimate * (1.0 - settings.smoothing) + wanted * settings.smoothing
        if self._failed:
            estimate = min(estimate, self._estimate)
        self._estimate = max(float(settings.minimum), min(float(settings.maximum), estimate))
        self.value = int(self._estimate)


def make_limit(settings: AdaptiveSettings) -> Limit:
    """Return the limit that ``settings`` describe."""
    return AimdLimit(settings) if isinstance(settings, AimdSettings) else Gradient2Limit(settings)
