"""A probe: the experiment at another rate, with the load held after healing; and what its verdict says of that rate."""

from __future__ import annotations

from dataclasses import replace

from chaos.errors import NOT_HEALED, UNANSWERED, Outcome
from chaos.experiment.model import Experiment, Metastability, PhaseName
from chaos.experiment.plan import SURGE
from chaos.metastability.model import Answer, Probe
from chaos.units import format_duration, format_number
from chaos.verdict.judge import UNWELL
from chaos.verdict.machine import starved
from chaos.verdict.model import Verdict


def at_rate(experiment: Experiment, settings: Metastability, rate_per_s: float) -> Experiment:
    """Return the experiment at another rate, its recovery phase as long as the load is to be held.

    The trigger stays what it is: faults as they are, and a surge brings as many arrivals more as it did.
    """
    more = rate_per_s - experiment.load.rate_per_s
    surges = tuple(
        replace(one, rate_per_s=float(format_number(round(one.rate_per_s + more, 6)))) for one in experiment.load.surges
    )
    return replace(
        experiment,
        phases={**experiment.phases, PhaseName.RECOVERY: settings.hold_s},
        load=replace(experiment.load, rate_per_s=rate_per_s, surges=surges),
    )


def changes_of(experiment: Experiment) -> tuple[str, ...]:
    """Return what a command line must change of the file to make the run of this probe: ``load.rate=40/s``."""
    load = experiment.load
    surges = (f"load.surges.{one.place}.rate={format_number(one.rate_per_s)}/s" for one in load.surges)
    held = f"phases.recovery={format_duration(experiment.phases[PhaseName.RECOVERY])}"
    return ("metastability=false", f"load.rate={format_number(load.rate_per_s)}/s", *surges, held)


def counts_as_probe(experiment: Experiment, settings: Metastability) -> bool:
    """Return whether the experiment's own run tells what a probe at its rate would: it held the load for as long."""
    return experiment.phases[PhaseName.RECOVERY] >= settings.hold_s


def probe_of(verdict: Verdict, *, rate_per_s: float, max_start_lag_s: float, own: bool = False) -> Probe:
    """Return what a run at this rate says. ``max_start_lag_s`` is how late the load generator may be."""
    answer, reason = _answer(verdict, max_start_lag_s)
    return Probe(
        rate_per_s=rate_per_s,
        answer=answer,
        recovery_s=verdict.recovery_s if answer is Answer.RECOVERED else None,
        reason=reason,
        seed=verdict.seed,
        replay=verdict.replay,
        own=own,
    )


def _answer(verdict: Verdict, max_start_lag_s: float) -> tuple[Answer, str]:
    """Return the answer, and why it is no recovery.

    A recovery on a starved machine is one all the same. Everything else might be the machine's doing.
    """
    stuck = not_healthy_again(verdict)
    if said := _void(verdict, max_start_lag_s, broke_off=not stuck):
        return Answer.UNKNOWN, said
    if verdict.unwell_before:
        answer, said = Answer.OVERLOADED, verdict.unwell_before[0].removeprefix(UNWELL)
    elif stuck:
        answer, said = Answer.STAYED_DOWN, f"{verdict.reasons[0]}: {verdict.reasons[1]}"
    elif said := _trigger_missed(verdict):
        return Answer.UNKNOWN, said
    elif verdict.recovery_s is not None:
        return Answer.RECOVERED, ""
    else:
        answer, said = Answer.STAYED_DOWN, _last_reason(verdict)
    hungry = starved([phase for phase in verdict.machine if phase.name != PhaseName.WARM_UP])
    return (answer, said) if hungry is None else (Answer.UNKNOWN, hungry)


def not_healthy_again(verdict: Verdict) -> bool:
    """Return whether a run broke off because instances that live did not answer their health checks after healing.

    That is a failure of the environment to every other run. Here it is an answer: not even those were served.
    """
    failed = verdict.outcome is Outcome.ERROR and verdict.reasons[:1] and verdict.reasons[0].startswith(NOT_HEALED)
    return bool(failed) and len(verdict.reasons) > 1 and verdict.reasons[1].endswith(UNANSWERED)


def _void(verdict: Verdict, max_start_lag_s: float, *, broke_off: bool) -> str:
    """Say why a run tells nothing about its rate: it broke off, or the rate was not really offered; or nothing."""
    if broke_off and verdict.outcome in (Outcome.ERROR, Outcome.INTERRUPTED):
        return verdict.reasons[0] if verdict.reasons else str(verdict.outcome)
    baseline = next((phase for phase in verdict.phases if phase.name == PhaseName.BASELINE), None)
    if baseline is None or not any(baseline.attempts.values()):
        return "there was no load before the trigger"
    lag_s = verdict.start_lag_p99_s
    if lag_s is not None and lag_s > max_start_lag_s:
        return f"the load generator fell {lag_s:.3g} s behind, so that this load was not really there"
    return ""


def _trigger_missed(verdict: Verdict) -> str:
    """Say that the trigger did not do what it is there for; empty when it did."""
    for receipt in verdict.receipts:
        if not receipt.touched:
            return f"the {'surge' if receipt.kind == SURGE else 'fault'} {receipt.fault} touched nothing"
    if not verdict.receipts:
        return "no fault was applied"
    missed = [rule.explanation for rule in verdict.must_break if rule.outcome is not Outcome.HELD]
    return f"the faults did not break what they had to ({missed[0]})" if missed else ""


def _last_reason(verdict: Verdict) -> str:
    """Return how the system was at the end of the time that the load was held."""
    held = next((phase for phase in verdict.phases if phase.name == PhaseName.RECOVERY), None)
    if held is None:
        return "the recovery phase did not come to its end"
    return f"not steady again in the {held.end_s - held.start_s:.3g} s after healing"
