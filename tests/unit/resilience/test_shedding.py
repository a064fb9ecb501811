"""Load shedding: who is turned away, when, and that nobody is shut out for good."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from chaos.resilience import DEADLINE_HEADER, AimdSettings, BulkheadFull, DeadlineSpent, Isolation, Overloaded
from chaos.resilience.request import RequestContext
from chaos.resilience.shedding import PRIORITY_HEADER, Priority, Shedder, SheddingSettings, ShedReason, current_priority
from chaos.resilience.web import (
    ServiceClient,
    blame_middleware,
    deadline_middleware,
    isolation_handler,
    request_context_middleware,
)
from chaos.resilience.web.shedding import shedding_middleware


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
    "wrong", [{"max_concurrent": 0}, {"shares": (0.5, 0.9, 0.7, 0.5)}, {"retry_after_s": 0}, {"learn_calls": 0}]
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SheddingSettings(**wrong)


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
        if taken:
            assert before < limit
        else:
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
        app.router.add_get("/isolation", isolation_handler(Isolation(rng=random.Random(1))))
        self.client = TestClient(TestServer(app))

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
    assert (await service.get("/play", "critical"))[0] == 200
    assert (await service.get("/healthz", "bulk"))[0] == 200
    service.hold.set()
    assert [status for status, *_ in await asyncio.gather(*busy)] == [200] * 8


async def test_a_caller_that_goes_away_frees_its_place(serve):
    service = await serve(max_concurrent=1)
    call = asyncio.create_task(service.get("/play?wait"))
    while service.shedder.in_flight < 1:
        await asyncio.sleep(0.01)
    call.cancel()
    service.hold.set()
    limit_s = asyncio.get_running_loop().time() + 5
    while service.shedder.in_flight:
        assert asyncio.get_running_loop().time() < limit_s
        await asyncio.sleep(0.01)


async def test_what_could_not_be_done_in_time_is_turned_away(serve):
    service = await serve(learn_calls=1)
    call = asyncio.create_task(service.get("/play?wait"))
    await asyncio.sleep(0.3)
    service.hold.set()
    await call
    assert (await service.get("/play", deadline_ms=50))[:2][0] == 503
    assert (await service.get("/play", deadline_ms=5_000))[0] == 200


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
    front, back = await serve(), await serve()

    async def pass_on(request):
        client = ServiceClient(back.client.session)
        reply = await client.get(str(back.client.make_url("/play")))
        return web.json_response(reply.json())

    front.client.server.app._router._frozen = False
    front.client.server.app.router.add_get("/on", pass_on)
    assert (await front.get("/on", "critical"))[1] == {"priority": "critical"}
