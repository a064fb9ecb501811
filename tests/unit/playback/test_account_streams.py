"""The streams of an account on the way of a play: Play API, Playback Apps, steering and a real Valkey in each zone."""

from __future__ import annotations

import asyncio
from zlib import crc32

import pytest
from aiohttp import web

from targets.playback.seed_data import SeedData
from targets.playback.stream_news import TELL_EVERY_S
from targets.playback.streams import STREAMS_MAX
from targets.playback.validation import Plan
from targets.playback.video import LADDER_KBPS
from tests.ports import dead_address
from tests.unit.playback.apps_backend import Backend
from tests.unit.playback.little_target import SETTINGS, TODAY, passport_of, until, valkey_process
from tests.unit.playback.pipeline_fixtures import client

REFUSED = (403, {"refused": "streams"})


class Account(Backend):
    """A backend and an account of each plan, who may play a title."""

    def someone(self, plan, *, home=None):
        """Whoever has this plan and, if it is said, this home zone: 0 or 1."""
        return next(
            passport_of(one)
            for one in self.data.subscribers
            if one.plan is plan
            and self.title.window_on(one.country, TODAY)
            and (home is None or crc32(one.id.encode()) % 2 == home)
        )

    @property
    def title(self):
        """A title for every plan."""
        return next(one for one in self.data.titles if one.minimum_plan is Plan.BASIC)

    async def grants(self, passport, *streams, apps=None):
        """Ask for these streams one after the other; the statuses."""
        asked = [await self.grant(apps or self.apps, passport, self.title.id, stream=name) for name in streams]
        return [status for status, _ in asked]

    async def front(self):
        """Start the services in front of Playback Apps, two of the Play API."""
        self.play_apis = [
            await self.start("play_api", index=index, calls={"playback_apps": [self.apps]}) for index in (1, 2)
        ]
        gateway = await self.start("gateway", calls={"play_api": self.play_apis})
        self.elb = await self.start("elb", calls={"gateway": [gateway]})

    async def play(self, passport, *, key=None, device=None, path="/play", body=None):
        """Ask for a play as a client does."""
        token = SeedData.token(passport.subscriber, str(SETTINGS["signing_key"]))
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "10.0.1.1"}
        if key is not None:
            headers["Idempotency-Key"] = key
        asked = {"title": self.title.id, **({} if device is None else {"device": device})}
        return await self.post(self.elb, path, body or asked, **headers)

    async def stop(self, passport, session):
        """Report that a session has stopped."""
        body = {"session": session, "number": 1, "kind": "stopped", "title": self.title.id, "watched_s": 3}
        status, _ = await self.play(passport, path="/activity", body=body)
        assert status == 202


@pytest.mark.parametrize("plan", Plan)
async def test_an_account_has_as_many_streams_as_its_plan_allows_and_the_next_is_refused(valkeys, plan):
    async with Account() as target:
        await target.build(valkeys[1:])
        most = STREAMS_MAX[plan]
        names = [f"s-{number}" for number in range(most + 1)]

        assert await target.grants(target.someone(plan), *names) == [200] * most + [403]
        assert await target.grant(target.apps, target.someone(plan), target.title.id) == REFUSED
        assert all(state["errors"] == 0 for state in (await target.breakers(target.apps)).values())


async def test_a_try_again_of_a_play_is_never_refused_because_of_itself(valkeys):
    async with Account() as target:
        await target.build(valkeys[1:])
        other = await target.start_apps(valkeys[1:], zone="b")
        someone = target.someone(Plan.BASIC)

        assert await target.grants(someone, "s-1", "s-1") == [200, 200]
        assert await target.grants(someone, "s-1", "s-2", apps=other) == [200, 403]


async def test_accounts_do_not_count_each_others_streams_and_unlimited_ones_have_no_limit(valkeys):
    async with Account() as target:
        free, bound = target.someone(Plan.BASIC, home=0), target.someone(Plan.BASIC, home=1)
        await target.build(valkeys[1:], settings={"unlimited_accounts": f"nobody, {free.subscriber.id}"})

        assert await target.grants(free, "s-1", "s-2", "s-3") == [200] * 3
        assert await target.grants(bound, "s-1", "s-2") == [200, 403]


async def test_with_the_protection_off_nobody_counts(valkeys):
    async with Account(disabled=("stream_limits",)) as target:
        await target.build(valkeys[1:])

        assert await target.grants(target.someone(Plan.BASIC), "s-1", "s-2", "s-3") == [200] * 3
        assert not [name for name in await target.breakers(target.apps) if name.startswith("streams.")]


async def test_a_lease_ends_by_itself(valkeys):
    async with Account() as target:
        await target.build(valkeys[1:], settings={"stream_lease_s": 1})
        someone = target.someone(Plan.BASIC)
        assert await target.grants(someone, "s-1", "s-2") == [200, 403]

        async def may_play_again():
            return await target.grants(someone, "s-2") == [200]

        await until(may_play_again)


@pytest.mark.parametrize("home", [0, 1])
async def test_while_the_home_zone_is_away_the_other_one_counts(valkeys, home):
    async with Account() as target:
        zones = list(valkeys[1:])
        zones[home] = dead_address()
        await target.build(zones)
        someone, failed = target.someone(Plan.BASIC, home=home), f"streams.{'ab'[home]}.claim"

        status, answer = await target.grant(target.apps, someone, target.title.id, stream="s-1")
        assert (status, failed in answer["degraded"]) == (200, True)
        assert await target.grants(someone, "s-1", "s-2") == [200, 403]


async def test_without_any_zone_plays_are_granted_and_it_is_said_that_nobody_counted():
    async with Account() as target:
        await target.build([dead_address(), dead_address()])
        someone = target.someone(Plan.BASIC)

        for name in ("s-1", "s-2", "s-3"):
            status, answer = await target.grant(target.apps, someone, target.title.id, stream=name)
            assert status == 200
            assert {"streams.a.claim", "streams.b.claim"} <= set(answer["degraded"])


async def test_a_zone_that_hangs_costs_a_play_no_more_than_steering_may_take(valkeys):
    with valkey_process() as hanging:
        async with Account() as target:
            await target.build([valkeys[1], hanging.address])
            someone = target.someone(Plan.BASIC, home=1)
            hanging.freeze()
            began_s = asyncio.get_running_loop().time()

            status, answer = await target.grant(target.apps, someone, target.title.id, stream="s-1")

            assert (status, answer["degraded"]) == (200, ["cache.b.read", "streams.b.claim"])
            assert asyncio.get_running_loop().time() - began_s < 1.0
            hanging.thaw()


@pytest.mark.parametrize("disabled", [("static_ranking",), ("isolation", "static_ranking")])
async def test_the_claim_of_a_play_that_comes_to_nothing_is_given_back(valkeys, disabled):
    async with Account(disabled=disabled) as target:
        ranking = {"status": 500}

        async def rank(_):
            oca = {"id": "oca-1", "url": "http://x", "isp": "alpha"}
            return web.json_response({"ocas": [oca], "stale": False}, status=ranking["status"])

        app = web.Application()
        app.router.add_get("/rank", rank)
        await target.build(valkeys[1:], steering=await target.serve(app))
        someone = target.someone(Plan.BASIC)
        assert await target.grants(someone, "s-1") == [502]
        ranking["status"] = 200

        async def may_play():
            return await target.grants(someone, "s-2") == [200]

        await until(may_play)


async def test_a_session_that_stops_frees_its_stream_whoever_hears_of_it(valkeys):
    async with Account() as target:
        await target.build(valkeys[1:])
        await target.front()
        someone = target.someone(Plan.BASIC)
        for _ in range(2):  # the report goes to another Play API than the play, one of the two times
            status, answer = await target.play(someone)
            assert status == 200
            assert await target.play(someone) == REFUSED
            await target.stop(someone, answer["session"])

            async def freed(session=answer["session"]):
                with client(valkeys[1]) as a, client(valkeys[2]) as b:
                    key = f"streams/{someone.subscriber.id}"
                    return a.zscore(key, session) is None and b.zscore(key, session) is None

            await until(freed)


async def test_nobody_frees_the_stream_of_somebody_else(valkeys):
    async with Account() as target:
        await target.build(valkeys[1:])
        await target.front()
        someone, other = target.someone(Plan.BASIC, home=0), target.someone(Plan.BASIC, home=1)
        _, answer = await target.play(someone)

        await target.stop(other, answer["session"])
        await asyncio.sleep(TELL_EVERY_S * 1.5)

        assert await target.play(someone) == REFUSED


async def test_a_report_of_a_session_keeps_its_stream_alive(valkeys):
    async with Account() as target:
        await target.build(valkeys[1:], settings={"stream_lease_s": 2})
        await target.front()
        someone = target.someone(Plan.BASIC)
        _, answer = await target.play(someone)
        key = f"streams/{someone.subscriber.id}"
        with client(valkeys[1]) as a, client(valkeys[2]) as b:
            (home,) = [zone for zone in (a, b) if zone.exists(key)]
            until_ms = home.zscore(key, answer["session"])
            body = {"session": answer["session"], "number": 1, "kind": "chunk_stalled", "title": target.title.id}
            assert (await target.play(someone, path="/activity", body=body))[0] == 202

            async def renewed():
                return home.zscore(key, answer["session"]) > until_ms

            await until(renewed)


async def test_a_client_that_asks_again_with_the_same_key_has_one_session_and_is_not_refused(valkeys):
    async with Account() as target:
        await target.build(valkeys[1:])
        await target.front()
        someone = target.someone(Plan.BASIC)

        first, second = await target.play(someone, key="abc"), await target.play(someone, key="abc")

        assert (first[0], second[0]) == (200, 200)
        assert first[1]["session"] == second[1]["session"]
        assert await target.play(someone, key="another") == REFUSED


async def test_news_that_cannot_be_read_are_refused_and_those_for_dead_zones_are_dropped(valkeys):
    async with Account() as target:
        await target.build([dead_address(), valkeys[2]])

        status, answer = await target.post(target.apps, "/streams", {"ended": "all"})
        assert (status, "the body must be" in answer["error"]) == (400, True)
        news = {"ended": [["subscriber-00001", "s-1"]], "renewed": []}
        assert await target.post(target.apps, "/streams", news) == (202, {"heard": 1})


@pytest.mark.parametrize(
    ("plan", "device", "highest_kbps"),
    [
        (Plan.BASIC, "phone", 750),
        (Plan.BASIC, "tv_4k", 1750),
        (Plan.PREMIUM, None, 3000),
        (Plan.PREMIUM, "tv_4k", None),
    ],
)
async def test_the_ladder_is_that_of_device_and_plan(valkeys, plan, device, highest_kbps):
    async with Account() as target:
        await target.build(valkeys[1:])
        await target.front()

        _, answer = await target.play(target.someone(plan), device=device)

        allowed = [kbps for kbps in LADDER_KBPS if highest_kbps is None or kbps <= highest_kbps]
        assert answer["ladder_kbps"] == allowed


async def test_an_unknown_device_is_told_which_there_are(valkeys):
    async with Account() as target:
        await target.build(valkeys[1:])
        await target.front()

        status, answer = await target.play(target.someone(Plan.BASIC), device="radio")

        assert (status, answer) == (400, {"error": "device is 'radio'; there are phone, tablet, tv, tv_4k"})
