"""A rule held against a window: its limit as a number, and what a few seconds may and may not prove."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaos.experiment.model import Comparison, Rule
from chaos.topology.model import Measure, Metric
from chaos.verdict.statistics import rate_standard_error
from chaos.verdict.windows import SampleStore, Tally

RATE_STANDARD_ERRORS = 2.0
"""By how many standard errors a rate counted over a few seconds may miss its limit."""

LONE_FAILURE_ATTEMPTS = 10
"""From this many attempts on, a single failure in a few seconds is an accident and not a relapse."""

REFUSALS_STANDARD_ERRORS = 3.0
"""By how many standard errors the refusals of a window may differ from the baseline's share of them by chance."""

Span = tuple[float, float]
"""Start and end of a window, seconds of the run; the end does not belong to it."""


def is_upward(comparison: Comparison) -> bool:
    """Return whether more is better: the rule is broken by values that are too low."""
    return comparison in (Comparison.AT_LEAST, Comparison.ABOVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the baseline phase measured: what rules "of baseline" refer to."""

    values: Mapping[str, float | None] = field(default_factory=dict)
    offered_per_s: float | None = None
    """Arrivals per second that the load scheduled; None when the load is not an open one."""
    refused_share: Mapping[str, float] = field(default_factory=dict)
    """For each kind of sample, which share of the arrivals was refused."""
    span: Span | None = None
    """When it was."""

    @classmethod
    def measure(cls, store: SampleStore, metrics: Mapping[str, Metric], span: Span | None) -> Baseline:
        """Measure every metric over the baseline phase; without one there are no values."""
        if span is None or span[1] <= span[0]:
            return cls()
        offered = store.offered(*span)
        kinds = {metric.of for metric in metrics.values()}
        return cls(
            values={name: store.measure(metric, *span) for name, metric in metrics.items()},
            offered_per_s=offered / (span[1] - span[0]) if offered else None,
            refused_share={kind: store.tally(kind, *span).refused / offered for kind in kinds} if offered else {},
            span=span,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCheck:
    """A rule, and all that it takes to hold it against a window."""

    rule: Rule
    metric: Metric
    store: SampleStore
    baseline: Baseline

    @property
    def upward(self) -> bool:
        """Whether more is better."""
        return is_upward(self.rule.comparison)

    def value(self, span: Span) -> float | None:
        """Return what was measured in the window, by the moment attempts were due (a rate: by their end)."""
        return self.store.measure(self.metric, *span)

    def tally(self, span: Span) -> Tally:
        """Return how many attempts due in the window had which outcome."""
        return self.store.tally(self.metric.of, *span)

    def load_ratio(self, span: Span) -> float:
        """Return how many arrivals the window was offered, as a multiple of what the baseline was offered.

        Open arrivals come at random: 20 s at 50 a second hold 1000 of them give or take 32, and a short baseline is
        less sure still, so that the rates of two phases differ by several percent with nothing wrong. But the
        generator knows what it offered. A rate is therefore compared with the baseline's rate *for the load really
        offered*. 1.0 for a closed load: there, fewer attempts may be the system's own doing.

        Whoever is refused, as it should be, starts nothing; chance decides how many of those come. Refusals are
        taken off what was offered, in a window only so far as chance explains them by the baseline's share (a Poisson
        count, three standard errors): a system that begins to refuse everybody does not get away with it.
        """
        before_per_s = self.baseline.offered_per_s
        if self.metric.measure is not Measure.RATE or before_per_s is None or span[1] <= span[0]:
            return 1.0
        offered = self.store.offered(*span)
        if offered is None:
            return 1.0
        share = self.baseline.refused_share.get(self.metric.of, 0.0)
        expected = share * offered
        explained = min(self.tally(span).refused, expected + REFUSALS_STANDARD_ERRORS * math.sqrt(expected))
        before = before_per_s * (1.0 - share)
        return (offered - explained) / (span[1] - span[0]) / before if before else 1.0

    def limit(self, span: Span) -> float | None:
        """Return the limit as a plain number; None when it needs a baseline that was not measured.

        ``95% of baseline`` is 0.95 times the baseline's value; for a rate also times ``load_ratio``.
        """
        if not self.rule.of_baseline:
            return self.rule.limit
        before = self.baseline.values.get(self.rule.metric)
        return None if before is None else self.rule.limit * before * self.load_ratio(span)

    def holds_in_small_window(self, span: Span) -> bool | None:
        """Return whether the rule holds in a window of a few seconds; None when that cannot be told.

        A few seconds hold few samples, so two allowances are made that a whole phase does not get:

        - a *rate* may miss its limit by two standard errors of a Poisson count (50 a second over 3 s: 150 give or
          take 12, so ``>= 47.5 /s`` is met from 39.5 /s on);
        - a *share* is not broken by one single failure among ten or more attempts (of 150 attempts one failure is
          0.67 %: ``>= 99.5 %`` would otherwise ask for none at all, which is another rule).

        Everything else is compared plainly. Attempts without anything to measure (no play succeeded, so that there
        is no play delay) break a rule; where nothing was attempted, or the baseline is missing, nothing can be told.
        """
        limit, value = self.limit(span), self.value(span)
        if limit is None:
            return None
        if self.metric.measure is Measure.RATE:
            slack = RATE_STANDARD_ERRORS * rate_standard_error(limit, span[1] - span[0])
            return self.rule.comparison.holds(value or 0.0, limit + (-slack if self.upward else slack))
        tally = self.tally(span)
        if value is None:
            return None if tally.counted == 0 or self.metric.measure is Measure.RATIO else False
        if self.rule.comparison.holds(value, limit):
            return True
        lone = self.metric.measure is Measure.SHARE and self.upward and tally.failed <= 1
        return lone and tally.counted >= LONE_FAILURE_ATTEMPTS


def checks_of(
    rules: Sequence[Rule], metrics: Mapping[str, Metric], store: SampleStore, baseline: Baseline
) -> tuple[RuleCheck, ...]:
    """Return the check of each rule, in order."""
    return tuple(RuleCheck(rule=rule, metric=metrics[rule.metric], store=store, baseline=baseline) for rule in rules)
