"""The verdict as data, and as the JSON document that ``--json`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.errors import Outcome
from chaos.metastability.finding import Finding
from chaos.verdict.machine import MachinePhase


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule of the steady state, judged on the fault phase."""

    rule: str
    metric: str
    outcome: Outcome
    """held, violated or inconclusive"""
    measured: float | None
    limit: float | None
    """The limit as a plain number; for a rule relative to the baseline, factor times the baseline's value (for a rate:
    for the load really offered, see ``rules.load_ratio``)."""
    baseline: float | None
    unit: str
    explanation: str
    """One plain sentence: what was measured, by how much it held or missed, at which second it was worst."""
    interval: tuple[float | None, float | None] | None = None
    """Between what the true figure lies; each end is wrong in a share ``alpha`` of runs. None for an end that so few
    samples do not have, and for both where nothing could be said."""
    alpha: float | None = None
    needs_s: int | None = None
    """For a rule that is inconclusive: so many more seconds like these would decide it; None where none would."""
    attempts: int = 0
    """How many attempts it was measured on, of a share without the refused; where accounts are in groups, those of the
    experiment group."""
    control_group: float | None = None
    """What the control group measured; ``measured`` is the experiment group's then. None where there are no groups."""
    difference: tuple[float | None, float | None] | None = None
    """For a rule of the control group: between what the experiment group's figure less the control group's lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptResult:
    """One fault's receipt."""

    fault: str
    kind: str
    victims: tuple[str, ...]
    applied_at_s: float
    healed_at_s: float
    connections: int
    bytes: int
    touched: bool
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """One phase as it was really run."""

    name: str
    start_s: float
    end_s: float
    metrics: Mapping[str, float | None]
    attempts: Mapping[str, int]
    """Samples of each kind scheduled in the phase."""
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """For each kind, how many got a full answer (ok), one by fallback, a refusal (refused), or none (failed): a system
    that is available and degraded is not the same as one that is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one run says."""

    outcome: Outcome
    experiment: str
    file: str
    seed: int
    backend: str
    disabled: tuple[str, ...]
    phases: tuple[PhaseResult, ...]
    steady_state: tuple[RuleResult, ...]
    receipts: tuple[ReceiptResult, ...]
    recovery_s: float | None
    """Seconds from healing until the steady state held again for good; None when it never did."""
    start_lag_p99_s: float | None
    reasons: tuple[str, ...]
    """Why the outcome is what it is, in plain sentences, the most important first."""
    replay: str
    """The exact command that repeats this run."""
    recover_within_s: float | None = None
    """How long recovery was allowed to take; None when the experiment does not ask."""
    must_break: tuple[RuleResult, ...] = ()
    """What the faults had to break, and whether they did; a run in which they did not is inconclusive."""
    guard: str | None = None
    """The guard that ended the fault phase early, and what it measured, in words."""
    changed: tuple[str, ...] = ()
    """What else is different in a control, each as ``key=value``."""
    scaled: tuple[str, ...] = ()
    """How the target was scaled, in words; empty when it was as its topology file says."""
    machine: tuple[MachinePhase, ...] = ()
    """The machine that the run was made on, phase by phase."""
    unwell_before: tuple[str, ...] = ()
    """What was not steady even before the faults, in the baseline or in its last seconds, in words."""
    metastability: Finding | None = None
    """What the search for the load from which the system no longer recovers has found; None where it was not made."""
    run_outcome: Outcome | None = None
    """The run's own outcome, where the search has made it worse."""
    deaths: tuple[str, ...] = ()
    """Instances that ended although no fault had ended them, in words."""
    together: tuple[str, ...] = ()
    """The files of the experiments that were run at the same time, with all of their faults; empty as a rule."""
    parts: tuple[Verdict, ...] = ()
    """Of a run of several experiments at the same time: what it says about each of them."""

    @property
    def of_run(self) -> Outcome:
        """The outcome of the run alone, whatever a search behind it has found."""
        return self.outcome if self.run_outcome is None else self.run_outcome
