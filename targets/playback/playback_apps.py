"""Playback Apps: decides whether this play is granted, and gets the OCAs to stream it from.

    POST /grants    {"title", "stream", "device" (tv when it is not said)}, behind a passport
                    200 {"ocas", "degraded", "plan", "country", "ladder_kbps", "licensed_until_s"}
                    403 {"refused": "plan" | "licence" | "licence_window" | "streams"}; 404
    POST /streams   {"ended": [["account", "stream"], ...], "renewed": [...]}: what became of streams; 202

A refusal is an answer, not a failure. Plan and licence are decided first; then the account's stream is claimed (see
`stream_leases`) while steering ranks the OCAs, and given back when the play comes to nothing. When steering does not
answer in time, OCAs come from the static ranking: what rarely changes about the OCAs (where they stand, what they
hold), copied from steering in the background. It knows nothing of their health, and the client, who tries all ten,
finds that out. The protection ``static_ranking`` is this copy. ``licensed_until_s`` is the moment on the loop's clock
at which the licence's window ends, or null.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from chaos.resilience import (
    BreakerSettings,
    CommandSettings,
    DeadlineShare,
    HedgeSettings,
    ReplicaSettings,
    RetrySettings,
)
from chaos.resilience.web import ServiceClient
from targets.playback.dates import Calendar
from targets.playback.entitlements import Entitlements, UnknownSubscriber, UnknownTitle
from targets.playback.ladder import ladder_for
from targets.playback.map_exchange import MapReader
from targets.playback.oca_map import OcaState
from targets.playback.passport import HEADER, NoPassport, Passport
from targets.playback.play_forms import GrantForm
from targets.playback.ranking import rank
from targets.playback.seed_data import SeedData, title_index
from targets.playback.service import Context, application, json_or_none, json_response
from targets.playback.stream_leases import Claim, Claimed, StreamLeases
from targets.playback.streams import news_from_json
from targets.playback.transport import FAILURES, CallFailed, json_of
from targets.playback.validation import Refusal, Title, refusal

STATIC_EVERY_S = 5.0
RANK = "steering.rank"
"""The command that asks steering; what ``degraded`` says when the static ranking answered."""

STALE_MAP = "cache_control.map"
"""What ``degraded`` says when steering answered from an old map."""

_RANK_SETTINGS = CommandSettings(
    timeout_s=0.2,
    max_concurrent=64,
    fallback_max_concurrent=256,
    breaker=BreakerSettings(open_s=2.0, slow_call_s=0.18, slow_call_threshold_percent=80.0),
)
_COPY_SETTINGS = CommandSettings(
    timeout_s=0.5, max_concurrent=2, retry=RetrySettings(attempts=2), breaker=BreakerSettings(open_s=1.0)
)
_REPLICA_SETTINGS = ReplicaSettings(
    attempts=2,
    attempt_timeout_s=0.15,
    share=DeadlineShare.ALL,
    hedge=HedgeSettings(delay_min_s=0.01),
    breaker=BreakerSettings(open_s=1.5),
)


class NoStaticRanking(Exception):  # noqa: N818 - it names what is missing
    """The static ranking has no OCA for this play."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """OCAs for a client, best first, and what answered for them in a makeshift way, if anything did."""

    ocas: Sequence[object]
    degraded: tuple[str, ...] = ()


class StaticRanking:
    """The fallback for steering: ranks every OCA ever heard of by place and titles alone. Pure."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ocas: dict[str, OcaState] = {}

    @property
    def there(self) -> bool:
        """Whether any OCA is known."""
        return bool(self._ocas)

    def learn(self, ocas: Sequence[OcaState]) -> None:
        """Take in what is known of the OCAs now; none is forgotten, for silence says nothing about its place."""
        self._ocas.update((oca.id, oca) for oca in ocas)

    def rank(self, title: int, isp: str | None) -> Ranked:
        """Return OCAs for a client in network ``isp``. Raises NoStaticRanking."""
        ocas = rank(self._ocas.values(), isp=isp, title=title, rng=self._rng, by_health=False)
        if not ocas:
            raise NoStaticRanking("no OCA is known that holds this title")
        return Ranked([oca.to_client() for oca in ocas], degraded=(RANK,))


class SteeringClient:
    """Asks steering, and keeps the static ranking ready."""

    def __init__(self, context: Context) -> None:
        self._http: ServiceClient = context.http
        self._map = MapReader(context.http)
        self._networks = SeedData.of(context.config).networks
        self._static = StaticRanking(context.rng)
        self._steering = context.replicas("steering", _REPLICA_SETTINGS)
        with_static = context.on("static_ranking")
        self.rank = context.isolation.command(
            RANK,
            self._ask,
            fallback=[self._rank_statically] if with_static else [],
            settings=_RANK_SETTINGS,
        )
        self._copy = context.isolation.command("steering.map", self._copy_map, settings=_COPY_SETTINGS)
        self._with_static = with_static
        if with_static:
            context.repeat(self._refresh, period_s=STATIC_EVERY_S)

    @property
    def ready(self) -> bool:
        """Whether the static ranking is there, where there is to be one."""
        return self._static.there or not self._with_static

    async def _ask(self, title: str, ip: str) -> Ranked:
        query = urlencode({"title": title, "ip": ip})

        async def ask(address: str) -> Ranked:
            match json_of(await self._http.get(f"http://{address}/rank?{query}")):
                case {"ocas": [*ocas], "stale": bool(stale)} if ocas:
                    return Ranked(ocas, degraded=(STALE_MAP,) if stale else ())
                case _:
                    raise CallFailed("no OCAs in steering's answer")

        return await self._steering.call(ask)

    def _rank_statically(self, _: Exception, title: str, ip: str) -> Ranked:
        position = title_index(title)
        assert position is not None, "the title was found before OCAs are asked for"
        return self._static.rank(position, self._networks.lookup(ip))

    async def _copy_map(self) -> tuple[OcaState, ...]:
        return await self._steering.call(self._map.fetch)

    async def _refresh(self) -> bool:
        try:
            self._static.learn(await self._copy())
        except FAILURES:
            return False
        return self._static.there


class Refused(Exception):  # noqa: N818 - it names what the play is
    """The play is refused."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why)
        self.why = why


class PlaybackApps:
    """The service."""

    def __init__(self, context: Context) -> None:
        self._now_s = context.now
        self._calendar = Calendar.of(context.config.settings, began_s=context.now())
        self._entitlements = Entitlements(context)
        self._steering = SteeringClient(context)
        self._streams = StreamLeases(context)

    @property
    def ready(self) -> bool:
        """Whether the fallbacks have what they need."""
        return self._entitlements.ready and self._steering.ready

    async def grant(self, request: web.Request) -> web.Response:
        """Answer ``POST /grants``."""
        try:
            passport = Passport.from_header(request.headers.get(HEADER))
            asked = GrantForm.from_body(await request.read())
        except (NoPassport, ValueError) as error:
            return json_response({"error": str(error)}, status=400)
        try:
            return json_response(await self._grant(asked, passport))
        except UnknownTitle:
            return json_response({"error": f"no title {asked.play.title[:40]!r}"}, status=404)
        except Refused as refused:
            return json_response({"refused": refused.why}, status=403)

    async def hear(self, request: web.Request) -> web.Response:
        """Answer ``POST /streams``."""
        try:
            news = news_from_json(json_or_none(await request.read()))
        except ValueError as error:
            return json_response({"error": str(error)}, status=400)
        await self._streams.tell(news)
        return json_response({"heard": len(news)}, status=202)

    async def close(self) -> None:
        """Close the connections."""
        await self._entitlements.close()
        await self._streams.close()

    async def _grant(self, asked: GrantForm, passport: Passport) -> dict[str, object]:
        """Return the answer to a play that is granted. Raises UnknownTitle and Refused."""
        if title_index(asked.play.title) is None:
            raise UnknownTitle(asked.play.title)
        degraded: list[str] = []
        try:
            subscriber, title = await self._entitlements.find(passport.subscriber, asked.play.title, degraded)
        except UnknownSubscriber as unknown:
            raise Refused(Refusal.PLAN) from unknown
        today = self._calendar.date(self._now_s())
        refused = refusal(subscriber, title, today)
        if refused is not None:
            raise Refused(refused)
        claimed, ranked = await self._claim_and_rank(self._streams.claim_of(subscriber, asked.stream), title, passport)
        if not claimed.granted:
            raise Refused(Refusal.STREAMS)
        window = title.window_on(subscriber.country, today)
        assert window is not None, "a title without a licence is refused"
        return {
            "ocas": ranked.ocas,
            "degraded": [*degraded, *claimed.degraded, *ranked.degraded],
            "plan": subscriber.plan,
            "country": subscriber.country,
            "ladder_kbps": ladder_for(asked.play.device, subscriber.plan),
            "licensed_until_s": None if window.end is None else self._calendar.begin_s(window.end),
        }

    async def _claim_and_rank(self, claim: Claim | None, title: Title, passport: Passport) -> tuple[Claimed, Ranked]:
        """Claim the stream, if it counts, while steering ranks; a claim for nothing is given back."""
        if claim is None:
            return Claimed(granted=True), await self._steering.rank(title.id, passport.ip)
        claiming = asyncio.ensure_future(self._streams.take(claim))
        try:
            ranked = await self._steering.rank(title.id, passport.ip)
            return await claiming, ranked
        except BaseException:
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
            self._streams.release_later(claim)
            raise


def build(context: Context) -> web.Application:
    """Return Playback Apps' application."""
    apps = PlaybackApps(context)
    app = application(context, ready=lambda: apps.ready, shares_answers=True)
    app.router.add_post("/grants", apps.grant)
    app.router.add_post("/streams", apps.hear)

    async def close(_: web.Application) -> None:
        await apps.close()

    app.on_cleanup.append(close)
    return app
