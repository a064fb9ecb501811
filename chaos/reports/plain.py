"""A run for people without a terminal: one line a second, and one line for every event, as a log of CI shows them.

::

    [  0.0] phase baseline
    [  6.0] baseline  SPS 49 /s | playback availability 100 % | play delay p99 84 ms
    [ 20.0] fault 1-kill applied: kill every oca of isp alpha
    [ 21.0] fault     SPS 48 /s | playback availability 99.1 % ! | play delay p99 310 ms | faults 1-kill | open 2: ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Self

from chaos.events import BreakerState, Event, Tick
from chaos.experiment.model import Experiment, PhaseName
from chaos.reports.progress import Progress
from chaos.topology.model import Topology
from chaos.verdict.units import figure

OPEN_BREAKERS_SHOWN = 3
_PHASE_WIDTH = max(len(name) for name in PhaseName)


class PlainView:
    """Writes lines to ``output``. ``handle`` is the sink; a context manager only for the sake of the other views.

    ``faults`` are (name, description, start_s, end_s) of the plan. An ``!`` marks a figure whose rule is broken
    in that second.
    """

    def __init__(
        self,
        experiment: Experiment,
        topology: Topology,
        faults: Iterable[tuple[str, str, float, float]] = (),
        *,
        output: IO[str] | None = None,
    ) -> None:
        self._progress = Progress.begin(experiment, topology, faults)
        self._output = output if output is not None else sys.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._output.flush()

    def handle(self, event: Event) -> None:
        """Write what there is to say about the event."""
        line = self._progress.take(event)
        if isinstance(event, Tick):
            line = self._second(event)
        if line:
            self._output.write(f"[{event.t_s:6.1f}] {line}\n")
            self._output.flush()

    def _second(self, tick: Tick) -> str:
        parts = []
        for metric in self._progress.metrics:
            value = tick.values.get(metric.name)
            broken = self._progress.broken(metric, value, self._progress.baseline(metric.name))
            parts.append(f"{metric.title} {figure(value, metric.unit)}{' !' if broken else ''}")
        if self._progress.active:
            parts.append(f"faults {', '.join(self._progress.active)}")
        parts += _breaker_words(tick.breakers)
        return f"{tick.phase:<{_PHASE_WIDTH}} {' | '.join(parts)}"


class QuietView:
    """Shows nothing while a run goes on: the verdict comes at the end all the same."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to give back."""

    def handle(self, event: Event) -> None:
        """Say nothing."""


def _breaker_words(breakers: tuple[BreakerState, ...]) -> list[str]:
    words = []
    for state in ("open", "half-open"):
        names = [f"{one.instance}:{one.command}" for one in breakers if one.state == state]
        if names:
            more = f" and {len(names) - OPEN_BREAKERS_SHOWN} more" if len(names) > OPEN_BREAKERS_SHOWN else ""
            words.append(f"{state} {len(names)}: {', '.join(names[:OPEN_BREAKERS_SHOWN])}{more}")
    return words
