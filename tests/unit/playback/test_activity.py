"""Activity events: what they may be, and their form in the stream."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.activity import EVENT_BYTES_MAX, TEXT_MAX, ActivityEvent, BadEvent, Kind
from targets.playback.validation import Plan

PLAY = ActivityEvent(
    id="play_api-1-1f-7",
    kind=Kind.PLAY_STARTED,
    at_s=12.5,
    subscriber="subscriber-00001",
    country="country-01",
    plan=Plan.BASIC,
    title="title-0001",
)
STOP = replace(PLAY, kind=Kind.STOPPED, watched_s=3.25)


TEXTS = st.text(max_size=TEXT_MAX).filter(str.isprintable) | st.just("\U0001f3ac" * TEXT_MAX)


@st.composite
def events(draw):
    kind = draw(st.sampled_from(Kind))
    return ActivityEvent(
        id=f"{draw(st.sampled_from(['play_api-1-1f', 'a.b', 'x']))}-{draw(st.integers(1, 10**15 - 1))}",
        kind=kind,
        at_s=draw(st.floats(0, 1e9)),
        subscriber=draw(st.sampled_from(["subscriber-00001", "a@b.example"])),
        country=draw(st.sampled_from(["country-01", "DE"])),
        plan=draw(st.sampled_from(Plan)),
        title=f"title-{draw(st.integers(1, 9999)):04d}" if "title" in needs(kind) else None,
        watched_s=draw(st.floats(0, 86_400)) if "watched_s" in needs(kind) else None,
        reason=draw(st.none() | TEXTS),
        query=draw(st.none() | TEXTS),
    )


def needs(kind):
    if kind is Kind.STOPPED:
        return ("title", "watched_s")
    return ("title",) if kind in (Kind.PLAY_STARTED, Kind.CHUNK_STALLED) else ()


@given(events())
def test_an_event_comes_back_from_the_stream_as_it_was(event):
    assert ActivityEvent.from_bytes(event.to_bytes()) == event


def test_the_longest_event_is_not_too_long_and_anything_longer_is():
    longest = replace(
        STOP,
        id="x" * 80 + "-" + "9" * 15,
        subscriber="x" * 80,
        country="x" * 40,
        at_s=1234567.123456789,
        watched_s=12345.123456789,
        reason="\U0001f3ac" * TEXT_MAX,
        query='"' * TEXT_MAX,
    )
    assert ActivityEvent.from_bytes(longest.to_bytes()) == longest
    with pytest.raises(BadEvent, match="an event has at most 1024 bytes, not 1025"):
        ActivityEvent.from_bytes(PLAY.to_bytes().ljust(EVENT_BYTES_MAX + 1))


def test_the_parts_of_an_id_are_the_emitter_and_a_number():
    assert (PLAY.emitter, PLAY.number) == ("play_api-1-1f", 7)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_no_event_is_said_to_be_none(data):
    with pytest.raises(BadEvent):
        ActivityEvent.from_bytes(data if isinstance(data, bytes) else data.encode())


@given(st.sampled_from(sorted(json.loads(STOP.to_bytes()))), st.none() | st.booleans() | st.lists(st.integers()))
def test_a_field_of_another_type_is_named(name, value):
    fields = json.loads(STOP.to_bytes()) | {name: value}
    with pytest.raises(BadEvent, match=f"event.{name} is"):
        ActivityEvent.from_bytes(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "play_api-1"}, None),
        ({"id": "play_api-0"}, "event.id is 'play_api-0': <emitter>-<number>"),
        ({"id": "nothing"}, "event.id is 'nothing'"),
        ({"id": "a b-1"}, "event.id"),
        ({"id": "x-" + "9" * 16}, "event.id"),
        ({"at_s": -1.0}, "event.at_s is '-1.0': a number of seconds, 0 or more"),
        ({"at_s": float("nan")}, "event.at_s is 'nan'"),
        ({"at_s": float("inf")}, "event.at_s is 'inf'"),
        ({"subscriber": ""}, "event.subscriber is ''"),
        ({"subscriber": "a b"}, "event.subscriber is 'a b'"),
        ({"country": "a/b"}, "event.country is 'a/b'"),
        ({"title": None}, "event.title is 'None': needed by play_started, such as title-0001"),
        ({"title": "title-0000"}, "event.title is 'title-0000'"),
        ({"kind": Kind.SEARCHED}, "event.title is 'title-0001': not part of searched"),
        ({"watched_s": 1.0}, "event.watched_s is '1.0': not part of play_started"),
        ({"kind": Kind.STOPPED}, "event.watched_s is 'None': from 0 to 86400 seconds"),
        ({"kind": Kind.STOPPED, "watched_s": 86_401.0}, "event.watched_s is '86401.0'"),
        ({"reason": "x" * 65}, "event.reason is 'x+': at most 64 printable characters"),
        ({"query": "a\nb"}, "at most 64 printable characters"),
        ({"query": "\ud800"}, "at most 64 printable characters"),
    ],
)
def test_a_field_outside_its_limits_is_named_with_what_is_allowed(changes, message):
    if message is None:
        assert replace(PLAY, **changes).number == 1
        return
    with pytest.raises(BadEvent, match=message):
        replace(PLAY, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "danced"}, "event.kind is 'danced': one of play_started, chunk_stalled"),
        ({"plan": "gold"}, "event.plan is 'gold': one of basic, standard, premium"),
        ({"colour": "red"}, "an event has no field 'colour'; it has id, kind"),
        ({"at_s": 10**400}, "event.at_s has too many digits"),
    ],
)
def test_what_json_says_is_checked_too(change, message):
    fields = json.loads(PLAY.to_bytes()) | change
    with pytest.raises(BadEvent, match=message):
        ActivityEvent.from_bytes(json.dumps(fields).encode())
