"""What events change."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.activity import Kind
from targets.playback.dates import Calendar
from targets.playback.effects import AGE_MAX_S, FUTURE_MAX_S, Effects, effects_of, timely
from targets.playback.validation import Plan
from tests.unit.playback.pipeline_fixtures import event

CALENDAR = Calendar(dt.date(2026, 1, 1), began_s=1_000.0)
DAY = "2026-01-01"


def at(kind=Kind.PLAY_STARTED, at_s=1_000.0, **fields):
    return event(kind, at_s=at_s, **fields)


@pytest.mark.parametrize(
    ("at_s", "minute"),
    [
        (1_000.0, (DAY, "00:00")),
        (1_059.999, (DAY, "00:00")),
        (1_060.0, (DAY, "00:01")),
        (1_000.0 + 86_399, (DAY, "23:59")),
        (1_000.0 + 86_400, ("2026-01-02", "00:00")),
        (1_000.0 + 31 * 86_400, ("2026-02-01", "00:00")),
        (3.0, (DAY, "00:00")),
    ],
)
def test_a_moment_of_the_loop_is_a_minute_of_a_date(at_s, minute):
    assert CALENDAR.minute(at_s) == minute


def test_a_play_counts_as_a_start_as_popular_and_as_co_viewed():
    play = at(title="title-0002", at_s=1_061.0)

    effects = effects_of([play], {play.subscriber: ("title-0001",)}, CALENDAR)

    assert effects == Effects(
        viewings={play.subscriber: ("title-0002", "title-0001")},
        counts=Counter(
            {
                ("figures/dates", DAY): 1,
                (f"figures/{DAY}/kinds", "play_started"): 1,
                (f"figures/{DAY}/starts", "00:01"): 1,
            }
        ),
        scores=Counter(
            {
                ("popular/country-01", "title-0002"): 1,
                ("coviewing/title-0001", "title-0002"): 1,
                ("coviewing/title-0002", "title-0001"): 1,
            }
        ),
        rows={f"home/{play.subscriber}": 1_061.0, "popular/country-01": 1_061.0},
    )


def test_a_stop_adds_what_was_watched_in_whole_milliseconds():
    stops = [at(Kind.STOPPED, watched_s=seconds) for seconds in (0.0014, 2.5, 0.1)]

    assert effects_of(stops, {}, CALENDAR).counts[f"figures/{DAY}/watched_ms", "country-01/title-0001"] == 2_601


def test_sign_ups_and_cancellations_count_by_plan_and_the_rest_by_kind_alone():
    events = [
        at(Kind.SIGNED_UP, plan=Plan.PREMIUM),
        at(Kind.CANCELLED, plan=Plan.PREMIUM),
        at(Kind.SIGNED_UP, plan=Plan.PREMIUM),
        at(Kind.SEARCHED, query="x"),
        at(Kind.CHUNK_STALLED),
    ]

    effects = effects_of(events, {}, CALENDAR)

    assert effects.counts[f"figures/{DAY}/plans", "premium/signed_up"] == 2
    assert effects.counts[f"figures/{DAY}/plans", "premium/cancelled"] == 1
    assert effects.counts[f"figures/{DAY}/kinds", "searched"] == 1
    assert effects.counts[f"figures/{DAY}/kinds", "chunk_stalled"] == 1
    assert not effects.viewings
    assert not effects.scores
    assert not effects.rows


PLAYS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 9).map("title-{:04d}".format), st.floats(0, 200_000)),
    max_size=30,
)


@given(PLAYS, st.integers(0, 30))
def test_batches_of_any_size_add_up_to_the_same(plays, cut):
    events = [
        at(id=f"x-{number}", subscriber=subscriber, title=title, at_s=at_s)
        for number, (subscriber, title, at_s) in enumerate(plays, start=1)
    ]
    whole = effects_of(events, {}, CALENDAR)
    first = effects_of(events[:cut], {}, CALENDAR)
    second = effects_of(events[cut:], first.viewings, CALENDAR)

    assert first.counts + second.counts == whole.counts
    assert first.scores + second.scores == whole.scores
    assert {**first.viewings, **second.viewings} == whole.viewings
    assert sum(count for (key, _), count in whole.counts.items() if key.endswith("/kinds")) == len(events)


def test_an_event_of_another_time_is_not_counted():
    now_s = AGE_MAX_S + 1_000.0

    assert timely(at(at_s=now_s), now_s) is None
    assert timely(at(at_s=now_s + FUTURE_MAX_S), now_s) is None
    assert timely(at(at_s=1_000.0), now_s) is None
    assert timely(at(at_s=now_s + 99.0), now_s) == "event.at_s is 99 s ahead of now; at most 60 s are allowed"
    old = timely(replace(at(), at_s=900.0), now_s)
    assert old == "event.at_s is 604900 s ago; at most 604800 s are allowed"
