"""The pipeline with a real server of events and a real cache: duplicates, dead consumers, poison, backlog, rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from targets.playback import pipeline as pipeline_module
from targets.playback.activity import Kind
from targets.playback.effects import effects_of
from targets.playback.event_stream import EventStream
from targets.playback.home_rows import popular_from_bytes, recommendation_from_bytes
from targets.playback.pipeline import BATCH_MAX, Pipeline, application_of, build
from targets.playback.service import Context
from tests.ports import dead_address
from tests.unit.playback.little_target import SETTINGS, LittleTarget, config, running_valkey, until, valkey_process
from tests.unit.playback.pipeline_fixtures import client, event


class Plant(LittleTarget):
    """Pipelines on servers, and what tests ask of them."""

    async def build(self, events, *caches, index=1, effects=effects_of, settings=None):
        """Start a pipeline; its address."""
        self.events = events
        told = config(
            "pipeline",
            index=index,
            calls={"events": [events], "cache": caches},
            zones=("a", "b"),
            data_dir=f"{self._folder}/pipeline-{index}",
            settings=settings,
        )
        context = Context(told)
        self.pipeline = Pipeline(context, effects=effects)
        return await self.serve(application_of(context, self.pipeline))

    async def send(self, *events):
        """Put events, or bytes, into the stream."""
        stream = EventStream(self.events)
        await stream.add([one if isinstance(one, bytes) else one.to_bytes() for one in events])
        await stream.close()

    async def shown(self, pipeline):
        """What a pipeline says of itself."""
        status, shown = await self.get(pipeline, "/pipeline")
        assert status == 200
        return shown

    async def until_worked_off(self, pipeline, *, of=1):
        """Wait until ``of`` messages or more were dealt with, and none waits."""

        async def worked_off():
            shown = await self.shown(pipeline)
            if not shown["totals"]:
                return False
            return shown["backlog"] == {"messages": 0, "pending": 0} and sum(shown["totals"].values()) >= of

        await until(worked_off)
        return await self.shown(pipeline)


def kinds(address):
    """The counted events by kind, over all dates."""
    counted = {}
    with client(address) as valkey:
        for date in valkey.hkeys("figures/dates"):
            for kind, count in valkey.hgetall(f"figures/{date}/kinds").items():
                counted[kind] = counted.get(kind, 0) + int(count)
    return counted


def cached(address, key):
    """A value in the cache, as bytes."""
    with client(address) as valkey:
        value = valkey.get(key)
        return None if value is None else value.encode()


async def test_events_are_counted_and_what_they_changed_is_in_both_zones_of_the_cache(valkeys):
    async with Plant() as target:
        pipeline = await target.build(*valkeys)
        await target.send(
            event(subscriber="one", title="title-0001"),
            event(subscriber="one", title="title-0002"),
            event(subscriber="two", title="title-0001"),
            event(Kind.STOPPED, subscriber="one"),
        )
        shown = await target.until_worked_off(pipeline, of=4)
        assert shown["totals"] == {"counted": 4, "duplicates": 0, "dead_letters": 0}
        assert kinds(target.events) == {"play_started": 3, "stopped": 1}

        async def written():
            return all(cached(zone, key) for zone in valkeys[1:] for key in ("home/two", "popular/country-01"))

        await until(written)
    for zone in valkeys[1:]:
        row = recommendation_from_bytes(cached(zone, "home/two"))
        assert row is not None
        assert (row.because, row.titles) == ("title-0001", ("title-0002",))
        assert recommendation_from_bytes(cached(zone, "home/one")) is None
        assert popular_from_bytes(cached(zone, "popular/country-01")) == ("title-0001", "title-0002")


async def test_an_event_that_comes_many_times_counts_once(valkeys):
    async with Plant() as target:
        pipeline = await target.build(*valkeys)
        once, twice = event(), event()
        await target.send(once, twice, once, once)
        await target.until_worked_off(pipeline, of=4)
        await target.send(twice, once)
        shown = await target.until_worked_off(pipeline, of=6)

        assert shown["totals"] == {"counted": 2, "duplicates": 4, "dead_letters": 0}
        assert kinds(target.events) == {"play_started": 2}


async def test_what_cannot_be_read_goes_to_the_dead_letters_and_stops_nobody(valkeys):
    async with Plant() as target:
        pipeline = await target.build(*valkeys)
        now_s = asyncio.get_running_loop().time()
        await target.send(event(), b"{", b"\xff\xfe", event(at_s=now_s + 3600.0), b"x" * 5000, event())
        with client(valkeys[0]) as valkey:
            valkey.xadd("activity", {"something": "else"})
        shown = await target.until_worked_off(pipeline, of=7)

        assert shown["totals"] == {"counted": 2, "duplicates": 0, "dead_letters": 5}
        status, letters = await target.get(pipeline, "/pipeline/dead_letters")
    assert status == 200
    assert [one["event"] for one in letters][-2:] == ["\ufffd\ufffd", "{"]
    reasons = [one["reason"] for one in letters]
    assert len(reasons) == 5
    assert any("ahead of now" in reason for reason in reasons)
    assert any("at most 1024 bytes, not 5000" in reason for reason in reasons)


async def test_whatever_is_put_into_the_stream_by_hand_is_counted_or_goes_to_the_dead_letters(valkeys):
    token = {"Authorization": f"Bearer {SETTINGS['admin_token']}"}
    asked = [(event().to_bytes(), token, 202), (b"poison", token, 202), (b"", token, 400), (b"x", {}, 401)]
    async with Plant() as target:
        pipeline = await target.build(*valkeys)
        for body, headers, status in asked:
            async with target.http.post(f"http://{pipeline}/admin/events", data=body, headers=headers) as response:
                assert response.status == status
        shown = await target.until_worked_off(pipeline, of=2)

    assert shown["totals"] == {"counted": 1, "duplicates": 0, "dead_letters": 1}


def dead_letter_reasons(address):
    """Why messages are dead letters."""
    with client(address) as valkey:
        return [fields["reason"] for _, fields in valkey.xrange("activity.dead")]


async def test_an_event_whose_effects_fail_is_tried_three_times_while_the_others_are_counted(valkeys, monkeypatch):
    monkeypatch.setattr("targets.playback.pipeline.CLAIM_IDLE_S", 0.05)
    monkeypatch.setattr("targets.playback.pipeline.CLAIM_EVERY_S", 0.05)
    tried = []

    def effects(events, viewings, calendar):
        for one in events:
            if one.title == "title-0013":
                tried.append(len(events))
                raise ZeroDivisionError("a mistake of ours")
        return effects_of(events, viewings, calendar)

    async with Plant() as target:
        pipeline = await target.build(*valkeys, effects=effects)
        await target.send(event(), event(title="title-0013"), event(title="title-0002"))
        shown = await target.until_worked_off(pipeline, of=3)

        assert shown["totals"] == {"counted": 2, "duplicates": 0, "dead_letters": 1}
    assert tried == [3, 1, 1, 1, 1, 1]
    assert dead_letter_reasons(valkeys[0]) == ["failed 3 times: ZeroDivisionError: a mistake of ours"]


@pytest.mark.parametrize("when", ["look", "apply", "settle"])
async def test_whenever_a_consumer_is_killed_another_one_goes_on_and_everything_counts_once(valkeys, monkeypatch, when):
    monkeypatch.setattr("targets.playback.pipeline.CLAIM_IDLE_S", 0.2)
    monkeypatch.setattr("targets.playback.pipeline.CLAIM_EVERY_S", 0.05)
    monkeypatch.setattr("targets.playback.row_maker.SWEEP_EVERY_S", 0.05)
    monkeypatch.setattr("targets.playback.row_maker.LEFT_UNDONE_S", 0.2)
    reached = asyncio.Event()

    async def never(*_):
        reached.set()
        await asyncio.Event().wait()

    async with Plant() as target:
        first = await target.build(*valkeys)
        monkeypatch.setattr(target.pipeline._stream, when, never)
        await target.send(*(event(subscriber="one", title=f"title-{number:04d}") for number in range(1, 31)))
        await asyncio.wait_for(reached.wait(), 5.0)
        await target.stop(first)
        second = await target.build(*valkeys, index=2)
        shown = await target.until_worked_off(second, of=30)

        assert shown["totals"] == {"counted": 30, "duplicates": 0, "dead_letters": 0}

        async def written():
            return cached(valkeys[1], "popular/country-01") is not None and not rows_due(valkeys[0])

        await until(written)


async def test_a_consumer_that_hangs_and_comes_back_counts_nothing_twice(valkeys, monkeypatch):
    monkeypatch.setattr("targets.playback.pipeline.CLAIM_IDLE_S", 0.1)
    monkeypatch.setattr("targets.playback.pipeline.CLAIM_EVERY_S", 0.05)
    reached, release = asyncio.Event(), asyncio.Event()
    async with Plant() as target:
        first = await target.build(*valkeys)
        apply = target.pipeline._stream.apply

        async def late(step):
            reached.set()
            await release.wait()
            return await apply(step)

        monkeypatch.setattr(target.pipeline._stream, "apply", late)
        await target.send(*(event(subscriber=f"s-{number % 3}") for number in range(20)))
        await asyncio.wait_for(reached.wait(), 5.0)
        second = await target.build(*valkeys, index=2)
        await target.until_worked_off(second, of=20)
        release.set()

        async def has_come_back():
            return (await target.shown(first))["here"]["duplicates"] == 20

        await until(has_come_back)
        shown = await target.shown(first)
        assert (shown["here"]["counted"], shown["here"]["conflicts"]) == (0, 1)
        assert shown["totals"] == {"counted": 20, "duplicates": 0, "dead_letters": 0}
    assert kinds(valkeys[0]) == {"play_started": 20}


def rows_due(address):
    with client(address) as valkey:
        return valkey.hlen("due")


async def test_two_consumers_share_a_backlog_and_each_event_counts_once(valkeys):
    async with Plant() as target:
        target.events = valkeys[0]
        sent = [event(subscriber=f"s-{number % 20}", title=f"title-{number % 29 + 1:04d}") for number in range(3000)]
        for begin in range(0, 3000, 500):
            await target.send(*sent[begin : begin + 500])
        first = await target.build(*valkeys)
        second = await target.build(*valkeys, index=2)
        shown = await target.until_worked_off(first, of=3000)

        assert shown["totals"] == {"counted": 3000, "duplicates": 0, "dead_letters": 0}
        here = [shown["here"]["counted"], (await target.shown(second))["here"]["counted"]]
        assert sum(here) == 3000
        assert min(here) >= BATCH_MAX
    with client(valkeys[0]) as valkey:
        viewings = {subscriber: valkey.get(f"viewing/s-{subscriber}").split() for subscriber in range(20)}
    # Their shares came in any order, so what is newest is not certain; what was watched is.
    for subscriber, viewing in viewings.items():
        assert set(viewing) == {one.title for one in sent if one.subscriber == f"s-{subscriber}"}


async def test_a_play_is_visible_within_two_seconds_and_the_pipeline_says_how_fast(valkeys):
    loop = asyncio.get_running_loop()
    async with Plant() as target:
        pipeline = await target.build(*valkeys)
        await target.send(event(subscriber="one", title="title-0001"), event(subscriber="one", title="title-0002"))
        await target.until_worked_off(pipeline, of=2)
        began_s = loop.time()
        await target.send(event(subscriber="two", title="title-0002"))

        async def visible():
            return recommendation_from_bytes(cached(valkeys[2], "home/two")) is not None

        await until(visible)
        assert loop.time() - began_s < 2.0
        delays = (await target.shown(pipeline))["delay_s"]
        assert delays["rows"] >= 2
        assert 0 < delays["p50"] <= delays["p99"] < 2.0


async def test_rows_that_no_cache_took_are_written_when_one_is_there():
    with running_valkey("events") as events, valkey_process() as zone:
        zone.kill()
        async with Plant() as target:
            pipeline = await target.build(events, dead_address(), zone.address)
            await target.send(event())
            await target.until_worked_off(pipeline)
            assert rows_due(events) == 2
            zone.start()

            async def written():
                return cached(zone.address, "popular/country-01") is not None and not rows_due(events)

            await until(written)


async def test_a_zone_that_was_away_gets_the_rows_that_it_has_missed(monkeypatch):
    monkeypatch.setattr("targets.playback.row_maker.SWEEP_EVERY_S", 0.05)
    keys = ("home/one", "home/two", "popular/country-01")
    with running_valkey("events") as events, running_valkey() as near, valkey_process() as away:
        away.kill()
        async with Plant() as target:
            pipeline = await target.build(events, near, away.address)
            await target.send(*(event(subscriber=who, title="title-0001") for who in ("one", "two")))
            await target.until_worked_off(pipeline, of=2)

            async def settled():
                return all(cached(near, key) for key in keys) and not rows_due(events)

            await until(settled)
            away.start()

            async def complete():
                return [cached(away.address, key) for key in keys] == [cached(near, key) for key in keys]

            await until(complete)
            assert [zone.lacking for zone in target.pipeline._rows.zones] == [0, 0]


async def test_no_more_rows_than_that_are_kept_in_mind_for_a_zone_that_stays_away(monkeypatch):
    monkeypatch.setattr("targets.playback.row_maker.LACKING_MAX", 3)
    with running_valkey("events") as events, running_valkey() as near:
        async with Plant() as target:
            pipeline = await target.build(events, near, dead_address())
            await target.send(*(event(subscriber=f"s-{number}") for number in range(10)))
            await target.until_worked_off(pipeline, of=10)

            async def settled():
                return not rows_due(events)

            await until(settled)
            assert [zone.lacking for zone in target.pipeline._rows.zones] == [0, 3]


async def test_an_outage_of_the_events_server_is_worked_off_and_says_what_is_not_known():
    with valkey_process("events") as events:
        async with Plant() as target:
            pipeline = await target.build(events.address, dead_address(), dead_address())
            await target.send(event())
            await target.until_worked_off(pipeline)
            events.kill()
            shown = await target.shown(pipeline)
            assert (shown["backlog"], shown["totals"]) == (None, None)
            assert (await target.get(pipeline, "/pipeline/dead_letters"))[0] == 502
            assert shown["here"]["counted"] == 1
            events.start()
            await target.send(*(event() for _ in range(500)))
            shown = await target.until_worked_off(pipeline, of=501)

        assert shown["totals"] == {"counted": 501, "duplicates": 0, "dead_letters": 0}


async def test_an_events_server_that_hangs_is_not_waited_for_and_worked_off_when_it_goes_on(monkeypatch):
    for settings in ("_READ_SETTINGS", "_APPLY_SETTINGS", "_SHOW_SETTINGS"):
        impatient = replace(getattr(pipeline_module, settings), timeout_s=0.25)
        monkeypatch.setattr(pipeline_module, settings, impatient)
    with valkey_process("events") as events:
        async with Plant() as target:
            pipeline = await target.build(events.address, dead_address(), dead_address())
            await target.send(event())
            await target.until_worked_off(pipeline)

            async def given_up():
                return (await target.breakers(pipeline))["events.read"]["timeouts"] > 0

            events.freeze()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(target.send(*(event() for _ in range(50))))
                await until(given_up)
                assert (await target.shown(pipeline))["backlog"] is None
                events.thaw()
            shown = await target.until_worked_off(pipeline, of=51)

        assert shown["totals"] == {"counted": 51, "duplicates": 0, "dead_letters": 0}


async def test_an_events_server_that_lost_everything_is_begun_anew(valkeys):
    async with Plant() as target:
        pipeline = await target.build(*valkeys)
        await target.send(event())
        await target.until_worked_off(pipeline)
        with client(valkeys[0]) as valkey:
            valkey.flushall()
        await target.send(event(), event())
        shown = await target.until_worked_off(pipeline, of=2)

        assert shown["totals"]["counted"] == 2
        assert kinds(target.events) == {"play_started": 2}


async def test_it_is_ready_once_the_events_server_has_answered(valkeys):
    async with LittleTarget() as target:
        told = config("pipeline", calls={"events": [dead_address()], "cache": []}, data_dir=target._folder)
        pipeline = await target.serve(build(Context(told)))
        async with target.http.get(f"http://{pipeline}/healthz") as response:
            assert response.status == 503


async def test_what_it_is_told_must_make_sense():
    for calls, settings, message in (
        ({"events": ["127.0.0.1:1", "127.0.0.1:2"]}, {}, "one server of events; it is told of 2"),
        (
            {"events": ["127.0.0.1:1"]},
            {"epoch_date": "soon"},
            "settings.epoch_date is 'soon'; a date such as 2026-01-01",
        ),
    ):
        context = Context(config("pipeline", calls=calls, settings=settings))
        with pytest.raises(ValueError, match=message):
            Pipeline(context)
        await context.close()
