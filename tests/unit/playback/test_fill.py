"""What an OCA fetches and when, on a fake clock."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.fill import FETCHED_MAX, FillPlan, FillRules

ALL = (1 << 40) - 1
LISTED = {"title-0031": "a", "title-0032": "b", "title-0033": "c"}


def plan(*, assigned=ALL, delivered=(1 << 30) - 1, seed=1, **rules):
    return FillPlan(FillRules(**rules), assigned=assigned, delivered=delivered, rng=random.Random(seed), now_s=0.0)


def test_it_fetches_what_it_is_assigned_and_lacks_by_name():
    one = plan(assigned=ALL & ~(1 << 31))
    one.take({**LISTED, "title-0001": "delivered", "film": "no title"})

    assert one.choose(0.0, {}) == "title-0031"
    assert one.digest("title-0031") == "a"
    assert one.choose(0.0, {"title-0031": "a"}) == "title-0033"
    assert one.choose(0.0, {"title-0031": "a", "title-0033": "c"}) is None


def test_a_title_with_another_digest_is_fetched_anew():
    one = plan()
    one.take({"title-0031": "new"})

    assert one.choose(0.0, {"title-0031": "old"}) == "title-0031"


def test_the_origin_is_asked_every_now_and_then_with_jitter():
    asked = []
    for seed in range(20):
        one = plan(every_s=2.0, seed=seed)
        moments = [step / 50 for step in range(1000) if one.asks(step / 50)]
        asked.append(moments[0])
        gaps = [after - before for before, after in itertools.pairwise(moments)]
        assert all(0.98 <= gap <= 3.04 for gap in gaps)
        assert len(moments) >= 6
    assert len(set(asked)) > 10


def test_it_works_off_peak_only():
    one = plan(below_load=0.5)

    assert [one.may_work(load) for load in (0.0, 0.49, 0.5, 1.0)] == [True, True, False, False]
    assert not plan(below_load=0.0).may_work(0.0)


def test_a_title_that_fails_is_left_alone_for_longer_and_longer_while_others_have_their_turn():
    one = plan()
    one.take(LISTED)

    pauses = [one.failed(100.0 * number, "title-0031") for number in range(12)]

    for pause_s, expected_s in zip(pauses, [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30], strict=True):
        assert expected_s <= pause_s <= 1.5 * expected_s
    assert one.choose(1100.0, {}) == "title-0032"
    assert one.choose(1145.1, {}) == "title-0031"
    one.done("title-0031")
    assert one.failed(1200.0, "title-0031") <= 0.75


def test_there_is_room_for_so_many_titles_and_no_more():
    held = {f"title-{number:04d}": "x" for number in range(1000, 1000 + FETCHED_MAX)}
    one = plan()
    one.take(LISTED)

    assert one.choose(0.0, held) is None


@pytest.mark.parametrize(("rules", "problem"), [({"every_s": 0}, "fill_every_s"), ({"below_load": 1.5}, "share")])
def test_impossible_rules_say_what_is_possible(rules, problem):
    with pytest.raises(ValueError, match=problem):
        FillRules(**rules)


@given(
    st.dictionaries(st.sampled_from([f"title-{n:04d}" for n in range(1, 41)]), st.sampled_from("ab")),
    st.dictionaries(st.sampled_from([f"title-{n:04d}" for n in range(31, 41)]), st.sampled_from("ab")),
    st.integers(0, ALL),
)
def test_it_ends_with_exactly_what_is_listed_and_assigned(listed, held, assigned):
    one = plan(assigned=assigned)
    one.take(listed)
    held = dict(held)
    while (title := one.choose(0.0, held)) is not None:
        assert held.get(title) != listed[title]
        held[title] = listed[title]

    wanted = [title for title in listed if int(title[6:]) > 30 and assigned >> int(title[6:]) - 1 & 1]
    assert all(held[title] == listed[title] for title in wanted)
