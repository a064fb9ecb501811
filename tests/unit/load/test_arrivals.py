"""The open schedule of arrivals."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.experiment.plan import PlannedSurge
from chaos.load.arrivals import SURGE_NUMBERS, arrivals


def surge(at_s: float, for_s: float, rate_per_s: float, base_per_s: float = 10.0) -> PlannedSurge:
    return PlannedSurge(name="1-surge", at_s=at_s, until_s=at_s + for_s, rate_per_s=rate_per_s, base_per_s=base_per_s)


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


def test_in_a_surge_every_second_has_exactly_its_rate():
    schedule = arrivals(1, 10.0, 12.0, surges=[surge(2.0, 3.0, 50.0), surge(7.0, 2.0, 25.0)])
    per_second = Counter(int(arrival.at_s) for arrival in schedule)
    assert [per_second[second] for second in range(12)] == [10, 10, 50, 50, 50, 10, 10, 25, 25, 10, 10, 10]


@settings(max_examples=60)
@given(
    st.integers(0, 99), st.floats(0.5, 30.0), st.floats(0.0, 4.0), st.floats(0.1, 3.0), st.floats(0.5, 90.0),
    st.integers(1, 4),
)  # fmt: skip
def test_a_surge_adds_arrivals_and_changes_none(seed, rate, at_s, for_s, extra, parts):
    one = surge(at_s, for_s, rate + extra, rate)
    without = list(arrivals(seed, rate, 10.0))
    schedule = list(arrivals(seed, rate, 10.0, surges=[one]))
    added = [arrival for arrival in schedule if arrival.surge]
    assert [arrival for arrival in schedule if not arrival.surge] == without
    assert len(added) == one.ordered(10.0)
    assert all(one.at_s <= arrival.at_s <= one.until_s for arrival in added)
    assert [arrival.number for arrival in added] == [SURGE_NUMBERS + number for number in range(len(added))]
    assert [arrival.at_s for arrival in schedule] == sorted(arrival.at_s for arrival in schedule)
    shared = [
        arrival for part in range(parts) for arrival in arrivals(seed, rate, 10.0, part=part, parts=parts, surges=[one])
    ]
    assert sorted(shared, key=lambda arrival: arrival.number) == sorted(schedule, key=lambda arrival: arrival.number)


def test_a_surge_moves_with_its_beginning_and_leaves_the_others_alone():
    def added(*surges: PlannedSurge) -> list[tuple[int, float]]:
        return [(one.number, one.at_s) for one in arrivals(3, 10.0, 20.0, surges=surges) if one.surge]

    early, late = added(surge(2.0, 2.0, 40.0)), added(surge(5.0, 2.0, 40.0))
    assert late == [(number, pytest.approx(at_s + 3.0)) for number, at_s in early]
    both = added(surge(2.0, 2.0, 40.0), surge(9.0, 1.0, 90.0))
    assert both[:60] == early
    assert {number // SURGE_NUMBERS for number, _ in both[60:]} == {2}


def test_a_schedule_ends_with_its_duration_in_the_middle_of_a_surge():
    schedule = list(arrivals(1, 10.0, 3.0, surges=[surge(2.0, 4.0, 50.0)]))
    assert max(arrival.at_s for arrival in schedule) < 3.0
    assert len(schedule) == 70


@pytest.mark.parametrize("wrong", [surge(1.0, 2.0, 10.0), surge(1.0, 0.0, 20.0), surge(-1.0, 2.0, 20.0)])
def test_a_surge_that_adds_nothing_is_refused_at_once(wrong: PlannedSurge):
    with pytest.raises(ValueError, match="must raise the rate of 10 a second"):
        arrivals(1, 10.0, 9.0, surges=[wrong])


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
