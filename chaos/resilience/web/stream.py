"""``/hystrix.stream``: the states of all commands as the Hystrix dashboard and Turbine read them.

Server-sent events: every half second one ``data: {json}`` for each command, with ``ping:`` between. What of ours is
shown as what of theirs:

================================  ===================================================================
Hystrix                           here
================================  ===================================================================
rollingCountSuccess, Failure,     the same, of the last ten seconds
Timeout, ShortCircuited,
BadRequests
rollingCountSemaphoreRejected     refused by the bulkhead
rollingCountResponsesFromCache    answered by the request cache
rollingCountExceptionsThrown      calls that ended without an answer, by ``run`` or a fallback
requestCount, errorCount          Hystrix's sums: success, failure, timeout, rejected; without success
(nothing)                         refused by the callee, cancelled
================================  ===================================================================
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable

from aiohttp import web

from chaos.resilience.isolation import Isolation
from chaos.resilience.metrics import ROLLING_S, CommandSnapshot
from chaos.resilience.settings import Force
from chaos.resilience.web.server import Handler

INTERVAL_S = 0.5
CONNECTIONS_MAX = 5
"""Hystrix's defaults."""

_LATENCY_KEYS = {
    "0": 0.0, "25": 0.25, "50": 0.5, "75": 0.75, "90": 0.9, "95": 0.95, "99": 0.99, "99.5": 0.995, "100": 1.0
}  # fmt: skip
_UNLIMITED = 2**31 - 1
"""How "no limit" is written where the dashboard wants a whole number."""


def hystrix_stream(
    isolation: Isolation,
    *,
    group: str,
    interval_s: float = INTERVAL_S,
    connections_max: int = CONNECTIONS_MAX,
    clock_ms: Callable[[], int] | None = None,
) -> Handler:
    """Return a handler for ``/hystrix.stream``; ``group`` is the service's name in the dashboard.

    503 beyond ``connections_max`` connections. ``clock_ms`` gives the time of day in milliseconds for
    ``currentTime``, which the dashboard does not look at; unless given it is the event loop's clock.
    """
    connections = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal connections
        if connections >= connections_max:
            return web.json_response(
                {"error": f"there are {connections_max} connections already, and no more are allowed"}, status=503
            )
        loop = asyncio.get_running_loop()
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream;charset=UTF-8",
                "Cache-Control": "no-cache, no-store, max-age=0, must-revalidate",
                "Pragma": "no-cache",
            }
        )
        connections += 1
        try:
            await response.prepare(request)
            while True:
                now_ms = clock_ms() if clock_ms is not None else int(loop.time() * 1000)
                events = [hystrix_event(one, group=group, now_ms=now_ms) for one in isolation.snapshot()]
                text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
                await response.write((text + "ping: \n\n").encode())
                await asyncio.sleep(interval_s)
        except ConnectionError:
            return response  # the reader went away
        finally:
            connections -= 1

    return handle


def hystrix_event(one: CommandSnapshot, *, group: str, now_ms: int) -> dict[str, object]:
    """Return one command as the dashboard reads it; durations in whole milliseconds."""
    rolling, settings = one.rolling, one.settings
    errors = rolling.failure + rolling.timeout + rolling.rejected
    requests = rolling.success + errors
    without_answer = errors + rolling.short_circuited + rolling.bad_request + rolling.refused
    latency = {key: round(one.latency.quantiles_s[fraction] * 1000) for key, fraction in _LATENCY_KEYS.items()}
    mean_ms = round(one.latency.mean_s * 1000)
    timeout_s = settings.timeout_s
    return {
        "type": "HystrixCommand",
        "name": one.command,
        "group": group,
        "currentTime": now_ms,
        "reportingHosts": 1,
        "isCircuitBreakerOpen": one.state != "closed",
        "errorPercentage": 100 * errors // requests if requests else 0,
        "errorCount": errors,
        "requestCount": requests,
        "rollingCountBadRequests": rolling.bad_request,
        "rollingCountCollapsedRequests": 0,
        "rollingCountEmit": 0,
        "rollingCountExceptionsThrown": max(0, without_answer - rolling.fallback_success),
        "rollingCountFailure": rolling.failure,
        "rollingCountFallbackEmit": 0,
        "rollingCountFallbackFailure": rolling.fallback_failure,
        "rollingCountFallbackMissing": 0,
        "rollingCountFallbackRejection": rolling.fallback_rejected,
        "rollingCountFallbackSuccess": rolling.fallback_success,
        "rollingCountResponsesFromCache": rolling.from_cache,
        "rollingCountSemaphoreRejected": rolling.rejected,
        "rollingCountShortCircuited": rolling.short_circuited,
        "rollingCountSuccess": rolling.success,
        "rollingCountThreadPoolRejected": 0,
        "rollingCountTimeout": rolling.timeout,
        "currentConcurrentExecutionCount": one.in_flight,
        "rollingMaxConcurrentExecutionCount": one.peak_in_flight,
        "latencyExecute_mean": mean_ms,
        "latencyExecute": latency,
        "latencyTotal_mean": mean_ms,
        "latencyTotal": latency,
        "propertyValue_circuitBreakerRequestVolumeThreshold": settings.breaker.minimum_calls,
        "propertyValue_circuitBreakerSleepWindowInMilliseconds": round(settings.breaker.open_s * 1000),
        "propertyValue_circuitBreakerErrorThresholdPercentage": round(settings.breaker.error_threshold_percent),
        "propertyValue_circuitBreakerForceOpen": settings.breaker.force is Force.OPEN,
        "propertyValue_circuitBreakerForceClosed": settings.breaker.force is Force.CLOSED,
        "propertyValue_circuitBreakerEnabled": True,
        "propertyValue_executionIsolationStrategy": "SEMAPHORE",
        "propertyValue_executionIsolationThreadTimeoutInMilliseconds": _UNLIMITED
        if timeout_s is None
        else round(timeout_s * 1000),
        "propertyValue_executionTimeoutInMilliseconds": _UNLIMITED if timeout_s is None else round(timeout_s * 1000),
        "propertyValue_executionIsolationThreadInterruptOnTimeout": True,
        "propertyValue_executionIsolationThreadPoolKeyOverride": None,
        "propertyValue_executionIsolationSemaphoreMaxConcurrentRequests": _UNLIMITED
        if one.limit == math.inf
        else int(one.limit),
        "propertyValue_fallbackIsolationSemaphoreMaxConcurrentRequests": settings.fallback_max_concurrent,
        "propertyValue_metricsRollingStatisticalWindowInMilliseconds": round(ROLLING_S * 1000),
        "propertyValue_requestCacheEnabled": True,
        "propertyValue_requestLogEnabled": False,
    }
