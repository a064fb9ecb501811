"""The server's side in aiohttp: the caller's deadline kept, and the states of the commands shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from chaos.resilience.deadline import DEADLINE_HEADER, Deadline
from chaos.resilience.isolation import Isolation

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers a request."""


@web.middleware
async def deadline_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a request's handler the deadline that its caller sent along.

    504 at once when it has passed already (the caller no longer waits), 400 when the header is no number.
    """
    value = request.headers.get(DEADLINE_HEADER)
    if value is None:
        return await handler(request)
    try:
        deadline = Deadline.from_header(value)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
    if deadline.spent:
        return web.json_response({"error": "the deadline had passed when the request arrived"}, status=504)
    with deadline:
        return await handler(request)


def isolation_handler(isolation: Isolation) -> Handler:
    """Return a handler that answers with the state of every command: a JSON list of objects.

    Their keys are ``command``, ``state``, ``calls``, ``errors``, ``fallbacks`` and the other numbers of a snapshot.
    """

    async def handle(request: web.Request) -> web.StreamResponse:  # noqa: ARG001 - aiohttp's signature
        return web.json_response(
            [
                {
                    "command": one.command,
                    "state": one.state,
                    "calls": one.calls,
                    "errors": one.errors,
                    "fallbacks": one.fallbacks,
                    "short_circuited": one.short_circuited,
                    "rejected": one.rejected,
                    "timeouts": one.timeouts,
                    "in_flight": one.in_flight,
                }
                for one in isolation.snapshot()
            ]
        )

    return handle
