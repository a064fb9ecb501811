"""Load shedding for aiohttp: a middleware around a ``Shedder``, and the priority that travels along with a request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from chaos.resilience.deadline import current_scope
from chaos.resilience.shedding import PRIORITY_HEADER, Priority, Shedder, current_priority, set_priority
from chaos.resilience.web.server import SHED_HEADER, Handler

EXEMPT = frozenset({"/healthz", "/isolation", "/hystrix.stream", "/metrics"})
"""Paths that are never turned away: who asks how the server is must get an answer when it is busy."""


def shedding_middleware(
    shedder: Shedder,
    *,
    priority: Callable[[web.Request], Priority] | None = None,
    exempt: Collection[str] = EXEMPT,
) -> Middleware:
    """Return a middleware that answers 503 with ``Retry-After`` and ``SHED_HEADER`` for what the shedder turns away.

    It comes after ``deadline_middleware``, whose deadline it reads. ``priority`` says how important a request is;
    without it, the request's header says so. The header is believed, so at the edge of a system pass a function.

    What the shedder learns from is requests that were answered with a status under 400 (how long they took) and those
    that failed. A request that was answered with 4xx tells nothing, for it is quick however slow the route is; nor
    does one that was cancelled, or failed when its caller had gone away.
    """

    @web.middleware
    async def shed(request: web.Request, handler: Handler) -> web.StreamResponse:
        if priority is None:
            said = request.headers.get(PRIORITY_HEADER)
            importance = Priority.NORMAL if said is None else Priority.from_header(said)
        else:
            importance = priority(request)
        if importance is not current_priority():
            set_priority(importance)
        if request.path in exempt:
            return await handler(request)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        at_s = current_scope().at_s
        route = _route(request)
        refused = shedder.admit(
            begun_s,
            route=route,
            priority=importance,
            remaining_s=None if at_s == math.inf else at_s - begun_s,
        )
        if refused is not None:
            return web.json_response(
                {"error": f"this request was turned away: {refused.reason}", "reason": refused.reason},
                status=503,
                headers={"Retry-After": str(refused.retry_after_s), SHED_HEADER: refused.reason},
            )
        status: int | None = None
        """None: it tells nothing."""
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as answer:
            status = answer.status
            raise
        except Exception:
            status = None if request.transport is None else 500
            raise
        finally:
            now_s = loop.time()
            telling = status is not None and not 400 <= status < 500
            shedder.ended(
                now_s,
                route=route,
                duration_s=now_s - begun_s if telling else None,
                failed=status is None or status >= 500,
            )
        return response

    return shed


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "(none)" if resource is None else f"{request.method} {resource.canonical}"
