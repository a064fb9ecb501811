"""A rule in a window of a few seconds: what so few samples may and may not say, before the fault and after it."""

from __future__ import annotations

from chaos.experiment.model import VerdictSettings
from chaos.topology.model import Measure
from chaos.verdict.certainty import certainty
from chaos.verdict.rules import RuleCheck, Span, samples_needed
from chaos.verdict.statistics import rate_standard_error

RATE_STANDARD_ERRORS = 2.0
"""By how many standard errors a rate counted over a few seconds may miss its limit."""

LONE_FAILURE_ATTEMPTS = 10
"""From this many attempts on, a single failure in a few seconds is an accident and not a relapse."""

_DEFAULTS = VerdictSettings()


def holds_briefly(check: RuleCheck, span: Span) -> bool | None:
    """Return whether the rule holds in a window of a few seconds; None when that cannot be told.

    A few seconds hold few samples, so allowances are made that a whole phase does not get:

    - a *rate* may miss its limit by two standard errors of a Poisson count (50 a second over 3 s: 150 give or
      take 12, so ``>= 47.5 /s`` is met from 39.5 /s on);
    - a *share* is not broken by one single failure among ten or more attempts (of 150 attempts one failure is
      0.67 %: ``>= 99.5 %`` would otherwise ask for none at all, which is another rule);
    - a rule *of the control group* is broken when that is sure (``certainty``), because its limit comes from as few
      samples; a quantile of fewer samples than it takes is not told at all.

    Everything else is compared plainly. Attempts without anything to measure (no play succeeded, so that there
    is no play delay) break a rule; where nothing was attempted, or the baseline is missing, nothing can be told.
    """
    limit, value = check.limit(span), check.value(span)
    if limit is None:
        return None
    if check.metric.measure is Measure.RATE:
        slack = RATE_STANDARD_ERRORS * rate_standard_error(limit, span[1] - span[0])
        return check.rule.comparison.holds(value or 0.0, limit + (-slack if check.upward else slack))
    tally = check.tally(span)
    if value is None:
        return None if tally.counted == 0 or check.metric.measure is Measure.RATIO else False
    if check.rule.of_control_group:
        return _holds_beside(check, span, value, limit)
    if check.rule.comparison.holds(value, limit):
        return True
    lone = check.metric.measure is Measure.SHARE and check.upward and tally.failed <= 1
    return lone and tally.counted >= LONE_FAILURE_ATTEMPTS


def _holds_beside(check: RuleCheck, span: Span, value: float, limit: float) -> bool | None:
    """Return whether a rule of the control group holds."""
    if check.metric.measure is Measure.QUANTILE and check.samples(span) < samples_needed(check, limit):
        return None
    return check.rule.comparison.holds(value, limit) or not certainty(check, span, limit, _DEFAULTS).broken
