"""A connection that is closed while its last bytes wait: who still reads gets them all, and a cut is no clean end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from chaos.proxy import pipe
from chaos.proxy.embedded import ServerSettings, serve
from tests.tcp import listening
from tests.unit.proxy.running import Api, Caller, calling

LAST_BYTES = 6_000_000
"""More than the system keeps for a receiver, so that some of it waits in the proxy."""
GIVEN_UP_AFTER_S = 0.4


@pytest.fixture
async def caller(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Caller]:
    """A caller that has ended its stream, and that is sent ``LAST_BYTES`` by a server that then closes."""
    monkeypatch.setattr(pipe, "FLUSH_TIMEOUT_S", GIVEN_UP_AFTER_S)
    monkeypatch.setattr(pipe, "WRITE_BUFFER_BYTES", LAST_BYTES)
    url, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    server = asyncio.create_task(
        serve(ServerSettings(host="127.0.0.1", port=0, config=None), ready=url.set_result, stop=stop)
    )

    async def answer_at_the_end(reader, writer):
        await reader.read(-1)
        writer.write(bytes(LAST_BYTES))
        await writer.drain()

    async with listening(answer_at_the_end) as upstream, aiohttp.ClientSession() as session:
        async with calling(await Api(session, await url).proxy(upstream), limit=1000) as caller:
            caller.writer.write_eof()
            yield caller
        stop.set()
        await server


async def test_a_caller_that_reads_slowly_gets_every_byte_of_a_closed_connection(caller):
    loop, heard_bytes = asyncio.get_running_loop(), 0
    slow_until_s = loop.time() + 3 * GIVEN_UP_AFTER_S
    while loop.time() < slow_until_s:
        heard_bytes += len(await caller.reader.read(16 * 1024))
        await asyncio.sleep(0.01)
    assert 0 < heard_bytes < LAST_BYTES / 2
    assert heard_bytes + len(await caller.rest()) == LAST_BYTES


async def test_a_caller_that_reads_nothing_is_broken_off_and_sees_it(caller):
    await asyncio.sleep(4 * GIVEN_UP_AFTER_S)
    with pytest.raises(ConnectionResetError):
        await caller.rest()
