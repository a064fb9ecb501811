"""The Play API: the application logic of a play. It asks Playback Apps, and makes the client's answer of that.

    POST /play       {"title", "device"}, behind a passport   -> the answer that clients know (see README.md)
    POST /activity   what players report of a play, behind a passport: see `activity_api`

The session's name is that of the account's stream (see `streams`), so that a report of the session frees or renews it.

When Playback Apps does not answer, the last good answer for the same title, plan, country, network and device is given
again. That is safe: whether a play is granted depends on nothing but (plan, country, title) and the date (see
`validation`), the first two stand in the caller's signed token, and an answer is remembered only when the store's plan
and country were those of the token, and only until the licence's window ends. So nobody gets more by this way than what
someone with the same plan in the same country was granted within the last five minutes, and may be granted now. A
refusal is never remembered. What it does not do is count the account's streams: a limit is not worth a play.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings, DeadlineShare, ReplicaSettings
from chaos.resilience.web import Rejected, Reply
from targets.playback.activity import Kind, play_event_id
from targets.playback.activity_api import report_handler
from targets.playback.activity_emitter import Activity
from targets.playback.ladder import Device
from targets.playback.passport import HEADER, NoPassport, Passport
from targets.playback.play_forms import GrantForm, PlayForm
from targets.playback.seed_data import SeedData, title_index
from targets.playback.service import Context, application, json_response
from targets.playback.stream_news import StreamNews
from targets.playback.streams import COMMANDS, stream_name
from targets.playback.transport import CallFailed, json_of
from targets.playback.video import CHUNK_S

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
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What Playback Apps answered: the OCAs, the bitrates, and the commands that a fallback answered."""

    ocas: tuple[object, ...]
    degraded: tuple[str, ...]
    by_claims: bool
    """Whether plan and country of the decision are those of the token."""
    ladder_kbps: tuple[int, ...]
    licensed_until_s: float | None = None
    """The moment on the loop's clock at which the licence's window ends; None when it does not."""

    @property
    def is_full(self) -> bool:
        """Whether nothing stood in for a dependency. That a stream was not counted does not make the rest any worse."""
        return all(name.startswith(COMMANDS) for name in self.degraded)

    @classmethod
    def from_reply(cls, reply: Reply, passport: Passport) -> Grant:
        """Read an answer of Playback Apps. Raises CallFailed."""
        match json_of(reply):
            case {
                "ocas": [*ocas],
                "degraded": [*degraded],
                "plan": plan,
                "country": country,
                "ladder_kbps": [*ladder_kbps],
                "licensed_until_s": int() | float() | None as until_s,
            } if ocas and ladder_kbps:
                claims = passport.subscriber
                return cls(
                    ocas=tuple(ocas),
                    degraded=tuple(map(str, degraded)),
                    by_claims=(plan, country) == (claims.plan, claims.country),
                    ladder_kbps=tuple(map(int, ladder_kbps)),
                    licensed_until_s=until_s,
                )
            case _:
                raise CallFailed("no OCAs and bitrates in the answer of Playback Apps")


class LastGood:
    """The last good answers, at most ``REMEMBERED_MAX``, each for ``REMEMBERED_FOR_S``. Pure."""

    def __init__(self) -> None:
        self._grants: OrderedDict[Likeness, tuple[float, Grant]] = OrderedDict()

    def remember(self, now_s: float, likeness: Likeness, grant: Grant) -> None:
        """Remember a full answer whose decision rests on what the token says too; no other."""
        if not (grant.is_full and grant.by_claims):
            return
        self._grants[likeness] = (now_s, grant)
        self._grants.move_to_end(likeness)
        if len(self._grants) > REMEMBERED_MAX:
            self._grants.popitem(last=False)

    def recall(self, now_s: float, likeness: Likeness) -> Grant:
        """Return the last good answer, unless its licence is over. Raises NothingRemembered."""
        at_s, grant = self._grants.get(likeness, (float("-inf"), None))
        if grant is None or now_s - at_s > REMEMBERED_FOR_S:
            raise NothingRemembered(likeness.title)
        if grant.licensed_until_s is not None and now_s >= grant.licensed_until_s:
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
        self.streams = StreamNews(context, self._apps)
        """Where players' reports free and renew streams; never waited for."""
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
            form = PlayForm.from_body(await request.read())
        except (NoPassport, ValueError) as error:
            return json_response({"error": str(error)}, status=400)
        if title_index(form.title) is None:
            return json_response({"error": f"no title {form.title[:40]!r}"}, status=404)
        session = self._session(passport.subscriber.id, form.title, request.headers.get("Idempotency-Key"))
        asked = GrantForm(play=form, stream=session)
        try:
            grant = await self._grant(asked, passport)
        except Rejected as refusal:
            return web.Response(status=refusal.status, body=refusal.body, content_type="application/json")
        self._last_good.remember(self._loop.time(), self._likeness(form, passport), grant)
        # The session is the same for every try with one key, and so is the id: a play counts once.
        started = play_event_id(session, 0)
        self.activity.emit(Kind.PLAY_STARTED, passport.subscriber, title=form.title, event_id=started)
        return json_response(
            {
                "session": session,
                "title": form.title,
                "chunks": self._chunks,
                "chunk_s": CHUNK_S,
                "ladder_kbps": grant.ladder_kbps,
                "degraded": grant.degraded,
                "ocas": grant.ocas,
            }
        )

    def _session(self, account: str, title: str, key: str | None) -> str:
        """Return the name of a session, which is that of the account's stream: the same for every try with one key."""
        if key:
            return stream_name(account, title, key)
        self._sessions += 1
        return f"{self._start}-{self._sessions}"

    async def _ask(self, asked: GrantForm, passport: Passport) -> Grant:
        headers = {HEADER: passport.to_header()}

        async def ask(address: str) -> Reply:
            return await self._context.http.post(f"http://{address}/grants", json=asked.to_json(), headers=headers)

        return Grant.from_reply(await self._apps.call(ask), passport)

    def _recall(self, _: Exception, asked: GrantForm, passport: Passport) -> Grant:
        grant = self._last_good.recall(self._loop.time(), self._likeness(asked.play, passport))
        return replace(grant, degraded=(self._grant.name,))

    def _likeness(self, form: PlayForm, passport: Passport) -> Likeness:
        claims = passport.subscriber
        isp = self._networks.lookup(passport.ip)
        return Likeness(title=form.title, plan=claims.plan, country=claims.country, isp=isp, device=form.device)


def build(context: Context) -> web.Application:
    """Return the Play API's application."""
    api = PlayApi(context)
    app = application(context)
    app.router.add_post("/play", api.play)
    app.router.add_post("/activity", report_handler(api.activity, api.streams.reported))
    api.activity.install(app)
    return app
