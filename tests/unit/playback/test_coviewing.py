"""Co-viewing: what is counted, and what is recommended from it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from targets.playback.coviewing import PAIRED_MAX, VIEWING_MAX, recommend, top, watch

TITLES = [f"title-{number:04d}" for number in range(1, 80)]


def test_titles_watched_one_after_the_other_are_co_viewed():
    viewing, first = watch((), "title-0001")
    viewing, second = watch(viewing, "title-0002")
    viewing, third = watch(viewing, "title-0003")

    assert (first, second, third) == ((), ("title-0001",), ("title-0002", "title-0001"))
    assert viewing == ("title-0003", "title-0002", "title-0001")


def test_watching_on_is_not_watching_once_more():
    assert watch(("title-0002", "title-0001"), "title-0001") == (("title-0001", "title-0002"), ())


@given(st.lists(st.sampled_from(TITLES), max_size=150))
def test_a_viewing_is_the_last_titles_each_once_as_a_naive_model_has_them(plays):
    viewing = ()
    counted = Counter()
    for title in plays:
        viewing, together = watch(viewing, title)
        counted.update(frozenset((title, other)) for other in together)

    naive_viewing, naive_counted = [], Counter()
    for title in plays:
        if title not in naive_viewing:
            naive_counted.update(frozenset((title, other)) for other in naive_viewing[-PAIRED_MAX:])
        naive_viewing = [*(one for one in naive_viewing if one != title), title][-VIEWING_MAX:]
    assert list(viewing) == naive_viewing[::-1]
    assert counted == naive_counted
    assert len(viewing) <= VIEWING_MAX


def test_what_is_often_watched_together_comes_first_and_what_was_watched_does_not_come():
    neighbours = {
        "title-0007": {"title-0003": 5, "title-0009": 2},
        "title-0001": {"title-0009": 4, "title-0007": 9},
    }
    found = recommend(("title-0007", "title-0001"), neighbours, titles_max=10)

    assert found is not None
    assert found.titles == ("title-0009", "title-0003")  # 10 * 2 + 9 * 4 = 56 against 10 * 5
    assert found.because == "title-0007"  # it said 70, the other 36


def test_of_equal_scores_the_name_decides_and_of_equal_speakers_what_was_watched_last():
    found = recommend(("title-0001",), {"title-0001": {"title-0005": 1, "title-0004": 1}}, titles_max=1)

    assert found is not None
    assert (found.because, found.titles) == ("title-0001", ("title-0004",))


def test_nothing_is_recommended_to_who_has_watched_nothing_or_everything():
    neighbours = {"title-0001": {"title-0002": 3}}

    assert recommend((), neighbours, titles_max=5) is None
    assert recommend(("title-0001", "title-0002"), neighbours, titles_max=5) is None
    assert recommend(("title-0003",), neighbours, titles_max=5) is None


@given(
    st.lists(st.sampled_from(TITLES), unique=True, max_size=15).map(tuple),
    st.dictionaries(
        st.sampled_from(TITLES),
        st.dictionaries(st.sampled_from(TITLES), st.integers(1, 1000), max_size=10),
        max_size=20,
    ),
    st.integers(1, 12),
)
def test_a_row_is_what_a_naive_model_says(viewing, neighbours, titles_max):
    scores = {
        other: sum(
            (PAIRED_MAX - position) * neighbours.get(title, {}).get(other, 0)
            for position, title in enumerate(viewing[:PAIRED_MAX])
        )
        for other in TITLES
        if other not in viewing
    }
    expected = sorted((other for other in TITLES if scores.get(other)), key=lambda other: (-scores[other], other))

    found = recommend(viewing, neighbours, titles_max=titles_max)

    assert (() if found is None else found.titles) == tuple(expected[:titles_max])
    if found is not None:
        assert found.because in viewing[:PAIRED_MAX]


def test_the_top_is_sorted_by_score_then_by_name():
    assert top({"b": 2, "a": 2, "c": 3, "d": 1}, 3) == ["c", "a", "b"]
