"""The load balancer: the one address of the backend; spreads requests over the gateways and leaves out the sick ones.

A gateway is left out when its breaker is open (it failed in front of real requests: passive) or when it missed two
health checks (active, every half second); when all are, the checks are not believed. A request that failed is given
to another gateway at once, for every route there is so far is safe to repeat. With the protection ``isolation`` off
it takes turns, blindly: neither check is made, nothing is repeated.

It appends the caller's address to ``X-Forwarded-For``. What is in there already is from the network in front of it,
which is the load: on one machine it speaks for all clients.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings, DeadlineShare, IsolationError, ReplicaSettings
from chaos.resilience.shedding import Priority
from chaos.resilience.web import Rejected, Reply, isolate
from targets.playback.service import Context, application, unavailable
from targets.playback.transport import FAILURES, new_session

CHECK_EVERY_S = 0.5
MISSED_MAX = 1
"""Missed health checks in a row that are forgiven."""

_FORWARDED_FOR = "X-Forwarded-For"
_PASSED_ON = ("Authorization", "Content-Type")
_REPLICA_SETTINGS = ReplicaSettings(
    attempts=2,
    attempt_timeout_s=0.9,
    share=DeadlineShare.ALL,
    breaker=BreakerSettings(open_s=1.0, open_growth=1.5, open_max_s=3.0),
)
_CHECK_SETTINGS = CommandSettings(timeout_s=0.4, max_concurrent=2, breaker=BreakerSettings(open_s=CHECK_EVERY_S))


class HealthChecks:
    """Which gateways have missed their health checks."""

    def __init__(self, context: Context) -> None:
        self._missed = dict.fromkeys(context.addresses("gateway"), 0)
        names = {called.address: f"{called.instance}.check" for called in context.config.calls["gateway"]}
        self._session = new_session(
            isolate(
                context.isolation,
                by=lambda request: names[f"{request.url.host}:{request.url.port}"],
                settings=_CHECK_SETTINGS,
            )
        )
        self.close = self._session.close

    async def step(self) -> bool:
        """Check all gateways once."""
        await asyncio.gather(*map(self._check, self._missed))
        return True

    def healthy(self, address: str) -> bool:
        """Whether a gateway is not to be left out for now."""
        return self._missed[address] <= MISSED_MAX

    async def _check(self, address: str) -> None:
        try:
            async with self._session.get(f"http://{address}/healthz") as response:
                good = response.status < 400
        except (IsolationError, aiohttp.ClientError, TimeoutError, OSError):
            good = False
        self._missed[address] = 0 if good else self._missed[address] + 1


class LoadBalancer:
    """The service."""

    def __init__(self, context: Context) -> None:
        self._http = context.http
        self.checks: HealthChecks | None = None
        if context.isolation.enabled:
            self.checks = HealthChecks(context)
            context.repeat(self.checks.step, period_s=CHECK_EVERY_S)
        healthy = None if self.checks is None else self.checks.healthy
        self._gateways = context.replicas("gateway", _REPLICA_SETTINGS, healthy=healthy)

    async def handle(self, request: web.Request) -> web.Response:
        """Pass any request on."""
        body = await request.read()
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        forwarded = [request.headers[_FORWARDED_FOR]] if _FORWARDED_FOR in request.headers else []
        headers[_FORWARDED_FOR] = ", ".join([*forwarded, request.remote or "unknown"])

        async def ask(address: str) -> Reply:
            url = f"http://{address}{request.raw_path}"
            return await self._http.request(request.method, url, data=body or None, headers=headers)

        try:
            reply = await self._gateways.call(ask)
        except Rejected as answer:
            return web.Response(status=answer.status, body=answer.body, content_type="application/json")
        except FAILURES as failure:
            return unavailable(f"{type(failure).__name__}: {failure}")
        return web.Response(status=reply.status, body=reply.body, content_type="application/json")


def priority(request: web.Request) -> Priority:
    """Return how important a request from outside is: the edge does not believe headers. Plays come first."""
    return Priority.CRITICAL if request.path == "/play" else Priority.LOW


def build(context: Context) -> web.Application:
    """Return the load balancer's application."""
    balancer = LoadBalancer(context)
    app = application(context, priority=priority)

    async def close(_: web.Application) -> None:
        if balancer.checks is not None:
            await balancer.checks.close()

    app.on_cleanup.append(close)
    app.router.add_route("*", "/{path:.*}", balancer.handle)
    return app
