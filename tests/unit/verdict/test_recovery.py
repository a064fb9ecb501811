"""Seconds until the steady state held again for good."""

from __future__ import annotations

import random

import pytest

from chaos.experiment.model import PhaseName
from chaos.samples import SampleOutcome
from chaos.verdict.recovery import recovery_s
from chaos.verdict.rules import Baseline, checks_of
from tests.unit.verdict.building import PHASES, TOPOLOGY, every, rule, sample, store_of

RULES = ("availability >= 99.5%", "sps >= 95% of baseline")


def recovered(store, *rules, healed_at_s=32.0, phases=PHASES):
    return recovery_s(
        [rule(text) for text in rules or RULES],
        topology=TOPOLOGY,
        store=store,
        phases=phases,
        healed_at_s=healed_at_s,
    )


def test_a_system_that_never_suffered_has_recovered_at_once():
    assert recovered(store_of()) == 0.0


@pytest.mark.parametrize("well_again_s", [33.0, 34.25, 37.0])
def test_recovery_takes_until_the_failures_end(well_again_s):
    took_s = recovered(store_of(fails=every(1, 14.0, well_again_s)))
    assert took_s == pytest.approx(well_again_s - 32.0, abs=0.26)


def test_a_relapse_is_no_recovery():
    def fails(moment_s: float) -> bool:
        return 14.0 <= moment_s < 33.0 or 38.0 <= moment_s < 38.5

    assert recovered(store_of(fails=fails)) == pytest.approx(6.5, abs=0.26)


def test_a_system_that_is_still_ill_at_the_end_has_not_recovered():
    assert recovered(store_of(fails=every(2, 14.0, 99.0))) is None


def test_a_single_failure_is_no_relapse_and_two_are():
    assert recovered(store_of(fails=lambda moment_s: abs(moment_s - 40.0) < 0.001)) == 0.0
    two = store_of(fails=lambda moment_s: abs(moment_s - 40.0) < 0.001 or abs(moment_s - 40.2) < 0.001)
    assert recovered(two) == pytest.approx(8.25, abs=0.01)


def test_plays_that_never_start_are_not_outvoted_by_the_missing_delay():
    store = store_of(fails=every(1, 14.0, 36.0))
    assert recovered(store, "delay_p99 <= 1s") == pytest.approx(4.0, abs=3.01)
    assert recovered(store_of(fails=every(1, 14.0, 99.0)), "delay_p99 <= 1s") is None


def test_a_recovery_phase_shorter_than_a_window_shows_nothing():
    assert recovered(store_of(), healed_at_s=42.0) is None


def test_users_who_are_stuck_are_no_recovery():
    assert recovered(store_of(end_s=30.0), "availability >= 99.5%") is None
    assert recovered(store_of(end_s=41.0), "availability >= 99.5%") is None
    few = "of 1.3 a second four are due in three seconds, and fourteen in eleven"
    assert recovered(store_of(per_s=1.3, end_s=33.0), "availability >= 99.5%") is None, few


def test_a_system_that_refuses_everybody_has_not_recovered():
    store = store_of(end_s=35.0)
    for number in range(450):
        store.add([sample(35.0 + number / 50, outcome=SampleOutcome.REFUSED)])
    assert recovered(store, "availability >= 99.5%") is None


def test_windows_in_which_rare_attempts_happen_not_to_come_are_passed_over():
    """Half an attempt a second: of windows of three seconds every fifth has none."""
    store = store_of(per_s=0.5, end_s=40.0, fails=lambda moment_s: 14.0 <= moment_s < 34.5)
    assert recovered(store, "availability >= 99.5%") == pytest.approx(2.25, abs=0.01)
    store = store_of(per_s=0.5, end_s=40.0, fails=lambda moment_s: moment_s >= 14.0)
    assert recovered(store, "availability >= 99.5%") is None


def test_the_noise_of_random_arrivals_is_no_relapse():
    """Poisson arrivals, nothing wrong: a rate of three seconds swings by far more than five percent."""
    late = 0
    for seed in range(40):
        rng = random.Random(seed)
        store = _poisson(rng, 50.0)
        late += recovered(store) != 0.0
    assert late <= 1


def test_a_rate_that_really_stays_low_is_seen():
    store = store_of(fails=every(3, 14.0, 99.0))
    assert recovered(store, "sps >= 95% of baseline") is None


def test_a_missing_baseline_leaves_the_absolute_rules():
    phases = {name: span for name, span in PHASES.items() if name is not PhaseName.BASELINE}
    assert recovered(store_of(), phases=phases) == 0.0
    assert recovered(store_of(), "sps >= 95% of baseline", phases=phases) is None


def test_a_rule_of_a_closed_load_is_compared_without_regard_to_its_arrivals():
    store = store_of(lag_s=None)
    baseline = Baseline.measure(store, TOPOLOGY.metrics, (2.0, 12.0))
    [check] = checks_of([rule("sps >= 95% of baseline")], TOPOLOGY.metrics, store, baseline)
    assert check.load_ratio((12.0, 32.0)) == 1.0
    assert check.limit((12.0, 32.0)) == pytest.approx(47.5, rel=0.01)


def _poisson(rng, per_s):
    from chaos.samples import LAG_KIND
    from chaos.verdict.windows import SampleStore
    from tests.unit.verdict.building import sample

    store, moment_s = SampleStore(0.0), 0.0
    while moment_s < 44.0:
        moment_s += rng.expovariate(per_s)
        store.add([sample(moment_s, kind=LAG_KIND, lag_s=0.001), sample(moment_s, took_s=0.06)])
    return store
