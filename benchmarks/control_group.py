"""What a control group is good for: simulated runs on a noisy machine, judged beside it and beside the baseline.

    python -m benchmarks.control_group [--trials N]

Two groups of accounts have the same load in the same seconds. The machine is quiet in the baseline and noisy in the
fault phase: one second in five is bad, and what is bad in it is bad for both groups. The faults harm the experiment
group alone, by as much as each row says. The verdicts are made by the code that judges real runs.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.detection_power import print_table
from chaos.errors import Outcome
from chaos.experiment.model import Comparison, Reference, Rule
from chaos.groups import Group
from chaos.samples import Sample, SampleOutcome
from chaos.topology.model import Measure, Metric, Unit
from chaos.verdict.rules import Baseline, check_of
from chaos.verdict.ruling import rule_on
from chaos.verdict.windows import SampleStore

BASELINE_S, FAULT_S = 10, 30
BAD_SECONDS = 0.2
AVAILABILITY = Metric(name="availability", title="availability", measure=Measure.SHARE, of="play", unit=Unit.PERCENT)
MEDIAN, P99 = (
    Metric(name=f"p{q:g}", title="delay", measure=Measure.QUANTILE, of="play", unit=Unit.SECONDS, field="delay_s",
           quantile=q)
    for q in (0.5, 0.99)
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is the case in the fault phase."""

    noise: float = 0.0
    """Probability that an attempt of either group fails in a bad second."""
    slower: float = 1.0
    """By which factor attempts of either group take longer in a bad second."""
    harm: float = 0.0
    """Probability that an attempt of the experiment group fails, because of the faults."""
    harm_in: float = 1.0
    """In which share of the seconds that is so."""
    delay_factor: float = 1.0
    """By which factor attempts of the experiment group take longer, because of the faults."""


def run(rng: random.Random, per_s: int, truth: Truth) -> SampleStore:
    """Return a run: every group has ``per_s`` attempts a second, with delays that are log-normal around 100 ms."""
    store = SampleStore(0.0)
    for second in range(BASELINE_S + FAULT_S):
        faulty = second >= BASELINE_S
        bad = faulty and rng.random() < BAD_SECONDS
        harmed = faulty and rng.random() < truth.harm_in
        for group in Group:
            hit = group is Group.EXPERIMENT and faulty
            fails = 1.0 - (1.0 - truth.noise * bad) * (1.0 - truth.harm * (hit and harmed))
            factor = (truth.slower if bad else 1.0) * (truth.delay_factor if hit else 1.0)
            for number in range(per_s):
                moment_s = second + number / per_s
                outcome = SampleOutcome.FAILED if rng.random() < fails else SampleOutcome.OK
                values = {"delay_s": 0.1 * rng.lognormvariate(0.0, 0.4) * factor}
                store.add([Sample(kind="play", scheduled_s=moment_s, ended_s=moment_s, outcome=outcome, values=values,
                                  group=group)])  # fmt: skip
    return store


def rule(metric: Metric, of: Reference) -> Rule:
    upward = metric.measure is Measure.SHARE
    comparison, limit = (Comparison.AT_LEAST, 0.99) if upward else (Comparison.AT_MOST, 1.5)
    return Rule(metric=metric.name, comparison=comparison, limit=limit, of=of, text=f"{metric.name} of {of}")


def verdicts(trials: int, per_s: int, metric: Metric, truth: Truth) -> Iterator[str]:
    """Return held / inconclusive / violated in percent of the runs, beside the baseline and the control group."""
    found: dict[Reference, Counter[Outcome]] = {reference: Counter() for reference in Reference}
    rng = random.Random(f"{per_s}/{metric.name}/{truth}")
    for _ in range(trials):
        store = run(rng, per_s, truth)
        baseline = Baseline.measure(store, {metric.name: metric}, (0.0, float(BASELINE_S)))
        for reference, counter in found.items():
            check = check_of(rule(metric, reference), metric, store, baseline)
            counter[rule_on(check, (float(BASELINE_S), float(BASELINE_S + FAULT_S))).outcome] += 1
    for counter in found.values():
        shown = (Outcome.HELD, Outcome.INCONCLUSIVE, Outcome.VIOLATED)
        yield " / ".join(f"{100 * counter[one] / trials:.0f}" for one in shown)


def availability(trials: int) -> Iterator[tuple[str, ...]]:
    """`availability >= 99%` of either."""
    for noise in (0.0, 0.1, 0.5):
        for harm, harm_in, said in (
            (0.0, 1.0, "none"),
            (0.01, 1.0, "1 %, as much as may be"),
            (0.05, 1.0, "5 %"),
            (0.5, 0.1, "5 %, in one second of ten"),
            (0.2, 1.0, "20 %"),
        ):
            truth = Truth(noise=noise, harm=harm, harm_in=harm_in)
            yield (f"{100 * noise * BAD_SECONDS:g} %", said, *verdicts(trials, 10, AVAILABILITY, truth))


def delays(metric: Metric, per_s: int) -> Callable[[int], Iterator[tuple[str, ...]]]:
    """`delay <= 150%` of either."""

    def rows(trials: int) -> Iterator[tuple[str, ...]]:
        for slower in (1.0, 3.0, 10.0):
            for factor in (1.0, 1.5, 2.0, 3.0):
                truth = Truth(slower=slower, delay_factor=factor)
                yield (f"x {slower:g}", f"x {factor:g}", *verdicts(trials, per_s, metric, truth))

    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog=f"python -m benchmarks.{Path(__file__).stem}")
    parser.add_argument("--trials", type=int, default=400, help="simulated runs for each figure; a quarter for delays")
    trials = parser.parse_args([] if arguments is None else arguments).trials
    sides = ("beside the baseline", "beside the control group")
    print(__doc__)
    print_table(
        "Held / inconclusive / violated in % of runs: availability >= 99 % of ..., 30 s, 10 attempts/s in each group",
        ("failures by noise", "failures by the faults", *sides),
        availability(trials),
    )
    for metric, per_s, words in ((MEDIAN, 10, "median delay"), (P99, 20, "p99 of the delay")):
        print_table(
            f"The same: {words} <= 150 % of ..., 30 s, {per_s} attempts/s in each group; 150 % is as much as may be",
            ("bad seconds", "the faults", *sides),
            delays(metric, per_s)(trials // 4),
        )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
