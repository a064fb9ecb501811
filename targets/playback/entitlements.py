"""What Playback Apps must know to decide about a play: the subscriber's plan and country, the title's licences.

    at hand -> cache, near zone -> cache, far zone -> store -> what is known without them:
        the subscriber's signed claims carry plan and country;
        a copy of all licences, pulled from the store in the background, knows the titles

The last resort may be out of date, and by how much is bounded: the copy of the licences is not used once it is older
than ``licences_stale_max_s``; a token lives as long as the run that signed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from chaos.resilience import Answer, BadRequest, BreakerSettings, CommandSettings, ReplicaSettings, RetrySettings
from chaos.resilience.web import Rejected, Reply
from targets.playback.cache_client import Cache
from targets.playback.records import Record, Records
from targets.playback.service import Context
from targets.playback.transport import FAILURES, CallFailed, json_of
from targets.playback.validation import Subscriber, Title, titles_from_json

LICENCES_EVERY_S = 5.0
LICENCES_STALE_MAX_S = 900.0

_ASK_SETTINGS = CommandSettings(
    timeout_s=0.15, max_concurrent=64, queue_max=32, fallback_max_concurrent=256, breaker=BreakerSettings(open_s=2.0)
)
_REPLICA_SETTINGS = ReplicaSettings(attempts=2, attempt_timeout_s=1.0, breaker=BreakerSettings(open_s=1.5))
_PULL_SETTINGS = CommandSettings(
    timeout_s=1.0, max_concurrent=2, retry=RetrySettings(attempts=2), breaker=BreakerSettings(open_s=1.0)
)


class UnknownSubscriber(BadRequest):
    """The token is right, but its subscriber is no longer one."""


class UnknownTitle(BadRequest):
    """There is no such title."""


class TooStale(Exception):  # noqa: N818 - it names what is wrong
    """What is remembered is older than it may be."""


class LicenceCopy:
    """The copy of all titles with their licences. Pure."""

    def __init__(self, *, stale_max_s: float) -> None:
        self._stale_max_s = stale_max_s
        self._titles: Mapping[str, Title] = {}
        self._confirmed_s = float("-inf")

    @property
    def there(self) -> bool:
        """Whether there is a copy at all."""
        return bool(self._titles)

    def replace(self, now_s: float, titles: Mapping[str, Title]) -> None:
        """Take in a new copy."""
        self._titles = titles
        self._confirmed_s = now_s

    def confirm(self, now_s: float) -> None:
        """Note that the store has nothing newer."""
        self._confirmed_s = now_s

    def title(self, now_s: float, title: str) -> Title:
        """Return a title. Raises TooStale for a copy that is too old, UnknownTitle for a title that is not in it."""
        age_s = now_s - self._confirmed_s
        if age_s > self._stale_max_s:
            raise TooStale(f"the copy of the licences is {age_s:.0f} s old; {self._stale_max_s:.0f} s are allowed")
        if title not in self._titles:
            raise UnknownTitle(title)
        return self._titles[title]


class Entitlements:
    """Finds a subscriber and a title; see the module's text for the order of asking."""

    def __init__(self, context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = context.http
        self._store = context.replicas("store", _REPLICA_SETTINGS)
        self._cache = Cache(context)
        self._copy = LicenceCopy(stale_max_s=context.number("licences_stale_max_s", LICENCES_STALE_MAX_S))
        self._copy_tag = ""
        isolation = context.isolation
        ask_subscriber = isolation.command(
            "store.subscriber",
            self._ask_subscriber,
            fallback=_from_claims,
            settings=_ASK_SETTINGS,
            cache_key=lambda claims: claims.id,
        )
        ask_title = isolation.command(
            "store.title",
            self._ask_title,
            fallback=self._from_copy,
            settings=_ASK_SETTINGS,
            cache_key=lambda title: title,
        )
        self._subscribers: Records[Subscriber, Subscriber] = Records(
            context,
            self._cache,
            ask_subscriber,
            key=lambda claims: f"subscriber/{claims.id}",
            parse=Subscriber.from_json,
        )
        self._titles: Records[str, Title] = Records(
            context, self._cache, ask_title, key=lambda title: f"title/{title}", parse=Title.from_json
        )
        self._pull = isolation.command("store.licences", self._pull_copy, settings=_PULL_SETTINGS)
        context.repeat(self._refresh, period_s=LICENCES_EVERY_S)

    @property
    def ready(self) -> bool:
        """Whether the copy of the licences is there."""
        return self._copy.there

    async def find(self, claims: Subscriber, title: str, degraded: list[str]) -> tuple[Subscriber, Title]:
        """Return the subscriber with these claims, and the title; commands answered by a fallback go to ``degraded``.

        Raises UnknownSubscriber and UnknownTitle, and with isolation off whatever a call raises.
        """
        subscriber, wanted = self._subscribers.at_hand(claims), self._titles.at_hand(title)
        subscriber_key, title_key = self._subscribers.key(claims), self._titles.key(title)
        keys = [key for key, known in ((subscriber_key, subscriber), (title_key, wanted)) if known is None]
        if keys:
            cached = dict(zip(keys, await self._cache.read_together(keys), strict=True))
            degraded.extend(dict.fromkeys(name for one in cached.values() for name in one.degraded))
            if subscriber is None:
                subscriber = self._subscribers.read(claims, cached[subscriber_key].value)
            if wanted is None:
                wanted = self._titles.read(title, cached[title_key].value)
        if subscriber is None and wanted is None:
            first, second = await asyncio.gather(self._subscribers.fetch(claims), self._titles.fetch(title))
            return (
                _noted(first, self._subscribers.name, degraded),
                _noted(second, self._titles.name, degraded),
            )
        if subscriber is None:
            subscriber = _noted(await self._subscribers.fetch(claims), self._subscribers.name, degraded)
        if wanted is None:
            wanted = _noted(await self._titles.fetch(title), self._titles.name, degraded)
        return subscriber, wanted

    async def close(self) -> None:
        """End what is under way, and the connections."""
        await self._subscribers.close()
        await self._titles.close()
        await self._cache.close()

    async def _ask_subscriber(self, claims: Subscriber) -> Subscriber:
        try:
            return _parsed(json_of(await self._get(f"/subscribers/{claims.id}")), Subscriber.from_json)
        except Rejected as rejected:
            raise UnknownSubscriber(claims.id) from rejected

    async def _ask_title(self, title: str) -> Title:
        try:
            return _parsed(json_of(await self._get(f"/titles/{title}")), Title.from_json)
        except Rejected as rejected:
            raise UnknownTitle(title) from rejected

    def _from_copy(self, _: Exception, title: str) -> Title:
        return self._copy.title(self._loop.time(), title)

    async def _pull_copy(self) -> None:
        tag = {"If-None-Match": self._copy_tag} if self._copy_tag else None
        reply = await self._get("/licences", tag)
        if reply.status == 304:
            self._copy.confirm(self._loop.time())
            return
        match json_of(reply):
            case {"titles": titles}:
                self._copy.replace(self._loop.time(), _parsed(titles, titles_from_json))
                self._copy_tag = reply.headers.get("ETag", "")
            case _:
                raise CallFailed("the store's copy of the licences has no titles")

    async def _refresh(self) -> bool:
        try:
            await self._pull()
        except FAILURES:
            return False
        return True

    async def _get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return await self._store.call(lambda address: self._http.get(f"http://{address}{path}", headers=headers))


def _noted(answer: Answer[Record], command: str, degraded: list[str]) -> Record:
    """Return the record of an answer; note it when a fallback gave it."""
    if answer.fallback:
        degraded.append(command)
    return answer.value


def _from_claims(_: Exception, claims: Subscriber) -> Subscriber:
    return claims


Parsed = TypeVar("Parsed")


def _parsed(data: object, parse: Callable[[object], Parsed]) -> Parsed:
    try:
        return parse(data)
    except ValueError as error:
        raise CallFailed(str(error)) from error
