"""When to stop a run early: a guard's rule was true over the whole of its last seconds, or by the evidence so far.

A guard goes by the moment an outcome was *known*, not by the moment the attempt was due: a play that takes 5 s to
fail is a success-to-be for as long as it hangs, and a window of attempts due in the last 3 s would then hold the quick
successes only. So a guard trips as late as the failures are slow, and never on outcomes nobody knows yet.
"""

from __future__ import annotations

import math

from chaos.experiment.model import Comparison, Guard
from chaos.statistics.betting import most_evidence
from chaos.topology.model import Measure, Metric, Topology
from chaos.verdict.certainty import ACCIDENT
from chaos.verdict.rules import Baseline, RuleCheck
from chaos.verdict.windows import Moment, SampleStore

ATTEMPTS_MIN = 5
"""Fewer outcomes than this in a guard's window say nothing."""


def guard_value(
    guard: Guard,
    *,
    store: SampleStore,
    topology: Topology,
    now_s: float,
    since_s: float,
    baseline: Baseline | None = None,
) -> float | None:
    """Return what was measured when the guard trips at ``now_s`` (seconds of the run), and None when it does not.

    It trips when its rule is true of the window ``[now - for, now)``, and enough was measured in the whole of it:

    - the window began no earlier than ``since_s``, the start of the fault phase;
    - at least ``ATTEMPTS_MIN`` outcomes were known in it, and at least one in each of its seconds, so that a burst
      at its end does not speak for the rest. (For a rate, silence is a measurement: 0 a second.)

    A guard by evidence trips when that is reached by the whole seconds since ``since_s``, and one failure alone never
    trips it; what is returned is the metric over all of them.

    A target in which every attempt hangs gives no outcomes: put a guard on a rate (``sps < 5/s for 3s``) beside one
    on a share where that can happen. Where accounts are in groups it goes by the experiment group's, a rate by
    everybody's (``SampleStore.judged``). A rule "of baseline" needs ``baseline`` and never trips without it.
    """
    metric = topology.metrics.get(guard.rule.metric)
    if metric is None:
        return None
    store = store.judged(metric)
    if guard.evidence is not None:
        return _by_evidence(guard, metric, guard.evidence, store=store, start_s=since_s, now_s=now_s)
    start_s = now_s - guard.for_s
    if start_s < since_s or guard.for_s <= 0:
        return None
    if metric.measure is not Measure.RATE and not _measured_throughout(metric, store, start_s, now_s):
        return None
    value = store.measure(metric, start_s, now_s, by=Moment.ENDED)
    check = RuleCheck(rule=guard.rule, metric=metric, store=store, baseline=baseline or Baseline())
    limit = check.limit((start_s, now_s))
    if limit is None or value is None:
        return None
    return value if guard.rule.comparison.holds(value, limit) else None


def _by_evidence(
    guard: Guard, metric: Metric, wanted: float, *, store: SampleStore, start_s: float, now_s: float
) -> float | None:
    """Bet, second by second, that more is on the forbidden side than the limit says (``chaos.statistics.betting``).

    ``availability < 95%`` forbids a failure share above 5 %; ``fallback_share > 30%`` a fallback share above that.
    """
    below = guard.rule.comparison in (Comparison.BELOW, Comparison.AT_MOST)
    seconds = max(0, math.floor(now_s - start_s))
    tallies = [store.tally(metric.of, start_s + i, start_s + i + 1, by=Moment.ENDED) for i in range(seconds)]
    shares = []
    outcomes = bad = 0
    for tally in tallies:
        whole = tally.good if metric.measure is Measure.FALLBACK_SHARE else tally.counted
        right = tally.fallback if metric.measure is Measure.FALLBACK_SHARE else tally.good
        wrong = whole - right if below else right
        outcomes, bad = outcomes + whole, bad + wrong
        if whole:
            shares.append(wrong / whole)
    evidence = most_evidence(shares, 1.0 - guard.rule.limit if below else guard.rule.limit)
    if outcomes < ATTEMPTS_MIN or bad < ACCIDENT or evidence < wanted:
        return None
    return store.measure(metric, start_s, start_s + seconds, by=Moment.ENDED)


def _measured_throughout(metric: Metric, store: SampleStore, start_s: float, end_s: float) -> bool:
    parts = max(1, math.floor(end_s - start_s))
    step_s = (end_s - start_s) / parts
    outcomes = [
        store.tally(metric.of, start_s + i * step_s, start_s + (i + 1) * step_s, by=Moment.ENDED).counted
        for i in range(parts)
    ]
    return min(outcomes) > 0 and sum(outcomes) >= ATTEMPTS_MIN
