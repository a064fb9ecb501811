"""Who may play what."""

from __future__ import annotations

import datetime as dt

import pytest

from targets.playback.licences import ALWAYS, Window
from targets.playback.validation import Plan, Refusal, Subscriber, Title, refusal, titles_from_json

TODAY = dt.date(2026, 1, 1)
YEAR = dt.timedelta(days=365)
LICENCES = {
    "here": (ALWAYS,),
    "before": (Window(end=TODAY),),
    "later": (Window(begin=TODAY + YEAR), Window(begin=TODAY - YEAR, end=TODAY)),
    "again": (Window(end=TODAY - YEAR), Window(begin=TODAY, end=TODAY + YEAR)),
}
TITLE = Title(id="title-0001", minimum_plan=Plan.STANDARD, licences=LICENCES)


def subscriber(plan=Plan.STANDARD, country="here"):
    return Subscriber(id="subscriber-00001", plan=plan, country=country)


@pytest.mark.parametrize(
    ("plan", "country", "expected"),
    [
        (Plan.BASIC, "here", Refusal.PLAN),
        (Plan.STANDARD, "here", None),
        (Plan.PREMIUM, "here", None),
        (Plan.PREMIUM, "there", Refusal.LICENCE),
        (Plan.BASIC, "there", Refusal.PLAN),
        (Plan.PREMIUM, "before", Refusal.LICENCE_WINDOW),
        (Plan.PREMIUM, "later", Refusal.LICENCE_WINDOW),
        (Plan.PREMIUM, "again", None),
    ],
)
def test_a_play_needs_the_plan_and_a_licence_of_today(plan, country, expected):
    assert refusal(subscriber(plan, country), TITLE, TODAY) is expected


def test_records_come_back_from_json_as_they_were():
    assert Subscriber.from_json(subscriber().to_json()) == subscriber()
    assert Title.from_json(TITLE.to_json()) == TITLE
    assert titles_from_json([TITLE.to_json()]) == {TITLE.id: TITLE}


@pytest.mark.parametrize("data", [None, [], {}, {"id": 1, "plan": "basic", "country": "here"}, "subscriber"])
def test_what_is_no_subscriber_is_refused(data):
    with pytest.raises(ValueError, match="not a subscriber"):
        Subscriber.from_json(data)


def test_an_unknown_plan_is_refused():
    with pytest.raises(ValueError, match="gold"):
        Subscriber.from_json({"id": "a", "plan": "gold", "country": "here"})


@pytest.mark.parametrize("data", [None, {"id": "a"}, {"id": "a", "minimum_plan": "basic", "licences": "here"}])
def test_what_is_no_title_is_refused(data):
    with pytest.raises(ValueError, match=r"not (a|licences)"):
        Title.from_json(data)
    with pytest.raises(ValueError, match="not a"):
        titles_from_json(data)
