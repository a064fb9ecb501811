"""Ranks between which a quantile lies, against scipy's binomial distribution and against simulated truth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.statistics.quantiles import (
    binomial_cdf,
    design_effect,
    quantile,
    quantile_interval,
    quantile_ranks,
)
from chaos.statistics.resampling import paired_quantile_difference_interval, quantile_difference_interval

SHARES = st.floats(0.001, 0.999)


@given(n=st.integers(1, 20_000), p=SHARES, where=st.floats(-0.1, 1.1))
def test_the_binomial_distribution_is_that_of_scipy(n, p, where):
    from scipy import stats

    k = round(n * where)
    assert binomial_cdf(k, n, p) == pytest.approx(float(stats.binom.cdf(k, n, p)), rel=1e-8, abs=1e-12)


@given(n=st.integers(1, 400), q=SHARES, alpha=st.floats(0.001, 0.2))
def test_ranks_are_those_found_by_trying_all_of_them(n, q, alpha):
    from scipy import stats

    below = [float(stats.binom.cdf(rank - 1, n, q)) for rank in range(1, n + 1)]
    lower = [rank for rank in range(1, n + 1) if below[rank - 1] <= alpha - 1e-12]
    upper = [rank for rank in range(1, n + 1) if 1 - below[rank - 1] <= alpha - 1e-12]
    found = quantile_ranks(n, q, alpha)
    assert found[0] in {lower[-1] if lower else None, *(rank for rank in range(1, n + 1) if _near(below, rank, alpha))}
    assert found[1] in {upper[0] if upper else None, *(r for r in range(1, n + 1) if _near(below, r, 1 - alpha))}


def _near(below, rank, level):
    return abs(below[rank - 1] - level) < 1e-9


def test_a_p99_of_two_thousand_values_lies_between_ranks_1968_and_1991():
    low, high = quantile_ranks(2000, 0.99, 0.005)
    assert (low, high) == (pytest.approx(1968, abs=1), pytest.approx(1991, abs=1))


def test_few_values_have_no_upper_end_for_a_high_quantile():
    assert quantile_ranks(200, 0.99, 0.01)[1] is None
    assert quantile_interval([1.0, 2.0], 0.99, 0.05) == (2.0, None)
    assert quantile_interval([], 0.5, 0.05, effective=0.0) == (None, None)


@pytest.mark.parametrize("q", [0.0, 1.0])
def test_no_number_of_values_says_what_the_least_or_the_largest_could_be(q):
    assert quantile_ranks(10_000, q, 0.05) == (None, None)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), SHARES, st.floats(1, 200))
def test_an_interval_is_made_of_values_and_bursts_only_widen_it(values, q, effective):
    ordered = sorted(values)
    low, high = quantile_interval(ordered, q, 0.05, effective=effective)
    assert low is None or low in ordered
    assert high is None or high in ordered
    if low is not None and high is not None:
        assert low <= high


def test_the_true_quantile_lies_within_in_as_many_runs_as_are_declared():
    rng = random.Random(3)
    truth = 0.6931471805599453  # the median of the exponential distribution
    wrong = [0, 0]
    for _ in range(1000):
        low, high = quantile_interval(sorted(rng.expovariate(1.0) for _ in range(100)), 0.5, 0.05)
        wrong[0] += low > truth
        wrong[1] += high < truth
    assert max(wrong) / 1000 <= 0.06, wrong


def test_the_design_effect_is_the_size_of_bursts_that_fail_as_a_whole():
    """Seconds of 25 attempts that fail all together or not at all are worth one attempt each."""
    from chaos.statistics.jackknife import Second, share

    rng = random.Random(5)
    seconds = [Second(25 if rng.random() < 0.2 else 0, 25) for _ in range(2000)]
    estimate = share(seconds)
    assert design_effect(estimate.value, estimate.standard_error, 50_000) == pytest.approx(25, rel=0.01)
    assert design_effect(0.0, 0.0, 100) == 1.0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), SHARES)
def test_quantiles_are_those_of_scipys_default(values, q):
    import numpy as np

    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), abs=1e-9)


# -- differences, by resampling --------------------------------------------------------------------------------------


def sides(rng, shift=0.0):
    return [[[rng.random() + more for _ in range(20)] for _ in range(12)] for more in (shift, 0.0)]


def test_one_seed_gives_one_answer():
    first, second = sides(random.Random(1))
    ends = [quantile_difference_interval(first, second, 0.9, 0.05, random.Random(2), rounds=50) for _ in range(2)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(("shift", "above"), [(0.0, False), (0.4, True)])
def test_a_difference_of_quantiles_is_seen_when_there_is_one(shift, above):
    first, second = sides(random.Random(1), shift)
    low, high = quantile_difference_interval(first, second, 0.9, 0.01, random.Random(2), rounds=200)
    assert low <= shift + 0.1
    assert high >= shift - 0.1
    assert (low > 0.0) is above


def test_resampling_agrees_with_scipys_bootstrap_of_seconds():
    """Of two sides whose seconds have one value each, both draw seconds: percentile intervals of the median."""
    import numpy as np
    from scipy import stats

    rng = random.Random(4)
    first, second = ([[rng.random()] for _ in range(30)] for _ in range(2))
    low, high = quantile_difference_interval(first, second, 0.5, 0.05, random.Random(5), rounds=2000)
    expected = stats.bootstrap(
        ([one[0] for one in first], [one[0] for one in second]),
        lambda x, y, axis: np.median(x, axis=axis) - np.median(y, axis=axis),
        confidence_level=0.9, n_resamples=2000, method="percentile", rng=np.random.default_rng(6),
    ).confidence_interval  # fmt: skip
    assert (low, high) == (pytest.approx(expected.low, abs=0.04), pytest.approx(expected.high, abs=0.04))


def test_a_side_without_two_seconds_has_no_interval():
    assert quantile_difference_interval([[1.0]], [[1.0], [2.0]], 0.5, 0.05, random.Random(1)) is None


def test_what_makes_both_sides_slow_in_the_same_seconds_cancels_out():
    rng = random.Random(3)
    noise = [rng.choice([1.0, 1.0, 10.0]) for _ in range(20)]
    first, second = ([[rng.uniform(0.9, 1.1) * factor for _ in range(20)] for factor in noise] for _ in range(2))
    apart = quantile_difference_interval(first, second, 0.5, 0.05, random.Random(1), rounds=200)
    paired = paired_quantile_difference_interval(
        list(zip(first, second, strict=True)), 0.5, 0.05, random.Random(1), rounds=200
    )
    assert paired[0] <= 0.0 <= paired[1]
    assert paired[1] - paired[0] < 0.2 < apart[1] - apart[0]
    same = paired_quantile_difference_interval(
        list(zip(first, first, strict=True)), 0.99, 0.05, random.Random(1), rounds=50
    )
    assert same == (0.0, 0.0)


def test_paired_resampling_agrees_with_scipys_paired_bootstrap():
    import numpy as np
    from scipy import stats

    rng = random.Random(4)
    first = [[rng.random()] for _ in range(30)]
    second = [[one[0] / 2 + rng.random() / 4] for one in first]
    pairs = list(zip(first, second, strict=True))
    low, high = paired_quantile_difference_interval(pairs, 0.5, 0.05, random.Random(5), factor=1.5, rounds=2000)
    expected = stats.bootstrap(
        ([one[0] for one in first], [one[0] for one in second]),
        lambda x, y, axis: np.median(x, axis=axis) - 1.5 * np.median(y, axis=axis),
        confidence_level=0.9, n_resamples=2000, method="percentile", paired=True, rng=np.random.default_rng(6),
    ).confidence_interval  # fmt: skip
    assert (low, high) == (pytest.approx(expected.low, abs=0.04), pytest.approx(expected.high, abs=0.04))


@pytest.mark.parametrize("pairs", [[], [([1.0], [1.0])], [([1.0], [1.0]), ([2.0], [])]])
def test_pairs_without_two_seconds_on_each_side_have_no_interval(pairs):
    assert paired_quantile_difference_interval(pairs, 0.5, 0.05, random.Random(1)) is None
