"""What a command counts, and how it is shown: counts that only grow, and what they were over the last seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from chaos.resilience.latency import LatencyWindow, quantile

if TYPE_CHECKING:
    from chaos.resilience.settings import CommandSettings

ROLLING_S = 10.0
"""What "lately" means in snapshots: Hystrix's rolling statistical window."""

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 1.0)
"""The quantiles of the latency that are shown; the Hystrix dashboard wants these."""

_STEPS = 20
_SAMPLES_MAX = 50


@dataclass(slots=True, kw_only=True)
class Counts:
    """How many times each thing happened to one command since it was made.

    Each call adds one to exactly one of the first nine; each fallback tried adds one to one of the last three.
    """

    success: int = 0
    failure: int = 0
    timeout: int = 0
    """Cut off at its deadline, its own or its caller's."""
    short_circuited: int = 0
    rejected: int = 0
    """Refused by the bulkhead."""
    refused: int = 0
    """Not done, and the dependency is not to blame: the callee was overloaded, a layer below refused, the deadline
    was over before the call began."""
    bad_request: int = 0
    cancelled: int = 0
    """The caller went away."""
    from_cache: int = 0
    """Shared the answer of an equal call of the same request."""
    fallback_success: int = 0
    fallback_failure: int = 0
    fallback_rejected: int = 0

    @property
    def calls(self) -> int:
        """All calls that have ended."""
        return sum(getattr(self, name) for name in OUTCOMES)

    def copy(self) -> Counts:
        """Return the counts as they are now."""
        return Counts(**{name: getattr(self, name) for name in _NAMES})

    def since(self, earlier: Counts) -> Counts:
        """Return what was counted between ``earlier`` and now."""
        return Counts(**{name: getattr(self, name) - getattr(earlier, name) for name in _NAMES})


_NAMES = tuple(field.name for field in fields(Counts))
OUTCOMES = _NAMES[:9]
"""The names of the counts of which each call adds to exactly one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long the dependency took lately, answers and failures alike: mean and quantiles, in seconds."""

    mean_s: float
    quantiles_s: dict[float, float]
    """One for each of ``QUANTILES``; all 0 when nothing was measured."""


class Meter:
    """What one command counts: totals, and those of the last ``ROLLING_S`` seconds. No IO, no clock.

    Whoever counts calls ``roll`` when ``now_s >= next_step_s``; a call that succeeds while a bucket of the
    latencies is full need only add to ``counts.success``.
    """

    __slots__ = ("_marks", "counts", "latencies", "next_step_s")

    def __init__(self) -> None:
        self.counts = Counts()
        self.latencies = LatencyWindow(ROLLING_S, buckets=_STEPS, samples_max=_SAMPLES_MAX)
        self.next_step_s = -math.inf
        self._marks: list[tuple[float, Counts, int]] = []

    def roll(self, now_s: float, peak: int) -> None:
        """Begin a new step; ``peak`` is the most calls that ran at once in the one before."""
        step_s = ROLLING_S / _STEPS
        begun_s = now_s // step_s * step_s
        # What was counted belongs to the step that ended then, however many without any call there were since.
        ended_s = max(self.next_step_s, begun_s - ROLLING_S - step_s)
        self._marks.append((ended_s, self.counts.copy(), peak))
        del self._marks[: -(_STEPS + 1)]
        self.next_step_s = begun_s + step_s

    def rolling(self, now_s: float) -> Counts:
        """Return what was counted in the last ``ROLLING_S`` seconds, to a step."""
        earlier = Counts()
        for ended_s, counts, _ in self._marks:
            if ended_s > now_s - ROLLING_S:
                break
            earlier = counts
        return self.counts.since(earlier)

    def peak(self, now_s: float, now: int) -> int:
        """Return the most calls at once in the last ``ROLLING_S`` seconds; ``now`` is the peak of this step."""
        return max([now, *(peak for ended_s, _, peak in self._marks if ended_s > now_s - ROLLING_S)])

    def latency(self, now_s: float) -> Latency:
        """Return how long calls took in the last ``ROLLING_S`` seconds."""
        ordered = self.latencies.durations(now_s)
        if not ordered:
            return Latency(mean_s=0.0, quantiles_s=dict.fromkeys(QUANTILES, 0.0))
        return Latency(
            mean_s=sum(ordered) / len(ordered),
            quantiles_s={fraction: quantile(ordered, fraction) for fraction in QUANTILES},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSnapshot:
    """One command (or replica) at one moment. The plain numbers but ``in_flight`` are counted since it was made."""

    command: str
    state: str
    """closed | open | half-open"""
    calls: int
    errors: int
    """Failures and timeouts."""
    short_circuited: int
    rejected: int
    timeouts: int
    fallbacks: int
    """Calls that a fallback answered."""
    in_flight: int
    waiting: int
    """Calls in the bulkhead's queue."""
    limit: float
    """The most calls at once, now; infinite where the bulkhead is switched off."""
    counts: Counts
    rolling: Counts
    """The counts of the last ``ROLLING_S`` seconds."""
    peak_in_flight: int
    """The most calls at once in the last ``ROLLING_S`` seconds; refused ones are left out."""
    latency: Latency
    settings: CommandSettings
