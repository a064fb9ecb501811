"""The search for the load from which a system no longer recovers: which rate is tried next, and when it is enough.

::

    recovered        recovered  | edge |  stayed down             overloaded
    ----15/s-----------30/s----36---42----60/s--------------------120/s---->  load
    1. the experiment's own   4. 3.       2. doubled

From the experiment's own rate the load is doubled until a probe does not recover (halved until one does, where the
first one did not), then the gap is bisected at its geometric mean until its ends are within the precision, and each of
these is tried once more: one probe is an anecdote. Sans-IO: answers in, rates out.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from chaos.experiment.model import Metastability
from chaos.metastability.model import Edges, Probe, by_rate, known_of

HALVINGS_MOST = 3
"""A system that does not even recover at an eighth of the experiment's load is not searched further."""
INCONCLUSIVE_MOST = 2
"""So many probes that say nothing are allowed for; more of them end the search earlier."""
_DIGITS = 4
_ROUNDING = 1.0 + 10.0 ** (1 - _DIGITS)


class ThresholdSearch:
    """Asks for probes one after the other: ``next_rate``, and then ``take`` with its answer, until there is no next.

    ``start_per_s`` is the experiment's own rate.
    """

    def __init__(self, settings: Metastability, *, start_per_s: float) -> None:
        self._settings = settings
        self._start_per_s = start_per_s
        required = settings.recovers_up_to_per_s
        self._floor_per_s = min(start_per_s, start_per_s if required is None else required) / 2**HALVINGS_MOST
        self.probes: list[Probe] = []

    @property
    def most(self) -> int:
        """How many probes there are at most, the one at the experiment's own rate included."""
        required = self._settings.recovers_up_to_per_s
        ratios = [2.0] if required is None else [2.0, required / self._start_per_s, self._start_per_s / required]
        up = math.ceil(max(0.0, math.log2(self._settings.up_to_per_s / self._start_per_s)))
        down = math.ceil(math.log2(self._start_per_s / self._floor_per_s))
        rates = 1 + (required is not None) + max(up, down) + _bisections(max(ratios), self._settings.precision)
        return rates + 2 * (self._settings.trials - 1) + INCONCLUSIVE_MOST

    @property
    def exhausted(self) -> bool:
        """Whether the search has made as many probes as it may, and would have made more."""
        return len(self.probes) >= self.most and self._wanted() is not None

    def next_rate(self) -> float | None:
        """Return the rate of the next probe, arrivals a second; None when the search is over."""
        return None if len(self.probes) >= self.most else self._wanted()

    def tries(self, rate_per_s: float) -> int:
        """Return how many probes there were at a rate."""
        return sum(probe.rate_per_s == rate_per_s for probe in self.probes)

    def take(self, probe: Probe) -> None:
        """Take in what the probe at the rate asked for has said."""
        self.probes.append(probe)

    def _wanted(self) -> float | None:
        if not self.probes:
            return self._start_per_s
        rates = by_rate(self.probes)
        for rate, answers in rates.items():
            if len(answers) == 1 and not known_of(answers):
                return rate  # it said nothing: once more
        if not known_of(rates.get(self._start_per_s, ())):
            return None  # what cannot be said of the experiment's own load will not be said of others
        edges = Edges.of(self.probes)
        return self._required(edges, rates) or self._outwards(edges) or self._between(edges)

    def _required(self, edges: Edges, tried: Collection[float]) -> float | None:
        """The rate that the experiment asks about is tried itself: a rate nearby would not decide it."""
        required = self._settings.recovers_up_to_per_s
        if required is None or required in tried:
            return None
        inside = (edges.low is None or required > edges.low) and (edges.high is None or required < edges.high)
        return required if inside else None

    def _outwards(self, edges: Edges) -> float | None:
        """Go down while nothing recovers, and up while everything does."""
        tried = sorted(by_rate(self.probes))
        if edges.low is None:
            lowest = tried[0]
            below = round_rate(max(self._floor_per_s, lowest / 2.0))
            return below if below < lowest and lowest not in edges.blind else None
        if edges.bound is None and tried[-1] < self._settings.up_to_per_s:
            return min(self._settings.up_to_per_s, round_rate(tried[-1] * 2.0))
        return None

    def _between(self, edges: Edges) -> float | None:
        """Bisect the gap while it is wider than asked for; then try its ends until each was tried often enough."""
        low, bound = edges.low, edges.bound
        if low is not None and bound is not None and not edges.mixed and bound > low * (1.0 + self._settings.precision):
            return round_rate(math.sqrt(low * bound))
        if edges.high is None and not edges.mixed:
            return None  # there is no edge to be sure of
        rates = by_rate(self.probes)
        for rate in (edges.low, edges.high):
            answers = rates.get(rate, []) if rate is not None else []
            if answers and len(known_of(answers)) < self._settings.trials and len(answers) <= self._settings.trials:
                return rate
        return None


def round_rate(rate_per_s: float) -> float:
    """Return a rate with as many digits as can be told apart and typed again."""
    return float(f"{rate_per_s:.{_DIGITS}g}")


def _bisections(ratio: float, precision: float) -> int:
    """Return after how many bisections a gap of this ratio is within the precision, roundings included."""
    steps = 0
    while ratio > 1.0 + precision:
        ratio = math.sqrt(ratio) * _ROUNDING
        steps += 1
    return steps
