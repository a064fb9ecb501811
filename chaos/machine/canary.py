"""The canary: an edge of its own, without any fault, that is asked ten times a second how long an answer takes.

    asker --> a proxy that nobody disturbs --> echo server

All three are tasks of the runner's process, so that an answer takes a fraction of a millisecond as long as this process
gets a processor when it wants one. When the canary is slow, so is everybody else on this machine, and a slow answer
of the system under test proves nothing. An answer counts from the moment it was *due* to be asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from chaos import clock
from chaos.proxy.proxies import Limits, ProxyCollection, ProxySettings

INTERVAL_S = 0.1
ANSWER_WITHIN_S = 5.0
"""An answer that takes longer counts as one that took so long."""

_WORD = b"are you there?\n"


class Canary:
    """Asks, and keeps how long each answer took until somebody takes them."""

    def __init__(self) -> None:
        self._taken: list[float] = []

    def take(self) -> list[float]:
        """Return the seconds that each answer took since the last call, in order."""
        taken, self._taken = self._taken, []
        return taken

    async def sing(self) -> None:
        """Ask until cancelled. Without a network there is nothing to ask, and it just ends."""
        with contextlib.suppress(OSError):
            async with _edge() as (reader, writer):
                due_s = clock.monotonic_s()
                while True:
                    due_s = max(due_s + INTERVAL_S, clock.monotonic_s() - ANSWER_WITHIN_S)
                    await clock.sleep_until(due_s)
                    writer.write(_WORD)
                    try:
                        async with asyncio.timeout(ANSWER_WITHIN_S):
                            answer = await reader.readline()
                    except TimeoutError:
                        self._taken.append(ANSWER_WITHIN_S)
                        return
                    if answer != _WORD:
                        return
                    self._taken.append(clock.monotonic_s() - due_s)


@contextlib.asynccontextmanager
async def _edge() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Return a connection to an echo server through a proxy."""
    served: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        try:
            while line := await reader.readline():
                writer.write(line)
        except OSError:
            pass  # cut at the end of the run
        finally:
            served.discard(task)
            writer.close()

    proxies = ProxyCollection(0, Limits(proxies=1, connections=4))
    server = await asyncio.start_server(echo, "127.0.0.1", 0, limit=1024)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        proxy = await proxies.create(ProxySettings(name="canary", listen="", upstream=f"{host}:{port}"))
        host, _, port = proxy.listen.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    finally:
        server.close()
        proxies.stop()
        if served:
            await asyncio.wait(served, timeout=1.0)
