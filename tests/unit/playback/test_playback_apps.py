"""Playback Apps with its store, its cache and steering: granting, refusing, and going on without each of them."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace

import pytest
from aiohttp import web
from redis import Redis

from chaos.groups import GROUP_HEADER
from targets.playback.passport import HEADER
from targets.playback.validation import Plan, Refusal, refusal
from tests.ports import dead_address
from tests.unit.playback.apps_backend import Backend
from tests.unit.playback.little_target import TODAY, passport_of, running_valkey

READ_EACH_TIME = ("single_flight", "stream_limits")
"""What is off where a test is about what the cache has: nothing is kept at hand, and an account may play twice."""


@pytest.fixture(scope="module")
def servers():
    """Two real Valkey servers, for the two zones."""
    with running_valkey() as a, running_valkey() as b:
        yield [a, b]


@pytest.fixture
def valkey(servers):
    """The two servers, empty."""
    for address in servers:
        host, _, port = address.rpartition(":")
        with Redis(host=host, port=int(port)) as client:
            client.flushall()
    return servers


def steering_that(rank, target):
    """A steering with the real map, of which the test decides how it ranks."""
    app = web.Application()

    async def show_map(request):
        return web.json_response((await target.get(target.cache_control, request.path_qs))[1])

    app.router.add_get("/rank", rank)
    app.router.add_get("/map", show_map)
    app.router.add_get("/title_sets", show_map)
    return app


async def test_a_play_is_granted_with_ten_ocas(valkey):
    async with Backend() as target:
        await target.build(valkey)

        status, answer = await target.grant(target.apps, *target.granted())

        assert status == 200
        assert len(answer["ocas"]) == 10
        assert answer["ocas"][0].keys() == {"id", "url", "isp"}
        assert answer["degraded"] == []


async def test_plan_and_licence_can_refuse_and_that_is_no_failure(valkey):
    async with Backend() as target:
        await target.build(valkey)
        refused = {
            why: (subscriber, title)
            for subscriber in target.data.subscribers
            for title in target.data.titles
            if (why := refusal(subscriber, title, TODAY))
        }
        assert refused.keys() == {Refusal.PLAN, Refusal.LICENCE, Refusal.LICENCE_WINDOW}
        for why, (subscriber, title) in refused.items():
            answer = await target.grant(target.apps, passport_of(subscriber), title.id)
            assert answer == (403, {"refused": why})

        assert all(state["errors"] == 0 for state in (await target.breakers(target.apps)).values())


async def test_the_date_of_the_run_decides_whether_a_licence_holds(valkey):
    async with Backend() as target:
        subscriber, title, end = next(
            (subscriber, title, window.end)
            for subscriber in target.data.subscribers
            for title in target.data.titles
            if refusal(subscriber, title, TODAY) is None
            and (window := title.window_on(subscriber.country, TODAY))
            and window.end
        )
        await target.build(valkey)
        passport, now_s = passport_of(subscriber), asyncio.get_running_loop().time()
        on_the_day = await target.start_apps(valkey, settings={"epoch_date": end.isoformat()})
        on_the_day_before = await target.start_apps(
            valkey, settings={"epoch_date": (end - dt.timedelta(days=1)).isoformat()}
        )

        status, answer = await target.grant(target.apps, passport, title.id, stream="s-1")

        assert status == 200
        left_s = (end - TODAY).total_seconds()
        assert now_s + left_s - 60 < answer["licensed_until_s"] <= now_s + left_s
        assert (await target.grant(on_the_day_before, passport, title.id, stream="s-1"))[0] == 200
        assert await target.grant(on_the_day, passport, title.id) == (403, {"refused": "licence_window"})


async def test_the_store_knows_better_than_the_token(valkey):
    async with Backend() as target:
        await target.build(valkey)
        title = next((one for one in target.data.titles if one.minimum_plan is not Plan.BASIC), None)
        assert title is not None
        basic = next(
            one for one in target.data.subscribers if one.plan is Plan.BASIC and title.window_on(one.country, TODAY)
        )
        upgraded = passport_of(replace(basic, plan=Plan.PREMIUM))

        assert (await target.grant(target.apps, upgraded, title.id))[0] == 403


async def test_unknown_titles_and_subscribers_are_answers_too(valkey):
    async with Backend() as target:
        await target.build(valkey)
        passport, title = target.granted()
        stranger = passport_of(replace(passport.subscriber, id="subscriber-99999"))

        assert (await target.grant(target.apps, passport, "title-0999"))[0] == 404
        assert (await target.grant(target.apps, passport, "../licences"))[0] == 404
        assert await target.grant(target.apps, stranger, title) == (403, {"refused": "plan"})
        assert (await target.post(target.apps, "/grants", {"title": title, "stream": "test-1"}))[0] == 400


async def test_the_second_play_is_answered_from_the_cache(valkey):
    async with Backend(disabled=READ_EACH_TIME) as target:
        await target.build(valkey)
        passport, title = target.granted()
        await target.grant(target.apps, passport, title)
        await target.until_written("cache.a.write")
        await target.stop(target.store)

        status, answer = await target.grant(target.apps, passport, title)

        assert (status, answer["degraded"]) == (200, [])


async def test_without_the_near_zone_the_far_one_answers(valkey):
    async with Backend(disabled=READ_EACH_TIME) as target:
        await target.build([dead_address(), valkey[1]])
        passport, title = target.granted()
        await target.grant(target.apps, passport, title)
        await target.until_written("cache.b.write")
        await target.stop(target.store)

        status, answer = await target.grant(target.apps, passport, title)

        assert (status, answer["degraded"]) == (200, ["cache.a.read"])


async def test_what_only_the_far_zone_has_is_given_to_the_near_one(valkey):
    near, far = valkey
    async with Backend() as target:
        await target.build([dead_address(), far])
        passport, title = target.granted()
        await target.grant(target.apps, passport, title)
        await target.until_written("cache.b.write")
    async with Backend() as target:
        await target.build([near, far])
        await target.grant(target.apps, passport, title)
        await target.until_written("cache.a.write")

        host, _, port = near.rpartition(":")
        with Redis(host=host, port=int(port)) as client:
            assert client.exists(f"subscriber/{passport.subscriber.id}", f"title/{title}") == 2
            assert 0 < client.pttl(f"title/{title}") <= 60_000
        assert (await target.breakers(target.apps))["cache.b.write"]["calls"] == 0


@pytest.mark.parametrize(("disabled", "status"), [((), 200), (("isolation",), 502)])
async def test_without_any_cache_the_store_answers_unless_isolation_is_off(disabled, status):
    async with Backend(disabled=(*disabled, "stream_limits")) as target:
        await target.build([dead_address(), dead_address()])

        answer = await target.grant(target.apps, *target.granted())

        assert answer[0] == status
        if status == 200:
            assert answer[1]["degraded"] == ["cache.a.read", "cache.b.read"]


@pytest.mark.parametrize(("disabled", "status"), [((), 200), (("isolation",), 502)])
async def test_without_cache_and_store_the_token_and_the_copy_answer_unless_isolation_is_off(disabled, status):
    async with Backend(disabled=disabled) as target:
        with running_valkey() as empty:
            await target.build([empty, empty], zones=("a", "b"))
            await target.stop(target.store)

            answer = await target.grant(target.apps, *target.granted())

        assert answer[0] == status
        if status == 200:
            assert answer[1]["degraded"] == ["store.subscriber", "store.title"]


async def test_the_last_resort_still_refuses():
    async with Backend() as target:
        await target.build([dead_address(), dead_address()])
        await target.stop(target.store)
        subscriber, title, why = next(
            (subscriber, title, why)
            for subscriber in target.data.subscribers
            for title in target.data.titles
            if (why := refusal(subscriber, title, TODAY))
        )

        assert await target.grant(target.apps, passport_of(subscriber), title.id) == (403, {"refused": why})
        assert (await target.grant(target.apps, passport_of(subscriber), "title-0999"))[0] == 404


@pytest.mark.parametrize(
    ("disabled", "status"), [((), 200), (("static_ranking",), 502), (("isolation",), 502)], ids=str
)
async def test_without_steering_the_static_ranking_answers_unless_it_or_isolation_is_off(valkey, disabled, status):
    async with Backend(disabled=disabled) as target:
        await target.build(valkey)
        await target.stop(target.steering)

        answer = await target.grant(target.apps, *target.granted())

        assert answer[0] == status
        if status == 200:
            assert answer[1]["degraded"] == ["steering.rank"]
            assert {oca["isp"] for oca in answer[1]["ocas"][:2]} == {"alpha"}


@pytest.mark.parametrize("disabled", [("stream_limits",), ("stream_limits", "isolation")])
async def test_steering_hears_whose_group_a_play_is(valkey, disabled):
    """The two plays come in the same moment: what one of them is in must not become the other's."""
    async with Backend(disabled=disabled) as target:
        heard = []

        async def rank(request):
            heard.append(request.headers.get(GROUP_HEADER))
            await asyncio.sleep(0.02)
            return web.json_response((await target.get(ranking, request.path_qs))[1])

        await target.build(valkey)
        ranking = target.steering
        target.steering = await target.serve(steering_that(rank, target))
        apps = await target.start_apps(valkey)
        passport, title = target.granted()
        groups = ("experiment", "control", "")
        asked = [
            target.post(
                apps,
                "/grants",
                {"title": title, "stream": f"test-{number}"},
                **{HEADER: passport.to_header(), **({GROUP_HEADER: group} if group else {})},
            )
            for number, group in enumerate(groups)
        ]
        answers = await asyncio.gather(*asked)
    assert sorted(status for status, _ in answers) == [200] * len(groups)
    assert {group or "" for group in heard} == set(groups)


async def test_a_slow_steering_is_not_waited_for(valkey):
    async with Backend() as target:
        loop = asyncio.get_running_loop()

        async def rank_late(_):
            await asyncio.sleep(5.0)

        await target.build(valkey, steering=await target.serve(steering_that(rank_late, target)))
        began_s = loop.time()

        status, answer = await target.grant(target.apps, *target.granted())

        assert (status, answer["degraded"]) == (200, ["steering.rank"])
        assert 0.1 < loop.time() - began_s < 2.0


async def test_an_old_map_of_steering_is_said_to_be_one(valkey):
    async with Backend() as target:

        async def rank(_):
            return web.json_response({"ocas": [{"id": "oca-1", "url": "http://x", "isp": "alpha"}], "stale": True})

        await target.build(valkey, steering=await target.serve(steering_that(rank, target)))

        assert (await target.grant(target.apps, *target.granted()))[1]["degraded"] == ["cache_control.map"]


async def test_a_deadline_that_has_passed_is_not_worked_for_unless_isolation_is_off(valkey):
    for disabled, status in (((), 504), (("isolation",), 200)):
        async with Backend(disabled=disabled) as target:
            await target.build(valkey)
            passport, title = target.granted()
            headers = {"X-Passport": passport.to_header(), "X-Chaos-Deadline-Ms": "0"}

            assert (await target.post(target.apps, "/grants", {"title": title, "stream": "test-1"}, **headers))[
                0
            ] == status
