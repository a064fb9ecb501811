"""The filters that every gateway has, and the kinds that can be added to one while it runs.

Always there: sizes, route, token, rate limits, in this order, before the service is asked; what it answers is counted;
a route's static answer stands in for a service that fails. Added at run time, by a JSON object of their settings
(`KINDS`): ``deny`` refuses some of a path's requests (a maintenance page, a feature that is withdrawn, an abuser), and
``header`` puts a header on the answers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar
from zlib import crc32

from yarl import URL

from targets.playback import tokens
from targets.playback.gateway_filters import Answer, Exchange, Filter, Stage
from targets.playback.gateway_keys import GatewayKeys
from targets.playback.gateway_routes import RouteTable
from targets.playback.gateway_traffic import Traffic
from targets.playback.rate_limit import RateLimiter

PATH_MAX = 2_048
HEADERS_MAX = 64
BODY_MAX = 64 * 1024
_BEARER = "Bearer "
_DENIED = "this is switched off for now"
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_HEADER_VALUE = re.compile(r"[ -~]{0,200}")


def refusal(status: int, reason: str, **headers: str) -> Answer:
    """Return an answer that refuses. Underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=json.dumps({"error": reason}).encode(), headers=named)


class Sizes:
    """Refuses what is too large, before anything of it is looked at."""

    name, stage, order = "sizes", Stage.PRE, 10

    async def apply(self, exchange: Exchange) -> None:
        """Refuse with 414, 431 or 413."""
        length = exchange.headers.get("Content-Length", "0")
        if len(exchange.path) + len(exchange.query) > PATH_MAX:
            exchange.answer = refusal(414, f"a path has at most {PATH_MAX} characters")
        elif len(exchange.headers) > HEADERS_MAX:
            exchange.answer = refusal(431, f"a request has at most {HEADERS_MAX} headers")
        elif length.isdigit() and int(length) > BODY_MAX:
            exchange.answer = refusal(413, f"a body has at most {BODY_MAX} bytes")


class FindRoute:
    """Finds the route; 404 for a path that has none, 405 for another method."""

    name, stage, order = "find_route", Stage.PRE, 20

    def __init__(self, table: Callable[[], RouteTable]) -> None:
        self._table = table

    async def apply(self, exchange: Exchange) -> None:
        """Set ``exchange.route``, or refuse."""
        route = self._table().find(exchange.path)
        if route is None:
            exchange.answer = refusal(404, f"no route for {exchange.path[:80]}")
        elif exchange.method not in route.methods:
            allowed = ", ".join(route.methods)
            exchange.answer = refusal(405, f"use {allowed}", Allow=allowed)
        else:
            exchange.route = route


class RateLimits:
    """Refuses with 429 what one account or one address asks too often.

    The address comes before the token is looked at, for a wrong one costs the same work as a right one; the account
    after it. Each gateway counts for itself.
    """

    stage = Stage.PRE

    def __init__(
        self, name: str, order: int, limiter: RateLimiter, key: Callable[[Exchange], str | None], what: str
    ) -> None:
        self.name = name
        self.order = order
        self._limiter = limiter
        self._key = key
        self._what = what

    async def apply(self, exchange: Exchange) -> None:
        """Refuse, with the time to come back in whole seconds."""
        key = self._key(exchange)
        if key is None:
            return
        wait_s = self._limiter.wait_s(exchange.begun_s, key)
        if wait_s > 0:
            exchange.answer = refusal(
                429, f"too many requests of this {self._what}", Retry_After=f"{math.ceil(wait_s)}"
            )


class Authentication:
    """Verifies the token, and so finds out who asks; 401 where a route needs one and there is none that is valid."""

    name, stage, order = "authentication", Stage.PRE, 40

    def __init__(self, keys: GatewayKeys) -> None:
        self._keys = keys

    async def apply(self, exchange: Exchange) -> None:
        """Set ``exchange.subscriber``, or refuse."""
        if exchange.route is not None and exchange.route.open:
            return
        try:
            exchange.subscriber = self._keys.verify(_token(exchange), exchange.begun_s)
        except tokens.InvalidToken as error:
            exchange.answer = refusal(401, f"not a valid token: {error}", WWW_Authenticate="Bearer")


def _token(exchange: Exchange) -> str:
    value = exchange.headers.get("Authorization", "")
    if not value.startswith(_BEARER):
        raise tokens.InvalidToken("the header Authorization: Bearer <token> is missing")
    return value[len(_BEARER) :]


class StaticAnswer:
    """Answers for a service that failed, with what the route has for that case."""

    name, stage, order = "static_answer", Stage.ERROR, 50

    async def apply(self, exchange: Exchange) -> None:
        """Answer, where the route has a static body."""
        if exchange.route is not None and exchange.route.static is not None:
            exchange.answer = Answer(status=200, body=exchange.route.static, headers={"Warning": '110 - "static"'})


class CountTraffic:
    """Counts what passed."""

    name, stage, order = "traffic", Stage.POST, 90

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    async def apply(self, exchange: Exchange) -> None:
        """Count it under its route; under ``(none)`` what had no route."""
        self._traffic.record(
            exchange.ended_s,
            "(none)" if exchange.route is None else exchange.route.path,
            None if exchange.answer is None else exchange.answer.status,
            exchange.ended_s - exchange.begun_s,
        )


# What can be added while the gateway runs.


class InvalidFilter(ValueError):  # noqa: N818 - it names what the settings are
    """The settings of a filter are wrong; the text says which, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """Refuses a share of the accounts' requests to a path (or one that ends in ``*``); those without an account too."""

    name: str
    order: int
    path: str
    status: int = 503
    reason: str = _DENIED
    percent: float = 100.0
    stage: ClassVar[Stage] = Stage.PRE

    async def apply(self, exchange: Exchange) -> None:
        """Refuse, if it is meant."""
        meant = exchange.path.startswith(self.path[:-1]) if self.path.endswith("*") else exchange.path == self.path
        if not meant:
            return
        account = "" if exchange.subscriber is None else exchange.subscriber.id
        if crc32(account.encode()) % 10_000 < self.percent * 100:
            again = {"Retry_After": "30"} if self.status in {429, 503} else {}
            exchange.answer = refusal(self.status, self.reason, **again)

    @classmethod
    def from_json(cls, name: str, order: int, settings: Mapping[str, object]) -> Deny:
        """Read its settings. Raises InvalidFilter."""
        match settings.get("path"):
            case str(given) if given.startswith("/") and len(given) <= PATH_MAX:
                path = URL(f"http://any{given}").raw_path  # as the path of an exchange is written
            case other:
                raise InvalidFilter(f"settings.path: {other!r} is no path like '/home' or '/account/*'")
        status, percent = settings.get("status", 503), settings.get("percent", 100)
        reason = settings.get("reason", _DENIED)
        if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
            raise InvalidFilter(f"settings.status: {status!r} is no status from 400 to 599")
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
            raise InvalidFilter(f"settings.percent: {percent!r} is no number from 0 to 100")
        if not isinstance(reason, str) or len(reason) > 200:
            raise InvalidFilter("settings.reason: a text of at most 200 characters is needed")
        return cls(name=name, order=order, path=path, status=status, reason=reason, percent=float(percent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Puts a header on every answer."""

    name: str
    order: int
    header: str
    value: str
    stage: ClassVar[Stage] = Stage.POST

    async def apply(self, exchange: Exchange) -> None:
        """Put it on, where there is an answer."""
        if (answer := exchange.answer) is not None:
            headers = {**answer.headers, self.header: self.value}
            exchange.answer = Answer(status=answer.status, body=answer.body, headers=headers)

    @classmethod
    def from_json(cls, name: str, order: int, settings: Mapping[str, object]) -> Header:
        """Read its settings. Raises InvalidFilter."""
        header, value = settings.get("header"), settings.get("value")
        if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header) or header.lower() in _NOT_TO_BE_SET:
            raise InvalidFilter(f"settings.header: {header!r} is no header that can be set, like 'X-Edge'")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidFilter("settings.value: at most 200 printable characters are needed")
        return cls(name=name, order=order, header=header, value=value)


_NOT_TO_BE_SET = frozenset({"content-length", "transfer-encoding", "connection", "content-type", "content-encoding"})

KINDS: Mapping[str, tuple[Callable[[str, int, Mapping[str, object]], Filter], frozenset[str]]] = {
    "deny": (Deny.from_json, frozenset({"path", "status", "reason", "percent"})),
    "header": (Header.from_json, frozenset({"header", "value"})),
}
"""The kinds of filters that can be added while a gateway runs: how each is read, and its settings."""


def filter_from_json(name: str, data: object) -> Filter:
    """Read ``{"kind": ..., "order": ..., "settings": {...}}``. Raises InvalidFilter."""
    match data:
        case {"kind": str(kind), "order": int(order), "settings": dict(settings), **more} if not more:
            pass
        case _:
            raise InvalidFilter('a filter is {"kind": "deny", "order": 50, "settings": {...}}')
    if kind not in KINDS:
        raise InvalidFilter(f"kind: {kind[:40]!r} is none of {', '.join(sorted(KINDS))}")
    if not 0 <= order <= 100:
        raise InvalidFilter(f"order: {order} is not from 0 to 100")
    read, keys = KINDS[kind]
    if unknown := sorted(set(map(str, settings)) - keys):
        raise InvalidFilter(
            f"settings.{unknown[0][:40]}: there is no such setting; there are {', '.join(sorted(keys))}"
        )
    return read(name, order, settings)
