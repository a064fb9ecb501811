"""A made-up run as a stream of events: an outage with three faults, breakers that open, and a recovery."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from chaos.errors import Outcome
from chaos.events import (
    BreakerState,
    Event,
    FaultApplied,
    FaultHealed,
    GuardTripped,
    Healed,
    InstanceDied,
    MachineMeasured,
    MetastabilitySearched,
    Note,
    PhaseStarted,
    ProbeEnded,
    RunEnded,
    RunStarted,
    TargetReady,
    TargetStarting,
    Tick,
    ToldApart,
)
from tests.unit.verdict.building import experiment, guard

TITLE = "every OCA of [one] ISP dies"
EXPERIMENT = dataclasses.replace(
    experiment(
        "availability >= 99.5%",
        "sps >= 95% of baseline",
        "delay_p99 <= 2s",
        recover_within_s=5.0,
        guards=(guard("availability < 20%", 3.0),),
    ),
    title=TITLE,
)
FAULTS = [
    ("1-kill", "kill: oca-1, oca-2", 12.0, 32.0),
    ("2-pause", "pause: oca-5", 14.0, 28.0),
    ("3-latency", "latency 2000 ms +- 50 ms: 2 edges from playback_apps to steering-1", 16.0, 32.0),
]
PHASES = {"warm_up": (0.0, 2.0), "baseline": (2.0, 12.0), "fault": (12.0, 32.0), "recovery": (32.0, 44.0)}


def breakers(t_s: float) -> tuple[BreakerState, ...]:
    def state(command: str, replica: int) -> str:
        if command == "steering.rank" and 15 <= t_s < 34:
            return "open" if replica == 1 else "half-open"
        return "closed"

    return tuple(
        BreakerState(
            instance=f"playback_apps-{replica}",
            command=command,
            state=state(command, replica),
            calls=10,
            errors=1,
            fallbacks=1,
        )
        for command in ("steering.rank", "store.plan", "cache.get")
        for replica in (1, 2)
    )


def tick(t_s: float, phase: str = "fault", **values: float | None) -> Tick:
    return Tick(
        t_s=t_s,
        phase=phase,
        values=values,
        counts={"play": {"ok": 49, "failed": 1}, "session": {"ok": 2}},
        breakers=breakers(t_s),
    )


def events(*, until_s: float = 99.0, disabled: tuple[str, ...] = ()) -> Iterator[Event]:
    """The whole run, or its events up to a moment."""
    for event in _events(disabled):
        if event.t_s > until_s:
            return
        yield event


def _events(disabled: tuple[str, ...]) -> Iterator[Event]:
    yield TargetStarting(t_s=-1.4, target="playback", instances=29, edges=124)
    yield TargetReady(t_s=-0.2, duration_s=1.21)
    yield RunStarted(
        t_s=0.0,
        experiment=TITLE,
        file="experiments/oca_outage.yaml",
        seed=421337,
        backend="toxiproxy 2.12.0",
        disabled=disabled,
        phases=PHASES,
        started_at="2026-01-01T00:00:00.000+00:00",
    )
    for second in range(44):
        for name, (start_s, _) in PHASES.items():
            if start_s == second:
                yield PhaseStarted(t_s=float(second), phase=name)
        for name, description, start_s, end_s in FAULTS:
            if start_s == second:
                yield FaultApplied(
                    t_s=float(second), fault=name, kind=name[2:], description=description, victims=("oca-1",)
                )
            if end_s == second:
                yield FaultHealed(
                    t_s=float(second),
                    fault=name,
                    kind=name[2:],
                    connections=214,
                    bytes=0,
                    touched=name != "2-pause",
                    evidence="214 connections cut",
                )
        if second == 20:
            yield Note(t_s=20.5, text="oca-9 is restarted by its supervisor")
            yield InstanceDied(t_s=20.6, instance="store-1", status="exit status 1", last_lines=("no space left",))
        bad = 13 <= second < 17
        yield tick(
            second + 1.0,
            next(name for name, (start_s, end_s) in PHASES.items() if start_s <= second < end_s),
            availability=0.8 if bad else 1.0,
            sps=None if second == 0 else 20.0 if bad else 50.0,
            delay_p99=1.2 if 12 <= second < 32 else 0.09,
            degraded=0.2 if bad else 0.0,
        )
    yield MachineMeasured(t_s=44.0, left_share=0.6, steal_share=0.0, foreign_share=0.02, canary_s=0.001)
    yield GuardTripped(t_s=44.0, guard="availability < 20%", measured=0.031)
    yield Healed(t_s=44.0, duration_s=0.41)
    yield RunEnded(t_s=44.2, outcome=Outcome.VIOLATED, verdict={"outcome": "violated", "phases": [{"a": 1}]})


def afterwards() -> Iterator[Event]:
    """What may come behind a run: the search for the load from which the system no longer recovers, or its parts."""
    for rate, answer, recovery_s in ((100.0, "stayed_down", None), (70.71, "recovered", 1.5)):
        yield ProbeEnded(
            t_s=44.2, rate_per_s=rate, answer=answer, recovery_s=recovery_s, reason="", replay="chaos run x.yaml"
        )
    yield MetastabilitySearched(t_s=44.2, outcome=Outcome.VIOLATED, verdict={"outcome": "violated"})
    yield ToldApart(t_s=44.2, verdicts=({"outcome": "held"}, {"outcome": "inconclusive"}))
