"""The emitter, against a real server of events that is there, away, full, or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from targets.playback.activity import Kind
from targets.playback.activity_emitter import BATCH_MAX, Activity
from targets.playback.event_stream import EventStream
from targets.playback.service import Context
from targets.playback.transport import CallFailed
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, config, until, valkey_process
from tests.unit.playback.pipeline_fixtures import client, received

SUBSCRIBER = LittleTarget().data.subscribers[0]


@pytest.fixture(scope="module")
def server():
    """A real server of events."""
    with valkey_process("events") as process:
        yield process


@pytest.fixture
def events(server):
    """The server, empty."""
    with client(server.address) as valkey:
        valkey.flushall()
    return server


@contextlib.asynccontextmanager
async def emitter(*addresses, **options):
    """An emitter that is told of these servers, and ends."""
    context = Context(config("play_api", calls={"events": addresses} if addresses else {}))
    activity = Activity(context, **options)
    yield activity
    await context.close()
    await activity.close()


def acknowledged(activity, number):
    async def condition():
        return activity.counts.acknowledged >= number

    return condition


def play(activity, times=1, **fields):
    for _ in range(times):
        activity.emit(Kind.PLAY_STARTED, SUBSCRIBER, **{"title": "title-0001", **fields})


async def test_what_is_emitted_arrives_in_order_and_with_ids_of_its_own(events):
    async with emitter(events.address) as activity:
        before_s = asyncio.get_running_loop().time()
        play(activity, 3)
        activity.emit(Kind.STOPPED, SUBSCRIBER, title="title-0002", watched_s=2.5, reason="ended")
        activity.emit(Kind.SEARCHED, SUBSCRIBER, query="title")
        await until(acknowledged(activity, 5))

        found = received(events.address)
    assert [one.kind for one in found] == [Kind.PLAY_STARTED] * 3 + [Kind.STOPPED, Kind.SEARCHED]
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    assert len({one.emitter for one in found}) == 1
    assert found[0].emitter.startswith("play_api-1-")
    assert (found[3].watched_s, found[3].reason, found[4].query) == (2.5, "ended", "title")
    assert (found[0].subscriber, found[0].country, found[0].plan) == (
        SUBSCRIBER.id,
        SUBSCRIBER.country,
        SUBSCRIBER.plan,
    )
    assert before_s <= found[0].at_s <= asyncio.get_running_loop().time()


async def test_more_than_a_batch_is_sent_in_several(events):
    async with emitter(events.address) as activity:
        play(activity, 3 * BATCH_MAX + 1)
        await until(acknowledged(activity, 3 * BATCH_MAX + 1))

    assert [one.number for one in received(events.address)] == list(range(1, 3 * BATCH_MAX + 2))


async def test_a_full_buffer_drops_the_oldest_and_counts_them():
    async with emitter(dead_address(), waiting_max=5) as activity:
        play(activity, 12)

        assert activity.counts.emitted == 12
        assert activity.counts.dropped == 7
        assert activity.counts.waiting == 5
        assert [json.loads(one)["id"].rpartition("-")[2] for one in activity._waiting] == ["8", "9", "10", "11", "12"]


async def test_a_bad_event_is_counted_and_neither_raised_nor_sent(events):
    async with emitter(events.address) as activity:
        play(activity, title="no title")
        activity.emit(Kind.STOPPED, SUBSCRIBER, title="title-0001", watched_s=float("nan"))
        activity.emit(Kind.SEARCHED, SUBSCRIBER, query="x" * 1000)
        play(activity)
        await until(acknowledged(activity, 1))

        assert activity.counts.invalid == 3
        assert activity.counts.emitted == 1
    assert [one.number for one in received(events.address)] == [1]


async def test_a_service_that_is_told_of_no_server_drops_what_it_emits():
    async with emitter() as activity:
        play(activity, 3)

        assert (activity.counts.emitted, activity.counts.dropped, activity.counts.waiting) == (3, 3, 0)


async def test_what_is_emitted_while_the_server_is_away_arrives_when_it_is_back():
    with valkey_process("events") as events:
        async with emitter(events.address) as activity:
            play(activity)
            await until(acknowledged(activity, 1))
            events.kill()
            play(activity, 50)
            await asyncio.sleep(0.1)
            assert activity.counts.acknowledged == 1
            assert activity.counts.waiting == 50
            events.start()
            await until(acknowledged(activity, 51))

        numbers = [one.number for one in received(events.address)]
    # The first one was acknowledged, and the server was killed after that.
    assert numbers == list(range(1, 52))


async def test_a_server_that_hangs_makes_nobody_wait_and_what_it_had_got_comes_once_more(events):
    loop = asyncio.get_running_loop()
    async with emitter(events.address) as activity:
        play(activity)
        await until(acknowledged(activity, 1))
        events.freeze()
        try:
            began_s = loop.time()
            play(activity, 1000)
            assert loop.time() - began_s < 0.5

            async def timed_out():
                return activity._add.snapshot().counts.timeout > 0

            await until(timed_out)
        finally:
            events.thaw()
        await until(acknowledged(activity, 1001))

    numbers = [one.number for one in received(events.address)]
    assert set(numbers) == set(range(1, 1002))
    assert len(numbers) > 1001, "the batch that got no answer is there twice"


async def test_a_stream_that_is_full_refuses_instead_of_forgetting(events):
    stream = EventStream(events.address)
    await stream.add([b"1", b"2"], stream_max=3)
    with pytest.raises(CallFailed, match="FULL"):
        await stream.add([b"3", b"4"], stream_max=3)
    await stream.add([b"5"], stream_max=3)
    await stream.close()

    with client(events.address) as valkey:
        assert [fields["event"] for _, fields in valkey.xrange("activity")] == ["1", "2", "5"]


async def test_what_waits_at_the_end_is_sent_and_the_counts_are_shown(events):
    async with LittleTarget() as target:
        context = Context(config("play_api", calls={"events": [events.address]}))
        activity = Activity(context)
        app = web.Application()
        activity.install(app)
        address = await target.serve(app)
        play(activity)
        await until(acknowledged(activity, 1))
        assert await target.get(address, "/activity") == (
            200,
            {"emitted": 1, "acknowledged": 1, "waiting": 0, "dropped": 0, "invalid": 0},
        )
        await context.close()
        play(activity, 2)
        await target.stop(address)

    assert [one.number for one in received(events.address)] == [1, 2, 3]
