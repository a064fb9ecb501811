"""Two tiny services: ``greetings`` knows words, ``front`` serves a page with one, and survives without it.

Started as ``python app.py front <port> <address of greetings>`` and ``python app.py greetings <port>``.
"""

from __future__ import annotations

import asyncio
import random
import sys

import aiohttp
from aiohttp import web

from chaos.resilience import CommandSettings, Isolation


def greetings() -> web.Application:
    """Build the service that knows a word."""

    async def word(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/word", word)
    return app


def front(address: str, *, isolated: bool) -> web.Application:
    """Build the service that serves the page; ``address`` is where it finds the word (``host:port``)."""
    isolation = Isolation(rng=random.Random(1), enabled=isolated)
    session: list[aiohttp.ClientSession] = []

    async def opened(app: web.Application) -> None:
        session.append(aiohttp.ClientSession())
        app.on_cleanup.append(lambda _: session[0].close())

    async def ask() -> str:
        async with session[0].get(f"http://{address}/word") as answer:
            answer.raise_for_status()
            return await answer.text()

    async def say_hi(_cause: BaseException) -> str:
        return "hi"

    greet = isolation.command("greetings.word", ask, fallback=say_hi, settings=CommandSettings(timeout_s=0.2))

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=f"<h1>{await greet()}, world</h1>", content_type="text/html")

    app = web.Application()
    app.on_startup.append(opened)
    app.router.add_get("/", page)
    return app


def main(role: str, port: int, address: str = "", disabled: str = "") -> None:
    """Serve one of the two on loopback until SIGTERM."""
    app = greetings() if role == "greetings" else front(address, isolated="isolation" not in disabled.split(","))
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=asyncio.new_event_loop())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
