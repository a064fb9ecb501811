"""What the gate makes of its runs, with a suite that says what it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.errors import Outcome
from chaos.gate import gate as gate_module
from chaos.gate.baseline import Figures, Worse
from chaos.gate.forms import Entry, Quick, entries_of, groups_of
from chaos.gate.gate import Gate, SilentTable
from chaos.jobs import Job
from chaos.reports.gate import GateReport
from chaos.reports.views import View
from chaos.suite import SuiteOptions
from chaos.verdict.model import Verdict
from tests.unit.gate.building import shipped, verdict

HELD, VIOLATED, INCONCLUSIVE = Outcome.HELD, Outcome.VIOLATED, Outcome.INCONCLUSIVE
SLOWER = "recovery is slower than the resilience baseline's: 1.4 s now, 0 s on average of 3 runs then"


class ScriptedSuite:
    """Says for each experiment, run by run, how long its recovery took, or an outcome that is not held."""

    def __init__(self, script: Mapping[str, Sequence[float | Outcome]]) -> None:
        self.script = {name.rpartition("/")[2]: list(runs) for name, runs in script.items()}
        self.verdicts: list[tuple[Job, Verdict]] = []
        self.jobs: list[Job] = []
        self.view_for = None

    def __call__(self, options: SuiteOptions, *, view_for: object) -> ScriptedSuite:
        self.view_for = view_for
        return self

    async def run_one(self, job: Job) -> Verdict:
        assert self.view_for is not None
        view: View = self.view_for(job)
        with view:
            said = self._verdict(job)
            if job.parts:
                said = replace(said, parts=tuple(self._verdict(part) for part in job.parts))
        self.jobs.append(job)
        self.verdicts.append((job, said))
        return said

    async def close(self) -> None:
        pass

    def _verdict(self, job: Job) -> Verdict:
        if job.parts:
            return verdict(file=str(job.experiment.file))
        said = self.script[job.experiment.file.stem].pop(0)
        made = verdict(file=str(job.experiment.file))
        return replace(made, outcome=said) if isinstance(said, Outcome) else replace(made, recovery_s=said)


def slow(figures: Sequence[tuple[Path, Figures]]) -> dict[Path, tuple[str, ...]]:
    """A resilience baseline that knows recoveries of no time."""
    return {path: (SLOWER,) for path, one in figures if one.recovery_s and one.recovery_s[0] >= 1.0}


def run(
    monkeypatch: pytest.MonkeyPatch,
    script: Mapping[str, Sequence[float | Outcome]],
    *,
    together: int = 1,
    journals: Path | None = None,
    retry: bool = True,
) -> tuple[ScriptedSuite, Gate, GateReport]:
    suite = ScriptedSuite(script)
    monkeypatch.setattr(gate_module, "Suite", suite)
    entries: list[Entry] = entries_of(shipped(*script), Quick(together=together))
    gate = Gate(
        SuiteOptions(),
        groups_of(entries, Quick(together=together)),
        table=SilentTable(),
        looks_worse=slow,
        journals=journals,
        retry=retry,
    )
    asyncio.run(gate.run())
    return suite, gate, gate.report(form="quick", seed=1)


def test_what_looks_worse_than_the_baseline_is_run_once_more_alone(monkeypatch):
    suite, gate, report = run(monkeypatch, {"oca_outage": [1.4, 0.0], "cache_outage": [0.0]})
    first, again = [job for job in suite.jobs if job.experiment.file.stem == "oca_outage"]
    assert again is first, "in the form that the baseline was measured in"
    assert suite.jobs[-1] is again
    assert slow(gate.figures()) == {}, "the last run counts"
    rows = {row.name: row for row in report.rows}
    assert rows["oca_outage"].outcome is HELD
    assert [one.outcome for one in rows["oca_outage"].verdicts] == [INCONCLUSIVE, HELD]
    assert rows["oca_outage"].reasons[-1].endswith(f"it looks so: {SLOWER}")
    assert len(rows["cache_outage"].verdicts) == 1


def test_what_is_worse_twice_is_worse(monkeypatch):
    _, gate, report = run(monkeypatch, {"oca_outage": [1.4, 1.3]})
    assert list(slow(gate.figures()).values()) == [(SLOWER,)]
    assert report.outcome is HELD, "by its rules; the baseline's word comes with `worse`"


def test_without_retry_one_run_decides(monkeypatch):
    suite, gate, _ = run(monkeypatch, {"oca_outage": [1.4]}, retry=False)
    assert len(suite.jobs) == 1
    assert slow(gate.figures())


def test_a_second_run_that_does_not_tell_is_made_once_more_as_ever(monkeypatch):
    suite, _, report = run(monkeypatch, {"oca_outage": [1.4, INCONCLUSIVE, 0.0]})
    assert suite.jobs[-1] is not suite.jobs[0], "at its own rate, in all of its fault phase"
    assert report.outcome is HELD
    assert len(report.rows[0].verdicts) == 3


def test_a_second_run_may_find_a_violation(monkeypatch):
    _, _, report = run(monkeypatch, {"oca_outage": [1.4, VIOLATED]})
    assert report.outcome is VIOLATED


def test_a_control_that_is_run_as_a_test_of_its_own_has_its_own_verdict(monkeypatch):
    """As ``pytest --chaos-control`` does."""
    suite = ScriptedSuite({"oca_outage": [INCONCLUSIVE, VIOLATED]})
    monkeypatch.setattr(gate_module, "Suite", suite)
    (entry,) = entries_of(shipped("oca_outage", control=True), Quick())
    alone = replace(entry, job=entry.control, again=entry.control_again, control=None, control_again=None)
    row = asyncio.run(Gate(SuiteOptions(), (), table=SilentTable()).run_entry(1, alone))
    assert [one.outcome for one in row.verdicts] == [INCONCLUSIVE, VIOLATED]
    assert (row.verdict.outcome, row.control) == (VIOLATED, None)
    assert [job.is_control for job in suite.jobs] == [True, True]


def test_what_is_worse_twice_stays_worse_whatever_its_control_says(monkeypatch):
    suite = ScriptedSuite({"oca_outage": [1.4, 1.3, HELD]})
    monkeypatch.setattr(gate_module, "Suite", suite)
    entries = entries_of(shipped("oca_outage", control=True), Quick())
    gate = Gate(SuiteOptions(), groups_of(entries, Quick()), table=SilentTable(), looks_worse=slow)
    asyncio.run(gate.run())
    (path,) = slow(gate.figures())
    worse = Worse(experiments={str(path): (SLOWER,)}, together=(), unknown=(), tests=1)
    (row,) = gate.report(form="quick", seed=1, worse=worse, names={path: str(path)}).rows
    assert [one.outcome for one in row.verdicts] == [INCONCLUSIVE, HELD]
    assert row.control is not None
    assert row.outcome is VIOLATED


def test_the_journal_of_a_shared_run_says_what_became_of_each_of_its_parts(monkeypatch, tmp_path):
    script = {"oca_outage": [1.4, 0.0], "cache_outage": [0.0], "edge/bad_release": [0.0]}
    suite, _, _ = run(monkeypatch, script, together=3, journals=tmp_path)
    assert [len(job.parts) for job in suite.jobs] == [3, 0]
    shared = next(file for file in tmp_path.iterdir() if "cache_outage" in file.name)
    events = [json.loads(line) for line in shared.read_text().splitlines()]
    told = [one["verdicts"] for one in events if one.get("event") == "told_apart"]
    outcomes = [{Path(one["file"]).stem: one["outcome"] for one in verdicts} for verdicts in told]
    assert outcomes == [
        {"oca_outage": "held", "cache_outage": "held", "bad_release": "held"},
        {"oca_outage": "inconclusive", "cache_outage": "held", "bad_release": "held"},
    ]
