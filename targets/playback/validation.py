"""Whether a subscriber may play a title: the plan must include it, and it must be licensed in the country today.

A refusal is an answer, not a failure. Both checks are functions of (plan, country, title, date) alone, so an answer
found for one subscriber holds for every other with the same plan in the same country until the licence's window ends;
`play_api` builds its fallback on that. Whether an account has a stream left is another matter: see `stream_leases`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from targets.playback.licences import Licences, Window, licences_from_json, licences_to_json, window_on


class Plan(StrEnum):
    """What a subscriber pays for; each plan includes the titles of the plans below it."""

    BASIC = "basic"
    STANDARD = "standard"
    PREMIUM = "premium"

    def includes(self, minimum: Plan) -> bool:
        """Return whether a title that asks for ``minimum`` is part of this plan."""
        return _RANK[self] >= _RANK[minimum]


_RANK = {plan: rank for rank, plan in enumerate(Plan)}


class Refusal(StrEnum):
    """Why a play is refused."""

    PLAN = "plan"
    LICENCE = "licence"
    """It was never licensed in this country."""

    LICENCE_WINDOW = "licence_window"
    """The country's licence is over, or has not begun."""

    STREAMS = "streams"
    """The account has as many streams as its plan allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """Who asks: their plan and the country they are in."""

    id: str
    plan: Plan
    country: str

    def to_json(self) -> dict[str, str]:
        """Return the form that travels between services and lies in the cache."""
        return {"id": self.id, "plan": self.plan, "country": self.country}

    @classmethod
    def from_json(cls, data: object) -> Subscriber:
        """Read what ``to_json`` wrote. Raises ValueError for anything else."""
        match data:
            case {"id": str(subscriber), "plan": str(plan), "country": str(country)}:
                return cls(id=subscriber, plan=Plan(plan), country=country)
            case _:
                raise ValueError(f"not a subscriber: {data!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """What is asked for: the plan it needs, and when it is licensed in which country."""

    id: str
    minimum_plan: Plan
    licences: Licences

    def window_on(self, country: str, today: dt.date) -> Window | None:
        """Return the licence by which it may be shown in ``country`` today, or None."""
        return window_on(self.licences.get(country, ()), today)

    def to_json(self) -> dict[str, object]:
        """Return the form that travels between services and lies in the cache."""
        return {"id": self.id, "minimum_plan": self.minimum_plan, "licences": licences_to_json(self.licences)}

    @classmethod
    def from_json(cls, data: object) -> Title:
        """Read what ``to_json`` wrote. Raises ValueError for anything else."""
        match data:
            case {"id": str(title), "minimum_plan": str(plan), "licences": licences}:
                return cls(id=title, minimum_plan=Plan(plan), licences=licences_from_json(licences))
            case _:
                raise ValueError(f"not a title: {data!r}")


def refusal(subscriber: Subscriber, title: Title, today: dt.date) -> Refusal | None:
    """Return why ``subscriber`` may not play ``title`` today, or None when they may."""
    if not subscriber.plan.includes(title.minimum_plan):
        return Refusal.PLAN
    if title.window_on(subscriber.country, today) is not None:
        return None
    return Refusal.LICENCE_WINDOW if subscriber.country in title.licences else Refusal.LICENCE


def titles_from_json(data: object) -> Mapping[str, Title]:
    """Read the list of titles in a licence snapshot, by id. Raises ValueError for anything else."""
    if not isinstance(data, list):
        raise ValueError(f"not a list of titles: {type(data).__name__}")  # noqa: TRY004 - it is data
    return {title.id: title for title in map(Title.from_json, data)}
