"""What players report: taken note of at once, and counted once however often it is reported."""

from __future__ import annotations

import contextlib
import json

import pytest

from targets.playback.activity import play_event_id
from targets.playback.activity_api import Report, report_handler
from targets.playback.activity_emitter import Activity
from targets.playback.passport import HEADER
from targets.playback.service import Context, application
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, config, passport_of, running_valkey, until
from tests.unit.playback.pipeline_fixtures import received

STOP = {"session": "play_api-1-1f-7", "number": 2, "kind": "stopped", "title": "title-0001", "watched_s": 4.5}
STALL = {"session": "play_api-1-1f-7", "number": 1, "kind": "chunk_stalled", "title": "title-0001", "reason": "late"}


@contextlib.asynccontextmanager
async def reporting(events):
    """A service that takes reports; a function that reports, and its emitter."""
    async with LittleTarget() as target:
        context = Context(config("play_api", calls={"events": [events]}))
        activity = Activity(context)
        app = application(context)
        activity.install(app)
        app.router.add_post("/activity", report_handler(activity))
        address = await target.serve(app)
        headers = {HEADER: passport_of(target.data.subscribers[0]).to_header()}
        yield lambda body, **other: target.post(address, "/activity", body, **(other or headers)), activity
        assert (await target.get(address, "/activity"))[1]["emitted"] == activity.counts.emitted


async def test_reports_become_events_with_an_id_that_is_the_players():
    with running_valkey("events") as events:
        async with reporting(events) as (report, activity):
            for body in (STALL, STOP, STOP):
                assert await report(body) == (202, {"accepted": True})

            async def sent():
                return activity.counts.acknowledged == 3

            await until(sent)
        found = received(events)
    assert [one.id for one in found] == [play_event_id("play_api-1-1f-7", number) for number in (1, 2, 2)]
    assert [(one.kind, one.reason, one.watched_s) for one in found[:2]] == [
        ("chunk_stalled", "late", None),
        ("stopped", None, 4.5),
    ]
    assert {one.subscriber for one in found} == {"subscriber-00001"}


async def test_nobody_waits_for_a_server_that_is_away():
    async with reporting(dead_address()) as (report, activity):
        assert (await report(STOP))[0] == 202
        assert activity.counts.waiting == 1


async def test_without_a_passport_or_with_a_bad_body_it_says_what_is_wrong():
    async with reporting(dead_address()) as (report, activity):
        assert await report(STOP, X_Other="1") == (400, {"error": "the header X-Passport is missing"})
        assert await report({**STOP, "kind": "signed_up"}) == (400, {"error": "kind is chunk_stalled or stopped"})
        assert activity.counts.emitted == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"session": "a b"}, "session is the one in the answer to the play"),
        ({"session": "x" * 65}, "session is"),
        ({"session": None}, "session is"),
        ({"number": 0}, "from 1 to 10000"),
        ({"number": 10_001}, "from 1 to 10000"),
        ({"number": True}, "from 1 to 10000"),
        ({"number": 1.5}, "from 1 to 10000"),
        ({"kind": "play_started"}, "chunk_stalled or stopped"),
        ({"title": "x"}, "such as title-0001"),
        ({"watched_s": None}, "from 0 to 86400 seconds"),
        ({"watched_s": float("nan")}, "from 0 to 86400 seconds"),
        ({"watched_s": 10**400}, "from 0 to 86400 seconds"),
        ({"watched_s": "1"}, "from 0 to 86400 seconds"),
        ({"kind": "chunk_stalled"}, "watched_s belongs to a stop"),
        ({"reason": "a\nb"}, "at most 64 printable"),
        ({"reason": 1}, "at most 64 printable"),
        ({"colour": 1}, "a report has no field 'colour'; it has kind, number"),
    ],
)
def test_every_field_has_its_limits(change, message):
    with pytest.raises(ValueError, match=message):
        Report.from_body(json.dumps({**STOP, **change}).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"\xff"])
def test_what_is_no_object_is_no_report(body):
    with pytest.raises(ValueError, match=r"JSON object|Expecting value|decode"):
        Report.from_body(body)
