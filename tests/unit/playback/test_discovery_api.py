"""The Discovery API with a real cache and without one: its home page is never an error."""

from __future__ import annotations

import asyncio

import pytest

from targets.playback.activity import ActivityEvent, Kind
from targets.playback.activity_emitter import Activity
from targets.playback.coviewing import Recommendation
from targets.playback.discovery_api import LAST_POPULAR, ROWS, STATIC, build
from targets.playback.home_rows import popular_to_bytes, recommendation_to_bytes
from targets.playback.passport import HEADER
from targets.playback.pipeline import build as build_pipeline
from targets.playback.service import Context
from targets.playback.validation import Plan, refusal
from tests.ports import dead_address
from tests.unit.playback.little_target import TODAY, LittleTarget, config, passport_of, until, valkey_process
from tests.unit.playback.pipeline_fixtures import client


class Front(LittleTarget):
    """The Discovery API and somebody who asks it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.someone = next(one for one in self.data.subscribers if one.plan is Plan.BASIC)
        self.playable = [title.id for title in self.data.titles if not refusal(self.someone, title, TODAY)]

    async def build(self, *caches, events=()):
        """Start it."""
        told = config(
            "discovery_api",
            labels={"zone": "a"},
            zones=("a", "b"),
            calls={"cache": caches, **({"events": events} if events else {})},
            disabled=self.disabled,
        )
        self.api = await self.serve(build(Context(told)))

    async def ask(self, path="/home", someone=None):
        """Ask as somebody; status and answer."""
        return await self.get(self.api, path, **{HEADER: passport_of(someone or self.someone).to_header()})

    def put(self, cache, *, home=None, popular=None):
        """Put rows, or whatever is given, into a zone."""
        with client(cache) as valkey:
            for key, value in ((f"home/{self.someone.id}", home), (f"popular/{self.someone.country}", popular)):
                if value is not None:
                    valkey.set(key, value)


def kinds(answer):
    return [row["kind"] for row in answer["rows"]]


async def test_the_rows_are_those_in_the_cache(valkeys):
    _, a, b = valkeys
    async with Front() as target:
        await target.build(a, b)
        first, second, third = target.playable[:3]
        row = recommendation_to_bytes(Recommendation(because=first, titles=(second, third)))
        target.put(a, home=row, popular=popular_to_bytes([third, first]))

        assert await target.ask() == (
            200,
            {
                "rows": [
                    {"title": f"Because you watched {first}", "kind": "personal", "titles": [second, third]},
                    {"title": f"Popular in {target.someone.country}", "kind": "popular", "titles": [third, first]},
                ],
                "degraded": [],
            },
        )


async def test_without_the_near_zone_the_far_one_answers(valkeys):
    async with Front() as target:
        await target.build(dead_address(), valkeys[2])
        target.put(valkeys[2], popular=popular_to_bytes(target.playable[:2]))

        status, answer = await target.ask()

        assert (status, kinds(answer), answer["degraded"]) == (200, ["popular"], ["cache.a.read"])


async def test_without_any_cache_a_stretch_of_the_catalogue_is_shown():
    async with Front() as target:
        await target.build(dead_address(), dead_address())
        for _ in range(30):  # until the breakers are open, and after
            status, answer = await target.ask()
            assert (status, kinds(answer)) == (200, ["static"])
            assert answer["degraded"] == ["cache.a.read", "cache.b.read", STATIC]
            assert answer["rows"][0]["titles"]
            assert set(answer["rows"][0]["titles"]) <= set(target.playable)


async def test_when_the_cache_dies_the_last_popular_titles_are_shown():
    with valkey_process() as zone:
        async with Front() as target:
            await target.build(zone.address, dead_address())
            target.put(zone.address, popular=popular_to_bytes(target.playable[:2]))
            await target.ask()
            zone.kill()

            status, answer = await target.ask()

            assert (status, kinds(answer)) == (200, ["popular"])
            assert answer["degraded"] == ["cache.a.read", "cache.b.read", LAST_POPULAR]
            assert answer["rows"][0]["titles"] == target.playable[:2]


async def test_before_anybody_has_played_the_row_is_static_and_nothing_is_degraded(valkeys):
    async with Front() as target:
        await target.build(*valkeys[1:])

        status, answer = await target.ask()

        assert (status, kinds(answer), answer["degraded"]) == (200, ["static"], [])


async def test_a_cache_that_hangs_is_not_waited_for():
    loop = asyncio.get_running_loop()
    with valkey_process() as zone:
        async with Front() as target:
            await target.build(zone.address, zone.address)
            await target.ask()
            zone.freeze()
            try:
                began_s = loop.time()
                status, answer = await target.ask()
                assert loop.time() - began_s < 1.0
            finally:
                zone.thaw()
            assert (status, kinds(answer)) == (200, ["static"])
            assert answer["degraded"][-1] == STATIC


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"\xff\xfe", b"[1]", b'{"because": 1, "titles": 2}', b'{"titles": ["x"]}']
)
async def test_garbage_in_the_cache_is_as_good_as_nothing(valkeys, garbage):
    async with Front() as target:
        await target.build(*valkeys[1:])
        target.put(valkeys[1], home=garbage, popular=garbage)

        status, answer = await target.ask()

        assert (status, kinds(answer), answer["degraded"]) == (200, ["static"], [STATIC])


async def test_a_key_of_another_type_is_as_good_as_nothing(valkeys):
    async with Front() as target:
        await target.build(*valkeys[1:])
        with client(valkeys[1]) as valkey:
            valkey.lpush(f"home/{target.someone.id}", "x")

        status, answer = await target.ask()

        assert (status, kinds(answer)) == (200, ["static"])


async def test_what_may_not_be_played_is_not_shown(valkeys):
    async with Front() as target:
        await target.build(*valkeys[1:])
        refused = next(title.id for title in target.data.titles if refusal(target.someone, title, TODAY))
        row = recommendation_to_bytes(Recommendation(because=refused, titles=(refused, target.playable[0])))
        target.put(valkeys[1], home=row, popular=popular_to_bytes([refused, target.playable[1]]))

        _, answer = await target.ask()

        assert [row["titles"] for row in answer["rows"]] == [[target.playable[0]], [target.playable[1]]]


async def test_with_isolation_off_a_dead_cache_is_an_error():
    async with Front(disabled=("isolation",)) as target:
        await target.build(dead_address(), dead_address())

        assert (await target.ask())[0] == 502


async def test_when_reading_fails_as_a_whole_the_static_row_is_shown(valkeys, monkeypatch):
    async def fail(*_):
        raise OSError("no more sockets")

    monkeypatch.setattr("targets.playback.discovery_api.DiscoveryApi._read", fail)
    async with Front() as target:
        await target.build(*valkeys[1:])

        status, answer = await target.ask()

        assert (status, kinds(answer), answer["degraded"]) == (200, ["static"], [ROWS, STATIC])


async def test_without_a_passport_nothing_is_shown(valkeys):
    async with Front() as target:
        await target.build(*valkeys[1:])

        for path in ("/home", "/search?q=title"):
            assert await target.get(target.api, path) == (400, {"error": "the header X-Passport is missing"})


async def test_a_search_finds_titles_and_says_that_it_was_made(valkeys):
    async with Front() as target:
        await target.build(*valkeys[1:], events=[valkeys[0]])

        status, answer = await target.ask("/search?q=title-000")
        assert status == 200
        assert answer["titles"] == [one for one in target.playable if one.startswith("title-000")]
        status, answer = await target.ask("/search?q=")
        assert (status, answer) == (400, {"error": "the parameter q is missing: /search?q=title-00"})

        async def sent():
            return (await target.get(target.api, "/activity"))[1]["acknowledged"] == 1

        await until(sent)
    with client(valkeys[0]) as valkey:
        ((_, fields),) = valkey.xrange("activity")
    found = ActivityEvent.from_bytes(fields["event"].encode())
    assert (found.kind, found.query, found.subscriber) == ("searched", "title-000", target.someone.id)


async def test_a_search_needs_no_server_of_events(valkeys):
    async with Front() as target:
        await target.build(*valkeys[1:], events=[dead_address()])

        assert (await target.ask("/search?q=title"))[0] == 200


async def test_a_play_is_on_the_home_page_within_two_seconds(valkeys, tmp_path):
    """The whole way: emitter, stream, pipeline, cache, Discovery API."""
    loop = asyncio.get_running_loop()
    events, a, b = valkeys
    async with Front() as target:
        told = config("pipeline", calls={"events": [events], "cache": [a, b]}, zones=("a", "b"), data_dir=str(tmp_path))
        await target.serve(build_pipeline(Context(told)))
        await target.build(a, b)
        context = Context(config("play_api", calls={"events": [events]}))
        activity = Activity(context)
        other = next(one for one in target.data.subscribers if one != target.someone)
        first, second = target.playable[:2]
        for title in (first, second):
            activity.emit(Kind.PLAY_STARTED, other, title=title)
        began_s = loop.time()
        activity.emit(Kind.PLAY_STARTED, target.someone, title=first)

        async def visible():
            _, answer = await target.ask()
            return answer["rows"][0] == {
                "title": f"Because you watched {first}",
                "kind": "personal",
                "titles": [second],
            }

        await until(visible)
        assert loop.time() - began_s < 2.0
        await context.close()
        await activity.close()
