"""A store of accounts with a single node, whose troubles a test decides."""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import StrEnum, auto
from pathlib import Path

from aiohttp import web

from chaos.resilience.shedding import PRIORITY_HEADER, Priority
from chaos.resilience.web import Handler
from targets.playback.accounts_client import APPLIED_AT_LEAST
from targets.playback.ledger import Ledger
from targets.playback.ledger_routes import add_routes
from targets.playback.service import json_response, unavailable


class Trouble(StrEnum):
    NONE = auto()
    FAILS = auto()
    """500, and nothing was done."""
    BUSY = auto()
    """503 with Retry-After, and nothing was done."""
    HANGS = auto()
    """No answer, and nothing was done."""
    LOSES_ANSWERS = auto()
    """What was asked is done; then the connection breaks."""
    ANSWERS_LATE = auto()
    """What was asked is done; the answer comes when nobody waits any more."""


class LittleStore:
    """``app`` serves the ledger; with ``has`` something happens to requests, or to the next ``times`` of a path.

    ``commands`` may be the ledger of another store: this one's own ledger, which it reads, is then behind.
    """

    def __init__(self, path: Path = Path(":memory:")) -> None:
        self.ledger = self.commands = Ledger(path)
        self.requests: Counter[str] = Counter()
        self.priorities: dict[str, Priority] = {}
        self._trouble = Trouble.NONE
        self._times: float = 0
        self._path = ""
        self._over = asyncio.Event()
        self.app = web.Application(middlewares=[self._troubled])
        self.app.router.add_post("/commands", self._command)
        add_routes(self.app, self.ledger, around=self._caught_up)
        self.app.on_shutdown.append(self._release)
        self.app.on_cleanup.append(self._close)

    def has(self, trouble: Trouble, *, times: float = float("inf"), path: str = "/") -> None:
        """Let a trouble begin, for paths that begin with ``path``."""
        self._trouble, self._times, self._path = trouble, times, path

    async def _command(self, request: web.Request) -> web.Response:
        index = self.commands.applied + 1
        result = self.commands.apply(index, await request.json())
        return json_response({**result, "index": index})

    def _caught_up(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if self.ledger.applied < int(request.headers.get(APPLIED_AT_LEAST, 0)):
                return unavailable("this replica is behind")
            return await handler(request)

        return handle

    @web.middleware
    async def _troubled(self, request: web.Request, handler) -> web.StreamResponse:
        self.requests[f"{request.method} {request.path}"] += 1
        if request.path == "/commands":
            kind = (await request.json())["kind"]
            self.priorities[kind] = Priority.from_header(request.headers.get(PRIORITY_HEADER))
        trouble = Trouble.NONE
        if self._times > 0 and request.path.startswith(self._path):
            trouble = self._trouble
            self._times -= 1
        match trouble:
            case Trouble.FAILS:
                return json_response({"error": "failed"}, status=500)
            case Trouble.BUSY:
                return unavailable("busy")
            case Trouble.HANGS:
                await self._over.wait()
                return unavailable("it is over")
            case Trouble.LOSES_ANSWERS:
                await handler(request)
                request.transport.close()
                return web.Response()
            case Trouble.ANSWERS_LATE:
                answer = await handler(request)
                await self._over.wait()
                return answer
            case _:
                return await handler(request)

    async def _release(self, _: web.Application) -> None:
        self._over.set()

    async def _close(self, _: web.Application) -> None:
        self.ledger.close()
