"""Windows of dates, and how they travel."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.licences import ALWAYS, Window, licences_from_json, licences_to_json, window_on

DAY = dt.date(2026, 1, 1)
DATES = st.dates(min_value=dt.date(2000, 1, 1), max_value=dt.date(2050, 1, 1))


@st.composite
def windows(draw):
    begin, end = sorted(draw(st.tuples(DATES, DATES)))
    return Window(
        begin=draw(st.sampled_from([None, begin])),
        end=draw(st.sampled_from([None, end + dt.timedelta(days=1)])),
    )


@given(st.dictionaries(st.text(max_size=5), st.lists(windows(), min_size=1, max_size=4).map(tuple)))
def test_licences_come_back_from_json_as_they_were(licences):
    assert licences_from_json(json.loads(json.dumps(licences_to_json(licences)))) == licences


@given(st.lists(windows(), max_size=5), DATES)
def test_a_date_is_licensed_when_any_window_holds_it_and_until_the_last_of_these_ends(some, date):
    found = window_on(some, date)
    holding = [one for one in some if (one.begin or date) <= date < (one.end or dt.date.max)]

    assert (found is None) == (not holding)
    if found is not None:
        assert found in holding
        assert all((found.end or dt.date.max) >= (one.end or dt.date.max) for one in holding)


def test_a_window_holds_its_first_day_and_not_its_last():
    window = Window(begin=DAY, end=DAY + dt.timedelta(days=1))

    assert window.holds(DAY)
    assert not window.holds(DAY - dt.timedelta(days=1))
    assert not window.holds(DAY + dt.timedelta(days=1))
    assert ALWAYS.holds(dt.date.min)


def test_a_window_is_written_as_an_interval():
    assert [str(one) for one in (ALWAYS, Window(begin=DAY), Window(end=DAY))] == [
        "../..",
        "2026-01-01/..",
        "../2026-01-01",
    ]


@pytest.mark.parametrize(
    "text", ["", "2026-01-01", "soon/..", "2026-01-02/2026-01-01", "2026-01-01/2026-01-01", "../../.."]
)
def test_what_is_no_window_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"such as 2026-01-01/\.\."):
        Window.parse(text)


@pytest.mark.parametrize(
    "data", [None, [], "here", {"here": []}, {"here": "../.."}, {"here": ["../.."] * 21}, {"here": [7]}]
)
def test_what_are_no_licences_is_refused(data):
    with pytest.raises(ValueError, match="licence"):
        licences_from_json(data)
