"""What a subscriber is shown and what they find: the rows of a home page, and the search for titles. Pure.

Only what they may play is shown (see `validation`), whatever the row came from.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from targets.playback.coviewing import Recommendation
from targets.playback.seed_data import SeedData
from targets.playback.validation import Subscriber, Title, refusal

SHOWN_MAX = 20
FOUND_MAX = 20
QUERY_MAX = 64


class RowKind(StrEnum):
    """Where a row is from."""

    PERSONAL = "personal"
    POPULAR = "popular"
    STATIC = "static"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a home page: a heading, and the titles from left to right."""

    title: str
    kind: RowKind
    titles: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the form that clients know."""
        return {"title": self.title, "kind": self.kind, "titles": self.titles}


class Catalogue:
    """The titles there are, as far as a subscriber may play them; ``today`` tells the date."""

    def __init__(self, data: SeedData, today: Callable[[], dt.date]) -> None:
        self._today = today
        self._titles = {title.id: title for title in data.titles}
        self._countries = {country: position for position, country in enumerate(data.countries)}

    def has_country(self, country: str) -> bool:
        """Return whether any title can be licensed there."""
        return country in self._countries

    def personal(self, subscriber: Subscriber, recommendation: Recommendation | None) -> Row | None:
        """Return the row of a recommendation, or None when nothing of it may be played."""
        if recommendation is None:
            return None
        heading = f"Because you watched {recommendation.because}"
        return self._row(subscriber, heading, RowKind.PERSONAL, recommendation.titles)

    def popular(self, subscriber: Subscriber, titles: Sequence[str]) -> Row | None:
        """Return the row of a country's popular titles, or None when nothing of it may be played."""
        return self._row(subscriber, f"Popular in {subscriber.country}", RowKind.POPULAR, titles)

    def static(self, subscriber: Subscriber) -> Row:
        """Return a row that needs no data but the catalogue: a stretch of it, another one in each country."""
        titles = list(self._titles)
        begin = self._countries.get(subscriber.country, 0) * SHOWN_MAX % len(titles)
        shown = self._playable(subscriber, (*titles[begin:], *titles[:begin]), SHOWN_MAX)
        return Row(title="Explore", kind=RowKind.STATIC, titles=shown)

    def search(self, subscriber: Subscriber, query: str) -> tuple[str, ...]:
        """Return the titles whose name begins with ``query``, then those that have it further on."""
        wanted = query.casefold()
        begins = [title for title in self._titles if title.startswith(wanted)]
        contains = [title for title in self._titles if wanted in title and not title.startswith(wanted)]
        return self._playable(subscriber, (*begins, *contains), FOUND_MAX)

    def _row(self, subscriber: Subscriber, heading: str, kind: RowKind, titles: Sequence[str]) -> Row | None:
        shown = self._playable(subscriber, titles, SHOWN_MAX)
        return Row(title=heading, kind=kind, titles=shown) if shown else None

    def _playable(self, subscriber: Subscriber, names: Iterable[str], most: int) -> tuple[str, ...]:
        shown: list[str] = []
        today = self._today()
        for name in names:
            title: Title | None = self._titles.get(name)
            if title is not None and refusal(subscriber, title, today) is None:
                shown.append(name)
                if len(shown) == most:
                    break
        return tuple(shown)


def query_of(text: str | None) -> str:
    """Return a search's text. Raises ValueError when it is missing, too long or not printable."""
    query = (text or "").strip()
    if not query:
        raise ValueError("the parameter q is missing: /search?q=title-00")
    if len(query) > QUERY_MAX or not query.isprintable():
        raise ValueError(f"q is {query[:QUERY_MAX]!r}: 1 to {QUERY_MAX} printable characters are allowed")
    return query
