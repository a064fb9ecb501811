"""The jackknife over seconds, against leaving out each second by hand and against scipy's t test."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chaos.statistics.jackknife import Second, difference, jackknife, mean, paired_difference, share

SECONDS = st.lists(
    st.integers(0, 40).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))), min_size=2, max_size=30
).map(lambda pairs: [Second(*pair) for pair in pairs])


def ratio(seconds):
    whole = sum(one.whole for one in seconds)
    return sum(one.part for one in seconds) / whole if whole else 0.0


@given(SECONDS)
def test_a_share_is_what_leaving_out_each_second_gives(seconds):
    estimate = share(seconds)
    there = [one for one in seconds if one.whole > 0]
    if len(there) < 2:
        assert estimate is None
        return
    naive = jackknife(there, ratio)
    assert estimate.value == pytest.approx(naive.value)
    assert estimate.standard_error == pytest.approx(naive.standard_error, abs=1e-12)
    assert estimate.df == len(there) - 1


@given(st.lists(st.floats(0, 100), min_size=2, max_size=40), st.floats(0.001, 0.3))
def test_seconds_of_equal_weight_give_the_t_interval_of_scipy(values, alpha):
    from scipy import stats

    assume(max(values) - min(values) > 1e-6)
    low, high = mean(values).interval(alpha)
    error = float(stats.sem(values))
    expected = stats.t.interval(1 - 2 * alpha, len(values) - 1, loc=sum(values) / len(values), scale=error)
    assert (low, high) == pytest.approx(tuple(float(end) for end in expected), rel=1e-6, abs=1e-6)


@given(SECONDS, SECONDS, st.floats(0.001, 0.3), st.sampled_from([0.5, 0.99, 1.0, 2.0]))
def test_a_paired_difference_leaves_out_the_same_second_of_both(first, second, alpha, factor):
    size = min(len(first), len(second))
    first, second = first[:size], second[:size]
    estimate = paired_difference(first, second, factor=factor)
    if min(sum(one.whole > 0 for one in side) for side in (first, second)) < 2:
        assert estimate is None
        return
    kept = [j for j in range(size) if first[j].whole or second[j].whole]

    def without(j):
        rest = [i for i in kept if i != j]
        return ratio([first[i] for i in rest]) - factor * ratio([second[i] for i in rest])

    moved = [without(j) for j in kept]
    middle = sum(moved) / len(moved)
    error = math.sqrt((len(moved) - 1) / len(moved) * sum((one - middle) ** 2 for one in moved))
    assert estimate.value == pytest.approx(ratio(first) - factor * ratio(second), abs=1e-12)
    assert estimate.standard_error == pytest.approx(error, abs=1e-12)
    if not any(one.part for one in first):
        assert estimate.interval(alpha)[1] >= -math.log(alpha) / sum(one.whole for one in first) * (1 - 1e-12)


def test_what_hits_both_sides_alike_cancels_out():
    rng = random.Random(1)
    noise = [rng.randrange(0, 20) for _ in range(20)]
    both = [Second(part, 50) for part in noise]
    paired = paired_difference(both, both)
    apart = difference(share(both), share(both))
    assert paired.standard_error == 0.0
    assert apart.standard_error == pytest.approx(share(both).standard_error * math.sqrt(2), rel=1e-3)


def test_a_baseline_without_any_event_is_no_surer_than_one_event():
    now, before = share([Second(2, 50)] * 10), share([Second(0, 50)] * 10)
    assert before.standard_error == 0.0
    assert difference(now, before, factor=2.0).standard_error == pytest.approx(2.0 / 500)


def test_sides_of_different_length_are_no_pairs():
    with pytest.raises(ValueError, match="2 seconds of the experiment beside 1 of its control"):
        paired_difference([Second(0, 1), Second(0, 1)], [Second(0, 1)])


def test_a_silence_proves_no_more_than_its_attempts():
    """No failure among 600: at 1 % alpha, more than 0.77 % of all plays would hardly keep so still."""
    estimate = share([Second(0, 30)] * 20)
    assert estimate.interval(0.01) == (0.0, pytest.approx(4.605 / 600, rel=1e-3))
    assert share([Second(1, 30)] * 20).interval(0.01) == (pytest.approx(1 / 30), pytest.approx(1 / 30))


@given(st.lists(st.floats(0, 50), min_size=2, max_size=20), st.lists(st.floats(0, 50), min_size=2, max_size=20))
def test_phases_after_one_another_differ_as_in_welchs_t_test(first, second):
    from scipy import stats

    assume(max(first) - min(first) > 1e-3)
    assume(max(second) - min(second) > 1e-3)
    estimate = difference(mean(first), mean(second))
    test = stats.ttest_ind(first, second, equal_var=False)
    assert estimate.value / estimate.standard_error == pytest.approx(float(test.statistic), rel=1e-6, abs=1e-9)
    assert estimate.df == max(1, math.floor(float(test.df) + 1e-9)) or abs(estimate.df - float(test.df)) < 1 + 1e-6


def test_a_multiple_of_the_baseline_brings_its_uncertainty_with_it():
    before = mean([48.0, 52.0, 50.0])
    now = mean([40.0, 40.0, 40.0])
    estimate = difference(now, before, factor=0.95)
    assert estimate.value == pytest.approx(40 - 0.95 * 50)
    assert estimate.standard_error == pytest.approx(0.95 * before.standard_error)


def test_a_figure_below_zero_has_an_interval_around_itself():
    """As of rates for which more is better, which are turned round."""
    low, high = mean([-50.0, -52.0, -48.0]).interval(0.05)
    assert low < -50.0 < high < -45.0


def test_fewer_than_two_seconds_say_nothing():
    assert share([Second(1, 3), Second(0, 0)]) is None
    assert mean([3.0]) is None
    assert jackknife([Second(1, 3)], ratio) is None


@pytest.mark.parametrize(("burst", "alpha"), [(0.02, 0.01), (0.5, 0.01), (0.02, 0.05), (0.5, 0.05)])
def test_on_bursty_seconds_with_known_truth_the_lower_end_keeps_its_alpha(burst, alpha):
    """20 s at 50 a second that truly fail in 1 %, in bursts: the lower end lies above 1 % in at most alpha of runs."""
    rng = random.Random(7)
    false = 0
    for _ in range(300):
        seconds = [
            Second(sum(rng.random() < burst for _ in range(50)) if rng.random() < 0.01 / burst else 0, 50)
            for _ in range(20)
        ]
        false += share(seconds).interval(alpha)[0] > 0.01
    assert false / 300 <= alpha
