"""What is known of the OCAs, as it travels: an OCA's report, and the map that cache control makes of all reports.

Titles held are a bitmap (see `seed_data.title_index`), hexadecimal on the wire: 500 titles are 125 characters. A map
names each bitmap by its tag alone (see `map_exchange`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

ANY_NETWORK = "*"
"""In ``routes``: every network that is not named."""

OCAS_MAX = 1_000
"""The longest map that is accepted."""

_TAG_BYTES = 8


@lru_cache(maxsize=2 * OCAS_MAX)
def title_tag(titles: int) -> str:
    """Return the name of a set of titles, which is made from its content: 16 hexadecimal digits."""
    return blake2b(titles.to_bytes((titles.bit_length() + 7) // 8), digest_size=_TAG_BYTES).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OcaState:
    """One OCA, as cache control shows it."""

    id: str
    url: str
    """Where clients reach it."""
    isp: str
    """The network it stands in, or ``ixp``."""
    load: float
    """Share of its capacity in use, in tenths: a map that changed with every chunk would have to be sent every time."""
    accepting: bool
    """False when it refuses new requests."""
    routes: Mapping[str, int]
    """Routability: for each network it can reach, the number of networks on the way; ``*`` stands for all others."""
    titles: int
    """Bitmap of the titles it holds."""

    def hops(self, isp: str | None) -> int | None:
        """Return the number of networks on the way to a client of ``isp`` (None: unknown), or None without a route."""
        if isp is not None and isp in self.routes:
            return self.routes[isp]
        return self.routes.get(ANY_NETWORK)

    def holds(self, title: int) -> bool:
        """Return whether it holds the title at this position."""
        return bool(self.titles >> title & 1)

    def to_json(self) -> dict[str, object]:
        """Return the form that travels between services, with the tag of its titles."""
        return {
            "id": self.id,
            "url": self.url,
            "isp": self.isp,
            "load": self.load,
            "accepting": self.accepting,
            "routes": dict(self.routes),
            "titles": title_tag(self.titles),
        }

    @classmethod
    def from_json(cls, data: object, sets: Mapping[str, int]) -> OcaState:
        """Read what ``to_json`` wrote, with the ``sets`` of titles by tag. Raises ValueError for anything else."""
        match data:
            case {
                "id": str(oca),
                "url": str(url),
                "isp": str(isp),
                "load": int() | float() as load,
                "accepting": bool(accepting),
                "routes": dict(routes),
                "titles": str(tag),
            } if tag in sets:
                return cls(
                    id=oca,
                    url=url,
                    isp=isp,
                    load=float(load),
                    accepting=accepting,
                    routes=_routes(routes),
                    titles=sets[tag],
                )
            case _:
                raise ValueError(f"not an OCA: {data!r}")

    def to_client(self) -> dict[str, str]:
        """Return what the client is told."""
        return {"id": self.id, "url": self.url, "isp": self.isp}


@dataclass(frozen=True, slots=True, kw_only=True)
class OcaReport:
    """What one OCA tells cache control every second."""

    id: str
    incarnation: int
    """Grows with every start of the OCA: a restarted one counts from 1 again, and is no old news."""
    sequence: int
    url: str
    isp: str
    load: float
    accepting: bool
    routes: Mapping[str, int]
    titles_version: int
    """Grows when the titles held change."""
    titles: int | None
    """The bitmap; None when the sender takes it that the receiver has this version."""

    def to_json(self, *, with_titles: bool = True) -> dict[str, object]:
        """Return the body of ``POST /reports``."""
        body: dict[str, object] = {
            "id": self.id,
            "incarnation": self.incarnation,
            "sequence": self.sequence,
            "url": self.url,
            "isp": self.isp,
            "load": self.load,
            "accepting": self.accepting,
            "routes": dict(self.routes),
            "titles_version": self.titles_version,
        }
        if with_titles and self.titles is not None:
            body["titles"] = f"{self.titles:x}"
        return body

    @classmethod
    def from_json(cls, data: object) -> OcaReport:
        """Read what ``to_json`` wrote. Raises ValueError for anything else."""
        match data:
            case {
                "id": str(oca),
                "incarnation": int(incarnation),
                "sequence": int(sequence),
                "url": str(url),
                "isp": str(isp),
                "load": int() | float() as load,
                "accepting": bool(accepting),
                "routes": dict(routes),
                "titles_version": int(titles_version),
                **rest,
            }:
                titles = rest.get("titles")
                if titles is not None and not isinstance(titles, str):
                    raise ValueError(f"not a bitmap of titles: {titles!r}")
                return cls(
                    id=oca,
                    incarnation=incarnation,
                    sequence=sequence,
                    url=url,
                    isp=isp,
                    load=float(load),
                    accepting=accepting,
                    routes=_routes(routes),
                    titles_version=titles_version,
                    titles=None if titles is None else int(titles, 16),
                )
            case _:
                raise ValueError(f"not an OCA report: {data!r}")


def map_to_json(ocas: Sequence[OcaState]) -> list[dict[str, object]]:
    """Return the map as it travels."""
    return [oca.to_json() for oca in ocas]


def tags_of(data: object) -> frozenset[str]:
    """Return the tags of the sets of titles that a map names. Raises ValueError for a map of more than OCAS_MAX."""
    if not isinstance(data, list) or len(data) > OCAS_MAX:
        raise ValueError("not a map of OCAs")
    return frozenset(one["titles"] for one in data if isinstance(one, dict) and isinstance(one.get("titles"), str))


def map_from_json(data: object, sets: Mapping[str, int]) -> tuple[OcaState, ...]:
    """Read what ``map_to_json`` wrote, with the ``sets`` of titles by tag.

    Raises ValueError for anything else, for a map of more than OCAS_MAX, or when a set is missing.
    """
    if not isinstance(data, list) or len(data) > OCAS_MAX:
        raise ValueError("not a map of OCAs")
    return tuple(OcaState.from_json(one, sets) for one in data)


def _routes(data: Mapping[object, object]) -> Mapping[str, int]:
    routes = {str(network): hops for network, hops in data.items() if isinstance(hops, int) and hops >= 0}
    if len(routes) != len(data):
        raise ValueError(f"routes map networks to numbers of hops: {data!r}")
    return routes
