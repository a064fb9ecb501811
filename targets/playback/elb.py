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

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings, Overloaded, ReplicaSettings
from chaos.resilience.web import Rejected, Reply, ServiceClient
from targets.playback.service import Context, application, unavailable
from targets.playback.transport import FAILURES, first_to_answer

CHECK_EVERY_S = 0.5
MISSED_MAX = 1
"""Missed health checks in a row that are forgiven."""

_FORWARDED_FOR = "X-Forwarded-For"
_PASSED_ON = ("Authorization", "Content-Type")
_REPLICA_SETTINGS = ReplicaSettings(attempts=2, attempt_timeout_s=0.9, breaker=BreakerSettings(open_s=1.0))
_CHECK_SETTINGS = CommandSettings(timeout_s=0.4, max_concurrent=2, breaker=BreakerSettings(open_s=CHECK_EVERY_S))


class HealthChecks:
    """Which gateways have missed their health checks."""

    def __init__(self, context: Context, http: ServiceClient) -> None:
        self._http = http
        self._missed = dict.fromkeys(context.addresses("gateway"), 0)
        self._checks = {
            called.address: context.isolation.command(f"{called.instance}.check", self._check, settings=_CHECK_SETTINGS)
            for called in context.config.calls["gateway"]
        }

    async def step(self) -> bool:
        """Check all gateways once."""
        await asyncio.gather(*map(self._note, self._missed))
        return True

    def admit(self, address: str) -> None:
        """Raise Overloaded when this gateway is to be left out for now: no evidence, but another one is to be asked."""
        if self._missed[address] > MISSED_MAX and not all(missed > MISSED_MAX for missed in self._missed.values()):
            raise Overloaded(f"gateway[{address}]", retry_after_s=CHECK_EVERY_S)

    async def _note(self, address: str) -> None:
        try:
            await self._checks[address](address)
        except (*FAILURES, Rejected):
            self._missed[address] += 1
        else:
            self._missed[address] = 0

    async def _check(self, address: str) -> None:
        await self._http.get(f"http://{address}/healthz")


class LoadBalancer:
    """The service."""

    def __init__(self, context: Context) -> None:
        self._http = context.http
        self._gateways = context.replicas("gateway", _REPLICA_SETTINGS)
        self._checks: HealthChecks | None = None
        if context.isolation.enabled:
            self._checks = HealthChecks(context, context.http)
            context.repeat(self._checks.step, period_s=CHECK_EVERY_S)

    async def handle(self, request: web.Request) -> web.Response:
        """Pass any request on."""
        body = await request.read()
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        forwarded = [request.headers[_FORWARDED_FOR]] if _FORWARDED_FOR in request.headers else []
        headers[_FORWARDED_FOR] = ", ".join([*forwarded, request.remote or "unknown"])

        async def ask(address: str) -> Reply:
            if self._checks is not None:
                self._checks.admit(address)
            url = f"http://{address}{request.raw_path}"
            return await self._http.request(request.method, url, data=body or None, headers=headers)

        try:
            reply = await first_to_answer(self._gateways, ask)
        except Rejected as answer:
            return web.Response(status=answer.status, body=answer.body, content_type="application/json")
        except FAILURES as failure:
            return unavailable(f"{type(failure).__name__}: {failure}")
        return web.Response(status=reply.status, body=reply.body, content_type="application/json")


def build(context: Context) -> web.Application:
    """Return the load balancer's application."""
    app = application(context)
    app.router.add_route("*", "/{path:.*}", LoadBalancer(context).handle)
    return app
