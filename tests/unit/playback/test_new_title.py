"""The way of a new title: two transcoders, of which one is killed at work, the origin, an OCA, steering, a player."""

from __future__ import annotations

import asyncio
import contextlib
import random

import aiohttp
import pytest
from aiohttp import web

from targets.playback.asyncio_player import AsyncioPlayer
from targets.playback.client import ClientConfig, PlaybackClient, PlayOrder
from targets.playback.client_protocol import Ended
from targets.playback.manifest import digest_of
from targets.playback.video import LADDER_KBPS
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, config, until
from tests.unit.playback.pipeline_fixtures import client
from tests.unit.playback.service_process import ServiceProcess
from tests.unit.playback.titles import STUDIO, TITLE, manifest_of

CHUNKS = 6


class Studio:
    """Transcoders as processes, their queue, and their origin."""

    def __init__(self, target: LittleTarget, processes: contextlib.ExitStack, folder, **settings) -> None:
        self._target = target
        self._processes = processes
        self._folder = folder
        self._settings = settings
        self.transcoders: dict[str, ServiceProcess] = {}
        self.addresses: dict[str, str] = {}

    async def start(self, events: str, origin: str, count: int = 2) -> None:
        for index in range(1, count + 1):
            address = dead_address()
            told = config(
                "transcoder",
                index=index,
                port=int(address.rpartition(":")[2]),
                calls={"events": [events], "origin": [origin]},
                settings=self._settings,
                data_dir=str(self._folder),
            )
            process = ServiceProcess(told)
            process.start()
            self._processes.callback(process.kill)
            self.transcoders[told.instance] = process
            self.addresses[told.instance] = address

        async def are_up():
            for address in self.addresses.values():
                try:
                    if (await self._target.get(address, "/jobs"))[0] != 200:
                        return False
                except aiohttp.ClientError:
                    return False
            return True

        await until(are_up)

    async def jobs(self, instance: str) -> dict:
        _, shown = await self._target.get(self.addresses[instance], "/jobs")
        return shown


async def in_state(studio, instance, state):
    """The only job, when it is in this state."""
    jobs = (await studio.jobs(instance))[state]
    return jobs[0] if jobs else None


async def test_a_transcoder_that_is_killed_at_work_loses_no_job_and_the_bytes_are_the_same(tmp_path, events_server):
    with client(events_server) as valkey:
        valkey.flushall()
    async with LittleTarget() as target:
        origin = await target.start("origin")
        with contextlib.ExitStack() as processes:
            studio = Studio(target, processes, tmp_path, transcode_chunk_s=0.03, transcode_lease_s=0.6)
            await studio.start(events_server, origin)
            asked = next(iter(studio.addresses.values()))
            status, answer = await target.post(asked, "/sources", {"title": TITLE, "chunks": CHUNKS})
            assert (status, answer) == (202, {"title": TITLE, "chunks": CHUNKS, "queued": True})

            async def is_at_work():
                async with target.http.get(f"http://{origin}/objects/{TITLE}/235") as response:
                    return response.status == 200

            await until(is_at_work)
            job = await in_state(studio, "transcoder-1", "running")
            assert job is not None
            victim = job["worker"]
            (other,) = set(studio.transcoders) - {victim}
            studio.transcoders[victim].kill()
            assert (await target.get(origin, f"/manifests/{TITLE}"))[0] == 404

            async def is_done():
                return await in_state(studio, other, "done") is not None

            await until(is_done)
            job = await in_state(studio, other, "done")
            assert job == {"title": TITLE, "chunks": CHUNKS, "attempts": 2, "worker": other, "error": ""}

        _, found = await target.get(origin, f"/manifests/{TITLE}")
        assert found == manifest_of(TITLE, CHUNKS).to_json()
        for encoding in found["encodings"]:
            async with target.http.get(f"http://{origin}/objects/{TITLE}/{encoding['kbps']}") as response:
                body = await response.read()
            size = encoding["chunk_bytes"]
            parts = [body[begin : begin + size] for begin in range(0, len(body), size)]
            assert [digest_of(part) for part in parts] == encoding["digests"]
            assert parts == [STUDIO.chunk(TITLE, encoding["kbps"], number) for number in range(CHUNKS)]


async def test_a_new_title_goes_from_its_master_to_a_player(hasty, events_server):
    with client(events_server) as valkey:
        valkey.flushall()
    async with LittleTarget() as target:
        origin = await target.start("origin")
        cache_control = await target.start("cache_control")
        oca = await target.start(
            "oca",
            labels={"isp": "ixp"},
            calls={"cache_control": [cache_control], "origin": [origin]},
            settings={"fill_every_s": 0.1, "fill_mbps": 2000},
        )
        steering = await target.start("steering", calls={"cache_control": [cache_control]})
        transcoder = await target.start(
            "transcoder",
            calls={"events": [events_server], "origin": [origin]},
            settings={"transcode_chunk_s": 0, "session_chunks": CHUNKS},
        )

        async def offered():
            _, answer = await target.get(steering, f"/rank?title={TITLE}&ip=10.0.1.1")
            return answer.get("ocas", [])

        assert await offered() == []
        assert (await target.post(transcoder, "/sources", {"title": TITLE}))[0] == 202

        async def is_offered():
            return [one["id"] for one in await offered()] == ["oca-1"]

        await until(is_offered)
        events = await play(target, oca)
        (ended,) = [event for event in events if isinstance(event, Ended)]
        assert ended.completed
        assert (ended.stalled_s, ended.switches) == (0.0, 0)
        assert ended.played_s == pytest.approx(CHUNKS * 0.25)


async def play(target, oca):
    """Play the title as a viewer does, from one OCA; the backend only names it."""

    async def grant(_):
        ticket = {
            "session": "s-1",
            "title": TITLE,
            "chunks": CHUNKS,
            "chunk_s": 0.25,
            "ladder_kbps": LADDER_KBPS,
            "ocas": [{"id": "oca-1", "url": f"http://{oca}", "isp": "ixp"}],
        }
        return web.json_response(ticket)

    backend = web.Application()
    backend.router.add_post("/play", grant)
    address = await target.serve(backend)
    told = []
    order = PlayOrder(
        elb=address,
        title=TITLE,
        token="t",
        client_ip="10.0.1.1",
        scheduled_s=asyncio.get_running_loop().time(),
    )
    one = PlaybackClient(order, ClientConfig(), rng=random.Random(1), tell=told.append)
    await AsyncioPlayer(aiohttp.ClientSession).play(one)
    return told


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (None, "a title of the catalogue"),
        ({"title": "title-9999"}, "a title of the catalogue"),
        ({"title": TITLE, "chunks": 0}, "a number from 1 to 240"),
        ({"title": TITLE, "chunks": True}, "a number from 1 to 240"),
        ({"title": TITLE, "chunks": "9"}, "a number from 1 to 240"),
    ],
)
async def test_a_source_that_is_none_is_refused(events_server, body, problem):
    async with LittleTarget() as target:
        calls = {"events": [events_server], "origin": [dead_address()]}
        transcoder = await target.start("transcoder", calls=calls)
        status, answer = await target.post(transcoder, "/sources", body)

        assert status == 400
        assert problem in answer["error"]


async def test_a_job_whose_origin_is_gone_is_dead_in_the_end_and_can_be_asked_for_again(events_server):
    with client(events_server) as valkey:
        valkey.flushall()
    async with LittleTarget() as target:
        settings = {"transcode_chunk_s": 0, "transcode_attempts": 3, "transcode_pause_s": 0.01}
        calls = {"events": [events_server], "origin": [dead_address()]}
        transcoder = await target.start("transcoder", calls=calls, settings=settings)
        await target.post(transcoder, "/sources", {"title": TITLE})

        async def is_dead():
            return bool((await target.get(transcoder, "/jobs"))[1]["dead"])

        await until(is_dead)
        _, shown = await target.get(transcoder, "/jobs")
        (job,) = shown["dead"]
        assert shown["totals"] == {"queued": 0, "running": 0, "done": 0, "dead": 1, "all": 1}
        assert (job["title"], job["attempts"]) == (TITLE, 3)
        assert job["error"].startswith("ClientConnectorError")
        status, answer = await target.post(transcoder, "/sources", {"title": TITLE})
        assert (status, answer["queued"]) == (202, True)


async def test_without_the_events_server_a_source_is_refused_and_the_transcoder_goes_on():
    async with LittleTarget() as target:
        calls = {"events": [dead_address()], "origin": [dead_address()]}
        transcoder = await target.start("transcoder", calls=calls)

        assert (await target.post(transcoder, "/sources", {"title": TITLE}))[0] in {502, 503, 504}
        assert (await target.get(transcoder, "/jobs"))[0] in {502, 503, 504}
