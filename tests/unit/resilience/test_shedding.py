"""Load shedding: who is turned away, when, and that nobody is shut out for good."""

from __future__ import annotations

import asyncio
import math
import random

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from chaos.resilience import DEADLINE_HEADER, AimdSettings, BulkheadFull, DeadlineSpent, Isolation, Overloaded
from chaos.resilience.latency import REFRESH_S, LatencyWindow
from chaos.resilience.request import RequestContext
from chaos.resilience.shedding import PRIORITY_HEADER, Priority, Shedder, SheddingSettings, ShedReason, current_priority
from chaos.resilience.web import (
    ServiceClient,
    blame_middleware,
    deadline_middleware,
    isolation_handler,
    request_context_middleware,
)
from chaos.resilience.web.shedding import SHED_HEADER, shedding_middleware


def admit(shedder, now_s=0.0, priority=Priority.NORMAL, remaining_s=None, route="r"):
    return shedder.admit(now_s, route=route, priority=priority, remaining_s=remaining_s)


def end(shedder, now_s=0.0, duration_s=0.01, failed=False, route="r"):
    shedder.ended(now_s, route=route, duration_s=duration_s, failed=failed)


def test_the_least_important_are_turned_away_first():
    shedder = Shedder(SheddingSettings(max_concurrent=10))
    taken = {
        priority: next(number for number in range(20) if admit(shedder, priority=priority) is not None)
        for priority in reversed(Priority)
    }
    assert taken == {Priority.BULK: 5, Priority.LOW: 2, Priority.NORMAL: 2, Priority.CRITICAL: 1}
    assert shedder.in_flight == 10
    assert shedder.snapshot().shed == {
        "bulk/overloaded": 1, "critical/overloaded": 1, "low/overloaded": 1, "normal/overloaded": 1
    }  # fmt: skip


def test_what_cannot_be_done_in_time_is_not_begun():
    shedder = Shedder(SheddingSettings(learn_calls=5))
    for _ in range(5):
        assert admit(shedder, remaining_s=0.05) is None
        end(shedder, duration_s=0.2)
    assert admit(shedder, remaining_s=0.05).reason is ShedReason.CANNOT_FINISH
    assert admit(shedder, remaining_s=0.3) is None
    assert admit(shedder, remaining_s=None) is None
    assert admit(shedder, remaining_s=0.05, route="other") is None


def test_a_route_that_was_refused_is_tried_again_when_what_is_known_is_old():
    shedder = Shedder(SheddingSettings(learn_calls=5, learn_window_s=10.0))
    for _ in range(5):
        admit(shedder)
        end(shedder, duration_s=0.2)
    assert admit(shedder, now_s=5.0, remaining_s=0.05) is not None
    assert admit(shedder, now_s=11.0, remaining_s=0.05) is None


def test_failures_and_callers_that_went_away_teach_nothing_about_time():
    shedder = Shedder(SheddingSettings(learn_calls=1))
    for failed, duration_s in ((True, 5.0), (False, None)):
        admit(shedder)
        end(shedder, duration_s=duration_s, failed=failed)
    assert shedder.usual_s(0.0, "r") is None


def test_the_limit_finds_itself():
    shedder = Shedder(SheddingSettings(adaptive=AimdSettings(initial=10, minimum=2, maximum=20)))
    admit(shedder)
    end(shedder, failed=True)
    assert shedder.limit == 9


def test_routes_are_bounded():
    shedder = Shedder(SheddingSettings(learn_calls=1))
    for number in range(1_000):
        admit(shedder, route=str(number))
        end(shedder, route=str(number))
    assert len(shedder._routes) <= 257


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_concurrent": 0},
        {"max_concurrent": 2.5},
        {"max_concurrent": True},
        {"shares": (0.5, 0.9, 0.7, 0.5)},
        {"shares": (1.0, 0.9, 0.7)},
        {"shares": (1.0, 0.9, 0.7, 0.5, 0.4)},
        {"shares": (1.1, 0.9, 0.7, 0.5)},
        {"shares": (1.0, 0.9, 0.7, 0.0)},
        {"shares": (math.nan,) * 4},
        {"retry_after_s": 0},
        {"retry_after_s": 1.5},
        {"learn_calls": 0},
        {"learn_window_s": 0.0},
        {"learn_window_s": math.inf},
        {"learn_window_s": math.nan},
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SheddingSettings(**wrong)


@pytest.mark.parametrize(("limit", "low"), [(10, 7), (90, 63), (180, 126)])
def test_a_share_is_not_one_short_for_being_a_binary_fraction(limit, low):
    shedder = Shedder(SheddingSettings(max_concurrent=limit))
    assert next(number for number in range(limit) if admit(shedder, priority=Priority.LOW) is not None) == low


def test_a_limit_that_needs_many_calls_to_learn_does_learn():
    shedder = Shedder(SheddingSettings(learn_calls=1_000))
    for _ in range(1_000):
        admit(shedder)
        end(shedder, duration_s=0.2)
    assert shedder.usual_s(0.0, "r") == pytest.approx(0.2)


def test_a_limit_that_shrank_below_what_is_in_flight_admits_nobody_until_they_have_ended():
    shedder = Shedder(SheddingSettings(adaptive=AimdSettings(initial=4, minimum=1, maximum=4, backoff=0.5)))
    for _ in range(4):
        assert admit(shedder, priority=Priority.CRITICAL) is None
    end(shedder, failed=True)
    assert (shedder.limit, shedder.in_flight) == (2, 3)
    assert admit(shedder, priority=Priority.CRITICAL) is not None
    for _ in range(2):
        end(shedder, duration_s=None)
    assert admit(shedder, priority=Priority.CRITICAL) is None


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.one_of(st.none(), st.floats(0, 1)), st.sampled_from("ab")),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 5),
)
def test_the_usual_time_is_the_median_of_what_the_window_held_a_moment_ago(steps, learn_calls):
    """Each step lets time pass, then notes a success (its duration) or only asks."""
    shedder = Shedder(SheddingSettings(learn_calls=learn_calls, learn_window_s=10.0))
    windows = {route: LatencyWindow(10.0, buckets=10, samples_max=30) for route in "ab"}
    medians = {route: [] for route in "ab"}
    now_s = 0.0
    for pause_s, duration_s, route in steps:
        now_s += pause_s
        if duration_s is not None:
            admit(shedder, now_s=now_s, route=route)
            end(shedder, now_s=now_s, duration_s=duration_s, route=route)
            windows[route].record(now_s, duration_s)
        for asked, window in windows.items():
            known = window.count(now_s) >= learn_calls
            medians[asked].append((now_s, window.quantile(now_s, 0.5) if known else None))
            lately = {
                median for moment_s, median in medians[asked] if moment_s == now_s or now_s < moment_s + REFRESH_S
            }
            assert shedder.usual_s(now_s, asked) in lately


@given(st.lists(st.one_of(st.sampled_from(Priority), st.none()), max_size=80), st.integers(1, 12))
def test_it_never_takes_on_too_much_nor_the_less_important_before_the_more(steps, limit):
    shedder = Shedder(SheddingSettings(max_concurrent=limit))
    for step in steps:
        if step is None:
            if shedder.in_flight:
                end(shedder)
            continue
        before = shedder.in_flight
        taken = admit(shedder, priority=step) is None
        tenths = {Priority.CRITICAL: 10, Priority.NORMAL: 9, Priority.LOW: 7, Priority.BULK: 5}[step]
        assert taken == (before == 0 or (before + 1) * 10 <= limit * tenths)
        if not taken:
            for less in [one for one in Priority if one > step]:
                assert admit(shedder, priority=less) is not None
        assert 0 <= shedder.in_flight <= limit


class Service:
    """An application behind the middlewares, as a service has them."""

    def __init__(self, **settings):
        self.shedder = Shedder(SheddingSettings(**settings))
        self.hold = asyncio.Event()
        self.contexts = []
        app = web.Application(
            middlewares=[
                blame_middleware(LookupError),
                deadline_middleware,
                shedding_middleware(self.shedder, exempt=["/healthz"]),
                request_context_middleware,
            ]
        )
        for path in ("/play", "/rows", "/healthz"):
            app.router.add_get(path, self.answer)
        app.router.add_get("/raise/{what}", self.fail)
        app.router.add_get("/status/{status}", self.say)
        app.router.add_get("/on", self.pass_on)
        app.router.add_get("/isolation", isolation_handler(Isolation(rng=random.Random(1))))
        self.client = TestClient(TestServer(app))
        self.next: Service | None = None

    def teach(self, route, duration_s):
        """Make the shedder know that ``route`` takes ``duration_s``."""
        now_s = asyncio.get_running_loop().time()
        admit(self.shedder, now_s, route=route)
        end(self.shedder, now_s, duration_s=duration_s, route=route)

    def usual_s(self, route):
        return self.shedder.usual_s(asyncio.get_running_loop().time(), route)

    async def until_free(self):
        async with asyncio.timeout(5):
            while self.shedder.in_flight:
                await asyncio.sleep(0.01)

    async def say(self, request):
        status = int(request.match_info["status"])
        if status == 404:
            raise web.HTTPNotFound(text="{}", content_type="application/json")
        return web.json_response({}, status=status)

    async def pass_on(self, request):
        reply = await ServiceClient(self.next.client.session).get(str(self.next.client.make_url("/play")))
        return web.json_response(reply.json())

    async def answer(self, request):
        self.contexts.append(RequestContext.current())
        if "wait" in request.query:
            await self.hold.wait()
        return web.json_response({"priority": current_priority().to_header()})

    async def fail(self, request):
        errors = {
            "overloaded": Overloaded("x", retry_after_s=1),
            "full": BulkheadFull("x", 3),
            "spent": DeadlineSpent("x"),
            "lookup": LookupError("x"),
            "os": OSError("x"),
        }
        raise errors[request.match_info["what"]]

    async def get(self, path, priority=None, deadline_ms=None):
        headers = {}
        if priority is not None:
            headers[PRIORITY_HEADER] = priority
        if deadline_ms is not None:
            headers[DEADLINE_HEADER] = str(deadline_ms)
        async with self.client.get(path, headers=headers) as response:
            return response.status, await response.json(), response.headers


@pytest.fixture
async def serve():
    services = []

    async def start(**settings):
        service = Service(**settings)
        services.append(service)
        await service.client.start_server()
        return service

    yield start
    for service in services:
        service.hold.set()
        await service.client.close()
        assert service.shedder.in_flight == 0


async def test_plays_are_served_when_recommendations_are_turned_away(serve):
    service = await serve(max_concurrent=10)
    busy = [asyncio.create_task(service.get("/play?wait", "critical")) for _ in range(8)]
    while service.shedder.in_flight < 8:
        await asyncio.sleep(0.01)
    status, body, headers = await service.get("/rows", "low")
    assert (status, body["reason"], headers["Retry-After"]) == (503, "overloaded", "1")
    assert headers[SHED_HEADER] == "overloaded"
    assert (await service.get("/play", "critical"))[0] == 200
    assert (await service.get("/healthz", "bulk"))[0] == 200
    service.hold.set()
    assert [status for status, *_ in await asyncio.gather(*busy)] == [200] * 8


async def test_a_caller_that_goes_away_frees_its_place_and_teaches_nothing(serve):
    service = await serve(max_concurrent=1, learn_calls=1)
    call = asyncio.create_task(service.get("/play?wait"))
    while service.shedder.in_flight < 1:
        await asyncio.sleep(0.01)
    call.cancel()
    await service.until_free()
    assert not service.hold.is_set()
    assert service.usual_s("GET /play") is None
    assert (await service.get("/play"))[0] == 200
    assert service.usual_s("GET /play") is not None


async def test_what_could_not_be_done_in_time_is_turned_away(serve):
    service = await serve(learn_calls=1)
    service.teach("GET /play", 30.0)
    status, body, headers = await service.get("/play", deadline_ms=5_000)
    assert (status, body["reason"], headers["Retry-After"]) == (503, "cannot_finish", "1")
    assert (await service.get("/play", deadline_ms=60_000))[0] == 200
    assert (await service.get("/play"))[0] == 200
    assert (await service.get("/rows", deadline_ms=5_000))[0] == 200


@pytest.mark.parametrize(
    ("status", "teaches", "shrinks"), [(200, True, 0), (400, False, 0), (404, False, 0), (500, False, 1)]
)
async def test_only_answers_teach_how_long_a_route_takes_and_only_failures_shrink_the_limit(
    serve, status, teaches, shrinks
):
    service = await serve(learn_calls=1, adaptive=AimdSettings(initial=10, minimum=2, maximum=10))
    assert (await service.get(f"/status/{status}"))[0] == status
    assert (service.usual_s("GET /status/{status}") is not None) == teaches
    assert service.shedder.limit == 10 - shrinks


async def test_a_cancelled_request_is_no_failure_though_its_caller_is_still_there():
    shedder = Shedder(SheddingSettings(learn_calls=1, adaptive=AimdSettings(initial=10, minimum=2, maximum=10)))

    async def cancelled(request):
        raise asyncio.CancelledError

    app = web.Application(middlewares=[shedding_middleware(shedder)])
    app.router.add_get("/", cancelled)
    async with TestClient(TestServer(app)) as client:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.get("/")
    assert (shedder.limit, shedder.in_flight) == (10, 0)


async def test_a_viewer_who_leaves_a_stream_is_no_failure_of_ours():
    """As servers are set up by default: a handler is not cancelled, it finds out when it writes."""
    shedder = Shedder(SheddingSettings(learn_calls=1, adaptive=AimdSettings(initial=10, minimum=2, maximum=10)))
    ended = asyncio.Event()

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 1000)
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    app = web.Application(middlewares=[shedding_middleware(shedder)])
    app.router.add_get("/stream", stream)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readline()
            writer.transport.abort()
            await ended.wait()
            while shedder.in_flight:
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()
    assert shedder.limit == 10
    assert shedder.usual_s(asyncio.get_running_loop().time(), "GET /stream") is None


async def test_each_request_has_a_context_and_its_priority(serve):
    service = await serve()
    assert (await service.get("/play", "CRITICAL"))[1] == {"priority": "critical"}
    assert (await service.get("/play", "whatever"))[1] == {"priority": "normal"}
    first, second = service.contexts
    assert first is not None
    assert first is not second


@pytest.mark.parametrize(
    ("what", "status"), [("overloaded", 503), ("full", 503), ("spent", 504), ("lookup", 502), ("os", 502)]
)
async def test_a_failure_says_whose_it_is(serve, what, status):
    service = await serve()
    answered, _, headers = await service.get(f"/raise/{what}")
    assert answered == status
    assert ("Retry-After" in headers) == (status == 503)


async def test_the_priority_travels_to_the_next_service(serve):
    front, front.next = await serve(), await serve()
    assert (await front.get("/on", "critical"))[1] == {"priority": "critical"}
    assert (await front.get("/on"))[1] == {"priority": "normal"}


async def test_a_function_for_the_priority_is_believed_and_the_header_is_not():
    app = web.Application(
        middlewares=[shedding_middleware(Shedder(), priority=lambda request: Priority.BULK, exempt=["/healthz"])]
    )

    async def answer(request):
        return web.Response(text=current_priority().to_header())

    app.router.add_get("/play", answer)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/play", headers={PRIORITY_HEADER: "critical"})
        assert await response.text() == "bulk"


async def test_the_priority_of_one_request_is_not_that_of_the_next_on_the_same_connection():
    async def answer(request):
        return web.Response(text=current_priority().to_header())

    shed = web.Application(middlewares=[shedding_middleware(Shedder())])
    shed.router.add_get("/", answer)
    app = web.Application()
    app.add_subapp("/shed/", shed)
    app.router.add_get("/open", answer)
    async with TestClient(TestServer(app)) as client:
        assert await (await client.get("/shed/", headers={PRIORITY_HEADER: "critical"})).text() == "critical"
        assert await (await client.get("/open")).text() == "normal"
