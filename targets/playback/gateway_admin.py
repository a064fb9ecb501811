"""The admin endpoint of the API gateway: its routing table, its filters and its traffic, looked at and changed.

    GET /admin/routes              {"version": 1, "routes": [...]}
    PUT /admin/routes              replaces the table, all or nothing; If-Match with the version guards against others
    GET /admin/filters             every filter in the order of its turn, with how often it ran and raised
    PUT /admin/filters/{name}      adds a filter, or replaces it: {"kind": "deny", "order": 50, "settings": {...}}
    DELETE /admin/filters/{name}   takes a filter away that was added here
    GET /admin/traffic             rates, latencies and stream starts

Who may come in is said in `admin`. What is changed lasts until the gateway is restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from targets.playback.admin import AdminGate, nowhere
from targets.playback.gateway_filters import FilterChain
from targets.playback.gateway_routes import InvalidRoutes, RouteTable
from targets.playback.gateway_rules import filter_from_json
from targets.playback.gateway_traffic import Traffic
from targets.playback.service import json_or_none, json_response

_NAME_MAX = 64


class Routes:
    """The routing table in force, and its version, which grows with every change."""

    def __init__(self, table: RouteTable, instances: Mapping[str, Sequence[str]]) -> None:
        self.table = table
        self.version = 1
        self._instances = instances

    def replace(self, data: object) -> None:
        """Put another table into force. Raises InvalidRoutes, and then the old one stays."""
        self.table = RouteTable.from_json(data, self._instances)
        self.version += 1


class Admin:
    """The endpoint, behind ``gate``; the filters that are in the chain by now are the gateway's own."""

    def __init__(
        self, gate: AdminGate, routes: Routes, chain: FilterChain, traffic: Traffic, now: Callable[[], float]
    ) -> None:
        self._gate = gate
        self._routes = routes
        self._chain = chain
        self._traffic = traffic
        self._now = now
        self._own = {one.name for one, _ in chain.filters()}

    def add_to(self, app: web.Application) -> None:
        """Add its routes."""
        router = app.router
        router.add_get("/admin/routes", self._gate.guard(self._show_routes))
        router.add_put("/admin/routes", self._gate.guard(self._replace_routes))
        router.add_get("/admin/filters", self._gate.guard(self._show_filters))
        router.add_put("/admin/filters/{name}", self._gate.guard(self._add_filter))
        router.add_delete("/admin/filters/{name}", self._gate.guard(self._remove_filter))
        router.add_get("/admin/traffic", self._gate.guard(self._show_traffic))
        router.add_route("*", "/admin{rest:(/.*)?}", nowhere)

    async def _show_routes(self, _: web.Request) -> web.Response:
        shown = {"version": self._routes.version, "routes": self._routes.table.to_json()}
        return json_response(shown, headers={"ETag": f'"{self._routes.version}"'})

    async def _replace_routes(self, request: web.Request) -> web.Response:
        wanted = request.headers.get("If-Match", "*")
        if wanted not in {"*", f'"{self._routes.version}"'}:
            return json_response({"error": f"the table is of version {self._routes.version} by now"}, status=412)
        try:
            self._routes.replace(json_or_none(await request.read()))
        except InvalidRoutes as error:
            return json_response({"error": str(error)}, status=400)
        return await self._show_routes(request)

    async def _show_filters(self, _: web.Request) -> web.Response:
        return json_response(
            [
                {
                    "name": one.name,
                    "kind": type(one).__name__,
                    "stage": one.stage,
                    "order": one.order,
                    "runs": count.runs,
                    "failures": count.failures,
                }
                for one, count in self._chain.filters()
            ]
        )

    async def _add_filter(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in self._own:
            return json_response({"error": f"{name} is one of the gateway's own filters"}, status=409)
        if len(name) > _NAME_MAX:
            return json_response({"error": f"a filter's name has at most {_NAME_MAX} characters"}, status=400)
        try:
            self._chain.add(filter_from_json(name, json_or_none(await request.read())))
        except ValueError as error:
            return json_response({"error": str(error)}, status=400)
        return await self._show_filters(request)

    async def _remove_filter(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in self._own:
            return json_response({"error": f"{name} is one of the gateway's own filters"}, status=409)
        try:
            self._chain.remove(name)
        except KeyError:
            return json_response({"error": f"there is no filter {name[:_NAME_MAX]!r}"}, status=404)
        return await self._show_filters(request)

    async def _show_traffic(self, _: web.Request) -> web.Response:
        return json_response(self._traffic.to_json(self._now()))
