"""The parts for aiohttp, against a real server on the loopback interface."""

from __future__ import annotations

import random

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chaos.resilience import DEADLINE_HEADER, BadRequest, Deadline, DeadlineSpent, Isolation, Overloaded
from chaos.resilience.web import Rejected, ServiceClient, ServiceFailed, deadline_middleware, isolation_handler


@pytest.fixture
async def server():
    isolation = Isolation(rng=random.Random(1))
    rank = isolation.command("rank", _rank, fallback=lambda cause: "static")

    async def echo(request):
        deadline = Deadline.current()
        return web.json_response(
            {
                "left_s": None if deadline is None else deadline.remaining_s(),
                "header": request.headers.get(DEADLINE_HEADER),
                "body": (await request.read()).decode(),
                "rank": await rank(),
            }
        )

    async def status(request):
        headers = {"Retry-After": request.query["retry"]} if "retry" in request.query else {}
        return web.json_response({"refused": "plan"}, status=int(request.query["status"]), headers=headers)

    async def big(request):
        return web.Response(body=b"x" * 100_000)

    app = web.Application(middlewares=[deadline_middleware])
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/status", status)
    app.router.add_get("/big", big)
    app.router.add_get("/isolation", isolation_handler(isolation))
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield server
    await server.close()


async def _rank():
    raise LookupError


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_deadline_travels_with_the_request(server, session):
    with Deadline.within(20.0):
        reply = await ServiceClient(session).get(str(server.make_url("/echo")))
    answer = reply.json()
    assert reply.status == 200
    assert 0 < int(answer["header"]) <= 20_000
    assert 10.0 < answer["left_s"] <= 20.0


async def test_without_a_deadline_none_is_sent(server, session):
    answer = (await ServiceClient(session).post(str(server.make_url("/echo")), json={"a": 1})).json()
    assert (answer["header"], answer["left_s"], answer["body"]) == (None, None, '{"a": 1}')


async def test_a_client_without_isolation_leaves_the_deadline_alone(server, session):
    with Deadline.within(-1.0):
        answer = (await ServiceClient(session, enabled=False).get(str(server.make_url("/echo")))).json()
    assert answer["header"] is None


async def test_nothing_is_sent_when_the_deadline_is_spent(session):
    with Deadline.within(0.0), pytest.raises(DeadlineSpent):
        await ServiceClient(session).get("http://127.0.0.1:9/nobody")


@pytest.mark.parametrize(("value", "status"), [("0", 504), ("-7", 504), ("soon", 400), ("5000", 200)])
async def test_the_server_reads_the_header(server, session, value, status):
    async with session.get(server.make_url("/echo"), headers={DEADLINE_HEADER: value}) as response:
        assert response.status == status


@pytest.mark.parametrize(
    ("query", "raised"),
    [
        ({"status": "403"}, Rejected),
        ({"status": "404"}, Rejected),
        ({"status": "429"}, Overloaded),
        ({"status": "429", "retry": "3"}, Overloaded),
        ({"status": "503", "retry": "3"}, Overloaded),
        ({"status": "503"}, ServiceFailed),
        ({"status": "500"}, ServiceFailed),
        ({"status": "504"}, ServiceFailed),
    ],
)
async def test_an_answer_says_who_is_at_fault(server, session, query, raised):
    with pytest.raises(raised) as caught:
        await ServiceClient(session).get(str(server.make_url("/status")), params=query)
    error = caught.value
    if raised is Overloaded:
        assert error.retry_after_s == float(query.get("retry", "1"))
        assert (error.reply.status, error.reply.json()) == (int(query["status"]), {"refused": "plan"})
    else:
        assert error.status == int(query["status"])
        assert b"plan" in error.body
    if raised is Rejected:
        assert isinstance(error, BadRequest)
        assert error.json() == {"refused": "plan"}


async def test_a_status_that_the_caller_takes_for_an_answer_is_one(server, session):
    reply = await ServiceClient(session).request(
        "GET", str(server.make_url("/status")), params={"status": "429", "retry": "3"}, answers=(429,)
    )
    assert (reply.status, reply.headers["Retry-After"]) == (429, "3")


async def test_an_answer_that_is_too_large_is_an_error(server, session):
    client = ServiceClient(session, body_bytes_max=99_999)
    with pytest.raises(aiohttp.ClientPayloadError, match="99999 bytes"):
        await client.get(str(server.make_url("/big")))
    assert len((await ServiceClient(session).get(str(server.make_url("/big")))).body) == 100_000


async def test_the_states_of_the_commands_can_be_read(server, session):
    await ServiceClient(session).get(str(server.make_url("/echo")))
    (shown,) = (await ServiceClient(session).get(str(server.make_url("/isolation")))).json()
    assert {name: shown[name] for name in ("command", "state", "calls", "errors", "fallbacks")} == {
        "command": "rank",
        "state": "closed",
        "calls": 1,
        "errors": 1,
        "fallbacks": 1,
    }
