"""What a gate has to say: a row for each experiment, and all of them together; and its JSON document.

The document's shape is stable, as that of ``chaos run --json`` is:

========================  ====================================================================================
key                       value
========================  ====================================================================================
version, gate             1; true, which tells it from the document of a run
outcome, exit_code        the worst outcome of all, or what a worse resilience than the baseline's made of it
form, seed, duration_s    ``quick`` or ``full``; the seed; how long everything took
counts{outcome}           how many experiments ended how
results[]                 for each experiment the document of ``chaos run --json`` (its last run's), and with it:
  form, why_not_quick     how it was run, and why in a quick gate it was not run on the load that stands
  tags[], gate_duration_s of the experiment; how long its runs took, with what was started for them
  runs[]                  of a retried one: outcome and reasons of each run, the first one first
  worse[]                 what became significantly worse than the resilience baseline, in sentences
  journals[]              the files that hold every event of these runs
worse[]                   what became worse over all experiments together, in sentences
notes[]                   what else there is to know: where the baseline is, what it cannot tell
not_run[]                 experiments that were not run any more
========================  ====================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from chaos.errors import Outcome
from chaos.reports.compare import conclusion
from chaos.reports.document import verdict_document
from chaos.topology.model import Unit
from chaos.verdict.model import RuleResult, Verdict
from chaos.verdict.units import figure

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One experiment in a gate."""

    verdicts: tuple[Verdict, ...]
    """Of its runs, in order: one, or more where it did not hold beside others or was inconclusive."""
    outcome: Outcome
    """The last run's, with what the control or the resilience baseline make of it."""
    form: str
    why_not_quick: str = ""
    control: Verdict | None = None
    tags: tuple[str, ...] = ()
    duration_s: float = 0.0
    """How long its runs took, with what had to be started for them."""
    worse: tuple[str, ...] = ()
    """What became significantly worse than the resilience baseline, in sentences."""
    journals: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The last run's."""
        return self.verdicts[-1]

    @property
    def name(self) -> str:
        """The experiment's file without its ending."""
        return PurePath(self.verdict.file).stem

    @property
    def folder(self) -> str:
        """The folder of its file."""
        return PurePath(self.verdict.file).parent.as_posix()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why its outcome is what it is, in sentences: also what the control and the baseline have to do with it."""
        if self.worse and self.verdict.outcome is not Outcome.VIOLATED:
            return (*self.worse, *self.verdict.reasons)
        if self.control is not None and self.outcome is not self.verdict.outcome:
            return (*conclusion(self.verdict, self.control), *self.verdict.reasons)
        *before, last = self.verdicts
        runs = tuple(f"run {number} was {_account(one)}" for number, one in enumerate(before, start=1))
        return (*last.reasons, *self.worse, *runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """All that a gate says."""

    rows: tuple[GateRow, ...]
    outcome: Outcome
    form: str
    seed: int
    duration_s: float
    worse: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many experiments ended how; only outcomes that there were."""
        counted = Counter(row.outcome for row in self.rows)
        return {outcome: counted[outcome] for outcome in Outcome if counted[outcome]}

    @property
    def headline(self) -> str:
        """The outcome and the counts, in a line."""
        counts = ", ".join(f"{number} {outcome}" for outcome, number in self.counts.items()) or "no experiment was run"
        return f"{self.outcome.value.upper()}: {counts}, in {clock_time(self.duration_s)}"


def worst_rule(verdict: Verdict) -> RuleResult | None:
    """Return the rule that comes off worst: a broken one first, then one not to be told, then the narrowest pass.

    Of several the one with the least room to its limit: for a share that is to be high as a part of what is above the
    limit, otherwise as a part of the limit.
    """
    order = (Outcome.VIOLATED, Outcome.INCONCLUSIVE, Outcome.HELD)
    return min(verdict.steady_state, key=lambda rule: (order.index(rule.outcome), _room(rule)), default=None)


def rule_in_words(rule: RuleResult | None) -> str:
    """Return what a rule measured, beside its limit: ``playback availability 99.1 % (99.5 %)``."""
    if rule is None:
        return "-"
    measured = figure(rule.measured, rule.unit, apart_from=rule.limit)
    return f"{rule.metric.removesuffix('_s').replace('_', ' ')} {measured} ({figure(rule.limit, rule.unit)})"


def recovery_in_words(verdict: Verdict) -> str:
    """Return after how long the steady state held again."""
    if verdict.recovery_s is not None:
        return figure(verdict.recovery_s, "s") if verdict.recovery_s else "at once"
    return "never" if any(phase.name == "recovery" for phase in verdict.phases) else "-"


def clock_time(duration_s: float) -> str:
    """Return ``42 s`` or ``4 min 12 s``."""
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def gate_document(report: GateReport) -> dict[str, object]:
    """Return the document that ``chaos gate --json`` writes."""
    return {
        "version": VERSION,
        "gate": True,
        "outcome": report.outcome.value,
        "exit_code": report.outcome.exit_code,
        "form": report.form,
        "seed": report.seed,
        "duration_s": round(report.duration_s, 3),
        "counts": {outcome.value: number for outcome, number in report.counts.items()},
        "results": [_result(row) for row in report.rows],
        "worse": list(report.worse),
        "notes": list(report.notes),
        "not_run": list(report.not_run),
    }


def _result(row: GateRow) -> dict[str, object]:
    said: Sequence[str] = conclusion(row.verdict, row.control) if row.control is not None else ()
    return {
        **verdict_document(row.verdict, control=row.control, conclusion=said, outcome=row.outcome),
        "form": row.form,
        "why_not_quick": row.why_not_quick,
        "tags": list(row.tags),
        "gate_duration_s": round(row.duration_s, 3),
        "runs": [{"outcome": one.outcome.value, "reasons": list(one.reasons)} for one in row.verdicts],
        "worse": list(row.worse),
        "journals": list(row.journals),
    }


def _account(verdict: Verdict) -> str:
    return f"{verdict.outcome.value}: {verdict.reasons[0]}" if verdict.reasons else verdict.outcome.value


def _room(rule: RuleResult) -> float:
    if rule.measured is None or rule.limit is None:
        return -1.0
    upward = ">" in rule.rule
    left = rule.measured - rule.limit if upward else rule.limit - rule.measured
    whole = 1.0 - rule.limit if upward and rule.unit == Unit.PERCENT else abs(rule.limit)
    return left / whole if whole > 0.0 else left
