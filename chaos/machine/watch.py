"""Watches the machine during a run: who took how much of it in each second, and whether the canary answered in time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaos.events import MachineMeasured
from chaos.machine.canary import Canary
from chaos.machine.kernel import Processors, ProcessUse, read_processes, read_processors, tree_of
from chaos.verdict.machine import MachinePhase, summary

SHORTEST_S = 0.2
"""Between two readings; in less, ticks of 10 ms say little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The machine's counters at one moment."""

    processors: Processors | None = None
    processes: Mapping[int, ProcessUse] = field(default_factory=dict)


class MachineWatch:
    """Told of phases and seconds by the runner; ``phases`` is what the verdict gets.

    ``max_taken`` is which share of the processors others may take; ``root`` the process whose whole tree is the run's
    own: what all others use is foreign.
    """

    def __init__(self, max_taken: float, root: int | None = None) -> None:
        self._max_taken = max_taken
        self._root = os.getpid() if root is None else root
        self._last = Reading()
        self._begun: list[tuple[float, str]] = []
        self._seconds: dict[str, list[MachineMeasured]] = {}
        self.canary = Canary()

    @property
    def phases(self) -> tuple[MachinePhase, ...]:
        """The figures of each phase that had a second."""
        return tuple(summary(name, seconds, max_taken=self._max_taken) for name, seconds in self._seconds.items())

    def begin(self, phase: str, start_s: float) -> None:
        """A phase begins at this moment of the run; each second belongs to the phase that its middle lies in."""
        self._begun.append((start_s, phase))

    def second(self, t_s: float) -> MachineMeasured:
        """Return what happened since the last call; ``t_s`` is the second of the run that has just ended."""
        now = Reading(processors=read_processors(), processes=read_processes())
        measured = between(self._last, now, root=self._root, t_s=t_s, answers_s=self.canary.take())
        self._last = now
        names = [name for start_s, name in self._begun if start_s <= t_s - 0.5]
        if names:
            self._seconds.setdefault(names[-1], []).append(measured)
        return measured


def between(
    before: Reading, now: Reading, *, root: int, t_s: float, answers_s: Sequence[float] = ()
) -> MachineMeasured:
    """Return what happened between two readings, as shares of all that the processors could have done.

    What polite processes used (idle class, or very nice) counts as left over: whoever wanted it would have got it.
    """
    slowest = max(answers_s, default=None)
    first, second = before.processors, now.processors
    capacity_s = 0.0 if first is None or second is None else _all_s(second) - _all_s(first)
    if first is None or second is None or capacity_s < SHORTEST_S * second.number:
        return MachineMeasured(t_s=t_s, canary_s=slowest)
    foreign_s, polite_s = _others(before.processes, now.processes, root)
    left_s = second.idle_s - first.idle_s + polite_s
    waited = None if first.waited_s is None or second.waited_s is None else second.waited_s - first.waited_s
    queued = None if first.queued_s is None or second.queued_s is None else second.queued_s - first.queued_s
    return MachineMeasured(
        t_s=t_s,
        left_share=min(1.0, max(0.0, left_s / capacity_s)),
        steal_share=max(0.0, second.stolen_s - first.stolen_s) / capacity_s,
        foreign_share=min(1.0, foreign_s / capacity_s) if before.processes and now.processes else None,
        waiting_share=None if waited is None else min(1.0, max(0.0, waited * second.number / capacity_s)),
        queue_delay_share=None if queued is None else max(0.0, queued / capacity_s),
        canary_s=slowest,
    )


def _others(before: Mapping[int, ProcessUse], now: Mapping[int, ProcessUse], root: int) -> tuple[float, float]:
    """Return the seconds that foreign processes used, and those that polite ones among them did."""
    own = tree_of(root, now)
    foreign_s = polite_s = 0.0
    for pid, process in now.items():
        if pid in own:
            continue
        known = before.get(pid)
        used_s = max(0.0, process.used_s - known.used_s) if known is not None else 0.0
        if process.polite:
            polite_s += used_s
        else:
            foreign_s += used_s
    return foreign_s, polite_s


def _all_s(reading: Processors) -> float:
    return reading.busy_s + reading.idle_s + reading.stolen_s
