"""The open schedule of arrivals."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.load.arrivals import arrivals


def test_every_second_has_exactly_its_rate():
    per_second = Counter(int(arrival.at_s) for arrival in arrivals(1, 50.0, 20.0))
    assert per_second == dict.fromkeys(range(20), 50)


def test_a_rate_with_a_fraction_is_carried_over():
    per_second = Counter(int(arrival.at_s) for arrival in arrivals(1, 2.5, 6.0))
    assert [per_second[second] for second in range(6)] == [2, 3, 2, 3, 2, 3]


def test_a_tenth_a_second_is_one_in_ten_seconds():
    assert len(list(arrivals(1, 0.1, 30.0))) == 3


def test_a_last_second_that_is_cut_short_gets_its_share():
    moments = [arrival.at_s for arrival in arrivals(1, 100.0, 2.5)]
    assert len(moments) == 250
    assert 2.0 < max(moments) < 2.5


def test_the_same_seed_gives_the_same_plays_whatever_the_duration():
    long = list(arrivals(7, 10.0, 20.0))
    assert list(arrivals(7, 10.0, 5.0)) == long[:50]
    assert list(islice(arrivals(7, 10.0), 200)) == long
    assert list(arrivals(8, 10.0, 20.0)) != long


@settings(max_examples=50)
@given(st.integers(0, 99), st.floats(0.1, 60.0), st.floats(0.1, 10.0), st.integers(1, 5))
def test_the_parts_of_all_workers_are_the_schedule_of_one(seed, rate, duration, parts):
    whole = list(arrivals(seed, rate, duration))
    shared = [one for part in range(parts) for one in arrivals(seed, rate, duration, part=part, parts=parts)]
    assert sorted(shared, key=lambda one: one.number) == whole
    assert [one.at_s for one in whole] == sorted(one.at_s for one in whole)
    assert [one.number for one in whole] == list(range(len(whole)))
    assert len(whole) == int(rate * duration + 1e-9)


def test_moments_within_a_second_are_spread_evenly():
    # Each tenth of a second is due a tenth of 20 000 arrivals; five standard deviations are 212.
    tenths = Counter(int(arrival.at_s * 10) % 10 for arrival in arrivals(3, 1000.0, 20.0))
    assert all(abs(count - 2000) < 212 for count in tenths.values())


@pytest.mark.parametrize(
    ("rate", "duration", "part", "parts"), [(0.0, 1.0, 0, 1), (-1.0, 1.0, 0, 1), (1.0, 0.0, 0, 1), (1.0, 1.0, 2, 2)]
)
def test_what_makes_no_sense_is_refused_at_once(rate, duration, part, parts):
    with pytest.raises(ValueError, match=r"must be|There is no part"):
        arrivals(1, rate, duration, part=part, parts=parts)
