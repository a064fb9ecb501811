"""Whoever is killed, and whenever: every event that was acknowledged is counted, and none twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

from targets.playback.activity import Kind
from targets.playback.activity_emitter import Activity
from targets.playback.effects import coviewing_key, popular_key
from targets.playback.event_stream import TOTALS, Backlog, EventStream
from targets.playback.service import Context
from targets.playback.transport import CallFailed
from targets.playback.validation import Plan, Subscriber
from tests.ports import dead_address
from tests.unit.playback.little_target import config, running_valkey, valkey_process
from tests.unit.playback.service_process import ServiceProcess

EMIT_EVERY_S = 0.02
AT_ONCE = 8
SUBSCRIBERS = [
    Subscriber(id=f"subscriber-{number:05d}", plan=Plan.BASIC, country=f"country-{number % 3:02d}")
    for number in range(1, 31)
]


class Load:
    """Emits plays and stops, and keeps the count of what it emitted."""

    def __init__(self, activity: Activity, rng: random.Random) -> None:
        self.activity = activity
        self.rng = rng
        self.plays: Counter[tuple[str, str]] = Counter()
        self.watched_ms: Counter[str] = Counter()
        self.stops = 0
        self.viewings: dict[str, set[str]] = {}

    def emit(self) -> None:
        """Emit one event."""
        who = self.rng.choice(SUBSCRIBERS)
        title = f"title-{self.rng.randint(1, 30):04d}"
        if self.rng.random() < 0.5:
            self.activity.emit(Kind.PLAY_STARTED, who, title=title)
            self.plays[popular_key(who.country), title] += 1
            self.viewings.setdefault(who.id, set()).add(title)
        else:
            milliseconds = self.rng.randint(1, 5_000)
            self.activity.emit(Kind.STOPPED, who, title=title, watched_s=milliseconds / 1000)
            self.watched_ms[f"{who.country}/{title}"] += milliseconds
            self.stops += 1

    async def run(self) -> None:
        """Emit until cancelled."""
        while True:
            for _ in range(AT_ONCE):
                self.emit()
            await asyncio.sleep(EMIT_EVERY_S)


class Lossy(EventStream):
    """A stream that loses one of eight answers: what was added is there, and its sender thinks that it is not."""

    rng = random.Random(1)
    lost = 0

    async def add(self, events, **limits):
        await super().add(events, **limits)
        if self.rng.random() < 1 / 8:
            Lossy.lost += 1
            await asyncio.sleep(0.1)
            raise CallFailed("the answer was lost")


async def until_worked_off(activity, stream):
    """Wait until all that was emitted is acknowledged and dealt with."""
    for _ in range(1_000):
        with contextlib.suppress(CallFailed):
            counts = activity.counts
            if counts.acknowledged == counts.emitted and await stream.backlog() == Backlog(messages=0, pending=0):
                return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not worked off: {activity.counts}, {await stream.backlog()}")


async def test_every_acknowledged_event_is_counted_exactly_once_whoever_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("targets.playback.activity_emitter.EventStream", Lossy)
    rng = random.Random(4)
    with valkey_process("events") as events, running_valkey() as cache, contextlib.ExitStack() as processes:
        pipelines = []
        for index in (1, 2):
            told = config(
                "pipeline",
                index=index,
                port=int(dead_address().rpartition(":")[2]),
                calls={"events": [events.address], "cache": [cache]},
                zones=("a",),
                data_dir=str(tmp_path / f"pipeline-{index}"),
            )
            pipelines.append(ServiceProcess(told))
            pipelines[-1].start()
            processes.callback(pipelines[-1].kill)
        context = Context(config("play_api", calls={"events": [events.address]}))
        activity, stream = Activity(context), EventStream(events.address)
        load = Load(activity, random.Random(5))
        emitting = asyncio.ensure_future(load.run())

        victims = [events, *pipelines, events, *pipelines, events, *pipelines, events]
        rng.shuffle(victims)
        for victim in victims:
            await asyncio.sleep(rng.uniform(0.1, 0.4))
            victim.kill()
            if victim is events:
                await asyncio.sleep(rng.uniform(0.0, 0.2))
            victim.start()
        emitting.cancel()
        await until_worked_off(activity, stream)

        counts = activity.counts
        (totals, dates) = await stream.counts(TOTALS, "figures/dates")
        (date,) = dates
        (kinds, watched_ms) = await stream.counts(f"figures/{date}/kinds", f"figures/{date}/watched_ms")
        popular = await stream.scores(sorted({key for key, _ in load.plays}), members_max=100)
        viewings = await stream.viewings(sorted(load.viewings))
        titles = sorted({title for _, title in load.plays})
        coviewing = await stream.scores([coviewing_key(title) for title in titles], members_max=100)
        await context.close()
        await activity.close()
        await stream.close()

    assert counts.dropped == counts.invalid == 0
    assert counts.emitted == counts.acknowledged > 500
    assert totals["counted"] == counts.acknowledged
    assert totals["duplicates"] >= Lossy.lost > 0
    assert totals.get("dead_letters", 0) == 0
    assert kinds == {"play_started": load.plays.total(), "stopped": load.stops}
    assert watched_ms == load.watched_ms
    assert {(key, title): count for key, found in popular.items() for title, count in found.items()} == load.plays
    assert {subscriber: set(viewing) for subscriber, viewing in viewings.items()} == load.viewings
    # A pair is counted on both sides in one step, so both sides agree.
    for title in titles:
        for other, count in coviewing[coviewing_key(title)].items():
            assert coviewing[coviewing_key(other)][title] == count
