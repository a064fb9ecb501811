"""Steering: which OCAs suit this client best, for this title, now.

    GET /rank?title=&ip=   {"ocas": [{"id", "url", "isp"}, ...], "stale": bool}: up to 10, best first; 404 for no title
                           with &explain=1 also "explained": of every OCA why it is where it is, or is not given
    GET /map, GET /title_sets   all OCAs known, for those who keep a static ranking: see `map_exchange`

The map of OCAs is pulled from cache control in the background, so that a play never waits for it. With the protection
``stale_map`` off, the map is dropped when cache control has nothing; with ``health_filtering`` off, load is ignored.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings, ReplicaSettings
from targets.playback.map_exchange import MapReader, Page, show_map
from targets.playback.oca_map import OcaState
from targets.playback.ranking import MapKeeper, explain, rank
from targets.playback.seed_data import SeedData, title_index
from targets.playback.service import Context, application, json_response
from targets.playback.transport import FAILURES

PULL_EVERY_S = 0.5

_REPLICA_SETTINGS = ReplicaSettings(attempts=2, attempt_timeout_s=0.3, breaker=BreakerSettings(open_s=1.0))
_PULL_SETTINGS = CommandSettings(timeout_s=0.4, max_concurrent=2, breaker=BreakerSettings(open_s=1.0))


class Steering:
    """The service: keeps the map fresh, and ranks."""

    def __init__(self, context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._rng = context.rng
        self._networks = SeedData.of(context.config).networks
        self._keeper = MapKeeper(keep=context.on("stale_map"))
        self._by_health = context.on("health_filtering")
        self._source = MapReader(context.http)
        self._replicas = context.replicas("cache_control", _REPLICA_SETTINGS)
        self._pull = context.isolation.command("cache_control.map", self._fetch_map, settings=_PULL_SETTINGS)
        self._map_size = 0
        self.ready = False

    async def _fetch_map(self) -> tuple[OcaState, ...]:
        return await self._replicas.call(self._source.fetch)

    async def refresh(self) -> bool:
        """Pull the map once; return whether it is there and whole."""
        try:
            ocas = await self._pull()
        except FAILURES:
            self._keeper.unanswered()
            return False
        self._keeper.answered(self._loop.time(), ocas)
        # At the start reports come in one by one: the map is whole when it has stopped growing.
        settled = len(ocas) == self._map_size > 0
        self._map_size = len(ocas)
        self.ready = self.ready or settled
        return settled

    async def rank(self, request: web.Request) -> web.Response:
        """Answer ``GET /rank``."""
        title = title_index(request.query.get("title", ""))
        if title is None:
            return json_response({"error": "no such title"}, status=404)
        view = self._keeper.view(self._loop.time())
        isp = self._networks.lookup(request.query.get("ip", ""))
        ocas = rank(view.ocas, isp=isp, title=title, rng=self._rng, by_health=self._by_health)
        if not ocas:
            return json_response({"error": "no OCA is known that could serve this title"}, status=503)
        answer: dict[str, object] = {"ocas": [oca.to_client() for oca in ocas], "stale": view.stale}
        if request.query.get("explain") == "1":
            answer["network"] = isp
            answer["explained"] = explain(view.ocas, ocas, isp=isp, title=title, by_health=self._by_health)
        return json_response(answer)

    def page(self) -> Page:
        """Return the map that others may copy."""
        return Page(self._keeper.view(self._loop.time()).ocas)


def build(context: Context) -> web.Application:
    """Return steering's application, pulling the map."""
    steering = Steering(context)
    app = application(context, ready=lambda: steering.ready)
    app.router.add_get("/rank", steering.rank)
    show_map(app, steering.page)
    context.repeat(steering.refresh, period_s=PULL_EVERY_S)
    return app
