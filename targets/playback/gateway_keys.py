"""The keys that a gateway verifies tokens with, and what becomes of tokens when one of them is retired.

    DELETE /admin/keys/{id}   retires a key: it verifies what it has signed for the time of grace, and then nothing
    PUT    /admin/keys/{id}   takes that back
    GET    /admin/keys        {"keys": {id: {"retired": bool}}, "by_retired": tokens verified in the time of grace,
                               "refused": tokens refused because their key is retired,
                               "of_retired": both: whoever came with a token of a retired key}

A key that runs out must not log everybody out in the same moment: people hold tokens that it has signed. The time of
grace (the setting ``key_grace_s``) is as long as a token lives, so that whoever is logged in gets a new token in the
usual way. With the protection ``key_grace`` off there is none. What is changed lasts until the gateway is restarted.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from targets.playback import tokens
from targets.playback.admin import AdminGate
from targets.playback.service import json_response
from targets.playback.validation import Subscriber

GRACE_S = 900.0


class GatewayKeys:
    """A ring of keys, of which some may be retired. Pure: moments are arguments, in seconds."""

    def __init__(self, ring: tokens.Keyring, *, grace_s: float) -> None:
        self._ring = ring
        self._grace_s = grace_s
        self._retired_s: dict[str, float] = {}
        self._by_retired = self._refused = 0

    def verify(self, token: str, now_s: float) -> Subscriber:
        """Return whom ``token`` is for. Raises tokens.InvalidToken, also for one of a key whose grace is over."""
        claims = tokens.claims(token, self._ring, now_s=now_s)
        retired_s = self._retired_s.get(claims.key_id)
        if retired_s is not None:
            if now_s - retired_s >= self._grace_s:
                self._refused += 1
                raise tokens.InvalidToken("the key that signed it is retired: log in again")
            self._by_retired += 1
        return claims.subscriber

    def retire(self, key_id: str, now_s: float) -> None:
        """Retire a key; one that is retired already stays so since then. Raises KeyError for one that is not there."""
        if key_id not in self._ring.secrets:
            raise KeyError(key_id)
        self._retired_s.setdefault(key_id, now_s)

    def restore(self, key_id: str) -> None:
        """Take back that a key was retired. Raises KeyError for one that is not there."""
        if key_id not in self._ring.secrets:
            raise KeyError(key_id)
        self._retired_s.pop(key_id, None)

    def to_json(self) -> dict[str, object]:
        """Return what ``GET /admin/keys`` shows."""
        keys = {key_id: {"retired": key_id in self._retired_s} for key_id in self._ring.secrets}
        of_retired = self._by_retired + self._refused
        return {"keys": keys, "by_retired": self._by_retired, "refused": self._refused, "of_retired": of_retired}


class KeyAdmin:
    """The endpoint, behind ``gate``."""

    def __init__(self, gate: AdminGate, keys: GatewayKeys, now: Callable[[], float]) -> None:
        self._gate = gate
        self._keys = keys
        self._now = now

    def add_to(self, app: web.Application) -> None:
        """Add its routes."""
        app.router.add_get("/admin/keys", self._gate.guard(self._show))
        app.router.add_delete("/admin/keys/{id}", self._gate.guard(self._retire))
        app.router.add_put("/admin/keys/{id}", self._gate.guard(self._restore))

    async def _show(self, _: web.Request) -> web.Response:
        return json_response(self._keys.to_json())

    async def _retire(self, request: web.Request) -> web.Response:
        return await self._change(request, lambda key_id: self._keys.retire(key_id, self._now()))

    async def _restore(self, request: web.Request) -> web.Response:
        return await self._change(request, self._keys.restore)

    async def _change(self, request: web.Request, change: Callable[[str], None]) -> web.Response:
        key_id = request.match_info["id"]
        try:
            change(key_id)
        except KeyError:
            return json_response({"error": f"there is no key {key_id[:16]!r}"}, status=404)
        return await self._show(request)
