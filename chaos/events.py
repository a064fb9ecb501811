"""What happens in a run, as frozen records. The terminal, the journal and every report are functions of these.

``t_s`` is seconds since the run's schedule began (negative while the target starts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chaos.errors import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    t_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLabel:
    """What a reader must know of a metric to show its values."""

    title: str
    unit: str
    """``%``, ``s``, ``/s`` or nothing."""
    of: str
    """The kind of samples that it is measured on."""
    detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetShape:
    """What a reader must know of the target: its services, who calls whom, what is measured."""

    name: str
    services: Mapping[str, int]
    """Each service and how many instances it has; they are called ``<service>-1`` and so on."""
    calls: Mapping[str, tuple[str, ...]]
    """Each caller, services and clients, and the services it calls; every instance calls every instance."""
    metrics: Mapping[str, MetricLabel]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run begins: one experiment, one seed, with or without its protections."""

    experiment: str
    file: str
    seed: int
    backend: str
    """``toxiproxy 2.12.0`` or ``embedded``."""
    disabled: tuple[str, ...]
    changed: tuple[str, ...] = ()
    """What else is different in a control, each as ``key=value``."""
    phases: Mapping[str, tuple[float, float]]
    """Start and end of each phase, seconds."""
    started_at: str
    """Time of day, ISO 8601."""
    rules: tuple[str, ...] = ()
    """What the steady state asks for, as the experiment has it: known before there is a verdict."""
    replay: str = ""
    """The command that repeats the run."""
    target: TargetShape | None = None
    """None in a journal of before there was such a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStarting(Event):
    """The target's processes are being started."""

    target: str
    instances: int
    edges: int
    scaled: tuple[str, ...] = ()
    """How it is scaled, in words; empty when it is as its topology file says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReady(Event):
    """Every instance is healthy."""

    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted(Event):
    """A phase begins."""

    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultApplied(Event):
    """A fault is in place."""

    fault: str
    """Name unique within the run, like ``1-kill``."""
    kind: str
    description: str
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultHealed(Event):
    """A fault was taken back; what it touched."""

    fault: str
    kind: str
    connections: int
    bytes: int
    touched: bool
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """The state of one circuit breaker of the target, as its service reports it."""

    instance: str
    command: str
    state: str
    """closed | open | half-open"""
    calls: int
    errors: int
    fallbacks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """One second of the run, measured."""

    phase: str
    values: Mapping[str, float | None]
    """Each metric over the last second; None where nothing was measured."""
    counts: Mapping[str, Mapping[str, int]]
    """For each kind of sample, how many of each outcome ended in that second."""
    breakers: tuple[BreakerState, ...]
    groups: Mapping[str, Mapping[str, float | None]] | None = None
    """Where accounts are in groups (`chaos.groups`): for each group, the metrics that rules are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMeasured(Event):
    """The machine itself, over one second; shares are of all its processors' time, None where it does not tell."""

    left_share: float | None = None
    """Idle, or used by processes that make way for everybody."""
    steal_share: float | None = None
    """Taken by the hypervisor."""
    foreign_share: float | None = None
    """Used by processes that are not the run's own."""
    waiting_share: float | None = None
    """Of the second: somebody was ready to run and had no processor."""
    queue_delay_share: float | None = None
    """How long ready processes waited in all."""
    canary_s: float | None = None
    """The slowest of the answers of an edge without a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardTripped(Event):
    """A guard aborted the fault phase."""

    guard: str
    measured: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed(Event):
    """Healing was verified: no toxic left, every edge open, every instance healthy."""

    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceDied(Event):
    """An instance ended that no fault had ended."""

    instance: str
    status: str
    last_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """Something worth knowing, in words."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """The run is over; the verdict document says the rest."""

    outcome: Outcome
    verdict: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEnded(Event):
    """After a run, its experiment was tried at another rate, to find the load from which it no longer recovers.

    The probe's own events are in no journal; ``replay`` makes it again.
    """

    rate_per_s: float
    answer: str
    """recovered | stayed_down | overloaded | unknown"""
    recovery_s: float | None
    reason: str
    replay: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetastabilitySearched(Event):
    """The search is over; the verdict of the run before has become this one."""

    outcome: Outcome
    verdict: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldApart(Event):
    """What the run before says about each of its experiments: it was of several, or its gate doubts what it says."""

    verdicts: tuple[Mapping[str, object], ...]


Emit = Callable[[Event], None]
"""Where events go."""
