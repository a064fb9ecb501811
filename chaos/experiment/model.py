"""An experiment as data: phases, load, faults, the steady state, guards and the control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from chaos.faults.base import Fault
from chaos.topology.model import Scalar


class PhaseName(StrEnum):
    """The four phases of a run, in order."""

    WARM_UP = "warm_up"
    BASELINE = "baseline"
    FAULT = "fault"
    RECOVERY = "recovery"


class Reference(StrEnum):
    """What a rule's limit may be a multiple of; the value is how it is written."""

    BASELINE = "baseline"
    """What the same metric was before the faults."""
    CONTROL_GROUP = "control_group"
    """What it is at the same time in the group that no fault falls on."""


class Comparison(StrEnum):
    """How a measured value is compared with a limit."""

    AT_LEAST = ">="
    AT_MOST = "<="
    ABOVE = ">"
    BELOW = "<"

    def holds(self, measured: float, limit: float) -> bool:
        """Return whether ``measured`` satisfies the comparison with ``limit``."""
        match self:
            case Comparison.AT_LEAST:
                return measured >= limit
            case Comparison.AT_MOST:
                return measured <= limit
            case Comparison.ABOVE:
                return measured > limit
            case Comparison.BELOW:
                return measured < limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which instances a fault falls on, and whose view of them.

    ``service`` and ``where`` (labels) choose the instances, ``pick`` draws that many of them from the seed (None: all).
    For faults on the wire the victims are the edges to those instances; ``caller`` keeps only the edges of one calling
    service or client (the key ``from`` in the file).
    """

    service: str
    where: Mapping[str, str] = field(default_factory=dict)
    pick: int | None = None
    caller: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEntry:
    """One item of ``faults:``: what happens, to whom, when (from the start of the fault phase), for how long.

    ``for_s`` None means until the end of the fault phase.
    """

    fault: Fault
    selector: Selector
    at_s: float = 0.0
    for_s: float | None = None
    line: int | None = field(default=None, compare=False)
    """Where it stands in its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of the steady state: ``playback_availability >= 99.5%``, ``sps >= 95% of baseline``.

    ``limit`` is a plain number (0.995; seconds; per second), or, with ``of``, the factor applied to the value of the
    baseline or of the control group. ``text`` is the rule as the user wrote it.
    """

    metric: str
    comparison: Comparison
    limit: float
    text: str
    of: Reference | None = None

    @property
    def of_baseline(self) -> bool:
        """Whether the limit is a multiple of what the baseline phase measured."""
        return self.of is Reference.BASELINE

    @property
    def of_control_group(self) -> bool:
        """Whether the limit is a multiple of what the control group measures at the same time."""
        return self.of is Reference.CONTROL_GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Abort the fault phase and heal at once, by time or by evidence.

    By time: when ``rule`` is true over the last ``for_s`` seconds. By ``evidence`` (``for_s`` is 0 then): when a
    gambler who bets that the rule is true has multiplied the stake by so much; a system at the limit is aborted by
    chance in at most ``1 / evidence`` of its runs, however long they last.
    """

    rule: Rule
    for_s: float
    evidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surge:
    """One item of ``load.surges``: more arrivals a second for a while.

    Its times are those of a fault: ``at_s`` is from the start of the fault phase, ``for_s`` None means until its end.
    ``rate_per_s`` is that of all arrivals together, and more than the load's own. ``place`` is the item's in the file,
    from 0: surges are kept in the order of time, and ``--set load.surges.0.rate`` speaks of the file's.
    """

    rate_per_s: float
    at_s: float = 0.0
    for_s: float | None = None
    place: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What Locust is asked to do: ``rate_per_s`` arrivals a second on an open schedule."""

    locustfile: Path
    rate_per_s: float = 0.0
    """Arrivals a second; 0: the locustfile makes its own (a closed load: users who wait for answers)."""
    quick_rate_per_s: float | None = None
    """No more arrivals a second than these in the gate's quick form; None: as many as the gate has for everybody."""
    workers: int = 0
    """Locust worker processes; 0 runs Locust as one process."""
    max_start_lag_s: float = 0.1
    """p99 of the generator's own lateness above which the run is inconclusive."""
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    surges: tuple[Surge, ...] = ()
    """They do not overlap, and end within the fault phase."""
    control_group: float = 0.0
    """Share of the accounts on which the faults fall, and of those beside them on which none falls (`chaos.groups`);
    0: there are no groups, and faults fall on everybody."""
    own_rate_per_s: float | None = None
    """What the experiment asks for, where it is run at another rate; None where it is run at its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What is different in the run that must fail: protections switched off, or anything else in the file changed."""

    disable: tuple[str, ...] = ()
    changes: Mapping[str, Scalar] = field(default_factory=dict)
    """New values by dotted key, as of ``--set``: ``{"faults.0.header_value": "*"}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictSettings:
    """How sure a verdict has to be (`docs/verdicts.md`)."""

    alpha: float = 0.05
    """In so many runs, as a share, a system that just keeps a rule may be said to break it, at most; and, with a
    margin, one that breaks it may be said to keep it."""
    margin: float | None = None
    """By how much a rule may be missed before it matters: points for percentages, a share of the limit for all others.
    With one, a rule is held when it is *shown* to hold within it; without, when it was measured to hold."""
    samples_most: int | None = None
    """So many samples are enough for any rule, whatever its limit; None: each rule takes what its limit takes. No key
    of a file: the gate's quick form asks for less than a whole run, and says what that shows."""
    extend_s: float = 0.0
    """By how much at most the fault phase may go on until every rule is decided."""
    max_taken: float = 0.10
    """Which share of the processors others may take before a machine with nothing left over counts as starved. A system
    that is planned for three quarters of a machine, as is usual, has no room left with much more than that gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metastability:
    """How the load is searched for from which the system no longer recovers by itself (`docs/metastability.md`)."""

    up_to_per_s: float
    """No more arrivals a second than these are tried."""
    hold_s: float
    """For so long the load is held after healing; a system that is not steady by then has stayed down."""
    precision: float = 0.10
    """By how much, as a share, the load that does not recover may lie above the one that does."""
    trials: int = 2
    """So often each of these two is tried."""
    recovers_up_to_per_s: float | None = None
    """Up to this load the system must recover by itself; None asks nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A whole experiment, checked."""

    file: Path
    title: str
    description: str
    topology_file: Path
    phases: Mapping[PhaseName, float]
    """Duration of each phase in seconds, in order; all four are there."""
    load: Load
    faults: tuple[FaultEntry, ...]
    """Empty only when the load has a surge."""
    steady_state: tuple[Rule, ...]
    must_break: tuple[Rule, ...] = ()
    """What must be true in the fault phase for the faults to have done what they were to do."""
    abort_when: tuple[Guard, ...] = ()
    verdict: VerdictSettings = VerdictSettings()
    recover_within_s: float | None = None
    metastability: Metastability | None = None
    """None when it is not searched for."""
    control: Control | None = None
    seed: int | None = None
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """Overrides of the topology's settings."""
    tags: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that rules are about, in their order."""
        return tuple(dict.fromkeys(rule.metric for rule in (*self.steady_state, *self.must_break)))

    @property
    def leaves_traces(self) -> bool:
        """Whether a fault leaves something in the target that only its end takes away."""
        return any(entry.fault.leaves_traces for entry in self.faults)

    @property
    def needs_embedded(self) -> str | None:
        """The first kind of fault here that only the embedded proxy server has; None when Toxiproxy has them all."""
        return next((entry.fault.kind for entry in self.faults if entry.fault.needs_embedded), None)
