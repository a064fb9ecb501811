"""The way of a play: load balancer, gateway, Play API, Playback Apps."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest
from aiohttp import web

from chaos.groups import GROUP_HEADER
from targets.playback.activity import Kind, play_event_id
from targets.playback.asyncio_player import AsyncioPlayer
from targets.playback.client import PlaybackClient
from targets.playback.client_order import ClientConfig, PlayOrder
from targets.playback.client_protocol import Ended
from targets.playback.client_viewing import Pause, Stop, Viewing
from targets.playback.seed_data import SeedData
from targets.playback.video import LADDER_KBPS
from tests.ports import dead_address
from tests.unit.playback.little_target import SETTINGS, LittleTarget, passport_of, until
from tests.unit.playback.pipeline_fixtures import received

KEY = str(SETTINGS["signing_key"])
OCAS = [{"id": "oca-1", "url": "http://127.0.0.1:9001", "isp": "alpha"}]


class Way(LittleTarget):
    """The services of the way, one of each unless a test says otherwise, in front of a Playback Apps of the test's."""

    async def build(self, *apps, gateways=None, events=(), **settings):
        """Start them; ``apps`` are addresses of Playback Apps, ``events`` that of the server of events, if any."""
        calls = {"playback_apps": apps, "events": events}
        self.play_api = await self.start("play_api", calls=calls, settings=settings)
        self.gateway = await self.start("gateway", calls={"play_api": [self.play_api]})
        self.elb = await self.start("elb", calls={"gateway": gateways(self.gateway) if gateways else [self.gateway]})

    async def misses_checks(self, number):
        """Whether the first gateway has missed that many health checks."""
        return (await self.breakers(self.elb))["gateway-1.check"]["errors"] >= number

    async def play(self, *, title="title-0001", token=None, body=None, **headers):
        """Ask for a play as the client does."""
        if token is None:
            token = SeedData.token(self.data.subscribers[0], KEY)
        named = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "10.0.1.1", **headers}
        return await self.post(self.elb, "/play", {"title": title, **(body or {})}, **named)


class Apps:
    """Playback Apps of which the test decides what it answers, and which keeps what it was asked."""

    def __init__(self, data):
        subscriber = data.subscribers[0]
        self.asked = []
        self.status = 200
        self.answer = {
            "ocas": OCAS,
            "degraded": [],
            "plan": subscriber.plan,
            "country": subscriber.country,
            "ladder_kbps": list(LADDER_KBPS),
            "licensed_until_s": None,
        }

    def app(self):
        app = web.Application()

        async def grants(request):
            self.asked.append((request.headers, await request.json()))
            return web.json_response(self.answer, status=self.status)

        app.router.add_post("/grants", grants)
        return app


@pytest.mark.parametrize("disabled", [(), ("isolation",)])
async def test_the_group_of_a_play_reaches_the_end_of_the_way_whatever_is_switched_off(disabled):
    async with Way(disabled=disabled) as target:
        apps = Apps(target.data)
        await target.build(await target.serve(apps.app()))
        for group in ("experiment", "control", "anybody", None):
            status, _ = await target.play(**({} if group is None else {GROUP_HEADER: group}))
            assert status == 200
        said = [headers.get(GROUP_HEADER) for headers, _ in apps.asked]
    assert said == ["experiment", "control", None, None]


async def test_a_play_is_answered_as_the_client_expects_it():
    async with Way() as target:
        apps = Apps(target.data)
        apps.answer["degraded"] = ["steering.rank"]
        await target.build(await target.serve(apps.app()))

        status, answer = await target.play()

        assert status == 200
        assert answer.pop("session").startswith("play_api-1-")
        assert answer == {
            "title": "title-0001",
            "chunks": 12,
            "chunk_s": 1.0,
            "ladder_kbps": list(LADDER_KBPS),
            "degraded": ["steering.rank"],
            "ocas": OCAS,
        }


async def test_the_tries_of_a_play_with_one_key_are_told_of_as_one_play(events_server):
    async with Way() as target:
        await target.build(await target.serve(Apps(target.data).app()), events=[events_server])
        answers = [await target.play(Idempotency_Key=key) for key in ("k1", "k1", "k2")]
        answers += [await target.play() for _ in range(2)]
        assert [status for status, _ in answers] == [200] * 5

        async def told():
            return (await target.get(target.play_api, "/activity"))[1]["acknowledged"] == 5

        await until(told)
        found = received(events_server)
    assert [one.kind for one in found] == [Kind.PLAY_STARTED] * 5
    assert [one.id for one in found] == [play_event_id(answer["session"], 0) for _, answer in answers]
    assert found[0].id == found[1].id
    assert len({one.id for one in found}) == 4, "another key, or none, is another play"


async def test_a_player_plays_through_all_of_it_pauses_and_reports_when_it_stops():
    async with Way() as target:
        oca = await target.start("oca", labels={"isp": "ixp"}, calls={"cache_control": [dead_address()]})
        apps = Apps(target.data)
        apps.answer["ocas"] = [{"id": "oca-1", "url": f"http://{oca}", "isp": "ixp"}]
        await target.build(await target.serve(apps.app()), session_chunks=2)
        events = []
        order = PlayOrder(
            elb=target.elb,
            title="title-0001",
            token=SeedData.token(target.data.subscribers[0], KEY),
            client_ip="10.0.1.1",
            scheduled_s=asyncio.get_running_loop().time(),
            device="tablet",
            key="play-1",
            viewing=Viewing(presses=(Pause(after=0.1, length_s=0.2), Stop(after=0.3))),
        )
        client = PlaybackClient(order, ClientConfig(), rng=random.Random(1), tell=events.append)

        await AsyncioPlayer(aiohttp.ClientSession).play(client)

        ended = events[-1]
        assert isinstance(ended, Ended)
        assert ended.completed
        assert (ended.played_s, ended.paused_s) == pytest.approx((0.6, 0.2), abs=0.15)
        _, shown = await target.get(target.play_api, "/activity")
        assert shown["emitted"] == 2, "that it began, and the player's report that it stopped"


async def test_no_two_sessions_have_the_same_name():
    async with Way() as target:
        await target.build(await target.serve(Apps(target.data).app()))

        names = {(await target.play())[1]["session"] for _ in range(5)}

        assert len(names) == 5


async def test_what_the_services_learn_of_the_caller_is_what_the_gateway_found_out():
    async with Way() as target:
        apps = Apps(target.data)
        await target.build(await target.serve(apps.app()))
        forged = passport_of(target.data.subscribers[5]).to_header()

        await target.play(**{"X-Passport": forged, "X-Forwarded-For": "6.6.6.6, 10.0.1.1"})

        headers, body = apps.asked[0]
        assert headers["X-Passport"] == passport_of(target.data.subscribers[0], "10.0.1.1").to_header()
        stream = body.pop("stream")
        assert stream.startswith("play_api-1-")
        assert body == {"title": "title-0001", "device": "tv"}


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Bearer x.y", "Basic abc"])
async def test_a_bad_token_is_refused_at_the_gateway(authorization):
    async with Way() as target:
        apps = Apps(target.data)
        await target.build(await target.serve(apps.app()))

        assert (await target.play(Authorization=authorization))[0] == 401
        assert apps.asked == []


async def test_paths_and_methods_without_a_route_are_refused_at_the_gateway():
    async with Way() as target:
        await target.build(dead_address())

        assert (await target.get(target.elb, "/nowhere"))[0] == 404
        assert (await target.get(target.elb, "/play"))[0] == 405


async def test_what_is_no_title_is_refused_by_the_play_api():
    async with Way() as target:
        await target.build(dead_address())

        assert (await target.play(title="film"))[0] == 404
        assert (await target.play(title=7))[0] == 400


@pytest.mark.parametrize(("status", "answer"), [(403, {"refused": "licence"}), (404, {"error": "no title"})])
async def test_a_refusal_passes_through_unchanged_and_is_nobodys_failure(status, answer):
    async with Way() as target:
        apps = Apps(target.data)
        apps.status, apps.answer = status, answer
        await target.build(await target.serve(apps.app()))

        assert await target.play() == (status, answer)
        for address in (target.elb, target.gateway, target.play_api):
            assert all(state["errors"] == 0 for state in (await target.breakers(address)).values())


@pytest.mark.parametrize(("disabled", "lost"), [((), 0), (("isolation",), 5)])
async def test_the_other_playback_apps_answers_for_a_dead_one_unless_isolation_is_off(disabled, lost):
    async with Way(disabled=disabled) as target:
        await target.build(dead_address(), await target.serve(Apps(target.data).app()))

        statuses = [(await target.play())[0] for _ in range(10)]

        assert statuses.count(200) == 10 - lost
        assert statuses.count(503) == lost


@pytest.mark.parametrize(("disabled", "lost"), [((), 0), (("isolation",), 5)])
async def test_the_other_gateway_answers_for_a_dead_one_unless_isolation_is_off(disabled, lost):
    async with Way(disabled=disabled) as target:
        await target.build(
            await target.serve(Apps(target.data).app()), gateways=lambda living: [dead_address(), living]
        )

        statuses = [(await target.play())[0] for _ in range(10)]

        assert statuses.count(200) == 10 - lost


async def test_a_gateway_that_misses_its_health_checks_is_left_out_before_a_play_meets_it():
    async with Way() as target:
        asked = []
        sick = web.Application()

        async def healthz(_):
            return web.Response(status=503)

        async def play(request):
            asked.append(request.path)
            return web.json_response({"error": "sick"}, status=500)

        sick.router.add_get("/healthz", healthz)
        sick.router.add_post("/play", play)
        address = await target.serve(sick)
        await target.build(await target.serve(Apps(target.data).app()), gateways=lambda living: [address, living])
        await until(lambda: target.misses_checks(2))

        statuses = [(await target.play())[0] for _ in range(20)]

        assert statuses == [200] * 20
        assert asked == []


async def test_when_all_gateways_miss_their_health_checks_the_checks_are_not_believed():
    async with Way() as target:
        healthy_for_plays = web.Application()

        async def healthz(_):
            return web.Response(status=503)

        async def play(_):
            return web.json_response({"fine": True})

        healthy_for_plays.router.add_get("/healthz", healthz)
        healthy_for_plays.router.add_post("/play", play)
        address = await target.serve(healthy_for_plays)
        target.elb = await target.start("elb", calls={"gateway": [address]})
        await until(lambda: target.misses_checks(2))

        assert await target.play() == (200, {"fine": True})


async def test_the_last_good_answer_is_given_to_the_same_kind_of_play_and_to_no_other():
    async with Way() as target:
        apps = Apps(target.data)
        await target.build(await target.serve(apps.app()))
        assert (await target.play())[0] == 200
        apps.status = 500

        status, answer = await target.play()
        other_title, _ = await target.play(title="title-0002")

        assert (status, answer["ocas"], answer["degraded"]) == (200, OCAS, ["playback_apps.grant"])
        assert other_title == 503


@pytest.mark.parametrize(("licensed_for_s", "status"), [(60.0, 200), (0.0, 503)])
async def test_the_last_good_answer_is_not_given_when_its_licence_is_over(licensed_for_s, status):
    async with Way() as target:
        apps = Apps(target.data)
        apps.answer["licensed_until_s"] = asyncio.get_running_loop().time() + licensed_for_s
        await target.build(await target.serve(apps.app()))
        assert (await target.play())[0] == 200
        apps.status = 500

        assert (await target.play())[0] == status


async def test_the_last_good_answer_for_one_device_is_none_for_another():
    async with Way() as target:
        apps = Apps(target.data)
        await target.build(await target.serve(apps.app()))
        assert (await target.play(body={"device": "phone"}))[0] == 200
        apps.status = 500

        assert (await target.play(body={"device": "phone"}))[0] == 200
        assert (await target.play(body={"device": "tv_4k"}))[0] == 503
        assert apps.asked[0][1]["device"] == "phone"


async def test_the_key_of_a_play_reaches_the_last_service_as_the_name_of_its_stream():
    async with Way() as target:
        apps = Apps(target.data)
        await target.build(await target.serve(apps.app()))

        answers = [await target.play(**{"Idempotency-Key": key}) for key in ("a", "a", "b")]

        streams = [body["stream"] for _, body in apps.asked]
        assert streams == [answer["session"] for _, answer in answers]
        assert streams[0] == streams[1] != streams[2]


async def test_a_failure_behind_the_gateway_is_503_with_a_time_to_come_back():
    async with Way() as target:
        await target.build(dead_address())
        token = SeedData.token(target.data.subscribers[0], KEY)
        async with target.http.post(
            f"http://{target.elb}/play", json={"title": "title-0001"}, headers={"Authorization": f"Bearer {token}"}
        ) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"


async def test_a_spent_deadline_is_answered_by_504_and_reaches_nobody():
    async with Way() as target:
        apps = Apps(target.data)
        await target.build(await target.serve(apps.app()))

        assert (await target.play(**{"X-Chaos-Deadline-Ms": "0"}))[0] == 504
        assert apps.asked == []


async def test_the_deadline_travels_to_the_last_service_and_is_not_halved_at_each_step():
    async with Way() as target:
        apps = Apps(target.data)
        await target.build(*[await target.serve(apps.app())] * 2)

        await target.play(**{"X-Chaos-Deadline-Ms": "600"})

        headers, _ = apps.asked[0]
        assert 150 < int(headers["X-Chaos-Deadline-Ms"]) < 600, "halved at each of three steps it is 75"


async def test_every_service_shows_its_commands():
    async with Way() as target:
        await target.build(await target.serve(Apps(target.data).app()))
        await target.play()

        assert "gateway[gateway-1]" in await target.breakers(target.elb)
        assert "route/play" in await target.breakers(target.gateway)
        assert (await target.breakers(target.play_api))["playback_apps.grant"]["calls"] == 1
