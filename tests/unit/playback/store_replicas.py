"""Replicas of the store in the test's own event loop, over real sockets, each with a state machine to look at."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.test_utils import TestServer

from targets.playback import store
from targets.playback.service import Context
from tests.ports import dead_address
from tests.unit.playback.little_target import config
from tests.unit.playback.tally import Tally

TIMING = {"store_heartbeat_s": 0.03, "store_election_s": 0.15}


class StoreReplicas:
    """Replicas ``store-1`` and so on; each may be stopped and started again with its data.

    Commands go to a `Tally`, or with ``tallied`` False to the store's own ledger.
    """

    def __init__(self, size: int = 3, *, disabled: tuple[str, ...] = (), tallied: bool = True) -> None:
        self.addresses = [dead_address() for _ in range(size)]
        self.names = [f"store-{number}" for number in range(1, size + 1)]
        self.contexts: dict[str, Context] = {}
        self.tallies: dict[str, Tally] = {}
        self._disabled = disabled
        self._tallied = tallied
        self._servers: dict[str, TestServer] = {}
        self._closing = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        self.http = await self._closing.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._servers):
            await self.stop(name)
        await self._closing.aclose()

    async def start(self, *names: str) -> None:
        """Start replicas; without names, all."""
        for name in names or self.names:
            index = self.names.index(name) + 1
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            calls = {"store": self.addresses} if len(self.names) > 1 else {}
            context = self.contexts[name] = Context(
                config(
                    "store",
                    index=index,
                    calls=calls,
                    settings=TIMING,
                    data_dir=str(folder),
                    disabled=self._disabled,
                )
            )
            if self._tallied:
                self.tallies[name] = Tally(folder / "tally.sqlite")
            app = store.build(context, machine=self.tallies.get(name))
            port = int(self.addresses[index - 1].rpartition(":")[2])
            server = TestServer(app, host="127.0.0.1", port=port)
            await server.start_server(shutdown_timeout=0.05)
            self._servers[name] = server

    async def stop(self, name: str) -> None:
        """Stop a replica."""
        await self._servers.pop(name).close()
        if self._tallied:
            self.tallies[name].close()

    def address(self, name: str) -> str:
        """Where a replica listens."""
        return self.addresses[self.names.index(name)]

    async def get(self, name: str, path: str, **headers: str) -> tuple[int, Any]:
        """GET from a replica; underscores in headers stand for hyphens."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self.http.get(f"http://{self.address(name)}{path}", headers=named) as response:
            return response.status, await response.json()

    async def post(self, name: str, body: object, path: str = "/commands") -> tuple[int, Any, Any]:
        """POST JSON, or bytes as they are; status, answer, headers."""
        given: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.http.post(f"http://{self.address(name)}{path}", **given) as response:
            return response.status, await response.json(), response.headers

    async def write(self, name: str, key: str, *, kind: str = "count", **more: object) -> dict[str, Any]:
        """Have a command carried out, repeated while an election is on; the result."""
        for _ in range(400):
            status, result, _ = await self.post(name, {"id": key, "kind": kind, **more})
            if status == 200:
                return result
            assert status in {503, 504}
            await asyncio.sleep(0.01)
        raise AssertionError("a command was refused for four seconds")

    async def leader(self) -> str:
        """Wait until every replica that runs knows one leader, and return its name."""
        for _ in range(400):
            said = {(await self.get(name, "/leader"))[1]["leader"] for name in self._servers}
            if len(said) == 1 and None not in said and said <= set(self._servers):
                return str(said.pop())
            await asyncio.sleep(0.01)
        raise AssertionError("no leader within four seconds")

    async def followers(self) -> list[str]:
        """The others that run."""
        leader = await self.leader()
        return [name for name in self._servers if name != leader]

    async def settled(self) -> int:
        """Wait until all that run have applied the same, and return how much."""
        for _ in range(400):
            said = {(await self.get(name, "/leader"))[1]["applied"] for name in self._servers}
            if len(said) == 1:
                return int(said.pop())
            await asyncio.sleep(0.01)
        raise AssertionError("replicas have not come together within four seconds")
