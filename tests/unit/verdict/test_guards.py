"""When a guard trips."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.samples import SampleOutcome
from chaos.verdict.guards import guard_value
from chaos.verdict.rules import Baseline
from chaos.verdict.windows import SampleStore
from tests.unit.verdict.building import TOPOLOGY, every, guard, sample, store_of

LOW = guard("availability < 20%", for_s=3.0)


def tripped(store, now_s, *, one=LOW, since_s=12.0, baseline=None):
    return guard_value(one, store=store, topology=TOPOLOGY, now_s=now_s, since_s=since_s, baseline=baseline)


def test_a_guard_trips_when_its_rule_was_true_for_the_whole_time():
    store = store_of(fails=every(1, 14.0, 99.0))
    assert tripped(store, 16.0) is None
    assert tripped(store, 18.0) == 0.0


def test_a_guard_does_not_look_back_before_the_fault_phase():
    store = store_of(fails=every(1, 0.0, 99.0))
    assert tripped(store, 14.9) is None
    assert tripped(store, 15.1) == 0.0


def test_a_guard_says_nothing_without_outcomes_in_every_second():
    store = SampleStore(0.0)
    store.add(sample(14.5 + i / 100, outcome=SampleOutcome.FAILED) for i in range(40))
    assert tripped(store, 15.5) is None


def test_a_handful_of_failures_is_not_enough():
    store = SampleStore(0.0)
    store.add(sample(12.0 + i, outcome=SampleOutcome.FAILED) for i in range(4))
    assert tripped(store, 15.5) is None


def test_attempts_that_hang_do_not_count_and_their_failures_count_when_they_are_known():
    known_late = SampleStore(0.0)
    known_late.add(sample(12.0 + i / 10, outcome=SampleOutcome.FAILED, took_s=5.0) for i in range(100))
    assert tripped(known_late, 16.0) is None
    assert tripped(known_late, 20.2) == 0.0


def test_slow_failures_are_not_hidden_by_the_quick_successes_due_at_the_same_time():
    store = SampleStore(0.0)
    for i in range(200):
        moment_s = 12.0 + i / 20
        store.add([sample(moment_s, outcome=SampleOutcome.FAILED, took_s=4.0) for _ in range(9)])
        store.add([sample(moment_s)])
    assert tripped(store, 20.0) == pytest.approx(0.1)


def test_silence_trips_a_guard_on_a_rate():
    assert tripped(store_of(end_s=13.0), 17.0, one=guard("sps < 5/s", for_s=3.0)) == 0.0


EVIDENCE = replace(guard("availability < 95%", for_s=0.0), evidence=100.0)


def first_trip(store, one=EVIDENCE):
    return next((t for t in range(12, 60) if tripped(store, float(t), one=one) is not None), None)


@pytest.mark.parametrize(("number", "after_s"), [(1, 3), (2, 4), (5, 7)])
def test_a_guard_by_evidence_trips_the_sooner_the_more_fails(number, after_s):
    store = store_of(end_s=60.0, fails=every(number, 12.0, 60.0))
    assert first_trip(store) == 12 + after_s


def test_a_guard_by_evidence_reports_the_share_of_all_its_seconds():
    store = store_of(end_s=60.0, fails=every(2, 12.0, 60.0))
    assert tripped(store, 17.3, one=EVIDENCE) == pytest.approx(0.5, abs=0.01)


def test_a_guard_by_evidence_leaves_a_system_at_its_limit_alone():
    assert first_trip(store_of(end_s=60.0, fails=every(20, 12.0, 60.0))) is None


def test_one_failure_among_few_attempts_is_no_evidence():
    store = SampleStore(0.0)
    store.add(sample(12.5 + i, outcome=SampleOutcome.FAILED if i == 0 else SampleOutcome.OK) for i in range(8))
    tight = replace(guard("availability < 99.9%", for_s=0.0), evidence=10.0)
    assert first_trip(store, tight) is None


def test_fallbacks_can_be_bet_on_as_well():
    store = SampleStore(0.0)
    store.add(sample(12.0 + i / 20, outcome=SampleOutcome.FALLBACK) for i in range(200))
    assert first_trip(store, replace(guard("degraded > 20%", for_s=0.0), evidence=50.0)) is not None
    assert first_trip(store, replace(guard("degraded < 20%", for_s=0.0), evidence=50.0)) is None


def test_a_guard_of_the_baseline_needs_one():
    store = store_of(fails=every(1, 14.0, 99.0))
    relative = guard("sps < 50% of baseline", for_s=3.0)
    assert tripped(store, 20.0, one=relative) is None
    assert tripped(store, 20.0, one=relative, baseline=Baseline(values={"sps": 50.0})) == 0.0
