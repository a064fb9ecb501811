"""What a player reports of its session (``POST /activity``): that it stalled, and that it stopped.

Nothing depends on a report: each is sent once, beside the picture, and forgotten. A session makes few of them, so that
a service in trouble is not given more to do by all who suffer from it.
"""

from __future__ import annotations

import json

from targets.playback.client_order import PlayOrder
from targets.playback.client_protocol import HttpRequest, RequestKind, Ticket

STALLS_REPORTED_MAX = 4
"""Of one session; the stop is reported in any case."""

TIMEOUT_S = 1.0


class PlayReports:
    """Makes the reports of one session; they are numbered from 1."""

    def __init__(self, order: PlayOrder, ticket: Ticket) -> None:
        self._order = order
        self._ticket = ticket
        self._number = 0

    def stalled(self, token: str) -> HttpRequest | None:
        """Return the report of a chunk that came too late; None when enough of them have been reported."""
        if self._number >= STALLS_REPORTED_MAX:
            return None
        return self._report(token, kind="chunk_stalled")

    def stopped(self, token: str, *, watched_s: float, reason: str) -> HttpRequest:
        """Return the report that the session is over, after ``watched_s`` seconds of video."""
        return self._report(token, kind="stopped", watched_s=round(watched_s, 3), reason=reason)

    def _report(self, token: str, **fields: str | float) -> HttpRequest:
        self._number += 1
        body = {"session": self._ticket.session, "number": self._number, "title": self._ticket.title, **fields}
        return HttpRequest(
            kind=RequestKind.ACTIVITY,
            address=self._order.elb,
            method="POST",
            path="/activity",
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "X-Forwarded-For": self._order.client_ip,
                "X-Chaos-Deadline-Ms": str(round(TIMEOUT_S * 1000)),
            },
            body=json.dumps(body).encode(),
            timeout_s=TIMEOUT_S,
            fresh=True,
        )
