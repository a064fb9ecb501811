"""The load balancer: the one address of the backend; spreads requests over the gateways and leaves out the sick ones.

A gateway is left out when its breaker is open (it failed in front of real requests: passive), when it missed two
health checks (active, every half second), or when it is being drained; when all are, nobody is. A request that failed
is given to another gateway at once, if it may be made twice: a play, a question, or one with an Idempotency-Key. So is
one that a gateway turned away because it has too much to do, and that gateway is passed over for a while. A refusal of
a service behind the gateway is an answer: the other one asks the same services. With the protection ``isolation`` off
it takes turns, blindly: neither check is made, nothing is repeated.

The setting ``elb_choice`` is ``least_busy`` (least connections), ``round_robin`` or ``two_random``.

    GET /admin/gateways          each gateway: healthy, draining, requests in progress
    PUT /admin/gateways/{name}   {"draining": true}: it gets no new requests, those in progress end in peace

It appends the caller's address to ``X-Forwarded-For``. What is in there already is from the network in front of it,
which is the load: on one machine it speaks for all clients. Of what failed behind it no more is told than that it did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import aiohttp
from aiohttp import web

from chaos.resilience import (
    BreakerSettings,
    CommandSettings,
    DeadlineShare,
    IsolationError,
    ReplicaChoice,
    ReplicaSettings,
)
from chaos.resilience.shedding import Priority
from chaos.resilience.web import Rejected, Reply, ServiceOverloaded, isolate
from chaos.resilience.web.server import SHED_HEADER
from targets.playback.admin import AdminGate, nowhere
from targets.playback.gateway_routes import CANARY_HEADER
from targets.playback.service import Context, application, json_or_none, json_response, unavailable
from targets.playback.transport import FAILURES, BadTarget, chosen, may_be_repeated, new_session, target_of

LOG = logging.getLogger("playback")

CHECK_EVERY_S = 0.5
MISSED_MAX = 1
"""Missed health checks in a row that are forgiven."""

_FORWARDED_FOR = "X-Forwarded-For"
_PASSED_ON = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", CANARY_HEADER)
_PASSED_BACK = ("ETag", "Retry-After", "Cache-Control", "Allow", "WWW-Authenticate", "Warning")
_REPEATABLE = frozenset({"/play", "/activity", "/login"})
"""Paths whose POST may be made twice."""

_TOO_MANY_REQUESTS = 429
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
    """The service. Raises ValueError for a setting ``elb_choice`` that is none."""

    def __init__(self, context: Context) -> None:
        settings = _replica_settings(context)
        self._http = context.http
        self._draining: set[str] = set()
        """Addresses of the gateways that get no new requests."""
        self.checks: HealthChecks | None = None
        if context.isolation.enabled:
            self.checks = HealthChecks(context)
            context.repeat(self.checks.step, period_s=CHECK_EVERY_S)
        self._gateways = context.replicas("gateway", settings, healthy=self._fit)
        self._addresses = {called.instance: called.address for called in context.config.calls["gateway"]}

    def _fit(self, address: str) -> bool:
        return address not in self._draining and (self.checks is None or self.checks.healthy(address))

    async def handle(self, request: web.Request) -> web.Response:
        """Pass any request on."""
        try:
            target = target_of(request).raw_path_qs
        except BadTarget as error:
            return json_response({"error": str(error)}, status=400)
        body = await request.read()
        headers = chosen(request.headers, _PASSED_ON)
        forwarded = [request.headers[_FORWARDED_FOR]] if _FORWARDED_FOR in request.headers else []
        headers[_FORWARDED_FOR] = ", ".join([*forwarded, request.remote or "unknown"])

        async def ask(address: str) -> Reply:
            url = f"http://{address}{target}"
            try:
                return await self._http.request(
                    request.method, url, data=body or None, headers=headers, answers=(_TOO_MANY_REQUESTS,)
                )
            except ServiceOverloaded as refusal:
                if SHED_HEADER in refusal.reply.headers:
                    raise
                return refusal.reply

        try:
            reply = await self._gateways.call(ask, attempts=None if _may_be_repeated(request) else 1)
        except Rejected as answer:
            return _answer(answer.status, answer.body, answer.headers)
        except ServiceOverloaded as refusal:
            reply = refusal.reply
        except FAILURES as failure:
            LOG.debug("%s %s: %r", request.method, request.path, failure)
            return unavailable("no gateway could answer this now")
        return _answer(reply.status, reply.body, reply.headers)

    async def show(self, _: web.Request) -> web.Response:
        """Answer ``GET /admin/gateways``."""
        in_progress = {one.address: one.bulkhead.in_use for one in self._gateways.replicas}
        return json_response(
            {
                name: {
                    "healthy": self.checks is None or self.checks.healthy(address),
                    "draining": address in self._draining,
                    "in_progress": in_progress[address],
                }
                for name, address in self._addresses.items()
            }
        )

    async def drain(self, request: web.Request) -> web.Response:
        """Answer ``PUT /admin/gateways/{name}``."""
        address = self._addresses.get(request.match_info["name"])
        if address is None:
            return json_response({"error": f"there are {', '.join(self._addresses)}"}, status=404)
        match json_or_none(await request.read()):
            case {"draining": bool(draining), **more} if not more:
                (self._draining.add if draining else self._draining.discard)(address)
                return await self.show(request)
            case _:
                return json_response({"error": 'the body must be {"draining": true} or false'}, status=400)


def _replica_settings(context: Context) -> ReplicaSettings:
    choice = str(context.config.settings.get("elb_choice", ReplicaChoice.LEAST_BUSY))
    if choice not in set(ReplicaChoice):
        raise ValueError(f"settings.elb_choice is {choice!r}; there are {', '.join(ReplicaChoice)}.")
    return ReplicaSettings(
        attempts=2,
        attempt_timeout_s=0.9,
        share=DeadlineShare.ALL,
        breaker=BreakerSettings(open_s=1.0, open_growth=1.5, open_max_s=3.0),
        choice=ReplicaChoice(choice),
    )


def _may_be_repeated(request: web.Request) -> bool:
    return request.path in _REPEATABLE or may_be_repeated(request.method, request.headers)


def _answer(status: int, body: bytes, headers: Mapping[str, str]) -> web.Response:
    kept = chosen(headers, _PASSED_BACK)
    return web.Response(status=status, body=body, headers=kept, content_type="application/json")


def priority(request: web.Request) -> Priority:
    """Return how important a request from outside is: the edge does not believe headers. Plays come first."""
    return Priority.CRITICAL if request.path == "/play" or request.path.startswith("/admin/") else Priority.LOW


def build(context: Context) -> web.Application:
    """Return the load balancer's application."""
    balancer = LoadBalancer(context)
    gate = AdminGate.of(context)
    app = application(context, priority=priority)

    async def close(_: web.Application) -> None:
        if balancer.checks is not None:
            await balancer.checks.close()

    app.on_cleanup.append(close)
    app.router.add_get("/admin/gateways", gate.guard(balancer.show))
    app.router.add_put("/admin/gateways/{name}", gate.guard(balancer.drain))
    app.router.add_route("*", "/admin{rest:(/.*)?}", nowhere)
    app.router.add_route("*", "/{path:.*}", balancer.handle)
    return app
