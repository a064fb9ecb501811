"""The gate itself: runs every entry on a suite, retries what was inconclusive once, and puts the answers together.

Entries come in groups. Those of one group are run at the same time (``chaos.gate.together``), and whoever did not hold
there is run alone, as everybody is whose group is only itself.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from chaos import clock
from chaos.errors import Outcome
from chaos.events import Event, ToldApart
from chaos.gate.baseline import Figures, Worse, figures_of
from chaos.gate.forms import Entry, one_by_one
from chaos.gate.together import join, told_apart
from chaos.jobs import Form, Job, Result, worst
from chaos.reports.document import verdict_document
from chaos.reports.gate import GateReport, GateRow
from chaos.reports.journal import JournalWriter
from chaos.searching import search
from chaos.suite import Suite, SuiteOptions
from chaos.verdict.model import Verdict

_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class Table(Protocol):
    """What shows a gate while it runs (``chaos.reports.gate_table``)."""

    def begin(self, number: int, file: str, what: str = "") -> None:
        """A run begins."""

    def handle(self, event: Event) -> None:
        """Something has happened in it."""

    def line(self, number: int, file: str, verdict: Verdict, duration_s: float, what: str = "") -> None:
        """It has ended."""


class SilentTable:
    """Shows nothing."""

    def begin(self, number: int, file: str, what: str = "") -> None:
        """Say nothing."""

    def handle(self, event: Event) -> None:
        """Say nothing."""

    def line(self, number: int, file: str, verdict: Verdict, duration_s: float, what: str = "") -> None:
        """Say nothing."""


class RunView:
    """One run's view: its events go to the table, and to a journal of its own where one is kept."""

    def __init__(self, table: Table, journal: Path | None) -> None:
        self._table = table
        self._journal = journal
        self._writer: JournalWriter | None = None

    def __enter__(self) -> Self:
        if self._journal is not None:
            self._writer = JournalWriter(self._journal)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def handle(self, event: Event) -> None:
        """Pass the event on."""
        if self._writer is not None:
            self._writer.handle(event)
        self._table.handle(event)


@dataclass(slots=True)
class _Row:
    """One experiment, as far as its runs have come."""

    entry: Entry
    number: int
    verdicts: list[Verdict] = field(default_factory=list)
    control: Verdict | None = None
    duration_s: float = 0.0
    journals: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        return Result(job=self.entry.job, verdict=self.verdicts[-1], control=self.control).outcome

    def verdict_of(self, job: Job) -> Verdict:
        """Return the last verdict on a job of this row: its own, or its control's."""
        if self.is_control(job):
            assert self.control is not None
            return self.control
        return self.verdicts[-1]

    def is_control(self, job: Job) -> bool:
        """Whether a job is this row's control: beside its own job, which may be a control itself (``run_entry``)."""
        return job.is_control and not self.entry.job.is_control

    def frozen(self, worse: tuple[str, ...] = ()) -> GateRow:
        outcome = self.outcome
        return GateRow(
            verdicts=tuple(self.verdicts),
            outcome=Outcome.VIOLATED if worse and outcome in (Outcome.HELD, Outcome.INCONCLUSIVE) else outcome,
            form="quick" if self.entry.job.form is Form.STANDING else str(self.entry.job.form),
            why_not_quick=self.entry.why_not_quick,
            control=self.control,
            tags=self.entry.job.experiment.tags,
            duration_s=self.duration_s,
            worse=worse,
            journals=tuple(self.journals),
        )


LooksWorse = Callable[[Sequence[tuple[Path, Figures]]], Mapping[Path, Sequence[str]]]
"""What is worse than it was: sentences by the experiment's file, of what each of them has measured."""

_IN_FULL = "in all of its fault phase"
_DOUBTED = "alone, for it looked worse than the resilience baseline"


class Gate:
    """Runs groups of entries in their order, then the controls of those that held.

    An inconclusive run is made once more (``retry``), and so is what ``looks_worse`` names: of the figures of all that
    held it returns sentences for those that are worse than the resilience baseline. ``fail_fast`` stops at the first
    experiment that is violated or whose environment failed. ``journals`` is a folder that gets a file for each run.
    After a cancellation everything that was measured is in the report.
    """

    def __init__(
        self,
        options: SuiteOptions,
        groups: Sequence[Sequence[Entry]],
        *,
        table: Table,
        retry: bool = True,
        looks_worse: LooksWorse | None = None,
        fail_fast: bool = False,
        journals: Path | None = None,
    ) -> None:
        self._suite = Suite(options, view_for=self._view_for)
        self._groups = tuple(tuple(group) for group in groups)
        self._table = table
        self._retry = retry
        self._looks_worse = looks_worse
        self._fail_fast = fail_fast
        self._journals = journals
        self._rows: list[_Row] = []
        self._running: Sequence[_Row] = ()
        self._began_s = clock.monotonic_s()
        self._stopped = False

    async def run(self) -> None:
        """Run everything. Whatever happens, the target and the load have ended when this returns."""
        self._began_s = clock.monotonic_s()
        try:
            await self._experiments()
            await self._second_attempts()
            await self._doubts()
            await self._controls()
        finally:
            await self._suite.close()

    async def run_entry(self, number: int, entry: Entry) -> GateRow:
        """Run one entry without its control; target and load stay as they are for the next one until ``close``."""
        row = _Row(entry=entry, number=number)
        await self._run(row, entry.job)
        if self._is_to_be_retried(row.verdicts[-1]):
            await self._run(row, entry.again, once_more=_IN_FULL)
        self._rows.append(row)
        return row.frozen()

    async def close(self) -> None:
        """End the target and the load. Harmless twice."""
        await self._suite.close()

    async def _experiments(self) -> None:
        number = 0
        for group in self._groups:
            rows = [_Row(entry=entry, number=number + place) for place, entry in enumerate(group, start=1)]
            number += len(rows)
            try:
                await self._run_group(rows)
            finally:
                self._rows += [row for row in rows if row.verdicts]
            if self._fail_fast and any(row.outcome in (Outcome.VIOLATED, Outcome.ERROR) for row in rows):
                self._stopped = True
                return

    async def _run_group(self, rows: Sequence[_Row]) -> None:
        """Run the experiments of a group at the same time, and each one that did not hold there alone."""
        if len(rows) > 1:
            await self._run_together(rows)
        for row in rows:
            if not row.verdicts or row.outcome is not Outcome.HELD:
                await self._run(row, row.entry.job)

    async def _second_attempts(self) -> None:
        """Run once more what was inconclusive, after everything else: on loads of its own, and nobody waits for it."""
        if self._stopped:
            return
        for row in one_by_one([row for row in self._rows if self._is_to_be_retried(row.verdicts[-1])], _again_of):
            await self._run(row, row.entry.again, once_more=_IN_FULL)

    async def _doubts(self) -> None:
        """Run once more, alone, what looks worse than the resilience baseline: one slow moment accuses nobody."""
        if self._stopped or not self._retry or self._looks_worse is None:
            return
        found = self._looks_worse(self.figures())
        doubted = [row for row in self._rows if row.entry.job.experiment.file in found]
        for row in doubted:
            row.verdicts[-1] = in_doubt(row.verdicts[-1], found[row.entry.job.experiment.file])
        for journal in dict.fromkeys(row.journals[-1] for row in doubted if row.journals):
            _write_parts(journal, self._rows)
        for row in one_by_one(doubted, _job_of):
            before = row.verdicts[-1]
            await self._run_once(row, row.entry.job, once_more=_DOUBTED)
            row.verdicts[-1] = replace(row.verdicts[-1], metastability=before.metastability)
            if self._is_to_be_retried(row.verdicts[-1]):
                await self._run_once(row, row.entry.again, once_more=_IN_FULL)

    def _is_to_be_retried(self, verdict: Verdict) -> bool:
        return self._retry and verdict.outcome is Outcome.INCONCLUSIVE

    async def _controls(self) -> None:
        """Run the controls of what held: of anything else they would add nothing."""
        if self._stopped:
            return
        held = [row for row in self._rows if row.entry.control is not None and row.outcome is Outcome.HELD]
        for row in one_by_one(held, _control_of):
            control, again = row.entry.control, row.entry.control_again
            assert control is not None
            assert again is not None
            verdict = await self._run(row, control)
            if self._is_to_be_retried(verdict):
                await self._run(row, again, once_more=_IN_FULL)

    async def _run(self, row: _Row, job: Job, *, once_more: str = "") -> Verdict:
        """Make a run for a row, and the search for metastability that follows it where one is asked for."""
        verdict = await self._run_once(row, job, once_more=once_more)
        if job.searches and (once_more or not self._is_to_be_retried(verdict)):
            await self._search(row, job, verdict)
        return verdict

    async def _search(self, row: _Row, job: Job, verdict: Verdict) -> None:
        """Search for the load that the system no longer recovers from; what was found is in the row's last verdict."""
        began_s = clock.monotonic_s()

        def tell(line: str) -> None:
            self._table.begin(row.number, str(job.experiment.file), line)

        tell("its search for metastability")
        try:
            await search(self._suite, job, verdict, emit=self._append, tell=tell)
        finally:
            row.verdicts[-1] = self._suite.verdicts[-1][1]
            duration_s = clock.monotonic_s() - began_s
            row.duration_s += duration_s
        file = str(job.experiment.file)
        self._table.line(row.number, file, row.verdicts[-1], duration_s, "its search for metastability")

    def _append(self, event: Event) -> None:
        """Write what comes after a run into its journal."""
        journals = [row.journals[-1] for row in self._running if row.journals]
        if journals:
            _write_behind(journals[0], event)

    async def _run_together(self, rows: Sequence[_Row]) -> None:
        """Make one run of these experiments, and tell what it says about each of them."""
        names = [row.entry.job.experiment.file.stem for row in rows]
        job = join([row.entry.job for row in rows])
        each_s = await self._make(rows, job, f"with {' and '.join(names[1:])}")
        for place, row in enumerate(rows):
            others = " and ".join(names[:place] + names[place + 1 :])
            file = str(row.entry.job.experiment.file)
            self._table.line(row.number, file, row.verdicts[-1], each_s, f"with {others}")

    async def _run_once(self, row: _Row, job: Job, *, once_more: str = "") -> Verdict:
        """Make a run for a row, and tell what it says; ``once_more`` says why it is not the first one."""
        whose = "its control" if job.is_control else ""
        duration_s = await self._make([row], job, f"{whose} once more".strip() if once_more else whose)
        verdict = row.verdict_of(job)
        about = ["its control, which must fail"] if job.is_control else []
        about += [f"once more, {once_more}"] if once_more else []
        self._table.line(row.number, str(job.experiment.file), verdict, duration_s, ", ".join(about))
        return verdict

    async def _make(self, rows: Sequence[_Row], job: Job, what: str) -> float:
        """Make one run and give its verdict to these rows, also one that was cut off; return the seconds of each."""
        began_s = clock.monotonic_s()
        self._running = rows
        self._table.begin(rows[0].number, str(rows[0].entry.job.experiment.file), what)
        try:
            await self._suite.run_one(job)
        finally:
            each_s = (clock.monotonic_s() - began_s) / len(rows)
            for row in rows:
                row.duration_s += each_s
            if self._suite.verdicts and self._suite.verdicts[-1][0] is job:
                _give(rows, job, self._suite.verdicts[-1][1])
                if job.parts and rows[0].journals:
                    _write_parts(rows[0].journals[-1], rows)
        return each_s

    def _view_for(self, job: Job) -> RunView:
        journal = None
        if self._journals is not None and self._running and not job.probe:
            first = self._running[0]
            kind = "-control" if job.is_control else ""
            name = _NAME.sub("-", job.experiment.file.stem)
            again = f"-{len(first.journals) + 1}" if first.journals else ""
            journal = self._journals / f"{first.number:03d}-{name}{kind}{again}.jsonl"
            with contextlib.suppress(FileNotFoundError):  # that of an earlier gate: this is a run of its own
                journal.unlink()
            for row in self._running:
                row.journals.append(str(journal))
        return RunView(self._table, journal)

    # -- the answer ---------------------------------------------------------------------------------------------------

    def figures(self) -> list[tuple[Path, Figures]]:
        """Return what every experiment that held has measured, whatever its control says."""
        return [
            (row.entry.job.experiment.file, figures_of(row.verdicts[-1], row.entry.job.topology))
            for row in self._rows
            if row.verdicts[-1].outcome is Outcome.HELD
        ]

    def report(
        self,
        *,
        form: str,
        seed: int,
        interrupted: bool = False,
        worse: Worse | None = None,
        names: Mapping[Path, str] | None = None,
        notes: Sequence[str] = (),
    ) -> GateReport:
        """Return the whole answer. ``worse`` is what the resilience baseline says; ``names`` is what it calls files."""
        by_name = worse.experiments if worse is not None else {}
        rows = [row.frozen(by_name.get((names or {}).get(row.entry.job.experiment.file, ""), ())) for row in self._rows]
        together = worse.together if worse is not None else ()
        entries = [entry for group in self._groups for entry in group]
        outcomes = [row.outcome for row in rows]
        outcomes += [Outcome.VIOLATED] if together else []
        outcomes += [Outcome.INTERRUPTED] if interrupted else []
        return GateReport(
            rows=tuple(rows),
            outcome=worst(outcomes),
            form=form,
            seed=seed,
            duration_s=clock.monotonic_s() - self._began_s,
            worse=together,
            notes=tuple(notes),
            not_run=tuple(str(entry.job.experiment.file) for entry in entries[len(self._rows) :]),
        )


def _give(rows: Sequence[_Row], job: Job, verdict: Verdict) -> None:
    """Give a verdict to its row, or each part of it to its own."""
    if rows[0].is_control(job):
        rows[0].control = verdict
        return
    files = [part.file for part in verdict.parts]
    parts = [told_apart(part, files[:place] + files[place + 1 :]) for place, part in enumerate(verdict.parts)]
    for row, part in zip(rows, parts or [verdict], strict=True):
        row.verdicts.append(part)


def in_doubt(verdict: Verdict, worse: Sequence[str]) -> Verdict:
    """Return what a run says that held and looks worse than the resilience baseline: that it has to be asked again."""
    said = f"one run does not show that it has become worse, and it looks so: {'; '.join(worse)}"
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, reasons=(said, *verdict.reasons))


def _write_parts(journal: str, rows: Sequence[_Row]) -> None:
    """Write what a run says about each of its experiments behind it, into its journal."""
    verdicts = [row.verdicts[row.journals.index(journal)] for row in rows if journal in row.journals]
    t_s = max((phase.end_s for phase in verdicts[0].phases), default=0.0)
    _write_behind(journal, ToldApart(t_s=t_s, verdicts=tuple(verdict_document(one) for one in verdicts)))


def _write_behind(journal: str, event: Event) -> None:
    with JournalWriter(Path(journal)) as writer:
        writer.handle(event)


def _job_of(row: _Row) -> Job:
    return row.entry.job


def _again_of(row: _Row) -> Job:
    return row.entry.again


def _control_of(row: _Row) -> Job:
    assert row.entry.control is not None
    return row.entry.control


def repeated(groups: Sequence[Sequence[Entry]], times: int) -> list[list[Entry]]:
    """Return the groups ``times`` over, for a baseline of several runs: without controls, and without searches."""
    return [
        [
            replace(entry, job=_alone(entry.job), again=_alone(entry.again), control=None, control_again=None)
            for entry in group
        ]
        for _ in range(times)
        for group in groups
    ]


def _alone(job: Job) -> Job:
    return replace(job, experiment=replace(job.experiment, metastability=None))
