"""Who may use the admin endpoints of the load balancer and the gateways: those who run the system, and know the token.

A request needs ``Authorization: Bearer`` and the setting ``admin_token``, and must have come straight to the process,
which listens on loopback. For whoever came by way of the network in front, which says so in X-Forwarded-For, there is
no such path; nor is there one when no token is set.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web

from targets.playback.service import Context, json_response

TOKEN_LENGTH_MIN = 16

Handler = Callable[[web.Request], Awaitable[web.Response]]


class AdminGate:
    """Lets in who knows the token. Raises ValueError for a token that is too short; without one nobody comes in."""

    def __init__(self, token: str) -> None:
        if token and len(token) < TOKEN_LENGTH_MIN:
            raise ValueError(
                f"settings.admin_token has {len(token)} characters; at least {TOKEN_LENGTH_MIN} are needed"
            )
        self._token = token.encode()

    @classmethod
    def of(cls, context: Context) -> AdminGate:
        """Return the gate with the token in a process's settings."""
        return cls(str(context.config.settings.get("admin_token", "")))

    def guard(self, handler: Handler) -> Handler:
        """Return ``handler`` behind the gate: 404 for whom it does not exist, 401 for a wrong token."""

        async def guarded(request: web.Request) -> web.Response:
            if not self._token or "X-Forwarded-For" in request.headers:
                return await nowhere(request)
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                return json_response({"error": "the admin token is missing or wrong"}, status=401)
            return await handler(request)

        return guarded


async def nowhere(request: web.Request) -> web.Response:
    """Answer for a path that leads nowhere."""
    return json_response({"error": f"no route for {request.path[:80]}"}, status=404)
