"""What a batch of activity events changes: viewings, co-viewing counts, popularity, figures. Pure.

The same events on the same viewings always have the same effects, so a batch that could not be written is simply
worked out again. Nothing here knows of duplicates: whoever calls has sorted them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from targets.playback.activity import ActivityEvent, Kind
from targets.playback.coviewing import Viewing, watch
from targets.playback.dates import Calendar
from targets.playback.validation import Plan

FUTURE_MAX_S: Final = 60.0
"""How far ahead of the pipeline's clock an event may be."""

AGE_MAX_S: Final = 7 * 86_400.0
"""How old an event may be; that it was counted is remembered for as long."""

DATES = "figures/dates"
"""The hash of all dates that have figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What is to be changed. Counts are for hashes and scores for sorted sets, each ``(key, field): increment``."""

    viewings: dict[str, Viewing] = field(default_factory=dict)
    """By subscriber: the new viewing."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    scores: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: dict[str, float] = field(default_factory=dict)
    """The rows to make anew, by their key in the cache, with the moment of the newest event they must show."""


def effects_of(events: Sequence[ActivityEvent], viewings: Mapping[str, Viewing], calendar: Calendar) -> Effects:
    """Return what ``events`` change, in this order, of subscribers with these ``viewings``; absent ones are empty."""
    effects = Effects()
    for event in events:
        date, minute = calendar.minute(event.at_s)
        effects.counts[DATES, date] += 1
        effects.counts[kinds_key(date), event.kind] += 1
        match event.kind:
            case Kind.PLAY_STARTED:
                assert event.title is not None, "ActivityEvent has checked it"
                effects.counts[starts_key(date), minute] += 1
                effects.scores[popular_key(event.country), event.title] += 1
                before = effects.viewings.get(event.subscriber, viewings.get(event.subscriber, ()))
                after, together = watch(before, event.title)
                effects.viewings[event.subscriber] = after
                for other in together:
                    effects.scores[coviewing_key(event.title), other] += 1
                    effects.scores[coviewing_key(other), event.title] += 1
                for row in (home_key(event.subscriber), popular_key(event.country)):
                    effects.rows[row] = max(event.at_s, effects.rows.get(row, 0.0))
            case Kind.STOPPED:
                assert event.watched_s is not None, "ActivityEvent has checked it"
                where = f"{event.country}/{event.title}"
                effects.counts[watched_key(date), where] += round(event.watched_s * 1000)
            case Kind.SIGNED_UP | Kind.CANCELLED:
                effects.counts[plans_key(date), plan_field(event.plan, event.kind)] += 1
            case Kind.SEARCHED | Kind.CHUNK_STALLED:
                pass
    return effects


def timely(event: ActivityEvent, now_s: float) -> str | None:
    """Return why an event cannot be of the time it says, or None."""
    if event.at_s > now_s + FUTURE_MAX_S:
        return f"event.at_s is {event.at_s - now_s:.0f} s ahead of now; at most {FUTURE_MAX_S:.0f} s are allowed"
    if event.at_s < now_s - AGE_MAX_S:
        return f"event.at_s is {now_s - event.at_s:.0f} s ago; at most {AGE_MAX_S:.0f} s are allowed"
    return None


def home_key(subscriber: str) -> str:
    """Key of a subscriber's own row in the cache."""
    return f"home/{subscriber}"


def popular_key(country: str) -> str:
    """Key of a country's popular titles, in the cache and among the counts."""
    return f"popular/{country}"


def coviewing_key(title: str) -> str:
    """Key of the titles co-viewed with a title."""
    return f"coviewing/{title}"


def kinds_key(date: str) -> str:
    """Key of a date's number of events of each kind."""
    return f"figures/{date}/kinds"


def starts_key(date: str) -> str:
    """Key of a date's stream starts by minute."""
    return f"figures/{date}/starts"


def watched_key(date: str) -> str:
    """Key of a date's milliseconds watched, by ``<country>/<title>``."""
    return f"figures/{date}/watched_ms"


def plans_key(date: str) -> str:
    """Key of a date's sign-ups and cancellations, by plan."""
    return f"figures/{date}/plans"


def plan_field(plan: Plan, kind: Kind) -> str:
    """Field of the sign-ups or cancellations of a plan."""
    return f"{plan}/{kind}"
