"""How many more seconds would decide it, against trying every number of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.statistics.deciding import MORE_S_MAX, more_seconds, seconds_for
from chaos.statistics.jackknife import Estimate, Second, share
from chaos.statistics.student import t_quantile


@settings(max_examples=50)
@given(st.floats(0, 0.2), st.floats(0.0001, 0.1), st.integers(1, 60), st.floats(0.001, 0.1))
def test_it_is_the_first_number_of_seconds_after_which_the_interval_excludes_the_limit(value, error, df, limit):
    found = more_seconds(Estimate(value=value, standard_error=error, df=df), limit, 0.05)

    def decided(more):
        scaled = error * math.sqrt((df + 1) / (df + 1 + more))
        return abs(value - limit) > t_quantile(0.95, df + more) * scaled * (1 - 1e-12)

    naive = next((more for more in range(MORE_S_MAX + 1) if decided(more)), None)
    if found is None or naive is None:
        assert found == naive or min(x for x in (found, naive) if x is not None) > MORE_S_MAX - 2
    else:
        assert found == pytest.approx(naive, abs=1)


def test_a_silence_goes_on_until_it_proves_enough():
    """30 a second, none fails: a limit of 1 % takes 300 attempts at 5 %, which is 10 s in all."""
    assert more_seconds(share([Second(0, 30)] * 4), 0.01, 0.05) == 6


def test_what_is_decided_needs_nothing_and_what_lies_at_the_limit_is_never_decided():
    assert more_seconds(Estimate(value=0.5, standard_error=0.001, df=9), 0.01, 0.05) == 0
    assert more_seconds(Estimate(value=0.01, standard_error=0.001, df=9), 0.01, 0.05) is None
    assert more_seconds(Estimate(value=0.010001, standard_error=0.01, df=9), 0.01, 0.05) is None


def test_attempts_that_are_missing_take_their_time_and_none_come_where_none_come():
    assert seconds_for(100, 30) == 4
    assert seconds_for(0, 30) == 0
    assert seconds_for(100, 0) is None
