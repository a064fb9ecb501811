"""What is shown and found, and the rows in the cache: pure."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.coviewing import Recommendation
from targets.playback.discovery import FOUND_MAX, QUERY_MAX, SHOWN_MAX, Catalogue, RowKind, query_of
from targets.playback.home_rows import (
    ROW_TITLES_MAX,
    popular_from_bytes,
    popular_to_bytes,
    recommendation_from_bytes,
    recommendation_to_bytes,
)
from targets.playback.seed_data import SeedData
from targets.playback.validation import Plan, refusal

DATA = SeedData.generate(1, subscribers=60, titles=300, countries=3)
TODAY = dt.date(2026, 1, 1)
CATALOGUE = Catalogue(DATA, today=lambda: TODAY)
BASIC = next(one for one in DATA.subscribers if one.plan is Plan.BASIC)
FORBIDDEN = [title.id for title in DATA.titles if refusal(BASIC, title, TODAY)]
ALLOWED = [title.id for title in DATA.titles if not refusal(BASIC, title, TODAY)]
NAMES = st.integers(1, 9999).map("title-{:04d}".format)


def test_a_personal_row_names_what_it_is_because_of_and_holds_only_what_may_be_played():
    titles = (FORBIDDEN[0], ALLOWED[0], "title-9999", ALLOWED[1])
    row = CATALOGUE.personal(BASIC, Recommendation(because="title-0007", titles=titles))

    assert row is not None
    assert row.to_json() == {
        "title": "Because you watched title-0007",
        "kind": "personal",
        "titles": (ALLOWED[0], ALLOWED[1]),
    }


def test_a_row_of_which_nothing_may_be_played_is_none():
    assert CATALOGUE.personal(BASIC, None) is None
    assert CATALOGUE.personal(BASIC, Recommendation(because="title-0007", titles=(FORBIDDEN[0],))) is None
    assert CATALOGUE.popular(BASIC, FORBIDDEN) is None
    assert CATALOGUE.popular(BASIC, ()) is None


def test_no_more_titles_are_shown_than_fit():
    row = CATALOGUE.popular(BASIC, ALLOWED)

    assert row is not None
    assert (row.title, row.kind) == (f"Popular in {BASIC.country}", RowKind.POPULAR)
    assert list(row.titles) == ALLOWED[:SHOWN_MAX]


@pytest.mark.parametrize("country", [*DATA.countries, "nowhere"])
@pytest.mark.parametrize("plan", Plan)
def test_the_static_row_holds_what_may_be_played_in_each_country(country, plan):
    someone = replace(BASIC, country=country, plan=plan)
    row = CATALOGUE.static(someone)

    titles = {title.id: title for title in DATA.titles}
    assert len(row.titles) == (SHOWN_MAX if country in DATA.countries else 0)
    assert len(set(row.titles)) == len(row.titles)
    assert not any(refusal(someone, titles[name], TODAY) for name in row.titles)
    assert row == CATALOGUE.static(someone)


def test_the_static_row_of_a_small_catalogue_is_all_of_it_once():
    data = SeedData.generate(1, subscribers=10, titles=3, countries=3)
    someone = replace(BASIC, plan=Plan.PREMIUM)
    playable = [title.id for title in data.titles if not refusal(someone, title, TODAY)]

    assert playable
    assert sorted(Catalogue(data, today=lambda: TODAY).static(someone).titles) == playable


def test_a_search_finds_beginnings_first_then_the_rest():
    first, second = (next(one for one in DATA.titles if one.id == name) for name in ALLOWED[:2])
    data = SimpleNamespace(countries=(), titles=[replace(first, id="the-film"), replace(second, id="film-two")])

    assert Catalogue(data, today=lambda: TODAY).search(BASIC, "film") == ("film-two", "the-film")


def test_a_search_finds_what_may_be_played_and_nothing_forbidden():
    found = CATALOGUE.search(BASIC, "title-02")
    assert found == tuple(one for one in ALLOWED if one.startswith("title-02"))[:FOUND_MAX]
    assert CATALOGUE.search(BASIC, "TITLE-02") == found
    assert CATALOGUE.search(BASIC, "11") == tuple(one for one in ALLOWED if "11" in one)[:FOUND_MAX]
    assert CATALOGUE.search(BASIC, FORBIDDEN[0]) == ()
    assert CATALOGUE.search(BASIC, "*") == ()


@pytest.mark.parametrize("text", [None, "", "   ", "x" * (QUERY_MAX + 1), "a\nb", "a\x00"])
def test_a_query_that_is_none_is_refused_with_what_is_allowed(text):
    with pytest.raises(ValueError, match=r"q is missing|printable characters are allowed"):
        query_of(text)


def test_a_query_is_taken_without_the_space_around_it():
    assert query_of(" title-00 ") == "title-00"


@given(NAMES, st.lists(NAMES, unique=True, min_size=1, max_size=ROW_TITLES_MAX))
def test_rows_come_back_from_the_cache_as_they_were(because, titles):
    recommendation = Recommendation(because=because, titles=tuple(titles))

    assert recommendation_from_bytes(recommendation_to_bytes(recommendation)) == recommendation
    assert popular_from_bytes(popular_to_bytes(titles)) == tuple(titles)


def test_a_row_with_nothing_to_recommend_is_no_row():
    assert recommendation_from_bytes(recommendation_to_bytes(None)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | NAMES,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["because", "titles", "x"]), inner),
)


@given(st.none() | st.binary() | JSON.map(lambda data: json.dumps(data).encode()))
def test_garbage_in_the_cache_is_as_good_as_nothing(data):
    found, popular = recommendation_from_bytes(data), popular_from_bytes(data)

    for titles in (popular, found.titles if found else ()):
        assert len(titles) <= ROW_TITLES_MAX
        assert all(isinstance(one, str) and one.startswith("title-") for one in titles)
    assert recommendation_from_bytes(b"[" * 10_000) is None
    assert popular_from_bytes(b" " * 100_000) == ()
