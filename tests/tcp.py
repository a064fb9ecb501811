"""A TCP server for tests that leaves no connection open, whoever is being accepted while it ends."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say again whatever comes, until it ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def listening(handler: Handler = echo) -> AsyncIterator[str]:
    """A server on a port of its own; yields its address. A connection is closed when its handler is through."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # At once, and not in the task: one that is cancelled before it begins would close nothing.
        writers.append(writer)
        tasks.add(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):
                await handler(reader, writer)
        finally:
            writer.transport.abort() if sys.exc_info()[0] else writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    server = await asyncio.start_server(accept, sock=listener)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # No more are accepted, but whoever was being accepted just now becomes a connection first: some versions of
        # asyncio lose one whose server closes in between (its socket stays open, and nobody has it).
        asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(10):
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:  # also those whose last bytes nobody reads
            writer.transport.abort()
        await asyncio.sleep(0)
