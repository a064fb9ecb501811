"""The embedded proxy as a real process, and real servers and callers on both of its sides."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

PATIENCE_S = 30.0
"""How long a test waits for what must come; a machine under load is slow."""
_WITHOUT_UVLOOP = "import runpy, sys; sys.modules['uvloop'] = None; runpy.run_module({!r}, run_name='__main__')"


@dataclass(frozen=True)
class Running:
    """A proxy server that runs."""

    url: str
    pid: int

    def resident_mib(self) -> float:
        """The memory that it takes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def command(*arguments: str, uvloop: bool = True) -> list[str]:
    """The command that runs it: the way in for programs, which starts quickly, where that has these options."""
    options = {argument for argument in arguments if argument.startswith("--")}
    module, first = ("chaos.proxy.embedded", []) if options <= {"--port", "--seed"} else ("chaos", ["proxy"])
    start = ["-m", module] if uvloop else ["-c", _WITHOUT_UVLOOP.format(module)]
    return [sys.executable, *start, *first, *arguments]


@contextmanager
def running(
    *arguments: str, uvloop: bool = True, files_soft: int | None = None, **environment: str
) -> Iterator[Running]:
    """Run it on a free port; it must still be there at the end. ``files_soft`` is its soft limit of open files."""
    limited = [] if files_soft is None else ["sh", "-c", f'ulimit -Sn {files_soft} && exec "$@"', "sh"]
    process = subprocess.Popen(
        [*limited, *command("--port", "0", *arguments, uvloop=uvloop)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    with process:
        try:
            line = process.stdout.readline()
            yield Running(re.search(r"http://[\d.]+:\d+", line).group(), process.pid)
            assert process.poll() is None, "the server died during the test"
        finally:
            process.terminate()
            try:
                process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def json(self) -> object:
        return json.loads(self.text)


class Api:
    """The API of a proxy server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def __call__(self, method: str, path: str, body: object = None, **options: object) -> Answer:
        """``body`` is sent as it is when it is bytes, else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.session.request(method, self.url + path, data=data, **options) as response:
            return Answer(response.status, await response.text())

    async def ok(self, method: str, path: str, body: object = None) -> object:
        """What it answers; AssertionError when it is not content."""
        answer = await self(method, path, body)
        assert 200 <= answer.status < 300, answer.text
        return json.loads(answer.text) if answer.text else None

    async def proxy(self, upstream: str, name: str = "p") -> str:
        """Make a proxy; return where it listens."""
        return (await self.ok("POST", "/proxies", {"name": name, "upstream": upstream}))["listen"]

    async def toxic(self, kind: str, stream: str = "downstream", *, proxy: str = "p", **given: object) -> object:
        """Add a toxic; what is no part of the API's form is an attribute."""
        form = {key: given.pop(key) for key in ("name", "toxicity", "ttl_ms", "owner") if key in given}
        if "drop" in given:
            given["name"] = given.pop("drop")
        return await self.ok(
            "POST", f"/proxies/{proxy}/toxics", {"type": kind, "stream": stream, "attributes": given, **form}
        )

    async def remove(self, name: str, *, proxy: str = "p") -> None:
        await self.ok("DELETE", f"/proxies/{proxy}/toxics/{name}")

    async def receipt(self, name: str, *, proxy: str = "p") -> dict[str, object]:
        return await self.ok("GET", f"/proxies/{proxy}/toxics/{name}/receipt")

    async def connections(self, *, proxy: str = "p") -> list[dict[str, object]]:
        return await self.ok("GET", f"/proxies/{proxy}/connections")

    async def names(self, *, proxy: str = "p") -> list[str]:
        return [one["name"] for one in await self.ok("GET", f"/proxies/{proxy}/toxics")]


@asynccontextmanager
async def api_of(server: Running, **options: object) -> AsyncIterator[Api]:
    """Its API; every proxy is deleted before and after."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S), **options) as session:
        api = Api(session, server.url)

        async def clear() -> None:
            for name in await api.ok("GET", "/proxies"):
                await api.ok("DELETE", f"/proxies/{name}")

        await clear()
        yield api
        await clear()


class Caller:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hears(self, data: bytes) -> None:
        """Wait until exactly this has come."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self.reader.readexactly(len(data)) == data

    async def hears_nothing(self, seconds: float = 0.3) -> None:
        try:
            async with asyncio.timeout(seconds):
                raise AssertionError(f"heard {await self.reader.read(100)!r}")
        except TimeoutError:
            pass

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """All until the end; ConnectionResetError when it is broken off."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read(-1)


@asynccontextmanager
async def calling(address: str, **options: object) -> AsyncIterator[Caller]:
    """A connection to this address."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), **options)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until this is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.02)
