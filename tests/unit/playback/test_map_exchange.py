"""The map of the OCAs on its way: a hundred OCAs with ten thousand titles, over real sockets."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import web

from chaos.resilience.web import ServiceClient
from targets.playback.main import SERVICES
from targets.playback.map_exchange import MapReader
from targets.playback.oca import Reporter
from targets.playback.oca_map import OcaReport, OcaState, map_to_json, title_tag
from targets.playback.service import Context, json_response
from targets.playback.transport import CallFailed
from tests.unit.playback.little_target import LittleTarget, config

TITLES = 10_000
OCAS = 100


def hundred_reports(sequence=1):
    """A report of each of a hundred OCAs; each lacks other titles."""
    rng = random.Random(5)
    everything = (1 << TITLES) - 1
    return [
        OcaReport(
            id=f"oca-{number}",
            incarnation=1,
            sequence=sequence,
            url=f"http://127.0.0.1:{9000 + number}",
            isp="alpha",
            load=0.1 * (sequence % 5),
            accepting=True,
            routes={"alpha": 0, "*": 2},
            titles_version=1,
            titles=everything & ~sum(1 << position for position in rng.sample(range(TITLES), 500)),
        )
        for number in range(1, OCAS + 1)
    ]


def reader(target):
    return MapReader(ServiceClient(target.http, enabled=True))


async def counted(target, address, seen):
    """A server in front of ``address`` that notes what is asked, and how much comes back."""

    async def forward(request):
        wanted = {"If-None-Match": request.headers["If-None-Match"]} if "If-None-Match" in request.headers else {}
        async with target.http.get(f"http://{address}{request.path_qs}", headers=wanted) as response:
            body = await response.read()
            seen.append((request.path, len(body)))
            tag = {"ETag": response.headers["ETag"]} if "ETag" in response.headers else {}
            return web.Response(status=response.status, body=body, headers=tag, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", forward)
    return await target.serve(app)


async def test_the_sets_of_ten_thousand_titles_travel_once_and_the_map_of_a_hundred_ocas_stays_small():
    async with LittleTarget() as target:
        cache_control = await target.start("cache_control")
        for news in hundred_reports():
            await target.post(cache_control, "/reports", news.to_json())
        seen: list[tuple[str, int]] = []
        one, address = reader(target), await counted(target, cache_control, seen)

        first = await one.fetch(address)
        assert {oca.id: oca.titles for oca in first} == {news.id: news.titles for news in hundred_reports()}
        assert [path for path, _ in seen] == ["/map", "/title_sets"]
        assert seen[0][1] < 20_000
        seen.clear()

        assert await one.fetch(address) == first
        assert seen == [("/map", 0)]  # nothing new: 304
        seen.clear()

        for news in hundred_reports(sequence=2):
            await target.post(cache_control, "/reports", news.to_json(with_titles=False))
        second = await one.fetch(address)
        assert {oca.load for oca in second} == {0.2}
        assert [oca.titles for oca in second] == [oca.titles for oca in first]
        assert [path for path, _ in seen] == ["/map"]


async def test_a_restarted_cache_control_knows_a_hundred_ocas_and_their_titles_after_one_report_of_each():
    async with LittleTarget() as target:
        old = await target.start("cache_control")
        http = ServiceClient(target.http, enabled=True)
        reporters = [Reporter(http, old) for _ in range(OCAS)]
        for reporter, news in zip(reporters, hundred_reports(), strict=True):
            await reporter.report(news)

        await target.stop(old)
        host, _, port = old.rpartition(":")
        runner = web.AppRunner(SERVICES["cache_control"](Context(config("cache_control"))), shutdown_timeout=0.05)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, int(port)).start()
            assert await reader(target).fetch(old) == ()

            together = zip(reporters, hundred_reports(sequence=2), strict=True)
            await asyncio.gather(*(reporter.report(news) for reporter, news in together))

            learnt = await reader(target).fetch(old)
            assert {oca.id: oca.titles for oca in learnt} == {news.id: news.titles for news in hundred_reports()}
        finally:
            await runner.cleanup()


def one_oca(titles=0b101):
    return OcaState(
        id="oca-1", url="http://127.0.0.1:9001", isp="alpha", load=0.0, accepting=True, routes={"*": 1}, titles=titles
    )


async def serve_answers(target, answers):
    """A server whose answers, by path, the test may change."""

    async def answer(request):
        return json_response(answers[request.path])

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return await target.serve(app)


@pytest.mark.parametrize("wrong", [{"ocas": "all"}, {"ocas": [{"titles": 7}]}, {"OCAs": []}, []])
async def test_what_is_no_map_is_refused(wrong):
    async with LittleTarget() as target:
        address = await serve_answers(target, {"/map": wrong})

        with pytest.raises(CallFailed):
            await reader(target).fetch(address)


@pytest.mark.parametrize(
    "wrong", [{}, [], {title_tag(0b101): "not hexadecimal"}, {title_tag(0b101): "7"}], ids=["missing", "", "", "other"]
)
async def test_a_set_that_is_missing_or_not_what_its_tag_says_is_refused_and_one_that_is_known_not_asked_for(wrong):
    async with LittleTarget() as target:
        answers = {"/map": {"ocas": map_to_json([one_oca()])}, "/title_sets": {title_tag(0b101): "5"}}
        address, who_knows = await serve_answers(target, answers), reader(target)
        assert await who_knows.fetch(address) == (one_oca(),)

        answers["/title_sets"] = wrong
        with pytest.raises(CallFailed):
            await reader(target).fetch(address)
        assert await who_knows.fetch(address) == (one_oca(),)


async def test_only_the_sets_that_are_on_the_map_are_kept():
    ocas = [one_oca(titles) for titles in range(1, 4)]
    sets = {title_tag(oca.titles): f"{oca.titles:x}" for oca in ocas}
    asked: list[str] = []

    async def answer(request):
        if request.path == "/map":
            return json_response({"ocas": map_to_json([ocas[0]])})
        asked.append(request.query["tags"])
        return json_response(sets)

    async with LittleTarget() as target:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        address, one = await target.serve(app), reader(target)
        for turn in (1, 2, 1):
            ocas[0] = one_oca(turn)
            await one.fetch(address)

    assert asked == [title_tag(turn) for turn in (1, 2, 1)]


async def test_a_set_that_has_just_left_the_map_makes_the_reader_look_again():
    turns = iter((1, 2))
    shown: list[OcaState] = []

    async def answer(request):
        if request.path == "/map":
            shown[:] = [one_oca(next(turns))]
            return json_response({"ocas": map_to_json(shown)})
        return json_response({title_tag(2): "2"})

    async with LittleTarget() as target:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        assert await reader(target).fetch(await target.serve(app)) == (one_oca(2),)
