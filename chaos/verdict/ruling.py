"""One rule of the steady state, judged on the fault phase: held, violated or not to be told, and one sentence why."""

from __future__ import annotations

import math

from chaos.errors import Outcome
from chaos.experiment.model import VerdictSettings
from chaos.statistics.deciding import seconds_for
from chaos.topology.model import Measure, Unit
from chaos.verdict.certainty import Certainty, certainty, tolerated
from chaos.verdict.model import RuleResult
from chaos.verdict.rules import SAMPLES_MIN, RuleCheck, Span, samples_needed
from chaos.verdict.units import figure, plural
from chaos.verdict.windows import Tally

CLEAR_FAILURES = 2
"""Where nothing at all succeeded, so many failures are no accident."""

_DEFAULTS = VerdictSettings()


def rule_on(check: RuleCheck, span: Span, settings: VerdictSettings = _DEFAULTS) -> RuleResult:
    """Judge a rule on the phase ``span`` (seconds of the run).

    *Violated*: it was measured to miss, and that is sure (``certainty``), so that no system which keeps the rule is
    accused in more than a share ``alpha`` of its runs. *Held*: it was measured to hold, on enough samples that a
    failure could have been seen (``samples_needed``); where the experiment declares a ``margin``, it is *sure* to hold
    within that. Everything else is *inconclusive*, with what would decide it: a miss that chance may explain, too few
    samples, nothing attempted, a baseline that is needed and has no value (or the value 0, which everything reaches).
    """
    measured, limit, tally = check.value(span), check.limit(span), check.tally(span)
    sure: Certainty | None = None
    needs_s = None
    if limit is None or measured is None or tally.total == 0:
        outcome, sentence = _without_figures(check, limit, tally)
    else:
        sure = certainty(check, span, limit, settings)
        outcome, why, needs_s = _decide(check, span, measured, limit, settings, sure)
        sentence = _figures(check, span, measured, limit)
        missed = not check.rule.comparison.holds(measured, limit)
        sentence += _worst(check, span) if missed and outcome is not Outcome.HELD else ""
        sentence += _interval(check, sure, settings)
        sentence += f"; {why}" if why else ""
    return RuleResult(
        rule=check.rule.text,
        metric=check.rule.metric,
        outcome=outcome,
        measured=measured if tally.total else None,
        limit=limit,
        baseline=check.baseline.values.get(check.rule.metric),
        attempts=check.own_samples(span),
        control_group=check.control_value(span),
        unit=check.metric.unit.value,
        explanation=sentence,
        interval=None if sure is None else sure.interval,
        alpha=None if sure is None else settings.alpha,
        needs_s=needs_s,
        difference=None if sure is None else sure.difference,
    )


def has_enough(check: RuleCheck, span: Span, settings: VerdictSettings) -> bool:
    """Return whether the phase has the samples that the rule takes; True also where no number of them would help."""
    limit = check.limit(span)
    return limit is None or check.samples(span) >= _needed(check, limit, settings)


def _needed(check: RuleCheck, limit: float, settings: VerdictSettings) -> int:
    needed = samples_needed(check, limit)
    return needed if settings.samples_most is None else min(needed, settings.samples_most)


def _without_figures(check: RuleCheck, limit: float | None, tally: Tally) -> tuple[Outcome, str]:
    title, of = check.metric.title, check.metric.of
    if limit is None and check.rule.of_control_group:
        return Outcome.INCONCLUSIVE, _without_control(check)
    if limit is None:
        sentence = f"{title} is to be compared with the baseline, but the baseline phase measured none"
        return Outcome.INCONCLUSIVE, sentence
    if tally.total == 0:
        return Outcome.INCONCLUSIVE, f"no {of} was attempted in the fault phase{_where(check)}, so {title} is unknown"
    if check.metric.measure is Measure.QUANTILE and tally.good == 0 and tally.failed and not check.upward:
        outcome = Outcome.VIOLATED if tally.failed >= CLEAR_FAILURES else Outcome.INCONCLUSIVE
        return outcome, f"{title} has no value, because none of {plural(of, tally.failed)} succeeded"
    return Outcome.INCONCLUSIVE, f"{title} could not be measured on the fault phase's {plural(of, tally.total)}"


def _decide(
    check: RuleCheck,
    span: Span,
    measured: float,
    limit: float,
    settings: VerdictSettings,
    sure: Certainty,
) -> tuple[Outcome, str, int | None]:
    """Return the outcome, what there is to say beyond the figures, and how many more seconds would decide it."""
    if check.rule.of is not None and limit == 0 and check.upward:
        other = "the baseline" if check.rule.of_baseline else "the control group's"
        return Outcome.INCONCLUSIVE, f"{other} was 0 too, and nothing can be compared with that", None
    holds = check.rule.comparison.holds(measured, limit)
    margin = settings.margin
    if sure.broken and not check.rule.comparison.holds(measured, tolerated(check, limit, margin or 0.0)):
        return Outcome.VIOLATED, _BY_BETS if _only_bets_tell(limit, sure) else "", None
    number, needed = check.samples(span), _needed(check, limit, settings)
    length_s = span[1] - span[0]
    if number < needed and (margin is None or number < SAMPLES_MIN):
        more_s = seconds_for(needed - number, number / length_s)
        all_of_it = f", {needed * length_s / number:.0f} s of this load" if number else ""
        few = plural(check.metric.of, number) + (" in each group" if check.rule.of_control_group else "")
        return Outcome.INCONCLUSIVE, f"{few} are too few to tell: it takes {needed}{all_of_it}", more_s
    if sure.shown if margin is not None else holds:
        return Outcome.HELD, "", None
    if margin is None:
        what = "chance alone explains the difference"
    else:
        points = figure(margin, Unit.PERCENT)
        of_limit = "" if check.metric.unit is Unit.PERCENT else " of the limit"
        what = f"that neither shows nor refutes it within the margin of {points}{of_limit}"
    if sure.needs_s is None:
        return Outcome.INCONCLUSIVE, f"{what}, and more of the same would not tell: it lies at the limit", None
    return Outcome.INCONCLUSIVE, f"{what}: {sure.needs_s} s more like these would tell", sure.needs_s


_BY_BETS = "the interval leaves it open, but bets made second by second that this is no chance have been won"


def _only_bets_tell(limit: float, sure: Certainty) -> bool:
    """Return whether the interval that is printed has the limit in it, so that a reader would take it for chance."""
    low, high = sure.interval or (None, None)
    return sure.bets_alone and (low is None or low <= limit) and (high is None or limit <= high)


# -- words ----------------------------------------------------------------------------------------------------------


def _figures(check: RuleCheck, span: Span, measured: float, limit: float) -> str:
    rule, metric = check.rule, check.metric
    text = (
        f"{metric.title} was {figure(measured, metric.unit, apart_from=limit)}{_where(check)} where "
        f"{rule.comparison} {figure(limit, metric.unit)} was asked"
    )
    if rule.of_control_group:
        beside = figure(check.control_value(span), metric.unit, apart_from=measured)
        return f"{text} ({figure(rule.limit, Unit.PERCENT)} of the control group's {beside})"
    if not rule.of_baseline:
        return text
    before = figure(check.baseline.values.get(rule.metric), metric.unit)
    more = check.load_ratio(span) - 1.0
    offered = (
        f", with {abs(more) * 100:.0f} % {'more' if more > 0 else 'fewer'} to be served" if abs(more) >= 0.005 else ""
    )
    return f"{text} ({figure(rule.limit, Unit.PERCENT)} of the baseline's {before}{offered})"


def _where(check: RuleCheck) -> str:
    """Say in whom it was measured, where that is not everybody."""
    return "" if check.control is None else " in the experiment group"


def _without_control(check: RuleCheck) -> str:
    title, of = check.metric.title, check.metric.of
    if check.control is None:
        return f"{title} is to be compared with the control group, but no {of} was in either group"
    return f"{title} is to be compared with the control group, but nothing was measured there"


def _interval(check: RuleCheck, sure: Certainty, settings: VerdictSettings) -> str:
    """Say between what the true figure lies."""
    if check.rule.of_control_group and sure.difference is not None:
        ends = " and ".join(figure(end, check.metric.unit) for end in sure.difference)
        level = figure(1.0 - settings.alpha, Unit.PERCENT)
        return f"; less the control group's: between {ends}, each end {level} sure"
    if sure.interval is None:
        return ""
    low, high = (figure(end, check.metric.unit) for end in sure.interval)
    level = figure(1.0 - settings.alpha, Unit.PERCENT)
    match sure.interval:
        case (None, None):
            return ""
        case (None, _):
            return f"; at most {high}, {level} sure"
        case (_, None):
            return f"; at least {low}, {level} sure"
    return f"; between {low} and {high}, each end {level} sure"


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
