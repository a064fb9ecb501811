"""A rule held against a window: what was measured there, its limit as a number, and how many samples it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from chaos.experiment.model import Comparison, Reference, Rule
from chaos.groups import Group
from chaos.topology.model import Measure, Metric
from chaos.verdict.windows import SampleStore, Tally

SAMPLES_MIN = 10
"""Fewer samples than this in a whole phase decide nothing."""

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
            values={name: store.judged(metric).measure(metric, *span) for name, metric in metrics.items()},
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
    """By what it is judged: with a control group, the samples of the experiment group."""
    baseline: Baseline
    control: SampleStore | None = None
    """The samples of the control group; None where the rule is judged by everybody's."""

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

    @property
    def beside(self) -> RuleCheck:
        """The same check in the control group."""
        assert self.control is not None, f"{self.rule.text}: no control group"
        return replace(self, store=self.control, control=None)

    def control_value(self, span: Span) -> float | None:
        """Return what was measured in the control group; None where there is none, or nothing was measured."""
        return None if self.control is None else self.beside.value(span)

    def samples(self, span: Span) -> int:
        """Return how many samples the measurement rests on; compared with a control group, those of the smaller one."""
        if self.rule.of_control_group and self.control is not None:
            return min(self.own_samples(span), self.beside.own_samples(span))
        return self.own_samples(span)

    def own_samples(self, span: Span) -> int:
        """Return how many samples the measurement itself rests on: of a share, those without the refused."""
        return _samples(self.store, self.metric, span)

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
        """Return the limit as a plain number; None when it needs a baseline or control that was not measured.

        ``95% of baseline`` is 0.95 times the baseline's value; for a rate also times ``load_ratio``. ``99% of
        control_group`` is 0.99 times what the control group measures in the same window.
        """
        match self.rule.of:
            case None:
                return self.rule.limit
            case Reference.BASELINE:
                before = self.baseline.values.get(self.rule.metric)
                return None if before is None else self.rule.limit * before * self.load_ratio(span)
            case Reference.CONTROL_GROUP:
                beside = self.control_value(span)
                return None if beside is None else self.rule.limit * beside


def samples_needed(check: RuleCheck, limit: float) -> int:
    """Return how many samples a phase needs so that one bad sample alone does not decide the rule.

    With n attempts one failure costs 1/n: ``>= 99.5 %`` leaves room for 0.5 %, so 200 attempts are the fewest among
    which a failure may happen at all; with 20, the rule would in truth ask for 100 %, and hold by luck. In the
    same way a p99 needs 100 values, and one session that stalled makes no ratio of many. ``>= 99 % of control_group``
    leaves room for 1 % between the groups, and takes 100 attempts in each. Never fewer than ``SAMPLES_MIN``; a limit of
    100 % has no room and needs no more.
    """
    match check.metric.measure:
        case Measure.SHARE | Measure.FALLBACK_SHARE:
            allowed = check.rule.limit if check.rule.of_control_group else limit
            room = 1.0 - allowed if check.upward else limit
        case Measure.QUANTILE:
            share = 0.5 if check.metric.quantile is None else check.metric.quantile
            room = min(share, 1.0 - share)
        case Measure.RATIO:
            return SAMPLES_MIN
        case Measure.RATE:
            return 0
    return max(SAMPLES_MIN, math.ceil((1.0 - 1e-9) / room)) if room > 1e-9 else SAMPLES_MIN


def checks_of(
    rules: Sequence[Rule], metrics: Mapping[str, Metric], store: SampleStore, baseline: Baseline
) -> tuple[RuleCheck, ...]:
    """Return the check of each rule, in order; where accounts are in groups, on the experiment group's samples."""
    return tuple(check_of(rule, metrics[rule.metric], store, baseline) for rule in rules)


def check_of(rule: Rule, metric: Metric, store: SampleStore, baseline: Baseline) -> RuleCheck:
    """Return the check of one rule."""
    judged = store.judged(metric)
    control = None if judged is store else store.of(Group.CONTROL)
    return RuleCheck(rule=rule, metric=metric, store=judged, baseline=baseline, control=control)


def _samples(store: SampleStore, metric: Metric, span: Span) -> int:
    tally = store.tally(metric.of, *span)
    match metric.measure:
        case Measure.SHARE:
            return tally.counted
        case Measure.FALLBACK_SHARE:
            return tally.good
        case Measure.QUANTILE:
            return len(store.values(metric, *span))
        case Measure.RATE | Measure.RATIO:
            return tally.total
