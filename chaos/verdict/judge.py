"""What a run says: one of five outcomes, and why, in sentences.

The first of these that applies is the outcome::

    error         the environment failed; nothing can be said
    interrupted   somebody stopped the run
    inconclusive  the test itself was void: a fault touched nothing or did not break what it had to, the load
                  generator lagged, the system was not well before the fault; or something broke while others
                  starved the machine
    violated      a rule was broken in the fault phase, a guard tripped, or recovery took too long
    inconclusive  a rule could not be measured, or on too few attempts
    held          none of these

So a clear failure outweighs a rule that could not be told, but not a void test: what broke there was not broken
by the fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from chaos.errors import Outcome
from chaos.events import InstanceDied
from chaos.experiment.model import Experiment, Load, PhaseName, VerdictSettings
from chaos.experiment.plan import SURGE
from chaos.samples import SampleOutcome
from chaos.topology.model import Topology
from chaos.verdict.briefly import holds_briefly
from chaos.verdict.machine import MachinePhase, starved, worn_out
from chaos.verdict.model import PhaseResult, ReceiptResult, RuleResult, Verdict
from chaos.verdict.recovery import WINDOW_S, is_silent, last_told, steady_in
from chaos.verdict.rules import Baseline, RuleCheck, Span, checks_of
from chaos.verdict.ruling import rule_on
from chaos.verdict.units import figure, plural
from chaos.verdict.windows import Moment, SampleStore

Phases = Mapping[PhaseName, Span]
"""Start and end of each phase as it was really run, seconds of the run."""

UNWELL = "the system was not well before any fault: "
"""How the sentence begins that says so."""

_HEALING_SLACK_S = 0.5
"""By so much a recovery phase may be shorter than asked for: healing itself takes a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What is judged."""

    experiment: Experiment
    topology: Topology
    store: SampleStore
    phases: Phases
    baseline: Baseline

    def checks(self) -> tuple[RuleCheck, ...]:
        return checks_of(self.experiment.steady_state, self.topology.metrics, self.store, self.baseline)

    def harm(self) -> tuple[RuleCheck, ...]:
        return checks_of(self.experiment.must_break, self.topology.metrics, self.store, self.baseline)


@dataclass(slots=True)
class _Findings:
    """Sentences, by what they do to the outcome."""

    void: list[str] = field(default_factory=list)
    violated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    """Worth knowing; changes nothing."""

    def outcome(self) -> Outcome:
        if self.void:
            return Outcome.INCONCLUSIVE
        if self.violated:
            return Outcome.VIOLATED
        return Outcome.INCONCLUSIVE if self.unknown else Outcome.HELD

    def reasons(self) -> tuple[str, ...]:
        return (*self.void, *self.violated, *self.unknown, *self.held, *self.aside)


def judge(
    *,
    experiment: Experiment,
    topology: Topology,
    seed: int,
    backend: str,
    disabled: Sequence[str],
    changed: Sequence[str] = (),
    phases: Phases,
    store: SampleStore,
    receipts: Sequence[ReceiptResult],
    recovery_s: float | None,
    replay: str,
    file: str | None = None,
    guard: tuple[str, float] | None = None,
    deaths: Sequence[InstanceDied] = (),
    machine: Sequence[MachinePhase] = (),
    forced: Outcome | None = None,
    forced_reason: str | None = None,
) -> Verdict:
    """Return the verdict on a run.

    ``phases`` are the phases as they were really run (a run that broke off has fewer); ``recovery_s`` is what
    ``recovery.recovery_s`` returned; ``guard`` is the text of the guard that tripped and what it measured.
    ``forced`` is the outcome of a run that did not come to its end, ``error`` or ``interrupted``, with its reason; what
    was measured up to then is in the verdict all the same. An instance's death is told and changes no outcome by
    itself: whether users noticed is what the rules say. ``machine`` are its phases' figures.
    """
    case = _Case(
        experiment=experiment,
        topology=topology,
        store=store,
        phases=phases,
        baseline=Baseline.measure(store, topology.metrics, phases.get(PhaseName.BASELINE)),
    )
    fault_span = phases.get(PhaseName.FAULT)
    rules = _rule_results(case.checks(), fault_span, experiment.verdict)
    harm = _rule_results(case.harm(), _harmed(fault_span, receipts), replace(experiment.verdict, margin=None))
    lag_s = _start_lag_s(store, phases, until=PhaseName.RECOVERY)
    guard_words = _guard_words(guard, experiment, topology)
    died = tuple(f"{death.instance} ended although no fault had ended it ({death.status})" for death in deaths)
    findings = _Findings(aside=list(died))
    unwell = _unwell_before(case)
    if forced is None:
        _find_void(findings, case, receipts)
        if guard_words:
            findings.violated.append(guard_words)
        _sort_rules(findings, rules)
        _find_harm(findings, harm)
        _find_recovery(findings, case, recovery_s)
        # A system that comes back serves at once all who had waited, and that may starve a generator beside it. It
        # cannot undo what was measured before; but nobody can say then how the system recovered.
        if not findings.void and _lagged(lag_s, experiment.load):
            findings.unknown.append(_lag_words(lag_s, experiment.load))
        # What held on a starved machine held; what broke there may have been broken by whoever starved it.
        hungry = _hungry([one for one in machine if one.name != PhaseName.WARM_UP], experiment.load)
        if findings.violated and hungry is not None:
            findings.void.append(hungry)
    reasons = findings.reasons()
    return Verdict(
        outcome=forced if forced is not None else findings.outcome(),
        experiment=experiment.title,
        file=file if file is not None else str(experiment.file),
        seed=seed,
        backend=backend,
        disabled=tuple(disabled),
        changed=tuple(changed),
        scaled=topology.scaled,
        phases=_phase_results(case),
        steady_state=rules,
        must_break=harm,
        receipts=tuple(receipts),
        recovery_s=recovery_s,
        start_lag_p99_s=lag_s,
        reasons=reasons if forced is None else (*(forced_reason or str(forced)).splitlines(), *reasons),
        replay=replay,
        recover_within_s=experiment.recover_within_s,
        guard=guard_words,
        machine=tuple(machine),
        unwell_before=tuple(unwell),
        deaths=died,
    )


def _rule_results(checks: Sequence[RuleCheck], span: Span | None, settings: VerdictSettings) -> tuple[RuleResult, ...]:
    return () if span is None else tuple(rule_on(check, span, settings) for check in checks)


def _sort_rules(findings: _Findings, rules: Sequence[RuleResult]) -> None:
    for rule in rules:
        match rule.outcome:
            case Outcome.HELD:
                findings.held.append(rule.explanation)
            case Outcome.VIOLATED:
                findings.violated.append(rule.explanation)
            case _:
                findings.unknown.append(rule.explanation)


# -- is the test itself valid? --------------------------------------------------------------------------------------


def _find_void(findings: _Findings, case: _Case, receipts: Sequence[ReceiptResult]) -> None:
    for receipt in receipts:
        if not receipt.touched:
            what = (
                f"surge {receipt.fault} did not come"
                if receipt.kind == SURGE
                else f"fault {receipt.fault} touched nothing"
            )
            said = receipt.evidence or "no evidence"
            findings.void.append(f"the {what} ({said}): what was measured says nothing about it")
    if (case.experiment.faults or case.experiment.load.surges) and not receipts:
        findings.void.append("no fault was applied, so that nothing was tested")
    kinds = {case.topology.metrics[rule.metric].of for rule in case.experiment.steady_state if rule.of_control_group}
    if kinds and not any(case.store.has_groups(kind) for kind in kinds):
        findings.void.append(
            f"no {' or '.join(sorted(kinds))} was in the experiment group or in the control group: "
            "the locustfile does not put its accounts into groups (docs/verdicts.md says how)"
        )
    lag_s = _start_lag_s(case.store, case.phases, until=PhaseName.FAULT)
    if _lagged(lag_s, case.experiment.load):
        findings.void.append(_lag_words(lag_s, case.experiment.load))
    span = case.phases.get(PhaseName.BASELINE)
    if span is not None:
        findings.void += _unwell_in(case.checks(), span)


def _hungry(phases: Sequence[MachinePhase], load: Load) -> str | None:
    """Say that others starved the machine, or that a rate which is not the experiment's own wore it out."""
    hungry = starved(phases)
    if hungry is None and load.own_rate_per_s is not None:
        return worn_out(phases, rate_per_s=load.rate_per_s, own_rate_per_s=load.own_rate_per_s)
    return hungry


def _harmed(span: Span | None, receipts: Sequence[ReceiptResult]) -> Span | None:
    """Return the part of the fault phase in which all faults were there; all of it when there is none.

    To put a fault in place takes a moment, and what was let through in that moment is no fault of the fault.
    """
    if span is None or not receipts:
        return span
    start_s = max(receipt.applied_at_s for receipt in receipts)
    end_s = min(receipt.healed_at_s for receipt in receipts)
    return (max(span[0], start_s), min(span[1], end_s)) if start_s < end_s else span


def _find_harm(findings: _Findings, harm: Sequence[RuleResult]) -> None:
    """A fault that did not break what it was made to break has tested nothing."""
    for rule in harm:
        if rule.outcome is Outcome.HELD:
            findings.held.append(f"{rule.explanation}: the faults did what they were to do")
        else:
            findings.void.append(f"the faults did not break what they had to ({rule.explanation})")


def _lag_words(lag_s: float, load: Load) -> str:
    limit_s = load.max_start_lag_s
    return (
        f"the load generator fell behind: 1 arrival in 100 began {figure(lag_s, 's', apart_from=limit_s)} late or "
        f"later, where {figure(limit_s, 's')} is allowed, so that its own delay is in every figure; "
        f"lower the load's rate ({load.rate_per_s:g} /s), add workers, or use a less busy machine"
    )


def _unwell_before(case: _Case) -> list[str]:
    """Return what was not steady in the baseline phase or, when it grew slowly, in its last seconds."""
    span = case.phases.get(PhaseName.BASELINE)
    if span is None:
        return []
    last = (max(span[0], span[1] - WINDOW_S), span[1])
    return _unwell_in(case.checks(), span) or _unwell_in(case.checks(), last)


def _unwell_in(checks: Sequence[RuleCheck], span: Span) -> list[str]:
    """Return the absolute rules that did not even hold in the baseline phase, in words.

    A baseline is short, so the allowances of a small window are made. A rule of the baseline cannot fail here.
    """
    if span[1] <= span[0]:
        return []
    if checks and not any(check.tally(span).total for check in checks):
        return ["nothing was attempted in the baseline phase: was there any load?"]
    return [
        f"{UNWELL}in the baseline {_state(check, span)}"
        for check in checks
        if not check.rule.of_baseline and holds_briefly(check, span) is False
    ]


def _state(check: RuleCheck, span: Span) -> str:
    """Say what a rule that a window breaks measured there."""
    metric, limit, value = check.metric, check.limit(span), check.value(span)
    if value is None:
        return f"{metric.title} has no value, because none of {plural(metric.of, check.tally(span).failed)} succeeded"
    return (
        f"{metric.title} was {figure(value, metric.unit, apart_from=limit)} where "
        f"{check.rule.comparison} {figure(limit, metric.unit)} is asked"
    )


def _lagged(lag_s: float | None, load: Load) -> TypeGuard[float]:
    return lag_s is not None and lag_s > load.max_start_lag_s


def _start_lag_s(store: SampleStore, phases: Phases, *, until: PhaseName) -> float | None:
    """Lag from the baseline to the end of ``until``; the warm-up is there to be uneven."""
    order = list(PhaseName)
    judged = [
        span
        for name, span in phases.items()
        if name is not PhaseName.WARM_UP and order.index(name) <= order.index(until)
    ]
    if not judged:
        return None
    return store.start_lag_p99_s(min(start for start, _ in judged), max(end for _, end in judged))


# -- guard and recovery ---------------------------------------------------------------------------------------------


def _guard_words(guard: tuple[str, float] | None, experiment: Experiment, topology: Topology) -> str | None:
    if guard is None:
        return None
    text, measured = guard
    known = [one for one in experiment.abort_when if one.rule.text == text]
    metric = topology.metrics.get(known[0].rule.metric) if known else None
    limit = known[0].rule.limit if known and not known[0].rule.of_baseline else None
    value = figure(measured, metric.unit if metric else "", apart_from=limit)
    return f"the guard {text!r} stopped the fault phase early: it measured {value}, and everything was healed at once"


def _find_recovery(findings: _Findings, case: _Case, recovered_s: float | None) -> None:
    within_s = case.experiment.recover_within_s
    if recovered_s is not None:
        when = f"{figure(recovered_s, 's')} after healing" if recovered_s else "as soon as the faults were healed"
        sentence = f"the steady state held again {when}"
        if within_s is None:
            findings.held.append(sentence)
        elif recovered_s <= within_s:
            findings.held.append(f"{sentence}, where {figure(within_s, 's')} were allowed")
        else:
            findings.violated.append(f"{sentence}, where {figure(within_s, 's')} were allowed")
        return
    if PhaseName.RECOVERY not in case.phases:
        return
    start_s, end_s = case.phases[PhaseName.RECOVERY]
    seen = figure(end_s - start_s, "s")
    if within_s is None:
        findings.aside.append(f"the steady state was not seen to hold again in the {seen} after healing (not asked)")
        return
    if end_s - start_s < within_s + WINDOW_S - _HEALING_SLACK_S:
        findings.unknown.append(
            f"the recovery phase of {seen} is too short to see the steady state hold within "
            f"{figure(within_s, 's')}: that takes {WINDOW_S:g} s more"
        )
        return
    checks = case.checks()
    last = last_told(checks, start_s, end_s)
    in_last = f"in the last {figure(last[1] - last[0], 's')}"
    if steady_in(checks, last) is None:
        groups = " of the two groups" if all(check.rule.of_control_group for check in checks) else ""
        findings.unknown.append(
            f"{in_last} there were too few attempts{groups} to see the steady state hold again; "
            "leave recover_within out, add a rule about more frequent attempts, or raise the load"
        )
        return
    broken = [_state(check, last) for check in checks if holds_briefly(check, last) is False]
    silent = [_silence(check, last) for check in checks if is_silent(check, last)]
    findings.violated.append(
        f"the steady state did not hold again in the {seen} after healing"
        + "".join(f": {in_last} {why}" for why in [*broken, *silent][:1])
    )


def _silence(check: RuleCheck, span: Span) -> str:
    """Say why there is nothing to measure where there should be."""
    number = check.tally(span).total
    return f"all of {plural(check.metric.of, number)} were refused" if number else f"no {check.metric.of} was attempted"


def _phase_results(case: _Case) -> tuple[PhaseResult, ...]:
    results = []
    for name, span in case.phases.items():
        counts = case.store.counts(*span, by=Moment.SCHEDULED)
        results.append(
            PhaseResult(
                name=str(name),
                start_s=span[0],
                end_s=span[1],
                metrics={key: case.store.measure(metric, *span) for key, metric in case.topology.metrics.items()},
                attempts={kind: sum(outcomes.values()) for kind, outcomes in counts.items()},
                outcomes={
                    kind: {str(one): outcomes.get(one, 0) for one in SampleOutcome} for kind, outcomes in counts.items()
                },
            )
        )
    return tuple(results)
