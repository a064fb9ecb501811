"""One step in the events' server: all of it or nothing, whatever was delivered twice or changed meanwhile."""

from __future__ import annotations

import contextlib

import pytest

from targets.playback.event_stream import (
    _SCORES_MAX,
    Backlog,
    DeadLetter,
    EventStream,
    Step,
    viewing_of,
    viewing_text,
)
from targets.playback.events_server import NoGroup
from targets.playback.transport import CallFailed
from tests.ports import dead_address
from tests.unit.playback.pipeline_fixtures import client, event


@pytest.fixture
def valkey(events_server):
    """A plain client of the server, which is empty."""
    with client(events_server) as valkey:
        valkey.flushall()
        yield valkey


@contextlib.asynccontextmanager
async def stream_of(address):
    stream = EventStream(address)
    yield stream
    await stream.close()


@contextlib.asynccontextmanager
async def stream_with(address, *events):
    """A stream with these events in it, and the messages that the consumer ``one`` has got."""
    async with stream_of(address) as stream:
        await stream.open_group()
        await stream.add([one.to_bytes() for one in events])
        yield stream, await stream.read("one", count=100, block_s=0.1)


async def test_the_server_of_events_writes_every_answer_to_disk_and_never_evicts(valkey):
    settings = valkey.config_get("append*") | valkey.config_get("maxmemory-policy")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"


async def test_a_step_counts_remembers_and_acknowledges(events_server, valkey):
    play = event()
    async with stream_with(events_server, play) as (stream, (message,)):
        assert message.data == play.to_bytes()
        assert await stream.backlog() == Backlog(messages=1, pending=1)

        version = await stream.apply(
            Step(
                events=[play],
                unchanged={"someone": None},
                viewings={"someone": ("title-0002", "title-0001")},
                counts={("figures/x", "a"): 2, ("figures/x", "b"): 10**15},
                scores={("popular/y", "title-0001"): 3},
                rows={"home/someone": 12.25},
                counted=[message.id],
            )
        )

        assert version == 1
        assert await stream.backlog() == Backlog(messages=0, pending=0)
        assert await stream.counts("figures/x", "figures/totals") == [{"a": 2, "b": 10**15}, {"counted": 1}]
        assert await stream.scores(["popular/y", "popular/z"], members_max=5) == {
            "popular/y": {"title-0001": 3},
            "popular/z": {},
        }
        assert await stream.viewings(["someone", "nobody"]) == {"someone": ("title-0002", "title-0001")}
        assert (await stream.look([play])).counted == {play.id}
        assert await stream.due(0, count=10) == (0, {"home/someone": "1 12.25"})
    assert 0 < valkey.ttl("counted/test-1/0") <= 7 * 86_400
    assert 0 < valkey.ttl("viewing/someone") <= 30 * 86_400


async def test_a_step_on_what_has_changed_does_nothing_at_all(events_server, valkey):
    first, second = event(), event()
    async with stream_with(events_server, first, second) as (stream, messages):
        everything = {
            "counts": {("figures/x", "a"): 1},
            "viewings": {"someone": ("title-0001",)},
            "rows": {"home/someone": 1.0},
        }
        assert await stream.apply(
            Step(events=[first], unchanged={"someone": None}, counted=[messages[0].id], **everything)
        )
        before = {key: valkey.dump(key) for key in valkey.scan_iter()}

        counted_already = Step(events=[second, first], counted=[one.id for one in messages], **everything)
        assert await stream.apply(counted_already) is None
        viewing_was_there = Step(events=[second], unchanged={"someone": None}, counted=[messages[1].id], **everything)
        assert await stream.apply(viewing_was_there) is None
        viewing_was_another = Step(events=[second], unchanged={"someone": "title-0002"}, **everything)
        assert await stream.apply(viewing_was_another) is None

        assert {key: valkey.dump(key) for key in valkey.scan_iter()} == before
        as_it_is = Step(events=[second], unchanged={"someone": "title-0001"}, **everything)
        assert await stream.apply(as_it_is) == 2


async def test_duplicates_and_dead_letters_count_once_however_often_they_are_given_up(events_server, valkey):
    async with stream_with(events_server, event(), event()) as (stream, (twice, bad)):
        step = Step(duplicates=[twice.id], dead_letters=[DeadLetter(message=bad, reason="bad")])
        assert await stream.apply(step)
        assert await stream.apply(step)

        assert await stream.counts("figures/totals") == [{"counted": 0, "duplicates": 1, "dead_letters": 1}]
    assert [fields for _, fields in valkey.xrange("activity.dead")] == [
        {"event": bad.data.decode(), "reason": "bad"},
    ]


async def test_what_a_consumer_left_is_claimed_by_another_and_how_often_it_was_delivered_is_known(
    events_server, valkey
):
    async with stream_with(events_server, event()) as (stream, (message,)):
        assert await stream.claim("two", count=10, idle_s=60.0) == []
        assert await stream.claim("two", count=10, idle_s=0.0) == [message]
        assert await stream.deliveries(message) == 2
        await stream.apply(Step(duplicates=[message.id]))
        assert await stream.deliveries(message) == 0
        assert await stream.claim("one", count=10, idle_s=0.0) == []


async def test_without_the_group_reading_says_so(events_server, valkey):
    async with stream_of(events_server) as stream:
        with pytest.raises(NoGroup):
            await stream.read("one", count=1, block_s=0.01)
        await stream.open_group()
        await stream.open_group()
        assert await stream.read("one", count=1, block_s=0.01) == []


async def test_the_lower_half_of_too_many_scores_is_forgotten(events_server, valkey):
    async with stream_of(events_server) as stream:
        scores = {("coviewing/x", f"title-{number:04d}"): number for number in range(1, _SCORES_MAX + 2)}
        await stream.apply(Step(scores=scores))

        kept = (await stream.scores(["coviewing/x"], members_max=1000))["coviewing/x"]
    assert len(kept) == _SCORES_MAX // 2 + 1
    assert min(kept.values()) == _SCORES_MAX // 2 + 1


async def test_a_row_is_settled_unless_it_is_due_anew(events_server, valkey):
    async with stream_of(events_server) as stream:
        await stream.apply(Step(rows={"home/a": 1.0, "home/b": 1.5}))
        _, marks = await stream.due(0, count=10)
        await stream.apply(Step(rows={"home/b": 1.5}))
        await stream.settle(marks)

        assert await stream.due(0, count=10) == (0, {"home/b": "2 1.5"})


async def test_a_lease_is_one_holders_until_it_ends(events_server, valkey):
    async with stream_of(events_server) as stream:
        assert await stream.lease("lake", "one", for_s=30.0)
        assert await stream.lease("lake", "one", for_s=30.0)
        assert not await stream.lease("lake", "two", for_s=30.0)
        assert 0 < valkey.pttl("lease/lake") <= 30_000
        valkey.delete("lease/lake")
        assert await stream.lease("lake", "two", for_s=30.0)


async def test_all_consumers_count_the_date_from_the_same_moment(events_server, valkey):
    async with stream_of(events_server) as stream:
        assert await stream.began_s(12.5) == 12.5
        assert await stream.began_s(99.0) == 12.5


async def test_a_server_that_is_away_is_a_failed_call():
    async with stream_of(dead_address()) as stream:
        for call in (stream.open_group(), stream.add([b"x"]), stream.backlog(), stream.apply(Step())):
            with pytest.raises(CallFailed, match="events: "):
                await call


def test_a_viewing_comes_back_from_its_text():
    viewing = ("title-0002", "title-0001")

    assert viewing_of(viewing_text(viewing)) == viewing_of(viewing_text(viewing).encode()) == viewing
    assert viewing_of(None) == viewing_of("") == ()
