"""The client middleware: a real ClientSession against real servers, and what it does to their answers."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chaos.resilience import (
    DEADLINE_HEADER,
    BreakerSettings,
    BulkheadFull,
    CommandSettings,
    Deadline,
    DeadlineExceeded,
    FallbackFailed,
    Isolation,
    ReplicaSettings,
    ShortCircuited,
)
from chaos.resilience.web import isolate
from chaos.resilience.web.session import ResponseFailed

BREAKER = BreakerSettings(minimum_calls=3, open_s=60.0)


class Site:
    """A server that answers with the status in the path, and remembers what it was asked."""

    def __init__(self):
        self.requests = []
        app = web.Application()
        app.router.add_route("*", "/{status:\\d+}", self.answer)
        app.router.add_get("/slow", self.slow)
        self.server = TestServer(app)

    async def answer(self, request):
        body = await request.read()
        self.requests.append((request.method, request.path, request.headers, body))
        status = int(request.match_info["status"])
        return web.json_response({"status": status, "body": body.decode()}, status=status, headers=self.extra(request))

    def extra(self, request):
        return {"Retry-After": "2"} if "later" in request.query else {}

    async def slow(self, request):
        await asyncio.sleep(30)

    def url(self, path):
        return str(self.server.make_url(path))


@pytest.fixture
async def site():
    one = Site()
    await one.server.start_server()
    yield one
    await one.server.close()


@pytest.fixture
async def open_session():
    sessions = []

    def start(**options):
        isolation = options.pop("isolation", None) or Isolation(rng=random.Random(1))
        options.setdefault("settings", CommandSettings(timeout_s=5.0, breaker=BREAKER))
        session = aiohttp.ClientSession(middlewares=[isolate(isolation, **options)])
        sessions.append(session)
        return session, isolation

    yield start
    for session in sessions:
        assert not session.connector._acquired, "a connection was not given back"
        await session.close()


def counts(isolation):
    (one,) = [one for one in isolation.snapshot() if "[" not in one.command]
    return one


async def get(session, url, **options):
    async with session.get(url, **options) as response:
        return response.status, await response.json()


async def test_good_answers_and_callers_mistakes_come_through_and_are_no_failures(site, open_session):
    session, isolation = open_session()
    for status in (200, 404, 403, 200, 400):
        assert (await get(session, site.url(f"/{status}")))[0] == status
    one = counts(isolation)
    assert one.command == f"127.0.0.1:{site.server.port}"
    assert (one.counts.success, one.counts.bad_request, one.state) == (2, 3, "closed")


async def test_failures_open_the_breaker_of_that_host_alone(site, open_session):
    other = Site()
    await other.server.start_server()
    session, isolation = open_session()
    for _ in range(3):
        assert (await get(session, site.url("/500")))[0] == 500
    with pytest.raises(ShortCircuited):
        await session.get(site.url("/200"))
    assert len(site.requests) == 3
    assert (await get(session, other.url("/200")))[0] == 200
    assert [one.state for one in isolation.snapshot()] == ["open", "closed"]
    await other.server.close()


async def test_an_overloaded_host_is_no_broken_one(site, open_session):
    session, isolation = open_session()
    for _ in range(10):
        assert (await get(session, site.url("/503?later")))[0] == 503
        assert (await get(session, site.url("/429")))[0] == 429
    assert counts(isolation).state == "closed"
    assert counts(isolation).counts.refused == 20


async def test_a_host_that_is_not_there_counts_and_its_exception_comes_out_unchanged(open_session):
    session, _ = open_session()
    for _ in range(3):
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://127.0.0.1:9/")
    with pytest.raises(ShortCircuited):
        await session.get("http://127.0.0.1:9/")


async def test_a_slow_answer_is_cut_off_and_its_connection_closed(site, open_session):
    session, isolation = open_session(settings=CommandSettings(timeout_s=0.05))
    with pytest.raises(DeadlineExceeded):
        await session.get(site.url("/slow"))
    assert counts(isolation).timeouts == 1


async def test_the_callers_deadline_travels_along_shrunken(site, open_session):
    session, _ = open_session()
    await get(session, site.url("/200"))
    with Deadline.within(1.0):
        await get(session, site.url("/200"))
    sent = [int(headers[DEADLINE_HEADER]) for *_, headers, _ in site.requests]
    assert 4000 < sent[0] <= 5000
    assert 0 < sent[1] <= 1000


async def test_a_full_bulkhead_refuses_and_a_cancelled_request_gives_its_permit_back(site, open_session):
    session, isolation = open_session(settings=CommandSettings(timeout_s=5.0, max_concurrent=1))
    slow = asyncio.create_task(session.get(site.url("/slow")))
    await asyncio.sleep(0.05)
    with pytest.raises(BulkheadFull):
        await session.get(site.url("/200"))
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert (await get(session, site.url("/200")))[0] == 200
    assert counts(isolation).counts.cancelled == 1


async def test_a_fallback_answers_for_failures_and_refusals(site, open_session):
    causes = []

    async def elsewhere(cause, request, handler):
        causes.append(type(cause))
        request.url = request.url.with_path("/203")
        return await handler(request)

    session, _ = open_session(fallback=elsewhere)
    for _ in range(5):
        assert (await get(session, site.url("/500")))[0] == 203
    assert causes == [ResponseFailed] * 3 + [ShortCircuited] * 2


async def test_when_the_fallback_fails_too_both_are_told(site, open_session):
    def broken(cause, request, handler):
        raise LookupError

    session, _ = open_session(fallback=[broken])
    with pytest.raises(FallbackFailed) as caught:
        await session.get(site.url("/500"))
    assert isinstance(caught.value.cause, ResponseFailed)


async def test_by_route_and_beyond_the_most_commands_one_is_shared(site, open_session):
    session, isolation = open_session(by=lambda request: request.url.path, commands_max=2)
    for status in (200, 201, 202, 203):
        await get(session, site.url(f"/{status}"))
    assert [(one.command, one.calls) for one in isolation.snapshot()] == [("/200", 1), ("/201", 1), ("others", 2)]


async def test_without_isolation_requests_are_bare(site, open_session):
    session, _ = open_session(isolation=Isolation(rng=random.Random(1), enabled=False))
    for _ in range(10):
        assert (await get(session, site.url("/500")))[0] == 500
    assert DEADLINE_HEADER not in site.requests[0][2]


class TestReplicas:
    @pytest.fixture
    async def sites(self):
        both = [Site(), Site()]
        for one in both:
            await one.server.start_server()
        yield both
        for one in both:
            await one.server.close()

    def session(self, open_session, addresses):
        return open_session(
            replicas={"catalogue": addresses},
            replica_settings=ReplicaSettings(breaker=BreakerSettings(minimum_calls=1_000)),
            settings=CommandSettings(timeout_s=5.0, breaker=BreakerSettings(minimum_calls=1_000)),
        )

    def addresses(self, sites):
        return [f"127.0.0.1:{one.server.port}" for one in sites]

    async def test_requests_are_spread(self, sites, open_session):
        session, _ = self.session(open_session, self.addresses(sites))
        for _ in range(40):
            assert (await get(session, "http://catalogue/200"))[0] == 200
        assert all(len(one.requests) >= 10 for one in sites)
        assert {headers["Host"] for one in sites for *_, headers, _ in one.requests} == set(self.addresses(sites))

    async def test_another_one_answers_when_one_is_dead_bodies_included(self, sites, open_session):
        session, _ = self.session(open_session, ["127.0.0.1:9", self.addresses(sites)[0]])
        for _ in range(10):
            async with session.put("http://catalogue/200", data=b"body") as response:
                assert (await response.json())["body"] == "body"
        assert len(sites[0].requests) == 10

    async def test_a_failed_answer_is_asked_for_elsewhere_and_released(self, sites, open_session):
        session, _ = self.session(open_session, self.addresses(sites))
        for _ in range(5):
            assert (await get(session, "http://catalogue/500"))[0] == 500
        assert sum(len(one.requests) for one in sites) == 10

    async def test_what_must_not_be_done_twice_is_not(self, sites, open_session):
        session, _ = self.session(open_session, self.addresses(sites))
        async with session.post("http://catalogue/500", data=b"order") as response:
            assert response.status == 500
        assert sum(len(one.requests) for one in sites) == 1
