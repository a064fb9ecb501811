"""The servers that the conformance suite runs against, and what its tests need on both ends of a proxy."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import aiohttp
import pytest

from chaos.proxy.server import find_toxiproxy, server_command, server_environment
from tests.ports import free_port
from tests.tcp import listening

WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from chaos.proxy.embedded import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass(frozen=True)
class Server:
    kind: str
    """``embedded``, ``embedded on asyncio`` or ``real``."""
    port: int
    pid: int

    @property
    def embedded(self) -> bool:
        return self.kind != "real"


def _command(kind: str, port: int) -> list[str]:
    if kind == "embedded":
        return server_command(None, "127.0.0.1", port, seed=1)
    if kind == "embedded on asyncio":
        return [sys.executable, "-c", WITHOUT_UVLOOP, "--port", str(port), "--seed", "1"]
    binary = find_toxiproxy()
    if binary is None:
        pytest.skip("the real Toxiproxy is not here: chaos toxiproxy install, or set CHAOS_TOXIPROXY")
    return server_command(binary, "127.0.0.1", port)


def pytest_generate_tests(metafunc):
    """Run every test on every server; a module may leave servers out by its ``SERVERS``."""
    if "server" in metafunc.fixturenames:
        servers = getattr(metafunc.module, "SERVERS", ["embedded", "embedded on asyncio", "real"])
        metafunc.parametrize("server", servers, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request) -> Iterator[Server]:
    port = free_port()
    process = subprocess.Popen(
        _command(request.param, port), env={**os.environ, **server_environment()}, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(400):
            assert process.poll() is None, "the server ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.025)
        else:
            pytest.fail("the server did not listen within 10 s")
        yield Server(request.param, port, process.pid)
        assert process.poll() is None, "the server died during the tests"
    finally:
        process.terminate()
        process.wait(timeout=10)


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]
    json: object


class Api:
    """Raw HTTP to the server under test."""

    def __init__(self, session: aiohttp.ClientSession, server: Server) -> None:
        self.session = session
        self.server = server

    async def __call__(self, method: str, path: str, body: object = None, **options: object) -> Answer:
        """``body`` is sent as it is when it is text or bytes, else as JSON."""
        raw = body if isinstance(body, str | bytes) else None
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with self.session.request(
            method, url, data=raw, json=body if raw is None else None, allow_redirects=False, **options
        ) as response:
            text = await response.text()
            return Answer(
                response.status,
                text,
                dict(response.headers),
                await response.json(content_type=None) if text[:1] in "[{" and text else None,
            )

    async def ok(self, method: str, path: str, body: object = None) -> object:
        answer = await self(method, path, body)
        assert 200 <= answer.status < 300, answer.text
        return answer.json


@pytest.fixture
async def api(server) -> AsyncIterator[Api]:
    """The API; every proxy is deleted before and after a test."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        api = Api(session, server)
        for name in await api.ok("GET", "/proxies"):
            await api.ok("DELETE", f"/proxies/{name}")
        yield api
        for name in await api.ok("GET", "/proxies"):
            await api.ok("DELETE", f"/proxies/{name}")


@dataclass
class Heard:
    """What one connection to the upstream server went through."""

    data: bytearray = field(default_factory=bytearray)
    eof: asyncio.Event = field(default_factory=asyncio.Event)
    eof_at: float = 0.0
    reset: bool = False
    writer: asyncio.StreamWriter | None = None


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Heard], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
    while data := await reader.read(65536):
        heard.data += data
        writer.write(data)
        await writer.drain()


class Upstream:
    """A real TCP server behind the proxy; echoes unless told otherwise."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.heard: list[Heard] = []
        self.address = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = Heard(writer=writer)
        self.heard.append(heard)
        try:
            await self.handler(reader, writer, heard)
        except OSError:
            heard.reset = True
        finally:
            heard.eof_at = asyncio.get_running_loop().time()
            heard.eof.set()


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., Awaitable[Upstream]]]:
    """Start upstream servers: ``await upstream()`` echoes, ``await upstream(handler)`` does something else."""
    async with AsyncExitStack() as servers:

        async def start(handler: Handler = echo) -> Upstream:
            server = Upstream(handler)
            server.address = await servers.enter_async_context(listening(server))
            return server

        yield start


class Caller:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def exchange(self, data: bytes = b"ping") -> float:
        """Send data and wait for its echo; return the seconds it took."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        await self.say(data)
        async with asyncio.timeout(20):
            assert await self.reader.readexactly(len(data)) == data
        return loop.time() - start_s

    async def rest(self) -> bytes:
        """Everything until the end of the stream; ConnectionResetError when it is broken off."""
        async with asyncio.timeout(20):
            return await self.reader.read(-1)

    async def until_end(self) -> float:
        """Wait until the connection has ended, in whatever way; return the seconds it took."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        with suppress(ConnectionError):
            await self.rest()
        return loop.time() - start_s


@pytest.fixture
async def call() -> AsyncIterator[Callable[[str], Awaitable[Caller]]]:
    callers: list[Caller] = []

    async def connect(address: str) -> Caller:
        host, _, port = address.rpartition(":")
        caller = Caller(*await asyncio.open_connection(host.strip("[]"), int(port)))
        callers.append(caller)
        return caller

    yield connect
    for caller in callers:
        caller.writer.transport.abort()
        with suppress(OSError):
            await caller.writer.wait_closed()


@pytest.fixture
def proxy(api) -> Callable[..., Awaitable[str]]:
    """Make a proxy called ``p``; return where it listens."""

    async def make(upstream: str, name: str = "p", listen: str = "127.0.0.1:0") -> str:
        made = await api.ok("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream})
        return made["listen"]

    return make


@pytest.fixture
def toxic(api) -> Callable[..., Awaitable[object]]:
    """Add a toxic to the proxy ``p``."""

    async def add(kind: str, stream: str = "downstream", toxicity: float = 1.0, **attributes: int) -> object:
        body = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        return await api.ok("POST", "/proxies/p/toxics", body)

    return add
