"""What many plays at the same moment cost the cache and the store, with the real ones of both."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from aiohttp import web

from targets.playback import store
from targets.playback.entitlements import Entitlements
from targets.playback.hot_copies import HOT_READS
from targets.playback.service import Context
from tests.ports import dead_address
from tests.unit.playback.apps_backend import Backend
from tests.unit.playback.little_target import config, until, valkey_process
from tests.unit.playback.pipeline_fixtures import client

SWITCHED_OFF = ("bulkheads", "breakers", "deadlines")
"""So that every question is asked that somebody has, however busy the machine of the test is."""

FAILS_AFTER_S = 0.3
"""A failure of the store: late enough that all who play at the same moment have asked by then."""


class Crowd(Backend):
    """A store that counts what it is asked, and the part of Playback Apps that asks it."""

    @contextlib.asynccontextmanager
    async def entitlements(self, folder, caches, *disabled):
        """Yield them; ``asked`` counts the store's questions by path, and ``fails`` makes it answer none."""
        self.asked = Counter()
        self.fails = False

        @web.middleware
        async def count(request, handler):
            self.asked[request.path] += 1
            if self.fails:
                await asyncio.sleep(FAILS_AFTER_S)
                raise web.HTTPServiceUnavailable
            return await handler(request)

        folder.mkdir(exist_ok=True)
        app = store.build(Context(config("store", data_dir=str(folder))))
        app.middlewares.append(count)
        self.store = await self.serve(app)

        async def leads():
            return (await self.get(self.store, "/leader"))[1]["leader"] is not None

        await until(leads)
        calls = {"cache": caches, "store": [self.store]}
        told = config("playback_apps", labels={"zone": "a"}, zones=("a", "b"), calls=calls, disabled=disabled)
        context = Context(told)
        entitlements = Entitlements(context)
        try:
            yield entitlements
        finally:
            await entitlements.close()
            await context.close()

    async def play(self, entitlements, number, title):
        """Find what the play of one of the subscribers needs; the commands that a fallback answered."""
        degraded = []
        subscriber = self.data.subscribers[number % len(self.data.subscribers)]
        assert await entitlements.find(subscriber, title.id, degraded) == (subscriber, title)
        return degraded


@pytest.mark.parametrize(("disabled", "questions"), [((), 1), (("single_flight",), 200)])
async def test_two_hundred_plays_of_a_title_that_nobody_has_cost_the_store_one_question(
    valkeys, tmp_path, disabled, questions
):
    async with Crowd() as target, target.entitlements(tmp_path, valkeys[1:], *SWITCHED_OFF, *disabled) as entitlements:
        title = target.data.titles[0]

        found = await asyncio.gather(*(target.play(entitlements, number, title) for number in range(200)))

        # The client of the cache has so many connections, and no more; but the store answered everybody.
        assert {name for degraded in found for name in degraded} <= {"cache.a.read", "cache.b.read"}
        assert target.asked[f"/titles/{title.id}"] == questions
        subscribers = [count for path, count in target.asked.items() if path.startswith("/subscribers/")]
        assert len(subscribers) == 60
        assert sum(subscribers) == (60 if questions == 1 else 200)


async def test_the_plays_that_come_before_the_cache_is_written_cost_the_store_nothing_either(valkeys, tmp_path):
    async with Crowd() as target, target.entitlements(tmp_path, valkeys[1:]) as entitlements:
        title = target.data.titles[0]
        for number in range(10):
            assert await target.play(entitlements, number, title) == []

        assert target.asked[f"/titles/{title.id}"] == 1


async def test_a_stampede_without_the_store_is_answered_by_the_copy_and_costs_one_failed_question(valkeys, tmp_path):
    async with Crowd() as target, target.entitlements(tmp_path, valkeys[1:], *SWITCHED_OFF) as entitlements:

        async def is_ready():
            return entitlements.ready

        await until(is_ready)
        target.fails = True
        target.asked.clear()
        subscriber, title = target.data.subscribers[0], target.data.titles[0]

        async def play():
            degraded = []
            await entitlements.find(subscriber, title.id, degraded)
            return {name for name in degraded if name.startswith("store.")}

        found = await asyncio.gather(*(play() for _ in range(50)))

        assert found == [{"store.subscriber", "store.title"}] * 50
        assert target.asked == {f"/titles/{title.id}": 1, f"/subscribers/{subscriber.id}": 1}


async def test_a_title_that_everybody_plays_is_read_from_the_cache_about_once_a_second(valkeys, tmp_path):
    async with Crowd() as target, target.entitlements(tmp_path, valkeys[1:]) as entitlements:
        title = target.data.titles[0]

        async def is_written():
            # An answer that came too late is a makeshift one, and those are not written: so it is asked for again.
            await target.play(entitlements, 0, title)
            with client(valkeys[1]) as near:
                return near.exists(f"title/{title.id}") == 1

        await until(is_written)
    async with Crowd() as target, target.entitlements(tmp_path / "again", valkeys[1:]) as entitlements:
        with client(valkeys[1]) as near:
            before = near.info("stats")["keyspace_hits"]
            began_s = asyncio.get_running_loop().time()
            for _ in range(200):
                await target.play(entitlements, 0, title)
            took_s = asyncio.get_running_loop().time() - began_s
            hits = near.info("stats")["keyspace_hits"] - before

        # Two records, each read until it was hot, and then once for each second that the test took.
        assert 2 * HOT_READS <= hits <= 2 * (HOT_READS + took_s + 1)


async def test_a_zone_that_was_lost_is_filled_again_by_what_is_read(valkeys):
    with valkey_process() as near:
        async with Backend(disabled=("single_flight", "stream_limits")) as target:
            await target.build([near.address, valkeys[2]])
            passport, title = target.granted()
            keys = (f"subscriber/{passport.subscriber.id}", f"title/{title}")

            async def is_full():
                with client(near.address) as valkey:
                    return valkey.exists(*keys) == 2

            async def fills_it():
                await target.grant(target.apps, passport, title)
                await asyncio.sleep(0.25)  # written behind; and asked for too often it would be kept at hand
                return await is_full()

            await until(fills_it)
            near.kill()
            assert (await target.grant(target.apps, passport, title))[1]["degraded"] == ["cache.a.read"]
            near.start()
            assert not await is_full()

            assert (await target.grant(target.apps, passport, title))[1]["degraded"] == []
            await until(is_full)


async def test_without_any_zone_the_stampede_costs_one_question_too(tmp_path):
    async with (
        Crowd() as target,
        target.entitlements(tmp_path, [dead_address(), dead_address()], *SWITCHED_OFF) as entitlements,
    ):
        title = target.data.titles[0]

        found = await asyncio.gather(*(target.play(entitlements, number, title) for number in range(100)))

        assert found == [["cache.a.read", "cache.b.read"]] * 100
        assert target.asked[f"/titles/{title.id}"] == 1
