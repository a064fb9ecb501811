"""When a worker that died is replaced, and when its instance ends instead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chaos.processes.workers import DEATHS_MAX, DEATHS_WINDOW_S, DeathCount


def test_a_few_deaths_at_once_are_made_good_and_one_more_is_not():
    deaths = DeathCount()
    assert [deaths.may_be_replaced(100.0) for _ in range(DEATHS_MAX + 1)] == [True] * DEATHS_MAX + [False]


def test_deaths_of_long_ago_do_not_count():
    deaths = DeathCount()
    apart_s = DEATHS_WINDOW_S / DEATHS_MAX
    assert all(deaths.may_be_replaced(number * (apart_s + 0.01)) for number in range(100))


@given(st.lists(st.floats(0.0, 8.0), min_size=1, max_size=60))
def test_an_instance_ends_exactly_when_too_many_died_within_the_window(pauses_s: list[float]):
    deaths, now_s, moments_s = DeathCount(), 0.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        moments_s.append(now_s)
        lately = [moment_s for moment_s in moments_s if now_s - moment_s <= DEATHS_WINDOW_S]
        assert deaths.may_be_replaced(now_s) == (len(lately) <= DEATHS_MAX)
