"""What players report of a play: that it stalled, and that it stopped after so many seconds.

    POST /activity   behind a passport   {"session", "number", "kind": "chunk_stalled" | "stopped", "title",
                                          "watched_s" (of a stop), "reason" (optional)}
                     202: taken note of; 400: what is wrong

A report is answered at once and sent behind the answer, so 202 promises no more than `activity_emitter` does. A player
numbers the reports of a session from 1 and may send one again, to any instance: session and number are the event's id,
so it is counted once. Who reports is in the passport; plays, searches and sign-ups are for the services to emit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from targets.playback.activity import TEXT_MAX, WATCHED_S_MAX, Kind, play_event_id
from targets.playback.activity_emitter import Activity
from targets.playback.passport import HEADER, NoPassport, Passport
from targets.playback.seed_data import title_index
from targets.playback.service import json_response
from targets.playback.validation import Subscriber

REPORTS_MAX = 10_000
"""How many reports a session may make."""

_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
_FIELDS = frozenset({"session", "number", "kind", "title", "watched_s", "reason"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of a player."""

    event_id: str
    session: str
    kind: Kind
    title: str
    watched_s: float | None
    reason: str | None

    @classmethod
    def from_body(cls, body: bytes) -> Report:
        """Read a request's body. Raises ValueError, which says what is wrong and what is allowed."""
        fields = json.loads(body)
        if not isinstance(fields, dict):
            raise ValueError("a report is a JSON object")  # noqa: TRY004 - it is data
        unknown = sorted(set(fields) - _FIELDS)
        if unknown:
            raise ValueError(f"a report has no field {unknown[0][:40]!r}; it has {', '.join(sorted(_FIELDS))}")
        session, number, title = fields.get("session"), fields.get("number"), fields.get("title")
        watched_s, reason = fields.get("watched_s"), fields.get("reason")
        if not (isinstance(session, str) and _SESSION.fullmatch(session)):
            raise ValueError("session is the one in the answer to the play: 1 to 64 letters, digits or any of _-")
        if type(number) is not int or not 1 <= number <= REPORTS_MAX:
            raise ValueError(f"number counts the reports of a session, from 1 to {REPORTS_MAX}")
        kind = next((one for one in (Kind.CHUNK_STALLED, Kind.STOPPED) if one == fields.get("kind")), None)
        if kind is None:
            raise ValueError("kind is chunk_stalled or stopped")
        if not (isinstance(title, str) and title_index(title) is not None):
            raise ValueError("title is the name of one, such as title-0001")
        if kind is Kind.STOPPED:
            number_given = isinstance(watched_s, int | float) and not isinstance(watched_s, bool)
            if watched_s is None or not number_given or not 0 <= watched_s <= WATCHED_S_MAX:
                raise ValueError(f"watched_s, of a stop, is from 0 to {WATCHED_S_MAX:.0f} seconds")
        elif watched_s is not None:
            raise ValueError("watched_s belongs to a stop")
        if reason is not None and not (isinstance(reason, str) and len(reason) <= TEXT_MAX and reason.isprintable()):
            raise ValueError(f"reason has at most {TEXT_MAX} printable characters")
        return cls(
            event_id=play_event_id(session, number),
            session=session,
            kind=kind,
            title=title,
            watched_s=watched_s,
            reason=reason,
        )


def report_handler(
    activity: Activity, reported: Callable[[Subscriber, str, Kind], None] = lambda *_: None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of ``POST /activity``, for whatever service players reach.

    ``reported`` is told whose session was reported of, and what.
    """

    async def report(request: web.Request) -> web.Response:
        try:
            subscriber = Passport.from_header(request.headers.get(HEADER)).subscriber
            told = Report.from_body(await request.read())
        except (NoPassport, ValueError, RecursionError) as error:
            return json_response({"error": str(error)}, status=400)
        activity.emit(
            told.kind,
            subscriber,
            title=told.title,
            watched_s=told.watched_s,
            reason=told.reason,
            event_id=told.event_id,
        )
        reported(subscriber, told.session, told.kind)
        return json_response({"accepted": True}, status=202)

    return report
