"""Evidence by betting, against the plain products, and how often it is wrong when the truth is known."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.statistics.betting import Evidence, most_evidence

SHARES = st.lists(st.floats(0, 1), max_size=60)


@given(SHARES, st.floats(0.001, 0.999))
def test_the_evidence_is_the_mean_of_ten_products(shares, limit):
    evidence = Evidence(limit)
    bets = [0.5 / limit * number / 10 for number in range(1, 11)]
    products = [1.0] * 10
    largest = 1.0
    for share in shares:
        products = [product * (1 + bet * (share - limit)) for product, bet in zip(products, bets, strict=True)]
        naive = sum(products) / 10
        largest = max(largest, naive)
        assert evidence.take(share) == pytest.approx(naive, rel=1e-6)
    assert most_evidence(shares, limit) == pytest.approx(largest, rel=1e-6)


def test_where_no_failure_is_allowed_one_is_proof():
    assert most_evidence([0.0, 0.0], 0.0) == 1.0
    assert most_evidence([0.0, 0.01], 0.0) == math.inf


def test_nothing_exceeds_a_limit_of_everything():
    assert most_evidence([1.0] * 100, 1.0) == 1.0


def test_an_hour_of_failures_does_not_overflow():
    assert most_evidence([1.0] * 3600, 0.001) == math.inf


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="a share lies between 0 and 1"):
        Evidence(0.05).take(share)


def _first_above(evidence, shares, wanted):
    for second, share in enumerate(shares, start=1):
        if evidence.take(share) >= wanted:
            return second
    return None


@pytest.mark.parametrize(("true", "median_s"), [(1.0, 3), (0.5, 4), (0.2, 7)])
def test_a_guard_of_five_percent_aborts_within_seconds(true, median_s):
    rng = random.Random(2)
    seconds = [
        _first_above(Evidence(0.05), (sum(rng.random() < true for _ in range(30)) / 30 for _ in range(60)), 100)
        for _ in range(200)
    ]
    assert statistics.median(seconds) == median_s


@pytest.mark.parametrize("burst", [0.05, 0.2, 1.0])
def test_at_exactly_the_limit_it_is_wrong_in_one_run_of_a_hundred_at_most(burst):
    rng = random.Random(3)
    wrong = 0
    for _ in range(500):
        shares = [burst if rng.random() < 0.05 / burst else 0.0 for _ in range(120)]
        wrong += most_evidence(shares, 0.05) >= 100
    assert wrong <= 5, wrong
