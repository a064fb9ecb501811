"""What is known of a run so far, folded from its events: the one state behind every view of a running experiment."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.errors import Outcome
from chaos.events import (
    BreakerState,
    Event,
    FaultApplied,
    FaultHealed,
    GuardTripped,
    Healed,
    InstanceDied,
    Note,
    PhaseStarted,
    RunEnded,
    RunStarted,
    TargetReady,
    TargetStarting,
    Tick,
)
from chaos.experiment.model import Experiment, PhaseName, Reference, Rule
from chaos.reports.deviation import deviation
from chaos.topology.model import Measure, Metric, Topology
from chaos.verdict.briefly import RATE_STANDARD_ERRORS
from chaos.verdict.rules import is_upward
from chaos.verdict.statistics import rate_standard_error
from chaos.verdict.units import figure

SECONDS_KEPT = 4 * 3600
"""Ticks kept for the sparklines; older ones are forgotten."""
NOTES_KEPT = 50


class FaultSpan(NamedTuple):
    """A fault as the plan has it; times in seconds of the run."""

    name: str
    description: str
    start_s: float
    end_s: float


class Second(NamedTuple):
    """One tick, reduced to what a view shows of it."""

    t_s: float
    phase: str
    values: Mapping[str, float | None]


def metrics_to_show(experiment: Experiment, topology: Topology) -> Mapping[str, Metric]:
    """Return the metrics that people are shown: those with a rule first, as the experiment lists them; no details."""
    ruled = [name for name in experiment.metrics if name in topology.metrics]
    others = [name for name, metric in topology.metrics.items() if name not in ruled and not metric.detail]
    return {name: topology.metrics[name] for name in (*ruled, *others)}


@dataclass(slots=True)
class Progress:
    """The state of one run, changed only by ``take``."""

    experiment: Experiment
    topology: Topology
    faults: tuple[FaultSpan, ...]
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Planned, and moved when a phase really begins."""
    started: RunStarted | None = None
    phase: str = ""
    """Empty until the first phase begins."""
    now_s: float = 0.0
    seconds: list[Second] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    """The kinds of samples that there have been."""
    breakers: tuple[BreakerState, ...] = ()
    active: dict[str, FaultApplied] = field(default_factory=dict)
    applied: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    """Fault -> when it was applied, and healed if it was."""
    notes: list[tuple[float, str]] = field(default_factory=list)
    """When, and what happened, in a line."""
    status: str = "starting"
    outcome: Outcome | None = None

    @classmethod
    def begin(
        cls, experiment: Experiment, topology: Topology, faults: Iterable[tuple[str, str, float, float]]
    ) -> Progress:
        """Return the state before anything happened."""
        phases: dict[str, tuple[float, float]] = {}
        start_s = 0.0
        for name, duration_s in experiment.phases.items():
            phases[str(name)] = (start_s, start_s + duration_s)
            start_s += duration_s
        return cls(
            experiment=experiment, topology=topology, faults=tuple(FaultSpan(*one) for one in faults), phases=phases
        )

    @property
    def duration_s(self) -> float:
        """When the last phase ends, as far as is known."""
        return max((end for _, end in self.phases.values()), default=0.0)

    @property
    def metrics(self) -> Sequence[Metric]:
        """The metrics to show; those without a rule only if this load produces their kind of sample."""
        ruled = self.experiment.metrics
        shown = metrics_to_show(self.experiment, self.topology).values()
        return [metric for metric in shown if metric.name in ruled or not self.kinds or metric.of in self.kinds]

    def rule_for(self, metric: str) -> Rule | None:
        """Return the first rule on the metric."""
        return next((rule for rule in self.experiment.steady_state if rule.metric == metric), None)

    def baseline(self, metric: str) -> float | None:
        """Return the median second of the baseline: a typical one, which the verdict's figure need not equal."""
        values = [
            value
            for second in self.seconds
            if second.phase == PhaseName.BASELINE and (value := second.values.get(metric)) is not None
        ]
        return statistics.median(values) if values else None

    def broken(self, metric: Metric, value: float | None, baseline: float | None) -> bool | None:
        """Return whether one second's value breaks the metric's rule; None without rule, value or limit.

        For the eye alone, the verdict is made elsewhere: a rate may miss by two standard errors of one second.
        """
        rule = self.rule_for(metric.name)
        limit = None if rule is None else limit_beside(rule, baseline)
        if rule is None or value is None or limit is None:
            return None
        if metric.measure is Measure.RATE:
            slack = RATE_STANDARD_ERRORS * rate_standard_error(limit, 1.0)
            limit += -slack if is_upward(rule.comparison) else slack
        return not rule.comparison.holds(value, limit)

    def take(self, event: Event) -> str | None:
        """Take one event in; return what to tell a reader about it in one line, or None for a tick."""
        line = self._fold(event)
        if line is not None:
            self.notes.append((event.t_s, line))
            del self.notes[:-NOTES_KEPT]
        return line

    def _fold(self, event: Event) -> str | None:  # noqa: PLR0911 - one return for each kind of event
        match event:
            case Tick():
                self._tick(event)
                return None
            case RunStarted() | TargetStarting() | TargetReady() | PhaseStarted() | RunEnded():
                return self._course(event)
            case FaultApplied():
                self.active[event.fault] = event
                self.applied[event.fault] = (event.t_s, None)
                return f"fault {event.fault} applied: {event.description}"
            case FaultHealed():
                self.active.pop(event.fault, None)
                began_s, _ = self.applied.get(event.fault, (event.t_s, None))
                self.applied[event.fault] = (began_s, event.t_s)
                nothing = "" if event.touched else ": it touched NOTHING"
                return f"fault {event.fault} healed{nothing}{f' ({event.evidence})' if event.evidence else ''}"
            case GuardTripped():
                return f"GUARD {event.guard!r} tripped at {self._guarded(event)}: healing now"
            case Healed():
                self.status = "recovering"
                return f"healed and verified in {figure(event.duration_s, 's')}"
            case InstanceDied():
                last = f": {event.last_lines[-1]}" if event.last_lines else ""
                return f"{event.instance} DIED by itself ({event.status}){last}"
            case Note():
                return event.text
        return None

    def _course(self, event: Event) -> str | None:
        match event:
            case TargetStarting():
                self.status = f"starting {event.target}"
                how = f" ({'; '.join(event.scaled)})" if event.scaled else ""
                return f"starting {event.target}: {event.instances} instances, {event.edges} proxied edges{how}"
            case TargetReady():
                self.status = "ready"
                return f"target ready in {figure(event.duration_s, 's')}"
            case RunStarted():
                self.started = event
                self.phases = dict(event.phases)
                different = event.disabled or event.changed
                how = f", {deviation(event.disabled, event.changed)}" if different else ""
                return f"run {event.experiment!r}: seed {event.seed}, {event.backend}{how}"
            case PhaseStarted():
                self._enter(event)
                return f"phase {event.phase}"
            case RunEnded():
                self.outcome = event.outcome
                self.status = event.outcome.value
                self.now_s = max(self.now_s, event.t_s)
                return f"run ended: {event.outcome.value}"
        return None

    def _tick(self, event: Tick) -> None:
        self.now_s = event.t_s
        self.breakers = event.breakers
        self.kinds.update(event.counts)
        self.seconds.append(Second(event.t_s, event.phase, event.values))
        del self.seconds[:-SECONDS_KEPT]

    def _enter(self, event: PhaseStarted) -> None:
        """A phase may begin earlier (a guard) or later (healing) than planned: move it and all after it."""
        self.now_s = max(self.now_s, event.t_s)
        names = list(self.phases)
        if event.phase in self.phases:
            shift_s = event.t_s - self.phases[event.phase][0]
            at = names.index(event.phase)
            if at:
                before = self.phases[names[at - 1]]
                self.phases[names[at - 1]] = (before[0], event.t_s)
            for name in names[at:]:
                start_s, end_s = self.phases[name]
                self.phases[name] = (start_s + shift_s, end_s + shift_s)
        self.phase = event.phase
        self.status = event.phase

    def _guarded(self, event: GuardTripped) -> str:
        for guard in self.experiment.abort_when:
            if guard.rule.text == event.guard and guard.rule.metric in self.topology.metrics:
                return figure(event.measured, self.topology.metrics[guard.rule.metric].unit)
        return f"{event.measured:.4g}"


def limit_beside(rule: Rule, baseline: float | None) -> float | None:
    """Return a rule's limit as a plain number; None where that is not known here.

    That is without a baseline that it needs, and beside a control group, whose single seconds are not told.
    """
    match rule.of:
        case None:
            return rule.limit
        case Reference.BASELINE:
            return None if baseline is None else rule.limit * baseline
        case Reference.CONTROL_GROUP:
            return None
