"""The verdict as the JSON document that ``--json`` writes.

Its shape is stable: keys are added, never renamed or removed while ``version`` stays the same. Shares are fractions
(0.995), times are seconds, rates are per second; ``null`` stands where nothing was measured.

========================  ====================================================================================
key                       value
========================  ====================================================================================
version                   1
outcome                   held, violated, inconclusive, error or interrupted
exit_code                 0 held, 1 violated, 3 error, 4 inconclusive, 130 interrupted
run_outcome               that of the run alone, whatever a search for metastability or a control made of it
experiment, file          title, and the file it came from
seed, backend             what decided every random choice; ``toxiproxy 2.12.0`` or ``embedded``
disabled[]                protections that were switched off in this run
changed[]                 what else was different in a control, each as ``key=value``
scaled[]                  how the target was scaled, in words: ``playback_apps: 4 instances instead of 2``
reasons[]                 why the outcome is what it is, in sentences, the most important first
phases[]                  name, start_s, end_s, duration_s, attempts{kind: number},
                          outcomes{kind: {ok, fallback, refused, failed}}: full answers, those by fallback, refusals
metrics{phase{metric}}    each metric of the topology over each phase
steady_state[]            rule, metric, outcome, measured, limit, baseline, unit, explanation;
                          interval [low, high] (null: not known, as a whole or one end), alpha: in which share of runs
                          each end is wrong; needs_s: so many more seconds would decide it, null: decided, or never;
                          attempts; where accounts are in groups, measured is the experiment group's, control_group the
                          other's; difference [low, high]: the first less the second, for a rule of the control group
must_break[]              what the faults had to break, in the same shape
receipts[]                fault, kind, victims[], applied_at_s, healed_at_s, connections, bytes, touched, evidence
recovery_s                seconds from healing until the steady state held again for good
recover_within_s          how long that was allowed to take
start_lag_p99_s           how late the load generator itself was
machine{phase}            the machine itself: left_share (idle), steal_share, foreign_share (used by others),
                          waiting_share, queue_delay_share, canary_s (slowest answer of an edge without a fault),
                          seconds, exhausted_seconds, starved_seconds, starved; null: this system does not tell
guard                     the guard that stopped the fault phase early, in words
metastability             null, or what the search for the load from which the system no longer recovers by itself has
                          found (``chaos.reports.metastability`` has its keys)
together[]                files of the experiments that were run at the same time, with all of their faults
deaths[]                  instances that ended although no fault had ended them
replay                    the command that repeats the run
control                   null, or the control's verdict in this same shape (without a control of its own)
conclusion                null, or what experiment and control say together, in sentences
========================  ====================================================================================

Several experiments in one command give ``{"version": 1, "outcome": worst, "exit_code": ..., "results": [...]}``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from chaos.errors import Outcome
from chaos.reports.compare import conclusion
from chaos.reports.metastability import finding_document
from chaos.verdict.machine import MachinePhase
from chaos.verdict.model import PhaseResult, RuleResult, Verdict

VERSION = 1


def verdict_document(
    verdict: Verdict, *, control: Verdict | None = None, conclusion: Sequence[str] = (), outcome: Outcome | None = None
) -> dict[str, object]:
    """Return the document of a verdict, beside its control's where one was run.

    ``outcome`` replaces the verdict's where the control changes it (a control that did not fail makes a pass
    inconclusive).
    """
    said = outcome if outcome is not None else verdict.outcome
    return {
        "version": VERSION,
        "outcome": said.value,
        "exit_code": said.exit_code,
        "run_outcome": verdict.of_run.value,
        "experiment": verdict.experiment,
        "file": verdict.file,
        "seed": verdict.seed,
        "backend": verdict.backend,
        "disabled": list(verdict.disabled),
        "changed": list(verdict.changed),
        "scaled": list(verdict.scaled),
        "reasons": list(verdict.reasons),
        "phases": [_phase(phase) for phase in verdict.phases],
        "metrics": {phase.name: dict(phase.metrics) for phase in verdict.phases},
        "steady_state": [_rule(rule) for rule in verdict.steady_state],
        "must_break": [_rule(rule) for rule in verdict.must_break],
        "receipts": [{**dataclasses.asdict(receipt), "victims": list(receipt.victims)} for receipt in verdict.receipts],
        "recovery_s": verdict.recovery_s,
        "recover_within_s": verdict.recover_within_s,
        "start_lag_p99_s": verdict.start_lag_p99_s,
        "guard": verdict.guard,
        "machine": {phase.name: _machine(phase) for phase in verdict.machine},
        "metastability": None if verdict.metastability is None else finding_document(verdict.metastability),
        "together": list(verdict.together),
        "deaths": list(verdict.deaths),
        "replay": verdict.replay,
        "control": None if control is None else verdict_document(control),
        "conclusion": list(conclusion) or None,
    }


class Result(Protocol):
    """An experiment's verdict, its control's where one was run, and what both say together."""

    @property
    def verdict(self) -> Verdict:
        """The experiment's own verdict."""

    @property
    def control(self) -> Verdict | None:
        """The control's, or None."""

    @property
    def outcome(self) -> Outcome:
        """The verdict's outcome, unless the control changes it."""


def suite_document(results: Sequence[Result], outcome: Outcome) -> dict[str, object]:
    """Return the document of one command: of one experiment its own, of several a list and the worst outcome.

    ``outcome`` is that of the whole command, which an interruption may have made worse than any verdict.
    """
    documents = [
        verdict_document(
            result.verdict,
            control=result.control,
            conclusion=conclusion(result.verdict, result.control) if result.control is not None else (),
            outcome=result.outcome if len(results) > 1 else outcome,
        )
        for result in results
    ]
    if len(documents) == 1:
        return documents[0]
    return {"version": VERSION, "outcome": outcome.value, "exit_code": outcome.exit_code, "results": documents}


def _rule(rule: RuleResult) -> dict[str, object]:
    intervals = {
        name: None if ends is None else list(ends)
        for name, ends in (("interval", rule.interval), ("difference", rule.difference))
    }
    return {**dataclasses.asdict(rule), "outcome": rule.outcome.value, **intervals}


def _machine(phase: MachinePhase) -> dict[str, object]:
    figures = dataclasses.asdict(phase)
    del figures["name"], figures["max_taken"]
    return {**figures, "starved": phase.starved}


def _phase(phase: PhaseResult) -> dict[str, object]:
    return {
        "name": phase.name,
        "start_s": phase.start_s,
        "end_s": phase.end_s,
        "duration_s": phase.end_s - phase.start_s,
        "attempts": dict(phase.attempts),
        "outcomes": {kind: dict(numbers) for kind, numbers in phase.outcomes.items()},
    }
