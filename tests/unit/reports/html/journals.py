"""Journals of made-up runs, for the report: an experiment and its control, small or as long as need be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from chaos.errors import Outcome
from chaos.events import BreakerState, Event, MetricLabel, RunEnded, RunStarted, TargetShape, Tick
from chaos.reports.journal import JournalWriter
from tests.unit.reports import streaming

SHAPE = TargetShape(
    name="playback",
    services={"playback_apps": 2, "steering": 1, "store": 2, "oca": 12},
    calls={"client": ("playback_apps", "oca"), "playback_apps": ("steering", "store"), "store": ("store",)},
    metrics={
        "availability": MetricLabel(title="Playback availability", unit="%", of="play"),
        "sps": MetricLabel(title="Stream starts per second", unit="/s", of="play"),
        "delay_p99": MetricLabel(title="Play delay p99", unit="s", of="play"),
        "degraded": MetricLabel(title="Answered by a fallback", unit="%", of="other"),
    },
)
OUTCOMES = {"play": {"ok": 90, "refused": 7, "failed": 0}}
PROTECTIONS = ("client_failover",)


def document(*, outcome: Outcome, disabled: tuple[str, ...] = (), **more: object) -> dict[str, object]:
    """A verdict's document, as the runner writes it and as a later version may: with intervals and the machine."""
    held = outcome is Outcome.HELD
    return {
        "version": 1,
        "outcome": outcome.value,
        "experiment": streaming.TITLE,
        "file": "experiments/oca_outage.yaml",
        "seed": 421337,
        "backend": "embedded",
        "disabled": list(disabled),
        "changed": [],
        "reasons": ["Playback availability was 99.9 % where >= 99.5 % was asked" if held else "It fell to 80 %"],
        "phases": [
            {"name": name, "start_s": start, "end_s": end, "outcomes": OUTCOMES}
            for name, (start, end) in streaming.PHASES.items()
        ],
        "metrics": {name: {"availability": 0.999, "sps": 48.5, "delay_p99": None} for name in streaming.PHASES},
        "steady_state": [
            {
                "rule": "availability >= 99.5%",
                "metric": "availability",
                "outcome": outcome.value,
                "measured": 0.999 if held else 0.8,
                "limit": 0.995,
                "baseline": 1.0,
                "unit": "%",
                "explanation": "Playback availability was 99.9 % where >= 99.5 % was asked"
                if held
                else "It fell to 80 %",
                "interval": [0.9961, 0.9997],
                "alpha": 0.05,
                "needs_s": 12.0,
            }
        ],
        "must_break": [],
        "receipts": [],
        "recovery_s": 1.5,
        "recover_within_s": 5.0,
        "start_lag_p99_s": 0.02,
        "replay": f"chaos run experiments/oca_outage.yaml --seed 421337{' --control' if disabled else ''}",
        "machine": {
            "fault": {"steal_share": 0.013, "canary_s": 0.0042, "seconds": 20, "starved": False, "left_share": None}
        },
        **more,
    }


def run(
    *, outcome: Outcome = Outcome.HELD, disabled: tuple[str, ...] = (), title: str | None = None, **more: object
) -> Iterator[Event]:
    """The stream of ``streaming`` with a target's shape, counting callers, and a whole verdict."""
    for event in streaming.events(disabled=disabled):
        match event:
            case RunStarted():
                yield dataclasses.replace(
                    event,
                    target=SHAPE,
                    rules=("availability >= 99.5%",),
                    replay="chaos run x",
                    experiment=title if title is not None else event.experiment,
                    file=str(more.get("file", event.file)),
                )
            case Tick():
                yield dataclasses.replace(
                    event, breakers=(*event.breakers, *counting(event.t_s, failing=bool(disabled)))
                )
            case RunEnded():
                yield RunEnded(
                    t_s=event.t_s, outcome=outcome, verdict=document(outcome=outcome, disabled=disabled, **more)
                )
            case _:
                yield event


def counting(t_s: float, *, failing: bool) -> tuple[BreakerState, ...]:
    """Tries that a caller counts: one store fails every fifth from second 14 to second 17."""
    calls = int(10 * t_s) + 100
    errors = int(2 * max(0.0, min(t_s, 17.0) - 14.0)) if failing else 0
    return tuple(
        BreakerState(
            instance="playback_apps-1",
            command=f"store[store-{replica}]",
            state="closed",
            calls=calls,
            errors=errors if replica == 1 else 0,
            fallbacks=0,
        )
        for replica in (1, 2)
    )


def write(path: Path, *streams: Iterator[Event]) -> Path:
    """Write a journal of some runs."""
    with JournalWriter(path) as journal:
        for stream in streams:
            for event in stream:
                journal.handle(event)
    return path


def pair(path: Path, **more: object) -> Path:
    """Write a journal of an experiment that held and its control that did not."""
    return write(path, run(**more), run(outcome=Outcome.VIOLATED, disabled=PROTECTIONS, **more))
