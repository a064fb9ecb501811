"""The API gateway: checks the token, finds the route, and passes the request on to the service behind it.

    POST /play   Authorization: Bearer <token>   -> play_api

401 for a token that is none, 404 for a path that has no route, 405 for another method. Each route is a Command of its
own, so that a dead service costs its own routes and no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings, DeadlineShare, Gradient2Settings, ReplicaSettings
from chaos.resilience.web import Rejected, Reply
from targets.playback import tokens
from targets.playback.passport import HEADER, Passport, client_address
from targets.playback.service import Context, application, json_response

_BEARER = "Bearer "

_ROUTE_SETTINGS = CommandSettings(
    timeout_s=1.4,
    adaptive=Gradient2Settings(initial=256, minimum=64, maximum=512),
    breaker=BreakerSettings(open_s=1.0, open_growth=1.5, open_max_s=3.0),
)
_REPLICA_SETTINGS = ReplicaSettings(
    attempts=2, attempt_timeout_s=0.75, share=DeadlineShare.ALL, breaker=BreakerSettings(open_s=1.0)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where requests to one path go."""

    path: str
    method: str
    service: str


ROUTES = (Route(path="/play", method="POST", service="play_api"),)


class Gateway:
    """The service: the token filter in front, a Command for each route behind it."""

    def __init__(self, context: Context) -> None:
        self._signing_key = context.text("signing_key")
        self._http = context.http
        self._routes: Mapping[str, Route] = {route.path: route for route in ROUTES}
        self._replicas = {
            service: context.replicas(service, _REPLICA_SETTINGS)
            for service in sorted({route.service for route in ROUTES})
        }
        self._commands = {
            route.path: context.isolation.command(f"route{route.path}", self._pass_on, settings=_ROUTE_SETTINGS)
            for route in ROUTES
        }

    async def handle(self, request: web.Request) -> web.Response:
        """Answer any request."""
        route = self._routes.get(request.path)
        if route is None:
            return json_response({"error": f"no route for {request.path}"}, status=404)
        if request.method != route.method:
            return json_response({"error": f"use {route.method}"}, status=405, headers={"Allow": route.method})
        try:
            claims = tokens.verify(_token(request), self._signing_key)
        except tokens.InvalidToken as error:
            return json_response({"error": f"not a valid token: {error}"}, status=401)
        passport = Passport(subscriber=claims, ip=client_address(request.headers.get("X-Forwarded-For")))
        body = await request.read()
        try:
            reply = await self._commands[route.path](route, passport, body)
        except Rejected as answer:
            return web.Response(status=answer.status, body=answer.body, content_type="application/json")
        return web.Response(status=reply.status, body=reply.body, content_type="application/json")

    async def _pass_on(self, route: Route, passport: Passport, body: bytes) -> Reply:
        headers = {HEADER: passport.to_header(), "Content-Type": "application/json"}

        async def ask(address: str) -> Reply:
            return await self._http.request(route.method, f"http://{address}{route.path}", data=body, headers=headers)

        return await self._replicas[route.service].call(ask)


def _token(request: web.Request) -> str:
    value = request.headers.get("Authorization", "")
    if not value.startswith(_BEARER):
        raise tokens.InvalidToken("the header Authorization: Bearer <token> is missing")
    return value[len(_BEARER) :]


def build(context: Context) -> web.Application:
    """Return the gateway's application."""
    app = application(context)
    app.router.add_route("*", "/{path:.*}", Gateway(context).handle)
    return app
