"""One rule of the steady state, judged on the fault phase: held, violated or not to be told, and one sentence why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chaos.errors import Outcome
from chaos.topology.model import Measure, Unit
from chaos.verdict.model import RuleResult
from chaos.verdict.rules import RATE_STANDARD_ERRORS, RuleCheck, Span
from chaos.verdict.statistics import rate_standard_error
from chaos.verdict.units import figure, plural
from chaos.verdict.windows import Tally

SAMPLES_MIN = 10
"""Fewer samples than this in a whole phase decide nothing."""
CLEAR_FAILURES = 2
"""This many misses are no accident, even among few samples."""


def rule_on(check: RuleCheck, span: Span) -> RuleResult:
    """Judge a rule on the phase ``span`` (seconds of the run).

    The comparison is plain. What makes it *inconclusive* instead:

    - nothing was attempted, or a baseline is needed that has no value (or the value 0, of which every share is 0);
    - a share or a quantile has too few samples to resolve its limit (``samples_needed``): then it did not hold, it was
      not tested. A miss among few samples still counts when it is clear: two misses or more;
    - a rate is compared with the baseline's under a closed load and misses by less than two standard errors.
    """
    measured, limit, tally = check.value(span), check.limit(span), check.tally(span)
    if limit is None or measured is None or tally.total == 0:
        outcome, sentence = _without_figures(check, limit, tally)
    else:
        outcome, why = _compare(check, span, measured, limit, tally)
        sentence = _figures(check, span, measured, limit)
        sentence += _worst(check, span) if outcome is not Outcome.HELD else ""
        sentence += f"; {why}" if why else ""
    return RuleResult(
        rule=check.rule.text,
        metric=check.rule.metric,
        outcome=outcome,
        measured=measured if tally.total else None,
        limit=limit,
        baseline=check.baseline.values.get(check.rule.metric),
        unit=check.metric.unit.value,
        explanation=sentence,
    )


def samples_needed(check: RuleCheck, limit: float) -> int:
    """Return how many samples a phase needs so that one bad sample alone does not decide the rule.

    With n attempts one failure costs 1/n: ``>= 99.5 %`` leaves room for 0.5 %, so 200 attempts are the fewest among
    which a failure may happen at all; with 20, the rule would in truth ask for 100 %, and hold by luck. In the
    same way a p99 needs 100 values. Never fewer than ``SAMPLES_MIN``; a limit of 100 % has no room and needs no more.
    """
    match check.metric.measure:
        case Measure.SHARE | Measure.FALLBACK_SHARE:
            room = 1.0 - limit if check.upward else limit
        case Measure.QUANTILE:
            share = 0.5 if check.metric.quantile is None else check.metric.quantile
            room = min(share, 1.0 - share)
        case Measure.RATE | Measure.RATIO:
            return 0
    return max(SAMPLES_MIN, math.ceil((1.0 - 1e-9) / room)) if room > 1e-9 else SAMPLES_MIN


def _without_figures(check: RuleCheck, limit: float | None, tally: Tally) -> tuple[Outcome, str]:
    title, of = check.metric.title, check.metric.of
    if limit is None:
        sentence = f"{title} is to be compared with the baseline, but the baseline phase measured none"
        return Outcome.INCONCLUSIVE, sentence
    if tally.total == 0:
        return Outcome.INCONCLUSIVE, f"no {of} was attempted in the fault phase, so {title} is unknown"
    if check.metric.measure is Measure.QUANTILE and tally.good == 0 and tally.failed and not check.upward:
        outcome = Outcome.VIOLATED if tally.failed >= CLEAR_FAILURES else Outcome.INCONCLUSIVE
        return outcome, f"{title} has no value, because none of {plural(of, tally.failed)} succeeded"
    return Outcome.INCONCLUSIVE, f"{title} could not be measured on the fault phase's {plural(of, tally.total)}"


def _compare(check: RuleCheck, span: Span, measured: float, limit: float, tally: Tally) -> tuple[Outcome, str]:
    """Return the outcome, and what there is to say beyond the figures."""
    if check.rule.of_baseline and limit == 0 and check.upward:
        return Outcome.INCONCLUSIVE, "the baseline was 0 too, and nothing can be compared with that"
    holds = check.rule.comparison.holds(measured, limit)
    samples = _samples(check, span, limit, tally)
    needed = samples_needed(check, limit)
    if samples.number < needed:
        no_room = check.metric.measure is Measure.SHARE and limit >= 1.0
        if not holds and samples.bad >= (1 if no_room else CLEAR_FAILURES):
            return Outcome.VIOLATED, ""
        how_long = f", {needed * (span[1] - span[0]) / samples.number:.0f} s of this load" if samples.number else ""
        few = plural(check.metric.of, samples.number)
        return Outcome.INCONCLUSIVE, f"{few} are too few to tell: it takes {needed}{how_long}"
    if not holds and _chance_explains(check, span, measured, limit):
        return Outcome.INCONCLUSIVE, "chance alone explains the difference: a longer fault phase would tell"
    return (Outcome.HELD if holds else Outcome.VIOLATED), ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    """What a measurement rests on: so many samples, of which so many are on the wrong side of the rule."""

    number: int
    bad: int


def _samples(check: RuleCheck, span: Span, limit: float, tally: Tally) -> _Samples:
    match check.metric.measure:
        case Measure.SHARE:
            return _Samples(number=tally.counted, bad=tally.failed if check.upward else tally.good)
        case Measure.FALLBACK_SHARE:
            return _Samples(number=tally.good, bad=tally.good - tally.fallback if check.upward else tally.fallback)
        case Measure.QUANTILE:
            values = check.store.values(check.metric, *span)
            bad = sum(1 for value in values if not check.rule.comparison.holds(value, limit))
            return _Samples(number=len(values), bad=bad)
        case Measure.RATE | Measure.RATIO:
            return _Samples(number=tally.total, bad=tally.total)


def _chance_explains(check: RuleCheck, span: Span, measured: float, limit: float) -> bool:
    """Whether a closed load's rate misses the baseline's by no more than two Poisson counts may differ.

    Under an open load the rate is compared for the load really offered, which leaves little to chance.
    """
    if check.metric.measure is not Measure.RATE or not check.rule.of_baseline:
        return False
    if check.baseline.offered_per_s is not None:
        return False
    return abs(measured - limit) <= RATE_STANDARD_ERRORS * rate_standard_error(measured + limit, span[1] - span[0])


# -- words ----------------------------------------------------------------------------------------------------------


def _figures(check: RuleCheck, span: Span, measured: float, limit: float) -> str:
    rule, metric = check.rule, check.metric
    text = (
        f"{metric.title} was {figure(measured, metric.unit, apart_from=limit)} where "
        f"{rule.comparison} {figure(limit, metric.unit)} was asked"
    )
    if not rule.of_baseline:
        return text
    before = figure(check.baseline.values.get(rule.metric), metric.unit)
    more = check.load_ratio(span) - 1.0
    offered = (
        f", with {abs(more) * 100:.0f} % {'more' if more > 0 else 'fewer'} to be served" if abs(more) >= 0.005 else ""
    )
    return f"{text} ({figure(rule.limit, Unit.PERCENT)} of the baseline's {before}{offered})"


def _worst(check: RuleCheck, span: Span) -> str:
    seconds = [(value, start_s) for start_s, value in check.store.series(check.metric, *span) if value is not None]
    if not seconds:
        return ""
    # Of equally bad seconds the first one.
    value, start_s = min(seconds, key=lambda second: (second[0] if check.upward else -second[0], second[1]))
    detail = figure(value, check.metric.unit)
    if check.metric.measure is Measure.SHARE:
        tally = check.tally((start_s, start_s + 1.0))
        detail = f"{tally.failed} of {plural(check.metric.of, tally.counted)} failed"
    return f"; worst in second {math.floor(start_s + 1e-6)} ({detail})"
