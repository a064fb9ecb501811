"""The server's side in aiohttp: the caller's deadline and group, a context for each request, whom to blame, states."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Middleware

from chaos.resilience.deadline import DEADLINE_HEADER, Deadline, from_header
from chaos.resilience.errors import BulkheadFull, DeadlineSpent, IsolationError, Overloaded
from chaos.resilience.groups import GROUP_HEADER, set_group
from chaos.resilience.isolation import Isolation
from chaos.resilience.metrics import CommandSnapshot
from chaos.resilience.request import RequestContext
from chaos.resilience.web.services import ServiceFailed, ServiceOverloaded

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers a request."""

RETRY_AFTER_S = 1
"""What a refusal of our own asks its caller to wait, in seconds; the header knows whole ones only."""

SHED_HEADER = "X-Chaos-Shed"
"""Name of the header of an answer that turns a request away; its value is why. It tells the server's own refusal, which
another server need not share, from one that the server passes on."""


@web.middleware
async def deadline_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a request's handler the deadline that its caller sent along.

    504 at once when it has passed already (the caller no longer waits), 400 when the header is no number.
    """
    value = request.headers.get(DEADLINE_HEADER)
    if value is None:
        return await handler(request)
    try:
        left_s = from_header(value)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
    if left_s <= 0:
        return web.json_response({"error": "the deadline had passed when the request arrived"}, status=504)
    with Deadline.within(left_s):
        return await handler(request)


@web.middleware
async def group_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let what is asked in order to answer a request belong to the group that the request belongs to."""
    set_group(request.headers.get(GROUP_HEADER))
    return await handler(request)


@web.middleware
async def request_context_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request a ``RequestContext``: within it, equal calls of commands with a ``cache_key`` are one call."""
    with RequestContext():
        return await handler(request)


def blame_middleware(*failures: type[Exception]) -> Middleware:
    """Return a middleware that turns what an isolated call raised into a status that says whom to blame.

    ======  ======================================================================================
    status  raised
    ======  ======================================================================================
    503     ``Overloaded``, ``BulkheadFull``: too much to do, nothing was done; with Retry-After, that of the service
            behind this one if it was its refusal (whose address is not told: such an answer is often passed on). Of a
            full bulkhead also with ``SHED_HEADER``
    504     ``DeadlineSpent``: the caller's time was over before it could be begun
    502     the rest of ``IsolationError``, ``ServiceFailed``, aiohttp's ``ClientError``, timeouts, ``OSError`` and
            ``failures``: a service behind this one failed
    ======  ======================================================================================

    aiohttp's own ``HTTPException`` stays the answer that it is. When the answer has begun already nothing can be said
    any more: the exception goes on, and aiohttp breaks the connection off, so that the caller knows.
    """
    behind_us: tuple[type[Exception], ...] = (
        *failures,
        ServiceFailed,
        IsolationError,
        aiohttp.ClientError,
        asyncio.TimeoutError,
        OSError,
    )

    @web.middleware
    async def blame(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except behind_us as failure:
            if request.writer.output_size > 0:
                raise
            return _blaming(failure)

    return blame


def _blaming(failure: Exception) -> web.Response:
    match failure:
        case ServiceOverloaded():
            return _later("a service that is needed for this has too much to do", failure.retry_after_s)
        case Overloaded():
            return _later(str(failure), failure.retry_after_s)
        case BulkheadFull():
            return _later(str(failure), RETRY_AFTER_S, {SHED_HEADER: "bulkhead"})
        case DeadlineSpent():
            return web.json_response({"error": str(failure)}, status=504)
        case _:
            return web.json_response({"error": f"{type(failure).__name__}: {failure}"}, status=502)


def _later(why: str, retry_after_s: float, more: Mapping[str, str] | None = None) -> web.Response:
    headers = {"Retry-After": str(math.ceil(retry_after_s)), **(more or {})}
    return web.json_response({"error": why}, status=503, headers=headers)


def isolation_handler(isolation: Isolation) -> Handler:
    """Return a handler that answers with the state of every command: a JSON list of objects.

    Their keys are ``command``, ``state``, ``calls``, ``errors``, ``fallbacks`` and the other numbers of a snapshot.
    """

    async def handle(request: web.Request) -> web.StreamResponse:  # noqa: ARG001 - aiohttp's signature
        return web.json_response([_shown(one) for one in isolation.snapshot()])

    return handle


def _shown(one: CommandSnapshot) -> dict[str, object]:
    return {
        "command": one.command,
        "state": one.state,
        "calls": one.calls,
        "errors": one.errors,
        "fallbacks": one.fallbacks,
        "short_circuited": one.short_circuited,
        "rejected": one.rejected,
        "timeouts": one.timeouts,
        "from_cache": one.counts.from_cache,
        "in_flight": one.in_flight,
        "waiting": one.waiting,
        "limit": None if one.limit == math.inf else one.limit,
        "peak_in_flight": one.peak_in_flight,
        "latency_p50_ms": round(one.latency.quantiles_s[0.5] * 1000, 3),
        "latency_p99_ms": round(one.latency.quantiles_s[0.99] * 1000, 3),
    }
