"""The plan: everything that a run will do and when, as data, decided by the experiment and a seed alone."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from pathlib import Path

from chaos.errors import Problem
from chaos.experiment.model import Experiment, FaultEntry, PhaseName, Surge
from chaos.experiment.selection import candidates, victims
from chaos.faults.base import Layer
from chaos.faults.settings import describe
from chaos.faults.together import count
from chaos.topology.model import Instance, Topology
from chaos.units import format_duration

SHOWN_VICTIMS = 12
"""Victims that are named one by one in descriptions."""

SURGE = "surge"
"""What events and receipts call a surge, where faults have their kind."""

_ROUNDING = 1e-9
_DIGITS = 9
"""Moments are rounded, so that a fault that begins when another ends does so whatever the phase begins at."""


class Action(StrEnum):
    """What a step does with its fault. Of steps at one moment, healing comes first."""

    HEAL = "heal"
    APPLY = "apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """A fault with its victims and its times, in seconds from the start of the run."""

    name: str
    """Unique in the run: ``1-kill``."""
    entry: FaultEntry
    instances: tuple[str, ...]
    """The instances chosen."""
    victims: tuple[str, ...]
    """What it falls on: those instances, or the edges to them."""
    at_s: float
    until_s: float
    """For a fault that lasts until the end of the fault phase, the latest end that this may have."""

    def contested(self, other: PlannedFault) -> tuple[str, ...]:
        """Return the victims of which both hold the same (see ``Fault.holds``), whenever that is."""
        held = self.entry.fault.holds
        if not held or other.entry.fault.holds != held:
            return ()
        return tuple(victim for victim in self.victims if victim in other.victims)

    def meets(self, other: PlannedFault) -> bool:
        """Return whether both hold the same of a victim at one time, so that the end of one would end the other."""
        return self.at_s < other.until_s and other.at_s < self.until_s and bool(self.contested(other))

    def follows(self, other: PlannedFault) -> bool:
        """Return whether it takes a victim over from the other one, and so has to wait until that is taken back."""
        return other.until_s <= self.at_s and bool(self.contested(other))

    @property
    def description(self) -> str:
        """What happens to whom, in words."""
        what = describe(self.entry.fault)
        if self.entry.fault.layer is Layer.HOST:
            return f"{what}: {_listed(self.instances)}"
        caller = f" from {self.entry.selector.caller}" if self.entry.selector.caller is not None else ""
        return f"{what}: {count(len(self.victims), 'edge')}{caller} to {_listed(self.instances)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSurge:
    """More load for a while; times in seconds from the start of the run."""

    name: str
    """Unique in the run, numbered behind the faults: ``2-surge``."""
    at_s: float
    until_s: float
    rate_per_s: float
    base_per_s: float
    """The load's own rate, which goes on underneath."""

    @property
    def extra_per_s(self) -> float:
        """By how much it raises the rate."""
        return self.rate_per_s - self.base_per_s

    @property
    def description(self) -> str:
        """What happens, in words."""
        return f"{SURGE}: {self.rate_per_s:g} arrivals a second in place of {self.base_per_s:g}"

    def ordered(self, until_s: float) -> int:
        """Return how many arrivals it adds up to this moment of the run."""
        return math.floor(self.extra_per_s * max(0.0, min(until_s, self.until_s) - self.at_s) + _ROUNDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing done at one moment, in seconds from the start of the run."""

    at_s: float
    action: Action
    fault: PlannedFault | PlannedSurge


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a run will do."""

    seed: int
    phases: Mapping[PhaseName, tuple[float, float]]
    """Start and end of each phase, in seconds from the start of the run."""
    faults: tuple[PlannedFault, ...]
    """In the order of the file."""
    surges: tuple[PlannedSurge, ...] = ()
    scaled: tuple[str, ...] = ()
    """How the target is scaled, in words; empty when it is as its topology file says."""
    extend_s: float = 0.0
    """By how much at most the fault phase may go on beyond its end, until every rule is decided."""

    @property
    def events(self) -> tuple[PlannedFault | PlannedSurge, ...]:
        """All that happens to the target: the faults, and behind them the surges."""
        return (*self.faults, *self.surges)

    @property
    def duration_s(self) -> float:
        """Length of the run in seconds, from the first arrival on; at most, when the fault phase may go on."""
        return self.phases[PhaseName.RECOVERY][1] + self.extend_s

    def steps(self) -> tuple[Step, ...]:
        """Return every step in the order of time."""
        steps = [Step(at_s=one.at_s, action=Action.APPLY, fault=one) for one in self.events]
        steps += [Step(at_s=one.until_s, action=Action.HEAL, fault=one) for one in self.events]
        return tuple(sorted(steps, key=lambda step: (step.at_s, step.action is Action.APPLY)))

    def describe(self) -> tuple[str, ...]:
        """Return the plan as lines for people: phases and steps in the order of time.

        Where the fault phase may go on, what comes behind it stands at its latest moment.
        """
        # Of things at one moment: heal, then the phase that begins, then what is applied in it.
        lines = [(self._latest_s(name), 1, f"-- {self._said(name)}") for name in self.phases]
        for step in self.steps():
            if step.action is Action.HEAL:
                lines.append((step.at_s, 0, f"   heal   {step.fault.name}"))
            else:
                lines.append((step.at_s, 2, f"   apply  {step.fault.name}  {step.fault.description}"))
        lines.append((self.duration_s, 3, "-- end"))
        timed = (f"{at_s:8.2f} s  {text}" for at_s, _, text in sorted(lines, key=lambda line: line[:2]))
        return (*(f"scaled: {words}" for words in self.scaled), *timed)

    def _latest_s(self, phase: PhaseName) -> float:
        return self.phases[phase][0] + (self.extend_s if phase is PhaseName.RECOVERY else 0.0)

    def _said(self, phase: PhaseName) -> str:
        start_s, end_s = self.phases[phase]
        if self.extend_s and phase is PhaseName.FAULT:
            longest_s = end_s - start_s + self.extend_s
            return f"{phase}, {end_s - start_s:g} s, at most {longest_s:g} s: until every rule is decided"
        latest = ", at the latest from here" if self.extend_s and phase is PhaseName.RECOVERY else ""
        return f"{phase}, {end_s - start_s:g} s{latest}"


def plan(experiment: Experiment, topology: Topology, seed: int) -> Plan:
    """Return what a run of this checked experiment will do. Pure: the same seed gives the same plan.

    Each fault draws its victims from a generator of its own, seeded with the seed and the fault's place in the list, so
    that a change of one fault leaves the choices of the others as they are, and ``pick: 3`` keeps the two that
    ``pick: 2`` had chosen. Of equals it prefers victims of which no other fault holds the same at that time.
    """
    ends = tuple(accumulate(experiment.phases[name] for name in PhaseName))
    starts = (0.0, *ends[:-1])
    phases = dict(zip(PhaseName, zip(starts, ends, strict=True), strict=True))
    fault_start_s, fault_end_s = phases[PhaseName.FAULT]
    longest = (fault_start_s, fault_end_s + experiment.verdict.extend_s)
    faults = _plan_faults(experiment.faults, topology, seed, longest)
    surges = tuple(
        PlannedSurge(
            name=f"{number}-{SURGE}",
            at_s=_at_s(one, longest),
            until_s=_end_s(one, longest),
            rate_per_s=one.rate_per_s,
            base_per_s=experiment.load.rate_per_s,
        )
        for number, one in enumerate(experiment.load.surges, start=len(faults) + 1)
    )
    return Plan(
        seed=seed,
        phases=phases,
        faults=faults,
        surges=surges,
        scaled=topology.scaled,
        extend_s=experiment.verdict.extend_s,
    )


def overlaps(made: Plan, file: Path) -> list[Problem]:
    """Return a problem for each two faults that hold the same of a victim at the same time.

    The end of one would end the other for that victim. One may begin at the moment at which another ends.
    """
    return [
        Problem(file=str(file), line=later.entry.line, key=f"faults.{index}", message=_overlap(earlier, later))
        for index, later in enumerate(made.faults)
        for earlier in made.faults[:index]
        if later.meets(earlier)
    ]


def _overlap(earlier: PlannedFault, later: PlannedFault) -> str:
    drawn = any(one.entry.selector.pick is not None for one in (earlier, later))
    otherwise = ", or a smaller 'pick'" if drawn else ""
    return (
        f"{later.name} ({_when(later.entry)}) and {earlier.name} ({_when(earlier.entry)}) both hold "
        f"{later.entry.fault.holds} of {_listed(later.contested(earlier))}, and the first of them to end would end the "
        "other one, too; let one begin ('at') when the other has ended ('for'), or let them fall on others "
        f"('where', 'from'{otherwise})"
    )


def _when(entry: FaultEntry) -> str:
    """Return when it is there, from the start of the fault phase."""
    until = "the end" if entry.for_s is None else format_duration(round(entry.at_s + entry.for_s, _DIGITS))
    return f"{format_duration(entry.at_s)} to {until}"


def _plan_faults(
    entries: Sequence[FaultEntry], topology: Topology, seed: int, phase: tuple[float, float]
) -> tuple[PlannedFault, ...]:
    planned: dict[int, PlannedFault] = {}
    # Those whose victims are drawn come behind those whose victims are named, to be able to keep out of their way.
    for index, entry in sorted(enumerate(entries, start=1), key=lambda one: one[1].selector.pick is not None):
        chosen = candidates(entry.selector, topology)
        if entry.selector.pick is not None:
            alone = {one.name: _placed(index, entry, topology, [one], phase) for one in chosen}
            # A generator seeded with a text gives the same numbers in every process and on every machine.
            ranking = random.Random(f"{seed}/{index}").sample(list(alone), len(alone))
            ranking.sort(key=lambda name: any(alone[name].meets(other) for other in planned.values()))
            picked = ranking[: entry.selector.pick]
            chosen = tuple(one for one in chosen if one.name in picked)
        planned[index] = _placed(index, entry, topology, chosen, phase)
    return tuple(planned[index] for index in sorted(planned))


def _placed(
    index: int, entry: FaultEntry, topology: Topology, instances: Sequence[Instance], phase: tuple[float, float]
) -> PlannedFault:
    return PlannedFault(
        name=f"{index}-{entry.fault.kind}",
        entry=entry,
        instances=tuple(one.name for one in instances),
        victims=victims(entry.selector, topology, instances, entry.fault.layer),
        at_s=_at_s(entry, phase),
        until_s=_end_s(entry, phase),
    )


def _at_s(one: FaultEntry | Surge, phase: tuple[float, float]) -> float:
    return round(phase[0] + one.at_s, _DIGITS)


def _end_s(one: FaultEntry | Surge, phase: tuple[float, float]) -> float:
    start_s, end_s = phase
    return end_s if one.for_s is None else min(end_s, round(start_s + one.at_s + one.for_s, _DIGITS))


def _listed(names: tuple[str, ...]) -> str:
    if len(names) <= SHOWN_VICTIMS:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN_VICTIMS])} and {len(names) - SHOWN_VICTIMS} more"
