"""How long calls took lately: the last seconds' durations by bucket, and quantiles of them. No IO, no clock.

A bucket keeps the first ``samples_max`` durations that fall into it and leaves the others out, so that memory is
bounded and a caller who makes a million calls a second knows when it need not even measure: until ``full_until_s``.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

REFRESH_S = 0.25
"""How old a learned quantile may be. Sorting a thousand durations takes longer than many a call."""


class LatencyWindow:
    """The durations of the last ``window_s`` seconds, in ``buckets`` steps, at most ``samples_max`` in each.

    Durations and moments are seconds; moments never go back. ``full_until_s`` is the end of the current bucket once
    it is full (nothing recorded before then is kept), else minus infinity.

    Example: ``window.record(now_s, 0.012); window.quantile(now_s, 0.95)``.
    """

    __slots__ = ("_bucket", "_bucket_s", "_buckets", "_buckets_max", "_current", "_samples_max", "full_until_s")

    def __init__(self, window_s: float, *, buckets: int, samples_max: int) -> None:
        self._bucket_s = window_s / buckets
        self._buckets: list[tuple[int, array[float]]] = []
        self._buckets_max = buckets
        self._bucket = -1
        self._current: array[float] = array("d")
        self._samples_max = samples_max
        self.full_until_s = -math.inf

    def record(self, now_s: float, duration_s: float) -> None:
        """Take in one call that ended at ``now_s``, unless its bucket is full."""
        bucket = int(now_s // self._bucket_s)
        if bucket > self._bucket:
            self._bucket = bucket
            self._current = array("d")
            self._buckets.append((bucket, self._current))
            del self._buckets[: -self._buckets_max]
            self.full_until_s = -math.inf
        if len(self._current) < self._samples_max:
            self._current.append(duration_s)
            if len(self._current) == self._samples_max:
                self.full_until_s = (self._bucket + 1) * self._bucket_s

    def durations(self, now_s: float) -> list[float]:
        """Return what the window holds, sorted."""
        oldest = int(now_s // self._bucket_s) - self._buckets_max
        return sorted(one for bucket, held in self._buckets if bucket > oldest for one in held)

    def count(self, now_s: float) -> int:
        """Return how many durations the window holds."""
        oldest = int(now_s // self._bucket_s) - self._buckets_max
        return sum(len(held) for bucket, held in self._buckets if bucket > oldest)

    def quantile(self, now_s: float, fraction: float) -> float | None:
        """Return the duration that ``fraction`` (0..1) of the calls did not exceed; None for an empty window."""
        durations = self.durations(now_s)
        return quantile(durations, fraction) if durations else None


class LearnedQuantile(LatencyWindow):
    """A window whose one quantile is asked for at every call, and worked out at most every ``REFRESH_S`` seconds.

    ``value`` is None while the window holds fewer than ``minimum_calls``.
    """

    __slots__ = ("_fraction", "_minimum_calls", "_until_s", "_value")

    def __init__(self, window_s: float, *, buckets: int, samples_max: int, fraction: float, minimum_calls: int) -> None:
        super().__init__(window_s, buckets=buckets, samples_max=samples_max)
        self._fraction = fraction
        self._minimum_calls = minimum_calls
        self._until_s = -math.inf
        self._value: float | None = None

    def value(self, now_s: float) -> float | None:
        """Return the quantile as it was within the last ``REFRESH_S`` seconds."""
        if now_s >= self._until_s:
            known = self.count(now_s) >= self._minimum_calls
            self._value = self.quantile(now_s, self._fraction) if known else None
            if known:
                self._until_s = now_s + REFRESH_S
        return self._value


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Return a quantile of sorted values, by Hystrix's formula: linear between the values at rank ``fraction * n``.

    Fractions outside 0..1 give the smallest and the largest value. ``ordered`` must not be empty.
    """
    if fraction <= 0:
        return ordered[0]
    # Rounded, for 0.3 * 10 is a hair less than 3 in binary, and a rank that is whole gives a value that was measured.
    rank = round(fraction * len(ordered), 9)
    low = math.floor(rank)
    if low + 1 >= len(ordered):
        return ordered[-1]
    return ordered[low] + (rank - low) * (ordered[low + 1] - ordered[low])
