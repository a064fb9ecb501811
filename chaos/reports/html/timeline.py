"""Series over the seconds of a run in bounded memory: when there are too many buckets, neighbours become one.

Each bucket keeps the least, the greatest and the mean of what fell into it, so that a plot of an hour still shows the
one bad second in it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator

BUCKETS_MAX = 1024
"""More points than a plot has pixels across are of no use to anybody."""
SERIES_MAX = 400
"""Further series of one run are left out: names in a journal are the target's, and could be without end."""
SECONDS_MAX = 31 * 86_400
"""A moment beyond a month is no moment of a run."""

Key = tuple[str, ...]
"""What a series is of: ``("value", "sps")``, ``("count", "play", "failed")``."""


class Series:
    """One figure over time; bucket ``i`` covers ``width_s`` seconds from ``i * width_s`` on."""

    __slots__ = ("counts", "highs", "lows", "totals")

    def __init__(self) -> None:
        self.lows = array("d")
        self.highs = array("d")
        self.totals = array("d")
        self.counts = array("I")

    def add(self, index: int, value: float) -> None:
        """Take in a finite value of bucket ``index``."""
        missing = index + 1 - len(self.counts)
        if missing > 0:
            self.lows.extend([math.inf] * missing)
            self.highs.extend([-math.inf] * missing)
            self.totals.extend([0.0] * missing)
            self.counts.extend([0] * missing)
        self.lows[index] = min(self.lows[index], value)
        self.highs[index] = max(self.highs[index], value)
        self.totals[index] += value
        self.counts[index] += 1

    def halve(self) -> None:
        """Make one bucket of each two neighbours."""
        if len(self.counts) % 2:
            self.lows.append(math.inf)
            self.highs.append(-math.inf)
            self.totals.append(0.0)
            self.counts.append(0)
        self.lows = array("d", map(min, self.lows[::2], self.lows[1::2]))
        self.highs = array("d", map(max, self.highs[::2], self.highs[1::2]))
        self.totals = array("d", (one + other for one, other in zip(self.totals[::2], self.totals[1::2], strict=True)))
        self.counts = array("I", (one + other for one, other in zip(self.counts[::2], self.counts[1::2], strict=True)))

    def means(self) -> Iterator[float | None]:
        """Yield each bucket's mean; None where nothing was measured."""
        return (total / count if count else None for total, count in zip(self.totals, self.counts, strict=True))

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest value; None without any."""
        low, high = min(self.lows, default=math.inf), max(self.highs, default=-math.inf)
        return (low, high) if low <= high else None

    def total(self) -> float:
        """Return the sum of all values."""
        return math.fsum(self.totals)


class Timeline:
    """All series of one run, in buckets of one common width that grows with the run."""

    def __init__(self, *, buckets_max: int = BUCKETS_MAX) -> None:
        self.width_s = 1
        self.series: dict[Key, Series] = {}
        self.left_out = False
        """Whether there were more than ``SERIES_MAX`` series."""
        self._buckets_max = buckets_max
        self._last = -1

    @property
    def buckets(self) -> int:
        """How many buckets there are, up to the last second seen."""
        return self._last + 1

    def add(self, start_s: float, values: Iterable[tuple[Key, float]]) -> None:
        """Take in what was measured in the second that begins at ``start_s`` (0 to ``SECONDS_MAX``)."""
        index = int(start_s) // self.width_s
        while index >= self._buckets_max:
            self.halve()
            index = int(start_s) // self.width_s
        self._last = max(self._last, index)
        for key, value in values:
            series = self.series.get(key)
            if series is None:
                if len(self.series) >= SERIES_MAX:
                    self.left_out = True
                    continue
                series = self.series[key] = Series()
            series.add(index, value)

    def halve(self) -> None:
        """Make every bucket twice as wide."""
        for series in self.series.values():
            series.halve()
        self.width_s *= 2
        self._last //= 2
