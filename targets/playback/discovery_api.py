"""The Discovery API: the home page of a subscriber, and the search for titles.

    GET /home        behind a passport -> {"rows": [{"title", "kind", "titles"}], "degraded": [...]}
    GET /search?q=   behind a passport -> {"titles": [...]}

``/home`` is never an error to somebody with a passport. Its rows come from what the pipeline wrote into the cache, and
for what is not there something simpler stands in:

    personal row        cache, near zone -> cache, far zone -> no such row: a new subscriber has none either
    popular titles      cache, near zone -> cache, far zone -> this process's last copy -> a stretch of the catalogue

``degraded`` names the commands of the cache that failed, and what stood in. A cache that answers, and has nothing
because nobody has played anything yet, is no failure: the row is static then, and nothing is degraded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings
from targets.playback.activity import Kind
from targets.playback.activity_emitter import Activity
from targets.playback.cache_client import Cache, Cached
from targets.playback.dates import Calendar
from targets.playback.discovery import Catalogue, Row, query_of
from targets.playback.effects import home_key, popular_key
from targets.playback.home_rows import popular_from_bytes, recommendation_from_bytes
from targets.playback.passport import HEADER, NoPassport, Passport
from targets.playback.seed_data import SeedData
from targets.playback.service import Context, application, json_response
from targets.playback.validation import Subscriber

ROWS = "discovery.rows"
"""The command that reads both rows; what ``degraded`` says when it failed as a whole."""

LAST_POPULAR = "discovery.last_popular"
"""What ``degraded`` says when the popular titles are an old copy."""

STATIC = "discovery.static"
"""What ``degraded`` says when the row is a stretch of the catalogue because of a failure."""

_SETTINGS = CommandSettings(
    timeout_s=0.25, max_concurrent=256, fallback_max_concurrent=1_024, breaker=BreakerSettings(open_s=1.0)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the cache has for a home page, and the commands that failed on the way."""

    home: bytes | None
    popular: bytes | None
    degraded: tuple[str, ...]


class DiscoveryApi:
    """The service."""

    def __init__(self, context: Context) -> None:
        data = SeedData.of(context.config)
        calendar = Calendar.of(context.config.settings, began_s=context.now())
        self._catalogue = Catalogue(data, today=lambda: calendar.date(context.now()))
        self._cache = Cache(context)
        self._activity = Activity(context)
        self._popular: dict[str, tuple[str, ...]] = {}
        self._find = context.isolation.command(ROWS, self._read, fallback=_nothing, settings=_SETTINGS)
        self.close = self._cache.close
        self.install = self._activity.install

    async def home(self, request: web.Request) -> web.Response:
        """Answer ``GET /home``."""
        try:
            subscriber = Passport.from_header(request.headers.get(HEADER)).subscriber
        except NoPassport as error:
            return json_response({"error": str(error)}, status=400)
        found = await self._find(subscriber)
        degraded = list(found.degraded)
        rows = []
        personal = self._catalogue.personal(subscriber, recommendation_from_bytes(found.home))
        if personal is not None:
            rows.append(personal)
        rows.append(self._for_everybody(subscriber, found.popular, degraded))
        return json_response({"rows": [row.to_json() for row in rows], "degraded": degraded})

    async def search(self, request: web.Request) -> web.Response:
        """Answer ``GET /search``."""
        try:
            subscriber = Passport.from_header(request.headers.get(HEADER)).subscriber
            query = query_of(request.query.get("q"))
        except (NoPassport, ValueError) as error:
            return json_response({"error": str(error)}, status=400)
        self._activity.emit(Kind.SEARCHED, subscriber, query=query)
        return json_response({"titles": self._catalogue.search(subscriber, query)})

    def _for_everybody(self, subscriber: Subscriber, data: bytes | None, degraded: list[str]) -> Row:
        """Return the row that is not the subscriber's own, and add to ``degraded`` what stood in."""
        country = subscriber.country
        titles = popular_from_bytes(data)
        if titles:
            # A country of the catalogue: so there are no more copies than countries, whatever a passport says.
            if self._catalogue.has_country(country):
                self._popular[country] = titles
            row = self._catalogue.popular(subscriber, titles)
            if row is not None:
                return row
        row = self._catalogue.popular(subscriber, self._popular.get(country, ()))
        if row is not None:
            degraded.append(LAST_POPULAR)
            return row
        unreadable = data is not None and not titles
        if degraded or unreadable:
            degraded.append(STATIC)
        return self._catalogue.static(subscriber)

    async def _read(self, subscriber: Subscriber) -> Found:
        home: Cached
        popular: Cached
        home, popular = await asyncio.gather(
            self._cache.read(home_key(subscriber.id)), self._cache.read(popular_key(subscriber.country))
        )
        degraded = tuple(dict.fromkeys((*home.degraded, *popular.degraded)))
        return Found(home=home.value, popular=popular.value, degraded=degraded)


def _nothing(_: Exception, subscriber: Subscriber) -> Found:  # noqa: ARG001 - a fallback takes what the call takes
    return Found(home=None, popular=None, degraded=(ROWS,))


def build(context: Context) -> web.Application:
    """Return the Discovery API's application."""
    api = DiscoveryApi(context)
    app = application(context, shares_answers=True)
    app.router.add_get("/home", api.home)
    app.router.add_get("/search", api.search)
    api.install(app)

    async def close(_: web.Application) -> None:
        await api.close()

    app.on_cleanup.append(close)
    return app
