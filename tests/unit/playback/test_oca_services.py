"""OCAs, cache control and steering, talking to each other over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from targets.playback.oca_map import title_tag
from targets.playback.video import VideoScale
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, report, until


async def known_ocas(target, address):
    _, answer = await target.get(address, "/map")
    return [oca["id"] for oca in answer["ocas"]]


async def test_an_oca_reports_to_every_replica_of_cache_control_even_when_one_is_dead():
    async with LittleTarget() as target:
        living = await target.start("cache_control")
        await target.start("oca", index=7, labels={"isp": "gamma"}, calls={"cache_control": [dead_address(), living]})

        async def is_known():
            return await known_ocas(target, living) == ["oca-7"]

        await until(is_known)
        _, answer = await target.get(living, "/map")
        (oca,) = answer["ocas"]
        assert oca["url"] == "http://127.0.0.1:9007"
        assert oca["isp"] == "gamma"
        assert oca["titles"] == title_tag(target.data.holdings("gamma", 7))


async def test_an_oca_serves_the_chunks_of_the_titles_it_holds():
    async with LittleTarget() as target:
        oca = await target.start("oca", labels={"isp": "alpha"}, calls={"cache_control": [dead_address()]})
        held = target.data.holdings("alpha", 1)
        there = next(f"title-{number + 1:04d}" for number in range(30) if held >> number & 1)
        absent = next(f"title-{number + 1:04d}" for number in range(30) if not held >> number & 1)

        async with target.http.get(f"http://{oca}/titles/{there}/5800/3") as response:
            assert (response.status, len(await response.read())) == (200, VideoScale(60).chunk_bytes(5800))
        async with target.http.get(f"http://{oca}/probe") as response:
            assert (response.status, len(await response.read())) == (200, 1024)
        for path in (
            f"/titles/{absent}/5800/3",
            f"/titles/{there}/5801/3",
            f"/titles/{there}/5800/x",
            "/titles/x/235/1",
        ):
            assert (await target.get(oca, path))[0] == 404


async def test_a_full_oca_says_so_and_when_to_come_back():
    async with LittleTarget() as target:
        settings = {"oca_capacity_mbps": 6}
        oca = await target.start(
            "oca", labels={"isp": "ixp"}, calls={"cache_control": [dead_address()]}, settings=settings
        )
        statuses = []
        for number in range(3):
            async with target.http.get(f"http://{oca}/titles/title-0001/5800/{number}") as response:
                statuses.append((response.status, response.headers.get("Retry-After")))

        assert statuses[0] == (200, None)
        assert (503, "1") in statuses[1:]


async def test_cache_control_sends_its_map_once_for_each_version():
    async with LittleTarget() as target:
        cache_control = await target.start("cache_control")
        await target.start_ocas(cache_control)
        async with target.http.get(f"http://{cache_control}/map") as response:
            tag = response.headers["ETag"]
            assert len((await response.json())["ocas"]) == 12

        assert (await target.get(cache_control, "/map", **{"If-None-Match": tag}))[0] == 304
        await target.post(cache_control, "/reports", report(target.data, sequence=2, load=0.7).to_json())
        assert (await target.get(cache_control, "/map", **{"If-None-Match": tag}))[0] == 200


async def test_cache_control_forgets_the_silent_unless_that_protection_is_off():
    for disabled, left in (((), 0), (("health_filtering",), 12)):
        async with LittleTarget(disabled=disabled) as target:
            cache_control = await target.start("cache_control", settings={"oca_forget_after_s": 0.1})
            await target.start_ocas(cache_control)
            await asyncio.sleep(0.2)

            assert len(await known_ocas(target, cache_control)) == left


@pytest.mark.parametrize("body", ["no report", {"id": "oca-1"}, {}, None])
async def test_cache_control_refuses_what_is_no_report(body):
    async with LittleTarget() as target:
        cache_control = await target.start("cache_control")

        assert (await target.post(cache_control, "/reports", body))[0] == 400


async def test_steering_ranks_ten_ocas_for_the_clients_network():
    async with LittleTarget() as target:
        cache_control = await target.start("cache_control")
        await target.start_ocas(cache_control)
        steering = await target.start("steering", calls={"cache_control": [cache_control]})

        status, answer = await target.get(steering, "/rank?title=title-0001&ip=10.0.1.1")

        assert status == 200
        assert len(answer["ocas"]) == 10
        assert {oca["isp"] for oca in answer["ocas"][:2]} == {"alpha"}
        assert not answer["stale"]
        assert "explained" not in answer
        _, explained = await target.get(steering, "/rank?title=title-0001&ip=10.0.1.1&explain=1")
        assert explained["network"] == "alpha"
        assert len(explained["explained"]) == 12
        assert [one["id"] for one in explained["explained"][:10]] == [oca["id"] for oca in explained["ocas"]]
        assert (await target.get(steering, "/rank?title=film&ip=10.0.1.1"))[0] == 404


async def test_steering_is_ready_when_it_has_a_map():
    async with LittleTarget() as target:
        cache_control = await target.start("cache_control")
        steering = await target.start("steering", ready=False, calls={"cache_control": [cache_control]})
        async with target.http.get(f"http://{steering}/healthz") as response:
            assert response.status == 503

        await target.start_ocas(cache_control)

        async def is_ready():
            async with target.http.get(f"http://{steering}/healthz") as response:
                return response.status == 200

        await until(is_ready)


async def test_steering_asks_the_other_cache_control_when_one_is_dead():
    async with LittleTarget() as target:
        cache_control = await target.start("cache_control")
        await target.start_ocas(cache_control)
        steering = await target.start("steering", calls={"cache_control": [dead_address(), cache_control]})

        assert (await target.get(steering, "/rank?title=title-0001&ip=10.0.1.1"))[0] == 200


@pytest.mark.parametrize(("disabled", "status"), [((), 200), (("stale_map",), 503)])
async def test_steering_keeps_the_last_map_when_cache_control_is_gone_unless_that_protection_is_off(disabled, status):
    async with LittleTarget(disabled=disabled) as target:
        cache_control = await target.start("cache_control")
        await target.start_ocas(cache_control)
        steering = await target.start("steering", calls={"cache_control": [cache_control]})
        await target.stop(cache_control)

        async def has_failed_to_pull():
            return (await target.breakers(steering))["cache_control.map"]["errors"] > 0

        await until(has_failed_to_pull)
        assert (await target.get(steering, "/rank?title=title-0001&ip=10.0.1.1"))[0] == status


@pytest.mark.parametrize(("disabled", "first"), [((), {"beta"}), (("health_filtering",), {"beta", "alpha"})])
async def test_steering_minds_load_unless_that_protection_is_off(disabled, first):
    async with LittleTarget(disabled=disabled) as target:
        cache_control = await target.start("cache_control")
        for index, isp, load in ((1, "alpha", 1.0), (4, "beta", 0.0)):
            await target.post(cache_control, "/reports", report(target.data, isp=isp, index=index, load=load).to_json())
        steering = await target.start("steering", calls={"cache_control": [cache_control]})
        title = next(
            f"title-{number + 1:04d}"
            for number in range(30)
            if target.data.holdings("alpha", 1) & target.data.holdings("beta", 4) >> number & 1
        )
        seen = set()
        for _ in range(20):
            _, answer = await target.get(steering, f"/rank?title={title}&ip=10.200.0.1")
            seen.add(answer["ocas"][0]["isp"])

        assert seen == first
