"""Small experiments, topologies and sample streams that default everything: what a test sets is what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from chaos.experiment.model import (
    Comparison,
    Control,
    Experiment,
    FaultEntry,
    Guard,
    Load,
    PhaseName,
    Reference,
    Rule,
    Selector,
)
from chaos.faults.base import Applied, Layer, World
from chaos.samples import LAG_KIND, Sample, SampleOutcome
from chaos.topology.model import Measure, Metric, Topology, Unit
from chaos.verdict.model import ReceiptResult
from chaos.verdict.windows import SampleStore

PHASES = {
    PhaseName.WARM_UP: (0.0, 2.0),
    PhaseName.BASELINE: (2.0, 12.0),
    PhaseName.FAULT: (12.0, 32.0),
    PhaseName.RECOVERY: (32.0, 44.0),
}

METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="sps", title="SPS", measure=Measure.RATE, of="play", unit=Unit.PER_SECOND),
        Metric(name="availability", title="playback availability", measure=Measure.SHARE, of="play", unit=Unit.PERCENT),
        Metric(
            name="delay_p99",
            title="play delay p99",
            measure=Measure.QUANTILE,
            of="play",
            unit=Unit.SECONDS,
            field="delay_s",
            quantile=0.99,
        ),
        Metric(
            name="rebuffering",
            title="rebuffer ratio",
            measure=Measure.RATIO,
            of="session",
            unit=Unit.PERCENT,
            field="stalled_s",
            per=("stalled_s", "played_s"),
        ),
        Metric(name="degraded", title="degraded plays", measure=Measure.FALLBACK_SHARE, of="play", unit=Unit.PERCENT),
    )
}

TOPOLOGY = Topology(name="small", file=Path("small.yaml"), services={}, clients={}, metrics=METRICS)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFault:
    """A fault that does nothing; experiments here only need one to be planned."""

    kind: ClassVar[str] = "nothing"
    layer: ClassVar[Layer] = Layer.HOST

    def check(self) -> list[tuple[str, str]]:
        return []

    async def apply(self, world: World, victims: object, name: str) -> Applied:
        raise AssertionError("no test here applies a fault")


def rule(text: str) -> Rule:
    """``availability >= 99.5%`` as the parser would read it (the words separated by blanks)."""
    metric, comparison, limit, *of = text.split()
    number = float(limit.rstrip("%s/")) / (100.0 if limit.endswith("%") else 1.0)
    reference = Reference(of[1]) if of else None
    return Rule(metric=metric, comparison=Comparison(comparison), limit=number, of=reference, text=text)


def guard(text: str, for_s: float) -> Guard:
    return Guard(rule=rule(text), for_s=for_s)


def experiment(
    *rules: str,
    recover_within_s: float | None = None,
    max_start_lag_s: float = 0.1,
    guards: tuple[Guard, ...] = (),
    disable: tuple[str, ...] = ("failover",),
    must_break: tuple[str, ...] = (),
    rate_per_s: float = 50.0,
    own_rate_per_s: float | None = None,
) -> Experiment:
    return Experiment(
        file=Path("experiments/outage.yaml"),
        title="an outage",
        description="",
        topology_file=Path("small.yaml"),
        phases={name: end - start for name, (start, end) in PHASES.items()},
        load=Load(
            locustfile=Path("locustfile.py"),
            rate_per_s=rate_per_s,
            own_rate_per_s=own_rate_per_s,
            max_start_lag_s=max_start_lag_s,
        ),
        faults=(FaultEntry(fault=NoFault(), selector=Selector(service="oca")),),
        steady_state=tuple(rule(text) for text in rules or ("availability >= 99.5%",)),
        must_break=tuple(rule(text) for text in must_break),
        abort_when=guards,
        recover_within_s=recover_within_s,
        control=Control(disable=disable),
    )


def receipt(*, touched: bool = True, fault: str = "1-kill") -> ReceiptResult:
    return ReceiptResult(
        fault=fault,
        kind="kill",
        victims=("oca-1", "oca-2"),
        applied_at_s=12.0,
        healed_at_s=32.0,
        connections=214 if touched else 0,
        bytes=0,
        touched=touched,
        evidence="214 connections cut" if touched else "no connection was open",
    )


def sample(
    scheduled_s: float,
    *,
    outcome: SampleOutcome = SampleOutcome.OK,
    took_s: float = 0.05,
    kind: str = "play",
    **values: float,
) -> Sample:
    return Sample(kind=kind, scheduled_s=scheduled_s, ended_s=scheduled_s + took_s, outcome=outcome, values=values)


def evenly(start_s: float, end_s: float, per_s: float) -> Iterator[float]:
    """Moments of arrivals, the same every second."""
    for number in range(round((end_s - start_s) * per_s)):
        yield start_s + number / per_s


def store_of(
    *,
    per_s: float = 50.0,
    end_s: float = 44.0,
    lag_s: float | None = 0.001,
    fails: Callable[[float], bool] = lambda moment_s: False,
    delay_s: Callable[[float], float] = lambda moment_s: 0.05,
) -> SampleStore:
    """A store of plays at an even rate; ``fails`` and ``delay_s`` say how each one went, by its moment."""
    store = SampleStore(0.0)
    for moment_s in evenly(0.0, end_s, per_s):
        if lag_s is not None:
            lag = lag_s(moment_s) if callable(lag_s) else lag_s
            store.add([sample(moment_s, kind=LAG_KIND, lag_s=lag)])
        took_s = delay_s(moment_s)
        failed = fails(moment_s)
        store.add(
            [
                sample(
                    moment_s,
                    outcome=SampleOutcome.FAILED if failed else SampleOutcome.OK,
                    took_s=took_s,
                    **({} if failed else {"delay_s": took_s}),
                )
            ]
        )
    return store


def every(number: int, start_s: float, end_s: float, per_s: float = 50.0) -> Callable[[float], bool]:
    """One play in ``number`` fails between the two moments."""

    def fails(moment_s: float) -> bool:
        return start_s <= moment_s < end_s and round(moment_s * per_s) % number == 0

    return fails
