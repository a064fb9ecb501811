"""The server's side in aiohttp: whose fault a failure is, deadlines at the door, contexts, and the states as JSON."""

from __future__ import annotations

import asyncio
import json
import math

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from chaos.resilience import (
    DEADLINE_HEADER,
    BadRequest,
    BulkheadFull,
    CommandSettings,
    Deadline,
    DeadlineExceeded,
    DeadlineSpent,
    FallbackFailed,
    IsolationError,
    Overloaded,
    ShortCircuited,
)
from chaos.resilience.metrics import QUANTILES, CommandSnapshot, Counts, Latency
from chaos.resilience.request import RequestContext
from chaos.resilience.web import (
    Reply,
    ServiceFailed,
    ServiceOverloaded,
    blame_middleware,
    deadline_middleware,
    isolation_handler,
    request_context_middleware,
)
from chaos.resilience.web.server import SHED_HEADER


async def ask(handler, *middlewares, headers=None):
    """Return the status, the headers and the parsed body of one GET to ``handler`` behind ``middlewares``."""
    app = web.Application(middlewares=middlewares)
    app.router.add_get("/", handler)
    async with TestClient(TestServer(app)) as client, client.get("/", headers=headers) as response:
        body = await response.read()
        parsed = json.loads(body) if response.content_type == "application/json" else body
        return response.status, response.headers, parsed


def raising(error):
    async def handle(request):
        raise error

    return handle


class OursError(Exception):
    """What an application calls the failure of a service behind it."""


FAILED_REPLY = Reply(status=500, headers={}, body=b"")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("rank", retry_after_s=1.0), 503),
        (BulkheadFull("rank", 3), 503),
        (DeadlineSpent("rank"), 504),
        (ShortCircuited("rank"), 502),
        (FallbackFailed("rank", OSError("x"), (OSError("y"),)), 502),
        (DeadlineExceeded("rank", 0.5), 502),
        (IsolationError("rank"), 502),
        (ServiceFailed("rank", FAILED_REPLY), 502),
        (aiohttp.ClientConnectionError("x"), 502),
        (TimeoutError(), 502),
        (ConnectionRefusedError("x"), 502),
        (OursError("x"), 502),
        (BadRequest("x"), 500),
        (ValueError("a mistake of our own"), 500),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else str(one),
)
async def test_a_status_tells_the_caller_whom_to_blame(error, status):
    answered, headers, body = await ask(raising(error), blame_middleware(OursError))
    assert answered == status
    assert headers.get("Retry-After") == ("1" if status == 503 else None)
    if status != 500:
        assert str(error) in body["error"]


async def test_the_refusal_of_a_service_behind_keeps_its_time_to_come_back_and_does_not_show_its_address():
    reply = Reply(status=503, headers={"Retry-After": "7"}, body=b"")
    answered, headers, body = await ask(raising(ServiceOverloaded("http://10.0.0.1:80/x", reply)), blame_middleware())
    assert (answered, headers["Retry-After"]) == (503, "7")
    assert "10.0.0.1" not in body["error"]


async def test_a_failure_that_was_not_named_is_nobody_elses():
    assert (await ask(raising(OursError("x")), blame_middleware()))[0] == 500


async def test_an_answer_that_is_raised_stays_the_answer_even_when_every_exception_is_named():
    assert (await ask(raising(web.HTTPNotFound()), blame_middleware(Exception)))[0] == 404


async def test_naming_every_exception_does_not_change_what_a_refusal_means():
    status, headers, _ = await ask(raising(BulkheadFull("rank", 3)), blame_middleware(Exception))
    assert (status, headers[SHED_HEADER]) == (503, "bulkhead"), "it is this server's own refusal"


@pytest.mark.parametrize("length", [None, 1000], ids=["chunked", "of known length"])
async def test_an_answer_that_has_begun_is_broken_off_and_nothing_is_written_into_it(length):
    async def stream(request):
        response = web.StreamResponse()
        response.content_length = length
        await response.prepare(request)
        await response.write(b"half an answer")
        raise OSError("the service behind broke off")

    app = web.Application(middlewares=[blame_middleware()])
    app.router.add_get("/", stream)
    async with TestClient(TestServer(app)) as client, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"half an answer" in received
    assert received.count(b"HTTP/1.1") == 1


async def test_an_answer_of_which_only_the_headers_were_prepared_is_not_sent_twice():
    async def prepare(request):
        await web.StreamResponse().prepare(request)
        raise OSError("the service behind broke off")

    app = web.Application(middlewares=[blame_middleware()])
    app.router.add_get("/", prepare)
    async with TestClient(TestServer(app)) as client, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(("value", "status"), [("-1", 504), ("0", 504), ("soon", 400), ("", 400)])
async def test_a_request_whose_deadline_is_over_or_no_number_is_not_begun(value, status):
    begun = []

    async def handle(request):
        begun.append(request)
        return web.Response()

    answered, _, body = await ask(handle, deadline_middleware, headers={DEADLINE_HEADER: value})
    assert (answered, begun) == (status, [])
    assert "error" in body


async def test_a_deadline_holds_for_its_request_alone():
    seen = []

    async def handle(request):
        seen.append(Deadline.current())
        return web.Response()

    app = web.Application(middlewares=[deadline_middleware])
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app)) as client:
        for headers in ({DEADLINE_HEADER: "5000"}, {}):
            assert (await client.get("/", headers=headers)).status == 200
    assert seen[0] is not None
    assert seen[1] is None


async def test_each_request_has_a_context_of_its_own_that_ends_with_it():
    contexts, running = [], []

    async def endless():
        running.append(asyncio.current_task())
        await asyncio.Event().wait()

    async def handle(request):
        context = RequestContext.current()
        contexts.append(context)
        _, shared = context.shared("key", endless)
        waiting = asyncio.ensure_future(shared)
        while len(running) < len(contexts):
            await asyncio.sleep(0)
        waiting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return web.Response()

    app = web.Application(middlewares=[request_context_middleware])
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app)) as client:
        for _ in range(2):
            assert (await client.get("/")).status == 200
        async with asyncio.timeout(5):
            await asyncio.wait(running)
    first, second = contexts
    assert first is not second
    assert len(running) == 2
    assert all(task.cancelled() for task in running)


class Commands:
    """An ``Isolation`` that has only snapshots."""

    def __init__(self, *snapshots):
        self._snapshots = list(snapshots)

    def snapshot(self):
        return self._snapshots


def snapshot(**fields):
    plain = {
        "command": "rank",
        "state": "half-open",
        "calls": 11,
        "errors": 5,
        "short_circuited": 2,
        "rejected": 3,
        "timeouts": 4,
        "fallbacks": 6,
        "in_flight": 7,
        "waiting": 8,
        "limit": 9,
        "counts": Counts(from_cache=12),
        "rolling": Counts(),
        "peak_in_flight": 10,
        "latency": Latency(mean_s=1.0, quantiles_s=dict.fromkeys(QUANTILES, 0.0) | {0.5: 0.0123456, 0.99: 0.25}),
        "settings": CommandSettings(),
    }
    return CommandSnapshot(**(plain | fields))


async def test_the_states_are_shown_as_a_list_of_objects():
    status, _, shown = await ask(isolation_handler(Commands(snapshot(), snapshot(command="rows"))))
    assert status == 200
    assert shown[0] == {
        "command": "rank",
        "state": "half-open",
        "calls": 11,
        "errors": 5,
        "fallbacks": 6,
        "short_circuited": 2,
        "rejected": 3,
        "timeouts": 4,
        "from_cache": 12,
        "in_flight": 7,
        "waiting": 8,
        "limit": 9,
        "peak_in_flight": 10,
        "latency_p50_ms": 12.346,
        "latency_p99_ms": 250.0,
    }
    assert [one["command"] for one in shown] == ["rank", "rows"]


async def test_a_limit_without_end_is_null_for_json_knows_no_infinity():
    app = web.Application()
    app.router.add_get("/", isolation_handler(Commands(snapshot(limit=math.inf))))
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        text = await response.text()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse)[0]["limit"] is None


async def test_without_commands_the_list_is_empty():
    assert (await ask(isolation_handler(Commands())))[2] == []
