"""Counting: whatever two consumers do to each other and to the same messages, every event counts once."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from targets.playback.activity import Kind
from targets.playback.counting import sort, step_of
from targets.playback.dates import Calendar
from targets.playback.event_stream import Backlog, EventStream, Look, Message
from tests.unit.playback.little_target import running_valkey
from tests.unit.playback.pipeline_fixtures import client, event

CALENDAR = Calendar(dt.date(2026, 1, 1), began_s=0.0)


@pytest.fixture(scope="module")
def server():
    """A real server of events."""
    with running_valkey("events") as address:
        yield address


def messages_of(*events):
    return [
        Message(id=f"{number}-0", data=one if isinstance(one, bytes) else one.to_bytes())
        for number, one in enumerate(events, start=1)
    ]


def test_messages_are_sorted_by_what_becomes_of_them():
    good = event(at_s=5.0)

    batch = sort(messages_of(good, b"", good), 5.0)

    assert batch.events == [good]
    assert batch.messages == {good.id: "1-0"}
    assert batch.repeated == ["3-0"]
    assert [(one.message.id, one.reason[:28]) for one in batch.dead_letters] == [
        ("2-0", "an event is a JSON object: E")
    ]


def test_a_step_counts_what_is_new_and_gives_up_what_is_counted():
    known, new = event(at_s=5.0), event(at_s=6.0, subscriber="new", title="title-0002")
    batch = sort(messages_of(known, new, known), 6.0)

    step = step_of(batch, Look(viewings={"new": "title-0001"}, counted=frozenset({known.id})), CALENDAR)

    assert step.events == [new]
    assert step.unchanged == {"new": "title-0001"}
    assert step.viewings == {"new": ("title-0002", "title-0001")}
    assert step.counted == ["2-0"]
    assert step.duplicates == ["3-0", "1-0"]


class World:
    """A stream, two consumers, and a naive model: the set of the events that were added."""

    def __init__(self, stream):
        self.stream = stream
        self.sent = []
        self.steps = {}

    async def do(self, what, consumer, number):
        match what:
            case "send":
                kind = Kind.PLAY_STARTED if number % 4 < 2 else Kind.STOPPED
                title = f"title-{len(self.sent) + 1:04d}"
                self.sent.append(event(kind, at_s=float(number), subscriber=f"s-{number // 9}", title=title))
                await self.stream.add([self.sent[-1].to_bytes()])
            case "send again" if self.sent:
                await self.stream.add([self.sent[number % len(self.sent)].to_bytes()])
            case "take" if consumer not in self.steps:
                await self.look(consumer, await self.stream.read(consumer, count=number % 3 + 1, block_s=0.0))
            case "claim" if consumer not in self.steps:
                await self.look(consumer, await self.stream.claim(consumer, count=1_000, idle_s=0.0))
            case "apply" if consumer in self.steps:
                await self.stream.apply(self.steps.pop(consumer))
            case "die":
                self.steps.pop(consumer, None)

    async def look(self, consumer, messages):
        if not messages:
            return
        batch = sort(messages, 100.0)
        self.steps[consumer] = step_of(batch, await self.stream.look(batch.events), CALENDAR)

    async def end(self):
        """Let one consumer do what is left, as any would after some time."""
        for _ in range(30):
            for what in ("take", "apply", "claim", "apply"):
                await self.do(what, "one", 98)
            if await self.stream.backlog() == Backlog(messages=0, pending=0):
                return
        assert await self.stream.backlog() == Backlog(messages=0, pending=0)

    async def check(self):
        plays = [one for one in self.sent if one.kind is Kind.PLAY_STARTED]
        stops = [one for one in self.sent if one.kind is Kind.STOPPED]
        watched = {}
        for one in plays:
            watched.setdefault(one.subscriber, set()).add(one.title)

        kinds, watched_ms, totals = await self.stream.counts(
            "figures/2026-01-01/kinds", "figures/2026-01-01/watched_ms", "figures/totals"
        )
        assert kinds == {kind: len(some) for kind, some in (("play_started", plays), ("stopped", stops)) if some}
        assert watched_ms == {f"country-01/{one.title}": 1_500 for one in stops}
        assert totals.get("counted", 0) == len(self.sent)
        popular = await self.stream.scores(["popular/country-01"], members_max=100)
        assert popular["popular/country-01"] == {one.title: 1 for one in plays}
        viewings = await self.stream.viewings(["s-0", "s-1"])
        assert {subscriber: set(viewing) for subscriber, viewing in viewings.items()} == watched


DEEDS = st.tuples(
    st.sampled_from(["send", "send", "send again", "take", "take", "claim", "claim", "apply", "apply", "die"]),
    st.sampled_from(["one", "two"]),
    st.integers(0, 9),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DEEDS, min_size=20, max_size=60))
def test_every_event_counts_once_in_whatever_order_things_happen(server, deeds):
    async def live():
        stream = EventStream(server)
        world = World(stream)
        await stream.open_group()
        for what, consumer, number in deeds:
            await world.do(what, consumer, number)
        await world.end()
        await world.check()
        await stream.close()

    with client(server) as valkey:
        valkey.flushall()
    asyncio.run(live())
