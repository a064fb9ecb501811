"""How the map of the OCAs travels from one service to another: what changes every second often, what is long once.

    GET /map                    {"ocas": [...]}: each names the set of titles it holds by a tag made from its content;
                                with an ETag where the map has a version, so that who has this version gets 304
    GET /title_sets?tags=t,t    {tag: bitmap}: those of these sets that are on the map now

A set of 10,000 titles is 2,500 characters, and 100 OCAs have loads that change every second. With the sets inside, such
a map is 260 KB each time; with tags it is 15 KB, and a set is fetched once for as long as it is on the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from urllib.parse import quote

from aiohttp import web

from chaos.resilience.web import ServiceClient
from targets.playback.oca_map import OcaState, map_from_json, map_to_json, tags_of, title_tag
from targets.playback.service import json_response
from targets.playback.transport import CallFailed, json_of

_TAGS_AT_ONCE = 200
"""A request line holds 8,190 bytes; so many tags are less than half of that."""

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Page:
    """The map to show, and the version it has, if it has one."""

    ocas: Sequence[OcaState]
    version: str = ""


def show_map(app: web.Application, current: Callable[[], Page]) -> None:
    """Have ``app`` show the map that ``current`` returns."""

    async def ocas(request: web.Request) -> web.Response:
        page = current()
        headers = {"ETag": f'"{page.version}"'} if page.version else {}
        if headers and request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return json_response({"ocas": map_to_json(page.ocas)}, headers=headers)

    async def title_sets(request: web.Request) -> web.Response:
        wanted = frozenset(request.query.get("tags", "").split(",", _TAGS_AT_ONCE)[:_TAGS_AT_ONCE])
        tagged = {title_tag(oca.titles): oca.titles for oca in current().ocas}
        return json_response({tag: f"{titles:x}" for tag, titles in tagged.items() if tag in wanted})

    app.router.add_get("/map", ocas)
    app.router.add_get("/title_sets", title_sets)


class MapReader:
    """Reads the map that replicas of another service show; fetches nothing twice that it has."""

    def __init__(self, http: ServiceClient) -> None:
        self._http = http
        self._maps: dict[str, tuple[str, tuple[OcaState, ...]]] = {}
        self._sets: dict[str, int] = {}

    async def fetch(self, address: str) -> tuple[OcaState, ...]:
        """Return the map of the replica at ``address``. Raises CallFailed and what the calls raise.

        A set that was on the map may be gone when it is asked for, because its OCA has reported another; then the map
        is asked for again.
        """
        version, ocas = self._maps.get(address, ("", ()))
        for tries_left in reversed(range(_TRIES)):
            reply = await self._http.get(
                f"http://{address}/map", headers={"If-None-Match": version} if version else None
            )
            if reply.status == 304:
                return ocas
            try:
                match json_of(reply):
                    case {"ocas": fields}:
                        tags = tags_of(fields)
                        sets = await self._title_sets(address, tags)
                        if tries_left and not tags <= sets.keys():
                            continue
                        ocas = map_from_json(fields, sets)
                    case _:
                        raise CallFailed("no map of OCAs in the answer")
            except ValueError as error:
                raise CallFailed(str(error)) from error
            self._maps[address] = (reply.headers.get("ETag", ""), ocas)
            self._forget()
            return ocas
        raise AssertionError("the last try returns or raises")

    async def _title_sets(self, address: str, tags: frozenset[str]) -> Mapping[str, int]:
        """Return the sets with these tags; some may be missing, when the map has changed since. Raises ValueError."""
        found = {tag: self._sets[tag] for tag in tags if tag in self._sets}
        for some in _portions(sorted(tags - found.keys())):
            reply = await self._http.get(f"http://{address}/title_sets?tags={quote(','.join(some))}")
            match json_of(reply):
                case dict(fields):
                    found.update(_checked_sets(fields))
                case _:
                    raise ValueError("no sets of titles in the answer")
        self._sets.update(found)
        return found

    def _forget(self) -> None:
        """Forget the sets that no replica's map names any more."""
        named = {title_tag(oca.titles) for _, ocas in self._maps.values() for oca in ocas}
        self._sets = {tag: titles for tag, titles in self._sets.items() if tag in named}


def _checked_sets(fields: Mapping[object, object]) -> Iterator[tuple[str, int]]:
    for tag, bitmap in fields.items():
        titles = int(str(bitmap), 16)
        if title_tag(titles) != tag:
            raise ValueError(f"the set of titles {tag!r} is not what its tag says")
        yield tag, titles


def _portions(tags: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(tags)
    while some := list(islice(rest, _TAGS_AT_ONCE)):
        yield some
