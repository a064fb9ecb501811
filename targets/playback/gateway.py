"""The API gateway: every request goes through a chain of filters, the middle one of which asks the service behind it.

    POST /play                      Authorization: Bearer <token>   -> play_api
    POST /activity                  Authorization: Bearer <token>   -> play_api
    GET /home, /search              Authorization: Bearer <token>   -> discovery_api
    POST /login, /signup                                            -> signup_api
    GET, POST /account, /account/*  Authorization: Bearer <token>   -> signup_api

The path that is looked at is the one that is passed on, to the letter; one with dot segments is refused (400).

The chain (`gateway_filters`) refuses what is too large (413, 414, 431), has no route (404, 405), comes too often (429)
or without a valid token (401); then the routing table (`gateway_routes`) says which service answers, and whether a
canary does. Each route is a Command of its own, so that a dead service costs its own routes and no others. Filters and
table are changed while it runs, through `gateway_admin`.

Of the caller's headers only those in ``PASSED_ON`` reach a service, and of a service's only those in ``PASSED_BACK``
the caller: nobody outside can bring a passport along, and nothing inside shows by accident.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from aiohttp import web

from chaos.resilience import (
    BreakerSettings,
    Command,
    CommandSettings,
    Deadline,
    DeadlineShare,
    Gradient2Settings,
    Replicas,
    ReplicaSettings,
)
from chaos.resilience.shedding import Priority
from chaos.resilience.web import Rejected, Reply, ServiceOverloaded
from targets.playback import tokens
from targets.playback.admin import AdminGate
from targets.playback.dates import Calendar
from targets.playback.discovery import SHOWN_MAX
from targets.playback.gateway_admin import Admin, Routes
from targets.playback.gateway_filters import Answer, Exchange, FilterChain, Stage
from targets.playback.gateway_keys import GRACE_S, GatewayKeys, KeyAdmin
from targets.playback.gateway_routes import TIMEOUT_MAX_S, Canary, Route, RouteTable
from targets.playback.gateway_rules import (
    BODY_MAX,
    Authentication,
    CountTraffic,
    FindRoute,
    RateLimits,
    Sizes,
    StaticAnswer,
    refusal,
)
from targets.playback.gateway_traffic import Traffic
from targets.playback.passport import HEADER, Passport, client_address
from targets.playback.rate_limit import RateLimiter
from targets.playback.seed_data import SeedData
from targets.playback.service import Context, application, json_response
from targets.playback.transport import FAILURES, BadTarget, chosen, json_of, may_be_repeated, target_of
from targets.playback.validation import Plan

PASSED_ON = ("Content-Type", "Idempotency-Key", "If-None-Match")
PASSED_BACK = ("ETag", "Retry-After", "Cache-Control")
POOLS_MAX = 32
"""Groups of instances that canaries have been given, since the gateway was started."""

DEFAULT_ROUTES: tuple[Mapping[str, object], ...] = (
    {"path": "/play", "methods": ["POST"], "service": "play_api", "priority": "critical", "repeatable": True},
    {"path": "/activity", "methods": ["POST"], "service": "play_api", "priority": "bulk", "repeatable": True},
    {"path": "/home", "methods": ["GET"], "service": "discovery_api", "priority": "low", "timeout_s": 0.8},
    {"path": "/search", "methods": ["GET"], "service": "discovery_api", "timeout_s": 0.8, "static": {"titles": []}},
    {"path": "/login", "methods": ["POST"], "service": "signup_api", "open": True, "repeatable": True},
    {"path": "/signup", "methods": ["POST"], "service": "signup_api", "open": True},
    {"path": "/account", "methods": ["GET"], "service": "signup_api"},
    {"path": "/account/*", "methods": ["GET", "POST"], "service": "signup_api"},
)
"""The table a gateway begins with: of these, the routes to services that it calls. ``/home`` has a static page as well:
see `static_home`."""

_ROUTE_SETTINGS = CommandSettings(
    timeout_s=TIMEOUT_MAX_S,
    adaptive=Gradient2Settings(initial=256, minimum=64, maximum=512),
    breaker=BreakerSettings(open_s=1.0, open_growth=1.5, open_max_s=3.0),
)
_REPLICA_SETTINGS = ReplicaSettings(
    attempts=2, attempt_timeout_s=0.75, share=DeadlineShare.EVEN, breaker=BreakerSettings(open_s=1.0)
)


class AskService:
    """The route filter: asks the service of the route, and has the canary's callers answered by the canary.

    A canary that fails a request that may be made twice costs nobody anything: the others are asked.
    """

    name, stage, order = "ask_service", Stage.ROUTE, 50

    def __init__(self, context: Context) -> None:
        self._context = context
        self._http = context.http
        self._pools: dict[tuple[str, tuple[str, ...]], Replicas[str]] = {}
        self._commands: dict[str, Command[[Exchange, Route, bytes], Reply]] = {}
        self._all = context.instances()

    def prepare(self, table: RouteTable) -> None:
        """Make ready what the routes of a table need."""
        for route in table.routes:
            self._command(route)
            self._pool(route.service, self._all[route.service])

    async def apply(self, exchange: Exchange) -> None:
        """Ask, and set the answer."""
        route = exchange.route
        assert route is not None, "a request without a route is refused before"
        body = await exchange.read()
        if len(body) > BODY_MAX:
            exchange.answer = refusal(413, f"a body has at most {BODY_MAX} bytes")
            return
        try:
            with self._limit_of(route):
                reply = await self._command(route)(exchange, route, body)
        except Rejected as rejected:
            exchange.answer = _answer(rejected.status, rejected.body, rejected.headers)
            return
        exchange.answer = _answer(reply.status, reply.body, reply.headers)

    async def _pass_on(self, exchange: Exchange, route: Route, body: bytes) -> Reply:
        headers = chosen(exchange.headers, PASSED_ON)
        if exchange.subscriber is not None:
            headers[HEADER] = Passport(subscriber=exchange.subscriber, ip=exchange.address).to_header()
        target = exchange.path + (f"?{exchange.query}" if exchange.query else "")

        async def ask(address: str) -> Reply:
            url = f"http://{address}{target}"
            return self._checked(await self._http.request(exchange.method, url, data=body or None, headers=headers))

        twice = route.repeatable or may_be_repeated(exchange.method, exchange.headers)
        attempts = None if twice else 1
        everybody = self._all[route.service]
        if (canary := route.canary) is None:
            return await self._pool(route.service, everybody).call(ask, attempts=attempts)
        others = _others(everybody, canary)
        account = None if exchange.subscriber is None else exchange.subscriber.id
        if not canary.takes(account, exchange.headers):
            return await self._pool(route.service, others).call(ask, attempts=attempts)
        try:
            return await self._pool(route.service, canary.instances).call(ask, attempts=1)
        except FAILURES:
            if not twice or not self._context.isolation.enabled:
                raise
        return await self._pool(route.service, others).call(ask, attempts=1)

    def _checked(self, reply: Reply) -> Reply:
        """Return an answer that clients can read: empty, or JSON. Raises CallFailed for any other.

        A server that talks nonsense would not be found out otherwise: status 200 opens no breaker.
        """
        if reply.body and self._context.isolation.enabled:
            json_of(reply)
        return reply

    def _limit_of(self, route: Route) -> AbstractContextManager[object]:
        """Return the deadline of a route that is in more of a hurry than its command."""
        if route.timeout_s >= TIMEOUT_MAX_S or not self._context.isolation.enabled:
            return nullcontext()
        return Deadline.within(route.timeout_s)

    def _command(self, route: Route) -> Command[[Exchange, Route, bytes], Reply]:
        command = self._commands.get(route.path)
        if command is None:
            command = self._context.isolation.command(f"route{route.path}", self._pass_on, settings=_ROUTE_SETTINGS)
            self._commands[route.path] = command
        return command

    def _pool(self, service: str, instances: tuple[str, ...]) -> Replicas[str]:
        """Return the replicas of a group of instances; all of them where there are too many groups already."""
        pool = self._pools.get((service, instances))
        if pool is None:
            everybody = self._all[service]
            if instances != everybody and len(self._pools) >= POOLS_MAX:
                return self._pools[service, everybody]
            only = None if instances == everybody else instances
            pool = self._pools[service, instances] = self._context.replicas(service, _REPLICA_SETTINGS, only=only)
        return pool


class Gateway:
    """The service."""

    def __init__(self, context: Context) -> None:
        self._now = context.now
        instances = context.instances()
        calendar = Calendar.of(context.config.settings, began_s=context.now())
        home = static_home(SeedData.of(context.config), calendar.date(context.now()))
        first = [
            {**route, "static": home} if route["path"] == "/home" else route
            for route in DEFAULT_ROUTES
            if route["service"] in instances
        ]
        self.routes = Routes(RouteTable.from_json({"routes": first}, instances), instances)
        self.traffic = Traffic()
        service = AskService(context)
        service.prepare(self.routes.table)
        grace_s = context.number("key_grace_s", GRACE_S) if context.on("key_grace") else 0.0
        keys = GatewayKeys(tokens.Keyring.from_settings(context.config.settings), grace_s=grace_s)
        self.chain = FilterChain(context.now)
        self.chain.add(
            Sizes(),
            FindRoute(lambda: self.routes.table),
            Authentication(keys),
            service,
            CountTraffic(self.traffic),
        )
        if context.on("static_answers"):
            self.chain.add(StaticAnswer())
        if context.on("rate_limits"):
            self.chain.add(*_rate_limits(context))
        gate = AdminGate.of(context)
        self.key_admin = KeyAdmin(gate, keys, context.now)
        self.admin = Admin(gate, self.routes, self.chain, self.traffic, context.now)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer any request."""
        try:
            target = target_of(request)
        except BadTarget as error:
            return json_response({"error": str(error)}, status=400)
        exchange = Exchange(
            begun_s=self._now(),
            method=request.method,
            path=target.raw_path,
            query=target.raw_query_string,
            headers=request.headers,
            address=client_address(request.headers.get("X-Forwarded-For")),
            read=request.read,
        )
        try:
            answer = await self.chain.run(exchange)
        except ServiceOverloaded as refusal:
            # It is a failure, for which a static page may have stood in; where none did, the service says best why.
            answer = _answer(refusal.reply.status, refusal.reply.body, refusal.reply.headers)
        return web.Response(
            status=answer.status, body=answer.body, headers=answer.headers, content_type="application/json"
        )

    def priority(self, request: web.Request) -> Priority:
        """Return how important a request is: what its route says; those who run the system come first."""
        if request.path.startswith("/admin/"):
            return Priority.CRITICAL
        route = self.routes.table.find(request.path)
        return Priority.LOW if route is None else route.priority


def static_home(data: SeedData, today: dt.date) -> Mapping[str, object]:
    """Return the home page that is shown when nobody can make one: titles that everybody may play."""
    anywhere = [
        title.id
        for title in data.titles
        if title.minimum_plan is Plan.BASIC and all(title.window_on(country, today) for country in data.countries)
    ]
    return {"rows": [{"title": "Explore", "kind": "static", "titles": anywhere[:SHOWN_MAX]}]}


def _rate_limits(context: Context) -> tuple[RateLimits, RateLimits]:
    account = RateLimiter(context.number("account_rate_per_s", 20.0), context.number("account_burst", 60.0))
    address = RateLimiter(context.number("address_rate_per_s", 50.0), context.number("address_burst", 150.0))
    return (
        RateLimits("address_rate", 30, address, lambda exchange: exchange.address, "address"),
        RateLimits(
            "account_rate",
            45,
            account,
            lambda exchange: None if exchange.subscriber is None else exchange.subscriber.id,
            "account",
        ),
    )


def _others(everybody: tuple[str, ...], canary: Canary) -> tuple[str, ...]:
    """Return the instances that are not the canary's; all, where that leaves none."""
    return tuple(one for one in everybody if one not in canary.instances) or everybody


def _answer(status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    return Answer(status=status, body=body, headers=chosen(headers, PASSED_BACK))


def build(context: Context) -> web.Application:
    """Return the gateway's application."""
    gateway = Gateway(context)
    app = application(context, priority=gateway.priority)
    gateway.key_admin.add_to(app)  # before the others: what is not theirs leads nowhere
    gateway.admin.add_to(app)
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    return app
