"""How often the verdict is wrong, and how much it sees: simulated runs whose truth is known.

    python -m benchmarks.detection_power [--trials N]

Failures come in bursts: a second is bad with the probability p / burst, and then each of its attempts fails with the
probability ``burst``. So p is the true failure share, and ``burst`` says how lumpy: 2 % is hardly lumpy, 100 % is a
system that now and then is dead for a whole second. The verdicts are made by the code that judges real runs.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter
from collections.abc import Iterator
from math import comb
from pathlib import Path

from chaos.errors import Outcome
from chaos.experiment.model import Comparison, Rule, VerdictSettings
from chaos.samples import Sample, SampleOutcome
from chaos.statistics.betting import Evidence
from chaos.statistics.jackknife import Second, paired_difference
from chaos.topology.model import Measure, Metric, Unit
from chaos.verdict.rules import Baseline, RuleCheck
from chaos.verdict.ruling import rule_on
from chaos.verdict.windows import SampleStore

BURSTS = (0.02, 0.1, 0.5, 1.0)
LIMIT = 0.005
"""Failures allowed: availability >= 99.5 %."""
METRIC = Metric(name="availability", title="availability", measure=Measure.SHARE, of="play", unit=Unit.PERCENT)
RULE = Rule(
    metric="availability",
    comparison=Comparison.AT_LEAST,
    limit=1.0 - LIMIT,
    text="availability >= 99.5%",
)
LOOK_EVERY_S = 5
"""How often a run with `extend` looks whether it is decided; the runner's own (`chaos.runner`)."""


def failures(rng: random.Random, per_s: int, p: float, burst: float) -> int:
    """Return how many of a second's attempts fail."""
    burst = max(p, burst)
    return sum(rng.random() < burst for _ in range(per_s)) if rng.random() < p / burst else 0


def seconds(rng: random.Random, number: int, per_s: int, p: float, burst: float) -> list[Second]:
    return [Second(failures(rng, per_s, p, burst), per_s) for _ in range(number)]


def store_of(run: list[Second]) -> SampleStore:
    store = SampleStore(0.0)
    for start_s, (failed, attempts) in enumerate(run):
        for number in range(int(attempts)):
            moment_s = start_s + number / attempts
            outcome = SampleOutcome.FAILED if number < failed else SampleOutcome.OK
            store.add([Sample(kind="play", scheduled_s=moment_s, ended_s=moment_s, outcome=outcome)])
    return store


def verdict_on(run: list[Second], settings: VerdictSettings) -> Outcome:
    check = RuleCheck(rule=RULE, metric=METRIC, store=store_of(run), baseline=Baseline())
    return rule_on(check, (0.0, float(len(run))), settings).outcome


def extended(run: list[Second], first_s: int, settings: VerdictSettings) -> Outcome:
    """Look at the first ``first_s`` seconds, and again every few seconds until it is decided or there are no more."""
    for until_s in range(first_s, len(run) + 1, LOOK_EVERY_S):
        outcome = verdict_on(run[:until_s], settings)
        if outcome is not Outcome.INCONCLUSIVE:
            return outcome
    return Outcome.INCONCLUSIVE


def percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %"


def print_table(title: str, head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "|".join("---:" for _ in head) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def outcomes(trials: int, length_s: int, per_s: int, p: float, burst: float, settings: VerdictSettings) -> Counter:
    """Return how often which outcome was given to runs of this truth."""
    rng = random.Random(f"{length_s}/{per_s}/{p}/{burst}")
    extra_s = int(settings.extend_s)
    found: Counter[Outcome] = Counter()
    for _ in range(trials):
        run = seconds(rng, length_s + extra_s, per_s, p, burst)
        found[extended(run, length_s, settings)] += 1
    return found


def false_alarms(trials: int) -> Iterator[tuple[str, ...]]:
    """Systems that fail exactly as often as is allowed: nobody is harder to be fair to."""
    for alpha in (0.05, 0.01):
        for length_s, per_s in ((10, 30), (20, 100), (60, 30)):
            for extend_s in (0, 30):
                settings = VerdictSettings(alpha=alpha, extend_s=extend_s)
                found = [outcomes(trials, length_s, per_s, LIMIT, burst, settings) for burst in BURSTS]
                shares = (percent(one[Outcome.VIOLATED], trials) for one in found)
                extra = f"+ {extend_s} s" if extend_s else ""
                yield (percent(int(alpha * 100), 100), f"{length_s} s {extra}".strip(), f"{per_s}/s", *shares)


def misses(trials: int) -> Iterator[tuple[str, ...]]:
    """Systems that fail in exactly 1 %, where a limit of 0.5 % and a margin of 0.5 points tolerate no more."""
    for alpha in (0.05, 0.01):
        for length_s in (20, 60, 120):
            settings = VerdictSettings(alpha=alpha, margin=0.005)
            found = [outcomes(trials, length_s, 100, 0.01, burst, settings) for burst in BURSTS]
            cells = (percent(one[Outcome.HELD], trials) for one in found)
            yield (percent(int(alpha * 100), 100), f"{length_s} s", *cells)


def power(trials: int, settings: VerdictSettings) -> Iterator[tuple[str, ...]]:
    """Held / inconclusive / violated, for systems from well to ill."""
    for length_s, per_s in ((10, 30), (20, 100)):
        for p in (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.2):
            cells = []
            for burst in (0.02, 0.5):
                found = outcomes(trials, length_s, per_s, p, burst, settings) if p else Counter({})
                if not p:
                    found = outcomes(1, length_s, per_s, 0.0, burst, settings)
                total = sum(found.values())
                cells += [
                    " / ".join(
                        f"{100 * found[one] / total:.0f}"
                        for one in (Outcome.HELD, Outcome.INCONCLUSIVE, Outcome.VIOLATED)
                    )
                ]
            yield (f"{length_s} s", f"{per_s}/s", f"{100 * p:g} %", *cells)


def fisher(failed: int, attempts: int, others: int, of: int) -> float:
    """Return the one-sided p-value of Fisher's exact test that the first share is larger than the second."""
    total = comb(attempts + of, failed + others)
    most = min(attempts, failed + others)
    return sum(comb(attempts, k) * comb(of, failed + others - k) for k in range(failed, most + 1)) / total


def bad_example(trials: int) -> Iterator[tuple[str, ...]]:
    """Two sides that are the same: how often each method at 1 % says that the first is worse."""
    for burst in (0.01, *BURSTS):
        rng = random.Random(f"fisher/{burst}")
        by_request = by_second = 0
        for _ in range(trials):
            first, second = (seconds(rng, 20, 100, 0.01, burst) for _ in range(2))
            sums = [int(sum(one.part for one in side)) for side in (first, second)]
            by_request += fisher(sums[0], 2000, sums[1], 2000) <= 0.01
            estimate = paired_difference(first, second)
            by_second += estimate is not None and estimate.interval(0.01)[0] > 0.0
        yield (f"{100 * burst:g} %", percent(by_request, trials), percent(by_second, trials))


def guard(trials: int) -> Iterator[tuple[str, ...]]:
    """A guard `availability < 95% with evidence 100`: how soon it aborts."""
    for p in (1.0, 0.5, 0.2, 0.1, 0.05, 0.03):
        cells = []
        for burst in (p, 1.0):
            rng = random.Random(f"guard/{p}/{burst}")
            moments = []
            for _ in range(trials):
                evidence = Evidence(0.05)
                run = (failures(rng, 30, p, burst) / 30 for _ in range(60))
                moments.append(next((t for t, share in enumerate(run, start=1) if evidence.take(share) >= 100), None))
            aborted = [one for one in moments if one is not None]
            median = f"{statistics.median(aborted):.0f} s" if aborted else "-"
            cells += [percent(len(aborted), trials), median]
        yield (f"{100 * p:g} %", *cells)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog=f"python -m benchmarks.{Path(__file__).stem}")
    parser.add_argument(
        "--trials", type=int, default=200, help="simulated runs for each figure; half or a quarter in the costly tables"
    )
    trials = parser.parse_args([] if arguments is None else arguments).trials
    bursts = tuple(f"bursts of {100 * burst:g} %" for burst in BURSTS)
    print(__doc__)
    print_table(
        "False alarms: runs called violated although exactly 0.5 % fail and 0.5 % may",
        ("alpha", "seconds", "load", *bursts),
        false_alarms(trials),
    )
    print_table(
        "Misses: runs at 100/s called held although 1 % fail, with a limit of 0.5 % and a margin of 0.5 points",
        ("alpha", "seconds", *bursts),
        misses(trials // 2),
    )
    head = ("seconds", "load", "true failures", "bursts of 2 %", "bursts of 50 %")
    print_table(
        "Held / inconclusive / violated in % of runs; >= 99.5 % asked, alpha 5 %, no margin",
        head,
        power(trials // 2, VerdictSettings()),
    )
    print_table(
        "The same with a margin of 0.5 points and alpha 1 %",
        head,
        power(trials // 2, VerdictSettings(alpha=0.01, margin=0.005)),
    )
    print_table(
        "The same with a margin of 0.5 points, alpha 5 %, and up to 30 s more",
        head,
        power(trials // 4, VerdictSettings(margin=0.005, extend_s=30)),
    )
    print_table(
        "Two sides that both fail in 1 %, 20 s at 100/s: called different at a declared 1 %",
        ("bursts of", "Fisher, request by request", "jackknife, second by second"),
        bad_example(trials),
    )
    print_table(
        "The guard `availability < 95% with evidence 100`: aborted within 60 s, and after what time (median)",
        ("true failures", "even", "after", "whole seconds", "after"),
        guard(trials),
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
