"""Steering's decisions: which OCAs suit a client best, and when to believe the map. Pure.

OCAs that hold the title and have a route to the client
  -> nearest first: inside the client's network (0 hops), at the exchange (1), inside another network (2)
  -> the nearly full and those that refuse after all others
  -> among equals by chance, weighted by free capacity, so that the best one is not overrun
  -> the first ten
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from targets.playback.oca_map import OcaState

OCAS_PER_PLAY = 10
"""How many OCAs a client is given, as in the studied system."""

FULL_LOAD = 0.9
"""An OCA with this share of its capacity in use is nobody's first choice."""

_WEIGHT_MIN = 0.05


def rank(
    ocas: Iterable[OcaState],
    *,
    isp: str | None,
    title: int,
    rng: random.Random,
    by_health: bool = True,
    count: int = OCAS_PER_PLAY,
) -> list[OcaState]:
    """Return at most ``count`` OCAs for a client in network ``isp`` (None: unknown), best first.

    ``title`` is the position of the title in the catalogue. With ``by_health`` off, load and refusals are ignored, and
    chance alone orders the OCAs at one distance. The weighted order is that of Efraimidis and Spirakis: the key
    u ** (1 / weight) for u uniform in (0, 1), largest first ("Weighted random sampling with a reservoir", 2006).
    """
    keyed: list[tuple[bool, int, float, OcaState]] = []
    for oca in ocas:
        hops = oca.hops(isp)
        if hops is None or not oca.holds(title):
            continue
        chance = rng.random()
        full = False
        if by_health:
            full = not oca.accepting or oca.load >= FULL_LOAD
            chance **= 1.0 / max(_WEIGHT_MIN, 1.0 - oca.load)
        keyed.append((full, hops, -chance, oca))
    keyed.sort(key=lambda entry: entry[:3])
    return [oca for _, _, _, oca in keyed[:count]]


def explain(
    ocas: Iterable[OcaState], ranked: Sequence[OcaState], *, isp: str | None, title: int, by_health: bool = True
) -> list[dict[str, object]]:
    """Say of every OCA why it is where it is in ``ranked``, or not in it: those given first, in their order.

    Each has ``id``, ``isp``, ``place`` (from 1; None: not given), ``hops``, ``load`` (0 to 1) and ``why``, in words.
    """
    places = {oca.id: place for place, oca in enumerate(ranked, start=1)}
    in_order = sorted(ocas, key=lambda oca: (places.get(oca.id, len(places) + 1), oca.id))
    return [
        {
            "id": oca.id,
            "isp": oca.isp,
            "place": places.get(oca.id),
            "hops": oca.hops(isp),
            "load": oca.load,
            "why": _why(oca, isp=isp, title=title, given=oca.id in places, by_health=by_health),
        }
        for oca in in_order
    ]


def _why(oca: OcaState, *, isp: str | None, title: int, given: bool, by_health: bool) -> str:
    hops = oca.hops(isp)
    if not oca.holds(title):
        return "left out: it does not hold the title"
    if hops is None:
        return "left out: it has no route to the client"
    where = _DISTANCES.get(hops, f"{hops} networks away")
    if not by_health:
        how = "its load is not minded"
    elif not oca.accepting:
        how = "after all others: it refuses new streams"
    elif oca.load >= FULL_LOAD:
        how = f"after all others: {oca.load:.0%} of its capacity is in use"
    else:
        how = f"{1.0 - oca.load:.0%} of its capacity is free, which is its weight in the draw"
    return f"{where}; {how}" + ("" if given else f"; {OCAS_PER_PLAY} others came before it")


_DISTANCES = {0: "in the client's network", 1: "at the exchange point", 2: "in another provider's network"}


@dataclass(frozen=True, slots=True)
class View:
    """The OCAs to rank, and whether that knowledge is an old one."""

    ocas: tuple[OcaState, ...]
    stale: bool


class MapKeeper:
    """Holds the newest map of cache control, and doubts it when it has lost most OCAs at once.

    When OCAs die, a few drop off the map. When their reports get lost, all do. So when the map names fewer than half
    of the OCAs that it named within the last ``remember_s`` seconds, the silence is taken for a fault of the
    reporting, and all those OCAs are kept, as last seen: a *stale* map. (Netflix's Eureka protects its registry in
    the same way.) When cache control does not answer at all, the last map is kept too, and called stale after
    ``fresh_s``. A stale map is given up after ``stale_max_s``. With ``keep`` off only what cache control says now
    counts.
    """

    def __init__(
        self, *, keep: bool, fresh_s: float = 3.0, remember_s: float = 15.0, stale_max_s: float = 900.0
    ) -> None:
        self._keep = keep
        self._fresh_s = fresh_s
        self._remember_s = remember_s
        self._stale_max_s = stale_max_s
        self._map: tuple[OcaState, ...] = ()
        self._believed_s = float("-inf")
        self._seen: dict[str, tuple[float, OcaState]] = {}

    def answered(self, now_s: float, ocas: Sequence[OcaState]) -> None:
        """Take in the map that cache control answered with."""
        if self._keep and self._doubtful(now_s, ocas):
            for oca in ocas:
                self._seen[oca.id] = (now_s, oca)
            self._map = tuple(state for _, (_, state) in sorted(self._seen.items()))
            return
        self._map = tuple(ocas)
        self._believed_s = now_s
        for oca in ocas:
            self._seen[oca.id] = (now_s, oca)
        self._seen = {name: seen for name, seen in self._seen.items() if now_s - seen[0] <= self._remember_s}

    def unanswered(self) -> None:
        """Take in that cache control did not answer."""
        if not self._keep:
            self._map = ()

    def view(self, now_s: float) -> View:
        """Return the OCAs to rank now."""
        age_s = now_s - self._believed_s
        if age_s > self._stale_max_s:
            return View((), stale=True)
        return View(self._map, stale=age_s > self._fresh_s)

    def _doubtful(self, now_s: float, ocas: Sequence[OcaState]) -> bool:
        return now_s - self._believed_s <= self._stale_max_s and 2 * len(ocas) < len(self._seen)
