"""What a report knows of one run, folded from its events: facts, spans and series, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.errors import Outcome
from chaos.events import (
    Event,
    FaultApplied,
    FaultHealed,
    GuardTripped,
    Healed,
    InstanceDied,
    MetastabilitySearched,
    Note,
    PhaseStarted,
    ProbeEnded,
    RunEnded,
    RunStarted,
    TargetReady,
    TargetStarting,
    ToldApart,
)
from chaos.groups import Group
from chaos.reports.html.breakers import Breakers
from chaos.reports.html.documents import outcome
from chaos.reports.html.reading import End, Entry, Machine, Second, Trouble, entry_of
from chaos.reports.html.timeline import Key, Timeline
from chaos.samples import SampleOutcome

NOTES_MAX = 200
NOTE_LETTERS_MAX = 500
FAULTS_MAX = 500
FAULT_LETTERS_MAX = 300
"""What a fault is, and what it touched, are told in so many letters each."""
VICTIMS_MAX = 2000
KINDS_MAX = 100
RUNS_MAX = 200
"""More runs than that are no page that anybody reads."""
TROUBLES_KEPT = 5


class Happening(NamedTuple):
    """Something that happened, in words; seconds of the run."""

    t_s: float
    text: str


@dataclass(slots=True)
class Fault:
    """A fault as it was carried out."""

    name: str
    kind: str
    description: str
    victims: tuple[str, ...]
    start_s: float
    end_s: float | None = None
    evidence: str = ""
    touched: bool | None = None
    """None while it was in place."""


@dataclass(slots=True)
class RunRecord:
    """One run. Changed by ``RunReader`` alone."""

    source: str
    """The journal's path, as the user wrote it; empty when the run has just been made."""
    started: RunStarted | None = None
    timeline: Timeline = field(default_factory=Timeline)
    breakers: Breakers = field(default_factory=lambda: Breakers({}))
    kinds: dict[str, None] = field(default_factory=dict)
    """The kinds of samples seen so far."""
    phases: list[tuple[str, float]] = field(default_factory=list)
    """Each phase and when it began."""
    faults: dict[str, Fault] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)
    happenings_left_out: int = 0
    outcome: Outcome | None = None
    verdict: Mapping[str, object] = field(default_factory=dict)
    """The document at its end; empty of a run that was cut off."""
    parts: tuple[Mapping[str, object], ...] = ()
    """What it says about each experiment, as documents, where several were run at the same time."""
    end_s: float = 0.0
    """The last moment that was heard of."""
    troubles: list[Trouble] = field(default_factory=list)
    troubles_count: int = 0

    @property
    def cut_off(self) -> bool:
        """Whether the journal ends before the run does."""
        return self.outcome is None

    @property
    def title(self) -> str:
        """The experiment's title."""
        said = self.verdict.get("experiment")
        return self.started.experiment if self.started else said if isinstance(said, str) else "a run without a title"

    @property
    def file(self) -> str:
        """The experiment's file."""
        said = self.verdict.get("file")
        return self.started.file if self.started else said if isinstance(said, str) else ""

    @property
    def seed(self) -> int | None:
        """The run's seed, where it is known."""
        said = self.verdict.get("seed")
        return self.started.seed if self.started else said if isinstance(said, int) else None

    @property
    def disabled(self) -> tuple[str, ...]:
        """The protections that were switched off."""
        return self.started.disabled if self.started else _words(self.verdict.get("disabled"))

    @property
    def changed(self) -> tuple[str, ...]:
        """What else was different in a control."""
        return self.started.changed if self.started else _words(self.verdict.get("changed"))

    @property
    def is_control(self) -> bool:
        """Whether something was taken from the experiment as it is written."""
        return bool(self.disabled or self.changed)

    def spans(self) -> list[tuple[str, float, float]]:
        """Return the phases with start and end, as they really were."""
        ends = (
            [start_s for _, start_s in self.phases[1:]] + [max(self.end_s, self.phases[-1][1])] if self.phases else []
        )
        return [(name, start_s, end_s) for (name, start_s), end_s in zip(self.phases, ends, strict=True)]


class RunReader:
    """Folds entries of journals, or events as they happen, into runs.

    ``handle`` is a sink for events, as the journal's is. ``runs`` are complete after ``finish``, or the ``End`` of a
    journal.
    """

    def __init__(self) -> None:
        self.runs: list[RunRecord] = []
        self.left_out = 0
        """Runs beyond ``RUNS_MAX``."""
        self._source = ""
        self._run: RunRecord | None = None
        self._lobby = RunRecord(source="")  # what happens before a run begins, while its target starts

    def begin(self, source: str) -> None:
        """Say that what follows comes from another journal."""
        self.finish()
        self._source = source
        self._lobby = RunRecord(source=source)

    def handle(self, event: Event) -> None:
        """Take in an event."""
        self.take(entry_of(event))

    def finish(self) -> None:
        """Say that nothing follows: a run that has not ended was cut off."""
        self._keep()
        self._lobby = RunRecord(source=self._source)

    def take(self, entry: Entry) -> None:
        """Take in what a journal's line says."""
        match entry:
            case Second():
                self._second(self._current(), entry)
            case Machine():
                values: list[tuple[Key, float]] = [(("machine", name), one) for name, one in entry.values.items()]
                if self._run is not None:
                    self._run.timeline.add(max(0.0, entry.t_s - 1.0), values)
            case Trouble():
                told = self._run or self._lobby
                told.troubles_count += 1
                if len(told.troubles) < TROUBLES_KEPT:
                    told.troubles.append(entry)
            case End():
                self.finish()
            case RunStarted():
                self._keep()
                run = self._current()
                run.started = entry
                run.breakers = Breakers(dict(entry.target.calls) if entry.target else {})
            case RunEnded():
                run = self._current()
                run.outcome, run.verdict = entry.outcome, entry.verdict
                run.end_s = max(run.end_s, entry.t_s)
                self._keep()
            case MetastabilitySearched() | ToldApart():
                self._amend(entry)
            case TargetStarting() | TargetReady() | ProbeEnded():
                pass
            case PhaseStarted() | FaultApplied():
                self._event(self._current(), entry)
            case _:
                self._event(self._run or self._lobby, entry)

    def _current(self) -> RunRecord:
        """Return the run that goes on; what was told before it began is a part of it."""
        if self._run is None:
            self._run, self._lobby = self._lobby, RunRecord(source=self._source)
            # Their moments are those of the run before, or of no run.
            self._run.happenings = [Happening(min(0.0, t_s), what) for t_s, what in self._run.happenings]
            self._run.end_s = 0.0
        return self._run

    def _amend(self, more: MetastabilitySearched | ToldApart) -> None:
        """Give the run before what was said about it when it was over."""
        last = self.runs[-1] if self.runs and self._run is None else None
        if last is None or last.source != self._source:
            return
        verdicts = more.verdicts if isinstance(more, ToldApart) else (more.verdict,)
        if len(verdicts) > 1:
            last.parts = verdicts
        elif verdicts and (last.file, last.seed) == (verdicts[0].get("file"), verdicts[0].get("seed")):
            last.outcome, last.verdict = outcome(verdicts[0]), verdicts[0]

    def _keep(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        run.breakers.finish(run.end_s)
        if len(self.runs) < RUNS_MAX:
            self.runs.append(run)
        else:
            self.left_out += 1

    def _second(self, run: RunRecord, second: Second) -> None:
        run.end_s = max(run.end_s, second.t_s)
        values: list[tuple[Key, float]] = [(("value", name), value) for name, value in second.values.items()]
        for group in Group:
            values += [(("group", group.value, name), value) for name, value in second.groups.get(group, {}).items()]
        for kind in second.counts:
            if len(run.kinds) < KINDS_MAX:
                run.kinds[kind] = None
        for kind in run.kinds:  # of a kind that is not mentioned nothing ended
            outcomes = second.counts.get(kind, {})
            values += [(("count", kind, said), float(outcomes.get(said, 0))) for said in SampleOutcome]
        for (pair, tries), tally in run.breakers.take(second.t_s, second.breakers):
            way = "tries" if tries else "commands"
            values += [(("calls", way, *pair), float(tally.calls)), (("errors", way, *pair), float(tally.errors))]
        run.timeline.add(max(0.0, second.t_s - 1.0), values)

    def _event(self, run: RunRecord, event: Event) -> None:
        run.end_s = max(run.end_s, event.t_s)
        match event:
            case PhaseStarted() if len(run.phases) < FAULTS_MAX:
                run.phases.append((event.phase, max(event.t_s, run.phases[-1][1] if run.phases else 0.0)))
            case FaultApplied() if len(run.faults) < FAULTS_MAX:
                victims = event.victims[:VICTIMS_MAX]
                description = _cut(event.description, FAULT_LETTERS_MAX)
                run.faults[event.fault] = Fault(event.fault, event.kind, description, victims, event.t_s)
            case FaultHealed() if event.fault in run.faults:
                fault = run.faults[event.fault]
                fault.end_s, fault.touched = event.t_s, event.touched
                fault.evidence = _cut(event.evidence, FAULT_LETTERS_MAX)
            case GuardTripped():
                self._tell(run, event.t_s, f"the guard “{event.guard}” tripped at {event.measured:.4g}: healing began")
            case Healed():
                self._tell(run, event.t_s, f"healed, and seen to be, in {event.duration_s:.2f} s")
            case InstanceDied():
                last = f": {event.last_lines[-1]}" if event.last_lines else ""
                self._tell(run, event.t_s, f"{event.instance} ended by itself ({event.status}){last}")
            case Note():
                self._tell(run, event.t_s, event.text)

    def _tell(self, run: RunRecord, t_s: float, text: str) -> None:
        if len(run.happenings) < NOTES_MAX:
            run.happenings.append(Happening(t_s, _cut(text, NOTE_LETTERS_MAX)))
        else:
            run.happenings_left_out += 1


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, (list, tuple)) else ()
