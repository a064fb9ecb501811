"""Asking instances how they are, against real sockets."""

import asyncio
import contextlib
import json

import pytest

from chaos.environment.probe import BODY_BYTES_MAX, http_get, is_healthy, isolation_of
from chaos.events import BreakerState
from chaos.topology.model import HealthCheck

HTTP = HealthCheck(http_path="/healthz")


@contextlib.asynccontextmanager
async def answering(answer, *, hang=False):
    """A server that reads a request, sends ``answer`` and closes, or keeps the connection."""
    requests = []
    released = asyncio.Event()

    async def serve(reader, writer):
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if hang:
            await released.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], requests
    finally:
        released.set()
        server.close()
        await server.wait_closed()


async def test_an_answer_has_a_status_and_a_body():
    async with answering(b"HTTP/1.1 503 Service Unavailable\r\nX: y\r\n\r\nbusy\r\n\r\nvery") as (port, requests):
        assert await http_get("127.0.0.1", port, "/healthz", timeout_s=5) == (503, b"busy\r\n\r\nvery")
    assert requests[0].startswith(b"GET /healthz HTTP/1.0\r\n")


async def test_a_body_is_read_up_to_a_limit():
    async with answering(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (BODY_BYTES_MAX * 3)) as (port, _):
        _, body = await http_get("127.0.0.1", port, "/", timeout_s=5)
    assert len(body) < BODY_BYTES_MAX + (1 << 16)


@pytest.mark.parametrize("answer", [b"", b"+PONG\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 fine\r\n\r\n", b"\r\n\r\n"])
async def test_what_is_not_http_is_not_healthy(answer):
    async with answering(answer) as (port, _):
        assert not await is_healthy(HTTP, "127.0.0.1", port)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (204, False), (404, False), (500, False)])
async def test_only_status_200_is_healthy(status, healthy):
    async with answering(f"HTTP/1.0 {status} Word\r\n\r\n".encode()) as (port, _):
        assert await is_healthy(HTTP, "127.0.0.1", port) is healthy


async def test_who_does_not_answer_in_time_is_not_healthy():
    async with answering(b"HTTP/1.0 200 OK\r\n\r\n", hang=True) as (port, _):
        assert not await is_healthy(HTTP, "127.0.0.1", port, timeout_s=0.05)


async def test_without_a_path_a_connection_is_enough():
    async with answering(b"") as (port, _):
        assert await is_healthy(HealthCheck(), "127.0.0.1", port)
    assert not await is_healthy(HealthCheck(), "127.0.0.1", port)


async def test_the_breakers_of_an_instance_are_read():
    entry = {"command": "steering.rank", "state": "half-open", "calls": 9, "errors": 4, "fallbacks": 3, "more": "kept"}
    body = json.dumps([entry, {"command": "incomplete"}, 7]).encode()
    async with answering(b"HTTP/1.0 200 OK\r\n\r\n" + body) as (port, _):
        states = await isolation_of("play_api-1", "127.0.0.1", port, "/isolation", timeout_s=5)
    assert states == (
        BreakerState(instance="play_api-1", command="steering.rank", state="half-open", calls=9, errors=4, fallbacks=3),
    )


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 500 No\r\n\r\n[]", b"HTTP/1.0 200 OK\r\n\r\n{", b"HTTP/1.0 200 OK\r\n\r\n{}", b"", b"junk"]
)
async def test_an_instance_that_answers_nonsense_has_no_breakers(answer):
    async with answering(answer) as (port, _):
        assert await isolation_of("a-1", "127.0.0.1", port, "/isolation", timeout_s=5) == ()
