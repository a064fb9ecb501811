"""The mix: which kinds of visits come besides plays, how many for each play, and when. Pure.

    plays     --|---|--||-----|---|--->   the experiment's load.rate; the same whatever else comes
    browse    ----|------|------|----->   a schedule of its own, from a seed of its own, and so on

An experiment changes the mix in ``load: {settings: {browse_per_play: 1.0, signup_per_play: 0}}``; 0 is none at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum

from chaos.load.arrivals import Arrival, arrivals
from chaos.topology.model import Scalar

PER_PLAY_MAX = 100.0


class VisitKind(StrEnum):
    """Why somebody comes, when not for a play; also the kind of the visit's sample."""

    BROWSE = "browse"
    SEARCH = "search"
    SIGNUP = "signup"
    LOGIN = "login"

    @property
    def setting(self) -> str:
        """The name of its share in an experiment's ``load.settings``."""
        return f"{self}_per_play"


PER_PLAY: Mapping[VisitKind, float] = {
    VisitKind.BROWSE: 0.2,
    VisitKind.SEARCH: 0.1,
    VisitKind.SIGNUP: 0.02,
    VisitKind.LOGIN: 0.05,
}
"""Visits for each play, unless somebody says otherwise: a device keeps the home page for a while, people look around
more often than they look for something, and devices stay logged in. Chosen to be plausible, and so that plays are what
two cores are busy with; no service publishes such figures."""


def shares_of(settings: Mapping[str, Scalar]) -> Mapping[VisitKind, float]:
    """Return how many visits of each kind come for each play. Raises ValueError for a share that is none."""
    shares = {}
    for kind, default in PER_PLAY.items():
        share = settings.get(kind.setting, default)
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 <= float(share) <= PER_PLAY_MAX:
            raise ValueError(f"load.settings.{kind.setting} is {share!r}; it is a number from 0 to {PER_PLAY_MAX:g}")
        shares[kind] = float(share)
    return shares


def schedules(
    shares: Mapping[VisitKind, float],
    seed: int,
    plays_per_s: float,
    duration_s: float = math.inf,
    *,
    part: int = 0,
    parts: int = 1,
) -> Mapping[VisitKind, Iterator[Arrival]]:
    """Return the arrivals of each kind that comes at all; ``part`` of ``parts`` as in `chaos.load.arrivals`."""
    return {
        kind: arrivals(f"{seed}/{kind}", plays_per_s * share, duration_s, part=part, parts=parts)
        for kind, share in shares.items()
        if share > 0.0
    }
