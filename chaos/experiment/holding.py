"""Reads what an experiment says about metastability, and what cannot be asked beside it."""

from __future__ import annotations

from chaos.experiment import tables as t
from chaos.experiment.model import Metastability
from chaos.fields import Section
from chaos.units import format_duration, format_number

HOLD_S_LEAST = 15.0
"""How long the load is held, at least, where the experiment does not say: a heap of dead requests that a healthy system
works off in half a minute looks like one that stays in less."""
UP_TO_TIMES = 4.0
"""Up to so many times the experiment's own rate, where it does not say."""


def metastability_of(section: Section, rate_per_s: float, recovery_s: float) -> Metastability | None:
    """Return what is to be searched for; None where it is not asked for, or cannot be read.

    ``rate_per_s`` is the load's own rate (0: there is none), ``recovery_s`` how long the recovery phase is.
    """
    asked = section.get(t.METASTABILITY)
    if not asked:
        return None
    if not rate_per_s:
        section.report(t.METASTABILITY, "the load is raised and lowered by its rate; write load.rate as well")
    verdict = section.get(t.VERDICT)
    if verdict is not None and verdict.has(t.EXTEND):
        section.report(
            t.METASTABILITY,
            "with verdict.extend the faults would last longer at one load than at another; leave it out",
        )
    if section.has(t.CONTROL_GROUP):
        section.report(
            t.METASTABILITY,
            "a trigger that falls on one group of accounts alone is no trigger for the whole system; leave out this or "
            "the control_group",
        )
    hold_s, up_to_per_s = max(recovery_s, HOLD_S_LEAST), UP_TO_TIMES * rate_per_s
    if isinstance(asked, bool):
        return Metastability(up_to_per_s=up_to_per_s, hold_s=hold_s)
    defaults = Metastability(up_to_per_s=up_to_per_s, hold_s=hold_s)
    settings = Metastability(
        up_to_per_s=asked.get_or(t.UP_TO, defaults.up_to_per_s),
        hold_s=asked.get_or(t.HOLD, defaults.hold_s),
        precision=asked.get_or(t.PRECISION, defaults.precision),
        trials=asked.get_or(t.TRIALS, defaults.trials),
        recovers_up_to_per_s=asked.get(t.RECOVERS_UP_TO),
    )
    if rate_per_s and settings.up_to_per_s < rate_per_s:
        asked.report(t.UP_TO, f"less than the load's own rate of {format_number(rate_per_s)}/s, which is tried first")
    within_s = section.get(t.RECOVER_WITHIN)
    if within_s is not None and settings.hold_s < within_s:
        asked.report(
            t.HOLD,
            f"{format_duration(settings.hold_s)} is shorter than recover_within ({format_duration(within_s)}), "
            "so that a system would be given up before its time is over",
        )
    required = settings.recovers_up_to_per_s
    if rate_per_s and required is not None and required > settings.up_to_per_s:
        asked.report(
            t.RECOVERS_UP_TO,
            f"more than is tried, {format_number(settings.up_to_per_s)}/s; raise {t.METASTABILITY.key}.{t.UP_TO.key}",
        )
    return settings
