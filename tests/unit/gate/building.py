"""Jobs, verdicts and rows with defaults for everything, so that what a test sets is what it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chaos.cli.run import jobs_of
from chaos.environment import Backend
from chaos.errors import Outcome
from chaos.jobs import Job
from chaos.reports.gate import GateReport, GateRow
from chaos.verdict.model import PhaseResult, RuleResult, Verdict

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


def shipped(*names: str, control: bool = False) -> list[Job]:
    """The jobs of shipped experiments; of all of them without names."""
    paths = tuple(EXPERIMENTS / f"{name}.yaml" for name in names) or (EXPERIMENTS,)
    return jobs_of(paths, seed=1, control=control, settings=(), how=[], proxy=Backend.AUTO)


def rule(
    measured: float | None = 1.0,
    *,
    text: str = "playback_availability >= 99.5%",
    limit: float = 0.995,
    unit: str = "%",
    attempts: int = 230,
    outcome: Outcome = Outcome.HELD,
) -> RuleResult:
    return RuleResult(
        rule=text,
        metric=text.partition(" ")[0],
        outcome=outcome,
        measured=measured,
        limit=limit,
        baseline=None,
        unit=unit,
        explanation=f"{text} was {outcome}",
        attempts=attempts,
    )


def verdict(
    outcome: Outcome = Outcome.HELD,
    *rules: RuleResult,
    file: str = "experiments/edge/bad_release.yaml",
    reasons: tuple[str, ...] = ("the steady state held",),
    recovery_s: float | None = 0.0,
    attempts: int = 230,
) -> Verdict:
    return Verdict(
        outcome=outcome,
        experiment="a bad release",
        file=file,
        seed=7,
        backend="embedded",
        disabled=(),
        phases=(
            PhaseResult(name="fault", start_s=4.0, end_s=8.0, metrics={}, attempts={"play": attempts}),
            PhaseResult(name="recovery", start_s=8.0, end_s=10.0, metrics={}, attempts={"play": 100}),
        ),
        steady_state=rules or (rule(),),
        receipts=(),
        recovery_s=recovery_s,
        start_lag_p99_s=0.002,
        reasons=reasons,
        replay=f"chaos gate {file} --seed 7 --quick",
    )


def row(*verdicts: Verdict, **changes: object) -> GateRow:
    runs = verdicts or (verdict(),)
    made = GateRow(verdicts=runs, outcome=runs[-1].outcome, form="quick", duration_s=6.25)
    return replace(made, **changes)  # type: ignore[arg-type]


def report(*rows: GateRow, outcome: Outcome = Outcome.HELD, **changes: object) -> GateReport:
    made = GateReport(rows=rows or (row(),), outcome=outcome, form="quick", seed=7, duration_s=252.4)
    return replace(made, **changes)  # type: ignore[arg-type]
