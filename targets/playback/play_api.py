"""The Play API: the application logic of a play. It asks Playback Apps, and makes the client's answer of that.

    POST /play       {"title": ...}, behind a passport   -> the answer that clients know (see README.md)
    POST /activity   what players report of a play, behind a passport: see `activity_api`

When Playback Apps does not answer, the last good answer for the same title, plan, country and network is given again.
That is safe: whether a play is granted depends on nothing but (plan, country, title) (see `validation`), the first two
stand in the caller's signed token, and an answer is remembered only when the store's plan and country were those of the
token. So nobody gets more by this way than what someone with the same plan in the same country was granted
within the last five minutes. A refusal is never remembered.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from dataclasses import dataclass, replace

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings, DeadlineShare, ReplicaSettings
from chaos.resilience.web import Rejected, Reply
from targets.playback.activity import Kind
from targets.playback.activity_api import report_handler
from targets.playback.activity_emitter import Activity
from targets.playback.passport import HEADER, NoPassport, Passport
from targets.playback.seed_data import SeedData, title_index
from targets.playback.service import Context, application, json_response
from targets.playback.transport import CallFailed, json_of
from targets.playback.video import CHUNK_S, LADDER_KBPS

SESSION_CHUNKS = 12
REMEMBERED_MAX = 4_096
REMEMBERED_FOR_S = 300.0

_SETTINGS = CommandSettings(
    timeout_s=1.3, max_concurrent=256, fallback_max_concurrent=256, breaker=BreakerSettings(open_s=1.0)
)
_REPLICA_SETTINGS = ReplicaSettings(
    attempts=2, attempt_timeout_s=0.65, share=DeadlineShare.ALL, breaker=BreakerSettings(open_s=1.0)
)


class NothingRemembered(Exception):  # noqa: N818 - it names what is missing
    """There is no last good answer for this play."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What two plays must have in common for the answer to one to be an answer to the other."""

    title: str
    plan: str
    country: str
    isp: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What Playback Apps answered: the OCAs, and the commands that a fallback answered."""

    ocas: tuple[object, ...]
    degraded: tuple[str, ...]
    by_claims: bool
    """Whether plan and country of the decision are those of the token."""

    @classmethod
    def from_reply(cls, reply: Reply, passport: Passport) -> Grant:
        """Read an answer of Playback Apps. Raises CallFailed."""
        match json_of(reply):
            case {"ocas": [*ocas], "degraded": [*degraded], "plan": plan, "country": country} if ocas:
                claims = passport.subscriber
                by_claims = (plan, country) == (claims.plan, claims.country)
                return cls(ocas=tuple(ocas), degraded=tuple(map(str, degraded)), by_claims=by_claims)
            case _:
                raise CallFailed("no OCAs in the answer of Playback Apps")


class LastGood:
    """The last good answers, at most ``REMEMBERED_MAX``, each for ``REMEMBERED_FOR_S``. Pure."""

    def __init__(self) -> None:
        self._grants: OrderedDict[Likeness, tuple[float, Grant]] = OrderedDict()

    def remember(self, now_s: float, likeness: Likeness, grant: Grant) -> None:
        """Remember a full answer whose decision rests on what the token says too; no other."""
        if grant.degraded or not grant.by_claims:
            return
        self._grants[likeness] = (now_s, grant)
        self._grants.move_to_end(likeness)
        if len(self._grants) > REMEMBERED_MAX:
            self._grants.popitem(last=False)

    def recall(self, now_s: float, likeness: Likeness) -> Grant:
        """Return the last good answer. Raises NothingRemembered."""
        at_s, grant = self._grants.get(likeness, (float("-inf"), None))
        if grant is None or now_s - at_s > REMEMBERED_FOR_S:
            raise NothingRemembered(likeness.title)
        return grant


class PlayApi:
    """The service."""

    def __init__(self, context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._networks = SeedData.of(context.config).networks
        self.activity = Activity(context)
        """Where plays, and what players report of them, are told; never waited for."""
        self._last_good = LastGood()
        self._chunks = int(context.number("session_chunks", SESSION_CHUNKS))
        self._apps = context.replicas("playback_apps", _REPLICA_SETTINGS)
        self._grant = context.isolation.command(
            "playback_apps.grant", self._ask, fallback=self._recall, settings=_SETTINGS
        )
        # A session's name is unique without chance: chance would repeat itself when the instance is restarted.
        self._sessions = 0
        self._start = f"{context.config.instance}-{int(self._loop.time() * 1000):x}"

    async def play(self, request: web.Request) -> web.Response:
        """Answer ``POST /play``."""
        try:
            passport = Passport.from_header(request.headers.get(HEADER))
            title = _title(await request.read())
        except (NoPassport, ValueError) as error:
            return json_response({"error": str(error)}, status=400)
        if title_index(title) is None:
            return json_response({"error": f"no title {title[:40]!r}"}, status=404)
        try:
            grant = await self._grant(title, passport)
        except Rejected as refusal:
            return web.Response(status=refusal.status, body=refusal.body, content_type="application/json")
        self._last_good.remember(self._loop.time(), self._likeness(title, passport), grant)
        self._sessions += 1
        self.activity.emit(Kind.PLAY_STARTED, passport.subscriber, title=title)
        return json_response(
            {
                "session": f"{self._start}-{self._sessions}",
                "title": title,
                "chunks": self._chunks,
                "chunk_s": CHUNK_S,
                "ladder_kbps": LADDER_KBPS,
                "degraded": grant.degraded,
                "ocas": grant.ocas,
            }
        )

    async def _ask(self, title: str, passport: Passport) -> Grant:
        headers = {HEADER: passport.to_header()}

        async def ask(address: str) -> Reply:
            return await self._context.http.post(f"http://{address}/grants", json={"title": title}, headers=headers)

        return Grant.from_reply(await self._apps.call(ask), passport)

    def _recall(self, _: Exception, title: str, passport: Passport) -> Grant:
        grant = self._last_good.recall(self._loop.time(), self._likeness(title, passport))
        return replace(grant, degraded=(self._grant.name,))

    def _likeness(self, title: str, passport: Passport) -> Likeness:
        claims = passport.subscriber
        isp = self._networks.lookup(passport.ip)
        return Likeness(title=title, plan=claims.plan, country=claims.country, isp=isp)


def _title(body: bytes) -> str:
    match json.loads(body):
        case {"title": str(title)}:
            return title
        case _:
            raise ValueError('the body must be {"title": "title-0001"}')


def build(context: Context) -> web.Application:
    """Return the Play API's application."""
    api = PlayApi(context)
    app = application(context)
    app.router.add_post("/play", api.play)
    app.router.add_post("/activity", report_handler(api.activity))
    api.activity.install(app)
    return app
