"""An OCA's chunks over real sockets: ranges, pacing, and each fault of its disk."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from targets.playback.chunk_format import check
from targets.playback.main import SERVICES
from targets.playback.service import Context
from targets.playback.video import LADDER_KBPS, VideoScale
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, config, until
from tests.unit.playback.titles import STUDIO, disk

TITLE = "title-0007"
CHUNK = STUDIO.chunk(TITLE, 5800, 3)
PATH = f"/titles/{TITLE}/5800/3"


@contextlib.asynccontextmanager
async def running_oca(**settings):
    """An OCA at the exchange, and the cache control that it reports to."""
    async with LittleTarget() as target:
        cache_control = await target.start("cache_control")
        calls = {"cache_control": [cache_control]}
        oca = await target.start("oca", labels={"isp": "ixp"}, calls=calls, settings=settings)
        yield target, oca, cache_control


async def fetch(target, oca, path=PATH, **headers):
    async with target.http.get(f"http://{oca}{path}", headers=headers) as response:
        return response.status, response.headers, await response.read()


async def known(target, cache_control):
    _, answer = await target.get(cache_control, "/map")
    return answer["ocas"][0] if answer["ocas"] else None


async def test_every_chunk_of_a_title_is_the_studios():
    async with running_oca() as (target, oca, _):
        for kbps in LADDER_KBPS:
            status, headers, body = await fetch(target, oca, f"/titles/{TITLE}/{kbps}/11")
            assert (status, headers["Accept-Ranges"]) == (200, "bytes")
            assert len(body) == VideoScale(60).chunk_bytes(kbps)
            assert check(body, TITLE, kbps, 11) is None


async def test_a_part_of_a_chunk_is_given_and_one_beyond_its_end_is_not():
    async with running_oca() as (target, oca, _):
        status, headers, body = await fetch(target, oca, Range="bytes=10-19")
        assert (status, body) == (206, CHUNK[10:20])
        assert headers["Content-Range"] == f"bytes 10-19/{len(CHUNK)}"
        status, _, body = await fetch(target, oca, Range="bytes=-5")
        assert (status, body) == (206, CHUNK[-5:])
        status, headers, _ = await fetch(target, oca, Range=f"bytes={len(CHUNK)}-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(CHUNK)}")
        assert (await fetch(target, oca, Range="bytes=0-1,3-4"))[2] == CHUNK


async def test_a_connection_gets_a_burst_at_once_and_then_its_rate():
    # 4 Mbit/s are 8333 bytes a second at this scale, and so is the burst: a chunk of 12083 bytes takes 0.45 s.
    async with running_oca(oca_connection_mbps=4) as (target, oca, _):
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with target.http.get(f"http://{oca}{PATH}") as response:
            first = await response.content.readexactly(8192)
            burst_s = loop.time() - began_s
            rest = await response.read()
        took_s = loop.time() - began_s

        assert first + rest == CHUNK
        assert response.content_length == len(CHUNK)
        assert burst_s < 0.9, "without a burst 8192 bytes take 0.98 s"
        assert 0.4 <= took_s < 2.0


async def test_with_the_default_settings_nobody_waits_for_the_chunks_of_a_player():
    async with running_oca() as (target, oca, _):
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for _ in range(6):
            assert (await fetch(target, oca))[0] == 200

        assert loop.time() - began_s < 3.0, "at the rate of the test above they take more than 7 s"


async def test_a_slow_disk_is_slow_counts_as_load_and_recovers(hasty):
    async with running_oca() as (target, oca, cache_control):
        loop = asyncio.get_running_loop()
        assert (await disk(target, oca, "PUT", {"slow_ms": 150}))[0] == 200
        began_s = loop.time()
        status, _, body = await fetch(target, oca)
        assert (status, body) == (200, CHUNK)
        assert loop.time() - began_s >= 0.149
        assert (await disk(target, oca))[1]["reads_slowed"] >= 1

        async def is_avoided():
            oca = await known(target, cache_control)
            return oca is not None and oca["load"] == 1.0 and not oca["accepting"]

        async def is_well():
            oca = await known(target, cache_control)
            return oca is not None and oca["load"] == 0.0 and oca["accepting"]

        await until(is_avoided)
        await disk(target, oca, "DELETE")
        await until(is_well)


async def test_an_oca_with_a_failing_disk_answers_500_and_takes_itself_out(hasty):
    async with running_oca() as (target, oca, cache_control):
        await disk(target, oca, "PUT", {"failing": True})
        status, _, body = await fetch(target, oca)
        assert (status, body) == (500, b'{"error":"disk: Input/output error"}')

        async def is_out():
            oca = await known(target, cache_control)
            return oca is not None and not oca["accepting"]

        await until(is_out)
        assert (await disk(target, oca))[1]["reads_failed"] >= 2
        async with target.http.get(f"http://{oca}/probe") as response:
            assert response.status == 200


async def test_a_corrupt_disk_gives_chunks_that_the_player_recognises_as_wrong():
    async with running_oca() as (target, oca, _):
        await disk(target, oca, "PUT", {"corrupt_share": 0.5})
        wrong = 0
        for _ in range(30):
            status, _, body = await fetch(target, oca, f"/titles/{TITLE}/235/3")
            assert status == 200
            wrong += check(body, TITLE, 235, 3) is not None

        assert 5 < wrong < 25
        assert (await disk(target, oca))[1]["reads_corrupted"] >= wrong


async def test_the_disks_endpoint_is_for_those_who_know_the_token_and_says_what_is_wrong():
    async with running_oca() as (target, oca, _):
        assert (await target.get(oca, "/admin/disk"))[0] == 401
        status, answer = await disk(target, oca, "PUT", {"slow": 1})
        assert (status, answer["error"]) == (
            400,
            "there is no fault 'slow'; there are slow_ms, corrupt_share, full, failing",
        )
        status, shown = await disk(target, oca, "PUT", {"full": True})
        assert (status, shown["full"], shown["slow_ms"]) == (200, True, 0.0)
        status, shown = await disk(target, oca, "DELETE")
        assert (status, shown["full"]) == (200, False)


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("oca_connection_mbps", 0, "more than 0"),
        ("oca_capacity_mbps", 0, "more than 0"),
        ("fill_mbps", -1, "more than 0"),
        ("fill_every_s", 0, "more than 0"),
        ("fill_below_load", 2, "from 0 to 1"),
    ],
)
async def test_an_impossible_setting_says_what_is_possible(setting, value, problem):
    calls = {"cache_control": [dead_address()], "origin": [dead_address()]}
    context = Context(config("oca", calls=calls, settings={setting: value}))
    with pytest.raises(ValueError, match=rf"settings\.{setting} is {value}.*{problem}"):
        SERVICES["oca"](context)
    await context.close()
