"""The routing table of the API gateway: which service answers which path, and who is sent to a canary. Pure.

A table is JSON, and replaced as a whole while the gateway runs::

    {"routes": [
      {"path": "/play", "methods": ["POST"], "service": "play_api", "priority": "critical", "repeatable": true,
       "canary": {"instances": ["play_api-2"], "percent": 5, "accounts": ["subscriber-00042"], "header": "X-Canary"}},
      {"path": "/account/*", "methods": ["GET", "POST"], "service": "signup_api", "timeout_s": 0.8},
      {"path": "/login", "methods": ["POST"], "service": "signup_api", "open": true}
    ]}

``/account/*`` is every path that begins with ``/account/``; an exact path goes before these, and a longer beginning
before a shorter. ``open`` needs no token. ``repeatable`` says that a request may be made twice. ``timeout_s`` is how
long the service has, all tries together; ``static`` is the body given when it fails. The canary gets whoever has its
header (`CANARY_HEADER` is the only one that the load balancer lets pass), is one of its accounts, or falls into its
share of the accounts: always the same ones, so that nobody wanders between old and new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from chaos.resilience.shedding import Priority

ROUTES_MAX = 100
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+(/\*)?")
CANARY_HEADER = "X-Canary"
"""The header by which a caller can ask for the canary, with any value."""

_ACCOUNTS_MAX = 1_000
TIMEOUT_MAX_S = 1.4
"""The longest that a service has, and what it has where a route does not say. A client waits for 1.5 s."""

_ROUTE_KEYS = {"path", "methods", "service", "priority", "open", "repeatable", "timeout_s", "static", "canary"}
_CANARY_KEYS = {"instances", "percent", "accounts", "header"}


class InvalidRoutes(ValueError):  # noqa: N818 - it names what the table is
    """The routing table is wrong; the text says where and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Who is sent to instances of their own."""

    instances: tuple[str, ...]
    percent: float = 0.0
    """Share of the accounts, 0 to 100."""
    accounts: frozenset[str] = frozenset()
    header: str | None = None
    """Whoever sends this header, with any value."""

    def takes(self, account: str | None, headers: Mapping[str, str]) -> bool:
        """Whether this caller goes to the canary."""
        if self.header is not None and self.header in headers:
            return True
        if account is None:
            return False
        # Accounts are spread by their names, not by chance: everybody stays on the same side from play to play.
        return account in self.accounts or crc32(account.encode()) % 10_000 < self.percent * 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where requests to a path go."""

    path: str
    """An exact path, or one that ends in ``/*``."""
    methods: tuple[str, ...]
    service: str
    priority: Priority = Priority.NORMAL
    open: bool = False
    repeatable: bool = False
    timeout_s: float = TIMEOUT_MAX_S
    static: bytes | None = field(default=None, repr=False)
    canary: Canary | None = None

    @property
    def beginning(self) -> str | None:
        """What a path must begin with; None for an exact path."""
        return self.path[:-1] if self.path.endswith("/*") else None

    def to_json(self) -> dict[str, object]:
        """Return its form in a table; what is as usual is left out."""
        shown: dict[str, object] = {"path": self.path, "methods": list(self.methods), "service": self.service}
        if self.priority is not Priority.NORMAL:
            shown["priority"] = self.priority.to_header()
        if self.open:
            shown["open"] = True
        if self.repeatable:
            shown["repeatable"] = True
        if self.timeout_s != TIMEOUT_MAX_S:
            shown["timeout_s"] = self.timeout_s
        if self.static is not None:
            shown["static"] = json.loads(self.static)
        if (canary := self.canary) is not None:
            given: dict[str, object] = {"instances": list(canary.instances)}
            if canary.percent:
                given["percent"] = canary.percent
            if canary.accounts:
                given["accounts"] = sorted(canary.accounts)
            if canary.header is not None:
                given["header"] = canary.header
            shown["canary"] = given
        return shown


class RouteTable:
    """Routes that are looked up by path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._exact = {route.path: route for route in routes if route.beginning is None}
        beginnings = [(route.beginning, route) for route in routes if route.beginning is not None]
        self._beginnings = sorted(beginnings, key=lambda entry: -len(entry[0]))

    def find(self, path: str) -> Route | None:
        """Return the route of a path; None when there is none."""
        if (exact := self._exact.get(path)) is not None:
            return exact
        return next((route for beginning, route in self._beginnings if path.startswith(beginning)), None)

    def to_json(self) -> list[dict[str, object]]:
        """Return the table's form in JSON."""
        return [route.to_json() for route in self.routes]

    @classmethod
    def from_json(cls, data: object, instances: Mapping[str, Sequence[str]]) -> RouteTable:
        """Read a table. ``instances`` are those of each service that can be called. Raises InvalidRoutes."""
        match data:
            case {"routes": [*routes], **more} if not more:
                pass
            case _:
                raise InvalidRoutes('a routing table is {"routes": [...]} and nothing else')
        if not 1 <= len(routes) <= ROUTES_MAX:
            raise InvalidRoutes(f"a routing table has from 1 to {ROUTES_MAX} routes; here are {len(routes)}")
        read = [_route(f"routes[{number}]", route, instances) for number, route in enumerate(routes)]
        paths = [route.path for route in read]
        for number, path in enumerate(paths):
            if path in paths[:number]:
                raise InvalidRoutes(f"routes[{number}].path: {path!r} has a route already")
        return cls(read)


def _route(where: str, data: object, instances: Mapping[str, Sequence[str]]) -> Route:
    given = _table(where, data, _ROUTE_KEYS)
    path = _text(f"{where}.path", given.get("path"))
    if not _PATH.fullmatch(path):
        raise InvalidRoutes(f"{where}.path: {path[:80]!r} is no path like '/play' or '/account/*'")
    methods = _texts(f"{where}.methods", given.get("methods"))
    if not methods or not set(methods) <= set(METHODS):
        raise InvalidRoutes(f"{where}.methods: {list(methods)} are not some of {', '.join(METHODS)}")
    service = _text(f"{where}.service", given.get("service"))
    if service not in instances:
        raise InvalidRoutes(f"{where}.service: {service!r} is not called from here; there are {_listed(instances)}")
    priority = _text(f"{where}.priority", given.get("priority", "normal"))
    if priority.upper() not in Priority.__members__:
        raise InvalidRoutes(
            f"{where}.priority: {priority[:40]!r} is none of {_listed(one.to_header() for one in Priority)}"
        )
    for flag in ("open", "repeatable"):
        if not isinstance(given.get(flag, False), bool):
            raise InvalidRoutes(f"{where}.{flag}: it is true or false")
    timeout_s = given.get("timeout_s", TIMEOUT_MAX_S)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise InvalidRoutes(f"{where}.timeout_s: {timeout_s!r} is no number over 0 and at most {TIMEOUT_MAX_S}")
    canary = given.get("canary")
    return Route(
        path=path,
        methods=methods,
        service=service,
        priority=Priority.from_header(priority),
        open=bool(given.get("open", False)),
        repeatable=bool(given.get("repeatable", False)),
        timeout_s=float(timeout_s),
        static=json.dumps(given["static"], separators=(",", ":")).encode() if "static" in given else None,
        canary=None if canary is None else _canary(f"{where}.canary", canary, instances[service]),
    )


def _canary(where: str, data: object, instances: Sequence[str]) -> Canary:
    given = _table(where, data, _CANARY_KEYS)
    chosen = _texts(f"{where}.instances", given.get("instances"))
    if not chosen or not set(chosen) <= set(instances):
        raise InvalidRoutes(f"{where}.instances: {list(chosen)} are not some of {_listed(instances)}")
    percent = given.get("percent", 0)
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise InvalidRoutes(f"{where}.percent: {percent!r} is no number from 0 to 100")
    accounts = _texts(f"{where}.accounts", given.get("accounts", []))
    if len(accounts) > _ACCOUNTS_MAX:
        raise InvalidRoutes(f"{where}.accounts: at most {_ACCOUNTS_MAX} accounts")
    header = given.get("header")
    if header is not None and header != CANARY_HEADER:
        raise InvalidRoutes(
            f"{where}.header: {header!r} does not reach a gateway; the load balancer lets {CANARY_HEADER!r} pass"
        )
    return Canary(
        instances=tuple(sorted(set(chosen))),
        percent=float(percent),
        accounts=frozenset(accounts),
        header=None if header is None else str(header),
    )


def _table(where: str, data: object, keys: set[str]) -> Mapping[str, object]:
    if not isinstance(data, dict):
        raise InvalidRoutes(f"{where}: an object with {_listed(sorted(keys))} is needed")
    if unknown := sorted(set(map(str, data)) - keys):
        raise InvalidRoutes(f"{where}.{unknown[0][:40]}: there is no such key; there are {_listed(sorted(keys))}")
    return data


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRoutes(f"{where}: a text is needed")
    return value


def _texts(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidRoutes(f"{where}: a list of texts is needed")
    return tuple(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
