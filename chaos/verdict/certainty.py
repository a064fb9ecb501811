"""How sure a rule's figure is: its interval, by whole seconds, and the evidence that it is beyond the limit.

Every measure is turned round so that more is worse, and held against a threshold::

    SHARE, FALLBACK_SHARE   share of attempts on the wrong side       against 1 - limit, or limit
    QUANTILE                share of values beyond the limit          against 1 - q, or q
    RATIO, RATE             the figure itself, negated for ">="       against the limit, negated likewise

    ... of control_group    how much worse the experiment     against what the factor and the margin allow
                            group is than the control group

so that one rule decides all of them: broken when even the lower end is above the threshold, or when a gambler who bet
on it second by second would be rich (``chaos.statistics.betting``: it sees blocks of bad seconds that the interval
takes for chance); shown to hold when even the upper end is not above it, nor would be after the worst second once more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, pairwise

from chaos.experiment.model import VerdictSettings
from chaos.statistics.betting import most_evidence
from chaos.statistics.deciding import first_second, more_seconds, shrunk
from chaos.statistics.jackknife import Estimate, Second, difference, mean, paired_difference, share
from chaos.statistics.quantiles import design_effect, quantile_interval
from chaos.statistics.resampling import ROUNDS, paired_quantile_difference_interval, quantile_difference_interval
from chaos.statistics.student import t_quantile
from chaos.topology.model import Measure, Unit
from chaos.verdict.rules import RuleCheck, Span
from chaos.verdict.statistics import rate_standard_error
from chaos.verdict.windows import Moment

Interval = tuple[float | None, float | None]

ACCIDENT = 2
"""One failure alone is an accident, and so is one second of a ratio, however early it comes; where not even one is
allowed, it is not."""

_RESAMPLING_SEED = 1987
"""Any fixed number: one run has one verdict."""
_ROUNDS_MIN = 200
_SORTED_MAX = 3_000_000
"""Values sorted for one rule, so that the verdict on a long run is there within seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """What the seconds of a phase say about one rule."""

    interval: Interval | None
    """Of the metric itself, in its unit."""
    broken: bool
    """Whether it is sure that the rule, less its margin, is broken."""
    shown: bool
    """Whether it is sure that the rule, less its margin, holds."""
    needs_s: int | None
    """In how many more seconds of the same one of the two is sure; None when never."""
    difference: Interval | None = None
    """Of a rule of the control group: by how much the experiment group's figure lies above the control group's."""
    bets_alone: bool = False
    """Whether it is sure to be broken by the bets alone, and the interval leaves it open."""


def tolerated(check: RuleCheck, limit: float, margin: float) -> float:
    """Return the limit less its margin: points for percentages, a share of the limit for everything else."""
    slack = margin if check.metric.unit is Unit.PERCENT else margin * abs(limit)
    return limit - slack if check.upward else limit + slack


def certainty(check: RuleCheck, span: Span, limit: float, settings: VerdictSettings) -> Certainty:
    """Return what the phase ``span`` says about a rule with this limit (a plain number)."""
    threshold = tolerated(check, limit, settings.margin or 0.0)
    found = _scale(check, span, limit, threshold, settings.alpha)
    by_bets = _has_won(check, found, settings.alpha)
    if found.estimate is None:
        return Certainty(interval=None, broken=by_bets, shown=False, needs_s=None)
    low, high = found.estimate.interval(settings.alpha)

    def shown(more: int) -> bool:
        """Whether it would be shown to hold after so many more seconds like these."""
        later = found.later(more)
        return later is not None and later.interval(settings.alpha)[1] <= found.threshold

    shown_now = high <= found.threshold and shown(0)
    needs_s = more_seconds(found.estimate, found.threshold, settings.alpha)
    if found.estimate.value <= found.threshold and not shown_now:
        needs_s = first_second(shown) if settings.margin is not None else None
    return Certainty(
        interval=found.written(low, high),
        broken=by_bets or low > found.threshold,
        bets_alone=by_bets and low <= found.threshold,
        shown=shown_now,
        needs_s=needs_s,
        difference=found.difference,
    )


def _has_won(check: RuleCheck, found: _Scale, alpha: float) -> bool:
    """Return whether a gambler has won who bet, second by second, that the rule is broken.

    Of a rule of the baseline he bets against the worst that the baseline may have been in truth: its upper end, which
    is wrong in half of ``alpha``, as is he in the other half.
    """
    if found.shares is None:
        return False
    threshold = found.threshold
    if check.rule.of_baseline:
        if found.before is None:
            return False
        alpha /= 2.0
        threshold += check.rule.limit * (found.before.interval(alpha)[1] - found.before.value)
    if found.wrong is not None and found.wrong < ACCIDENT and threshold > 0.0:
        return False
    return most_evidence(found.shares, threshold) >= 1.0 / alpha


def seconds_of(span: Span) -> list[Span]:
    """Return the phase in parts of a second, or a little more where it is no whole number of them."""
    parts = max(1, math.floor(span[1] - span[0] + 1e-6))
    moments = [span[0] + (span[1] - span[0]) * part / parts for part in range(parts)] + [span[1]]
    return list(pairwise(moments))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """A rule turned round so that more is worse."""

    estimate: Estimate | None
    threshold: float
    shares: Sequence[float] | None
    """Second by second, what is bet on; None where it is no share."""
    later: Callable[[int], Estimate | None]
    """The estimate after so many more seconds like these, and after the worst of them once more: what is shown to hold
    must hold then too. Rare bursts are seen too seldom to be in the standard error, and a system that has them would
    be believed too often."""
    wrong: float | None = None
    """How many samples were on the wrong side, or seconds of a ratio; None where neither is counted."""
    before: Estimate | None = None
    """Of a rule of the baseline: what the baseline measured on this scale, before it is multiplied."""
    written: Callable[[float, float], Interval]
    """From the ends on this scale to those of the metric."""
    difference: Interval | None = None
    """Beside a control group: the interval of the difference of the two groups' figures."""


def _scale(check: RuleCheck, span: Span, limit: float, threshold: float, alpha: float) -> _Scale:
    match check.metric.measure:
        case Measure.SHARE | Measure.FALLBACK_SHARE if check.rule.of_control_group:
            return _of_pair(check, span, limit, abs(threshold - limit), alpha)
        case Measure.RATIO if check.rule.of_control_group:
            return _of_pair(check, span, limit, abs(threshold - limit), alpha)
        case Measure.SHARE | Measure.FALLBACK_SHARE:
            return _of_share(check, span, threshold)
        case Measure.QUANTILE if check.rule.of is not None:
            return _of_quantile_and_other(check, span, limit, threshold, alpha)
        case Measure.QUANTILE:
            return _of_quantile(check, span, threshold, alpha)
        case Measure.RATIO | Measure.RATE:
            return _of_figure(check, span, threshold)


def _of_share(check: RuleCheck, span: Span, threshold: float) -> _Scale:
    wrong = _wrong(check, span)

    def written(low: float, high: float) -> Interval:
        low, high = max(0.0, low), min(1.0, high)
        return (1.0 - high, 1.0 - low) if check.upward else (low, high)

    before = None if check.baseline.span is None else share(_wrong(check, check.baseline.span))

    def sure(seconds: Sequence[Second]) -> Estimate | None:
        return _beside_the_baseline(check, span, share(seconds), before)

    return _Scale(
        estimate=sure(wrong),
        before=before,
        later=lambda more: sure(_once_more(wrong, more)),
        threshold=1.0 - threshold if check.upward else threshold,
        shares=_shares(wrong),
        wrong=sum(second.part for second in wrong),
        written=written,
    )


def _wrong(check: RuleCheck, span: Span) -> list[Second]:
    """Return for each second how many attempts were on the wrong side of the rule, and how many there were."""
    fallbacks = check.metric.measure is Measure.FALLBACK_SHARE
    found = []
    for second in seconds_of(span):
        tally = check.tally(second)
        whole = tally.good if fallbacks else tally.counted
        right = tally.fallback if fallbacks else tally.good
        found.append(Second(whole - right if check.upward else right, whole))
    return found


def _of_quantile(check: RuleCheck, span: Span, threshold: float, alpha: float) -> _Scale:
    q = _quantile(check)
    values = _values(check, span)
    beyond = [
        Second(sum(1 for value in some if not check.rule.comparison.holds(value, threshold)), len(some))
        for some in values
    ]
    ordered = sorted(value for some in values for value in some)
    estimate = share(beyond)

    def written(_low: float, _high: float) -> Interval:
        middle = ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))]
        above = share([Second(sum(1 for value in some if value >= middle), len(some)) for some in values])
        effect = 1.0 if above is None else design_effect(above.value, above.standard_error, len(ordered))
        return quantile_interval(ordered, q, alpha, effective=len(ordered) / effect)

    return _Scale(
        estimate=estimate,
        later=lambda more: share(_once_more(beyond, more)),
        threshold=q if check.upward else 1.0 - q,
        shares=_shares(beyond),
        wrong=sum(second.part for second in beyond),
        written=written,
    )


def _of_quantile_and_other(check: RuleCheck, span: Span, limit: float, threshold: float, alpha: float) -> _Scale:
    """A quantile less its limit, with the limit's own uncertainty in it: both are resampled."""
    sign = -1.0 if check.upward else 1.0
    sides = _values(check, span), _other_values(check, span)
    size = sum(len(second) for side in sides for second in side)

    def ends(factor: float) -> tuple[float, float] | None:
        q, rng = _quantile(check), random.Random(_RESAMPLING_SEED)
        rounds = max(_ROUNDS_MIN, min(ROUNDS, _SORTED_MAX // max(1, size)))
        if check.rule.of_control_group:
            pairs = list(zip(*sides, strict=True))
            return paired_quantile_difference_interval(pairs, q, alpha, rng, factor=factor, rounds=rounds)
        return quantile_difference_interval(*sides, q, alpha, rng, factor=factor, rounds=rounds)

    between, value = ends(check.rule.limit), check.value(span)
    estimate = None
    if between is not None and value is not None:
        df = max(1, min(len(side) for side in sides) - 1)
        error = (between[1] - between[0]) / 2.0 / t_quantile(1.0 - alpha, df)
        estimate = Estimate(value=sign * (value - limit), standard_error=error, df=df)
    return _Scale(
        estimate=estimate,
        threshold=sign * (threshold - limit),
        later=lambda more: None if estimate is None else shrunk(estimate, more),
        shares=None,
        written=lambda low, high: _positive(*_turned(sign, low, high, limit)),
        difference=ends(1.0) if check.rule.of_control_group else None,
    )


def _values(check: RuleCheck, span: Span) -> list[list[float]]:
    return [check.store.values(check.metric, *second) for second in seconds_of(span)]


def _other_values(check: RuleCheck, span: Span) -> list[list[float]]:
    """Return the values, second by second, of which the limit is a multiple."""
    if check.rule.of_control_group:
        return _values(check.beside, span)
    before = check.baseline.span
    assert before is not None
    return _values(check, before)


def _of_pair(check: RuleCheck, span: Span, limit: float, slack: float, alpha: float) -> _Scale:
    """The experiment group's share or ratio less ``factor`` times the control group's, second by second.

    A second is left out of both groups at once, so that what hits both alike cancels out (``paired_difference``). Of a
    share that may not fall the failures are compared: ``a >= f * b`` is ``(1 - a) - f * (1 - b) <= 1 - f``. ``slack``
    is what the margin allows beyond that. Nobody bets here: in a second in which only one group fails it is an even
    chance which one, so that it takes as many of them to win as the interval takes.
    """
    factor, share_of = check.rule.limit, check.metric.measure is not Measure.RATIO
    failures = share_of and check.upward
    sign = -1.0 if check.upward and not failures else 1.0
    of = _wrong if share_of else _figures
    pairs = list(zip(of(check, span), of(check.beside, span), strict=True))
    allowed = 1.0 - factor if failures else 0.0

    def sure(some: Sequence[tuple[Second, Second]], times: float = factor) -> Estimate | None:
        own = paired_difference([one for one, _ in some], [two for _, two in some], factor=times)
        return None if own is None else replace(own, value=sign * own.value, silence=own.silence if sign > 0 else 0.0)

    def written(low: float, high: float) -> Interval:
        ends = _positive(*_turned(-1.0 if failures else sign, low, high, limit + allowed if failures else limit))
        return (min(1.0, ends[0] or 0.0), min(1.0, ends[1] or 0.0)) if share_of else ends

    plain = sure(pairs, 1.0)
    return _Scale(
        estimate=sure(pairs),
        threshold=allowed + slack,
        later=lambda more: sure(_pairs_once_more(pairs, more, lambda d: sign * d, factor)),
        shares=None,
        written=written,
        difference=None if plain is None else _turned(-1.0 if failures else sign, *plain.interval(alpha), 0.0),
    )


def _pairs_once_more(
    pairs: Sequence[tuple[Second, Second]], more: int, worse: Callable[[float], float], factor: float
) -> list[tuple[Second, Second]]:
    """Return the seconds, so many more of them over again, and the one in which the groups differed most once more."""
    known = [pair for pair in pairs if pair[0].whole > 0 or pair[1].whole > 0]
    if not known:
        return []
    there = list(islice(cycle(known), len(known) + more))

    def apart(pair: tuple[Second, Second]) -> float:
        own, other = (one.part / one.whole if one.whole > 0 else 0.0 for one in pair)
        return worse(own - factor * other)

    worst = max(there, key=apart)
    return [*there, worst] if apart(worst) > 0.0 else there


def _of_figure(check: RuleCheck, span: Span, threshold: float) -> _Scale:
    sign = -1.0 if check.upward else 1.0
    per_second = _figures(check, span)
    # A part of its own whole, like seconds stalled of seconds stalled or played, is a share, and can be bet on.
    is_share = check.metric.measure is Measure.RATIO and check.metric.field in check.metric.per and not check.upward

    before = None if check.baseline.span is None else _estimated(check, _figures(check, check.baseline.span))
    if before is not None and check.baseline.span is not None and check.metric.measure is Measure.RATIO:
        before = replace(before, one=1.0 / max(1, check.own_samples(check.baseline.span)))  # one session in full

    def sure(seconds: Sequence[Second]) -> Estimate | None:
        own = _beside_the_baseline(check, span, _estimated(check, seconds), before)
        if own is not None and check.metric.measure is Measure.RATE and check.baseline.offered_per_s is None:
            own = _of_closed_load(check, span, own, threshold)
        if own is None:
            return None
        return replace(own, value=sign * own.value, silence=0.0 if check.upward else own.silence)

    return _Scale(
        estimate=sure(per_second),
        later=lambda more: sure(_once_more(per_second, more, upward=check.upward)),
        threshold=sign * threshold,
        shares=_shares(per_second) if is_share else None,
        wrong=sum(1 for second in per_second if second.part > 0) if is_share else None,
        before=before,
        written=lambda low, high: _positive(*_turned(sign, low, high, 0.0)),
    )


def _once_more(seconds: Sequence[Second], more: int, *, upward: bool = False) -> list[Second]:
    """Return the seconds, so many more of them over again, and the worst once more where any is bad at all."""
    known = [second for second in seconds if second.whole > 0]
    if not known:
        return []
    there = list(islice(cycle(known), len(known) + more))
    pick = min if upward else max
    worst = pick(there, key=lambda second: second.part / second.whole)
    return [*there, worst] if upward or worst.part else there


def _figures(check: RuleCheck, span: Span) -> list[Second]:
    if check.metric.measure is Measure.RATE:
        return [
            Second(check.store.tally(check.metric.of, *second, by=Moment.ENDED).good, second[1] - second[0])
            for second in seconds_of(span)
        ]
    return [Second(*check.store.ratio_parts(check.metric, *second)) for second in seconds_of(span)]


def _estimated(check: RuleCheck, seconds: Sequence[Second]) -> Estimate | None:
    if check.metric.measure is Measure.RATE:
        return mean([one.part / one.whole for one in seconds])
    return share(seconds)


def _of_closed_load(check: RuleCheck, span: Span, estimate: Estimate, threshold: float) -> Estimate:
    """A closed load's rate is at least as uncertain as a Poisson count: nobody knows how many wanted to come."""
    error = rate_standard_error(estimate.value, span[1] - span[0])
    before = check.baseline.span
    if check.rule.of_baseline and before is not None:
        error = math.hypot(error, check.rule.limit * rate_standard_error(threshold, before[1] - before[0]))
    return replace(estimate, standard_error=max(estimate.standard_error, error))


def _beside_the_baseline(
    check: RuleCheck, span: Span, own: Estimate | None, before: Estimate | None
) -> Estimate | None:
    """Return the estimate with the uncertainty of its limit, where that is a multiple of the baseline's figure."""
    if own is None or before is None or not check.rule.of_baseline:
        return own
    apart = difference(own, before, factor=check.rule.limit * check.load_ratio(span))
    return replace(own, standard_error=apart.standard_error, df=apart.df)


def _shares(seconds: Sequence[Second]) -> list[float]:
    """Return what is bet on: each second's part of an average second's whole, at most 1.

    So that their mean is the share of all, and a second with three attempts does not count as much as one with thirty.
    """
    there = [second for second in seconds if second.whole > 0]
    whole = math.fsum(second.whole for second in there) / len(there) if there else 1.0
    return [min(1.0, max(0.0, second.part / whole)) for second in there]


def _quantile(check: RuleCheck) -> float:
    return 0.5 if check.metric.quantile is None else check.metric.quantile


def _turned(sign: float, low: float, high: float, shift: float) -> tuple[float, float]:
    ends = sorted((sign * low + shift, sign * high + shift))
    return ends[0], ends[1]


def _positive(low: float, high: float) -> Interval:
    """Times, rates and ratios of sums are not negative."""
    return max(0.0, low), max(0.0, high)
