"""Co-viewing: what those who watched this also watched. Pure.

Two titles are co-viewed once by every subscriber who watched both within a short stretch of their viewing. The count of
a pair is all that is learned; a row for a subscriber adds up the counts of what they watched last:

    viewing of a subscriber, newest first          co-viewed with            row
    title-0007 ----------------------------------> 0003 (5), 0009 (2)  --.
    title-0001 ----------------------------------> 0009 (4), 0003 (1)  --+-> 0003, 0009  without what was watched
    title-0003                                                         --'

It is item-to-item collaborative filtering (Linden, Smith, York, "Amazon.com Recommendations", IEEE Internet Computing
2003), counted up event by event. Everything is whole numbers, so that the same plays give the same row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VIEWING_MAX = 50
"""How many titles of a subscriber are remembered: these are not recommended again."""

PAIRED_MAX = 10
"""How many of them count as watched together with the next one, and speak for a row."""

Viewing = tuple[str, ...]
"""The titles that a subscriber watched, each once, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """Titles for a subscriber, best first, and the watched title that spoke for them most."""

    because: str
    titles: tuple[str, ...]


def watch(viewing: Viewing, title: str) -> tuple[Viewing, tuple[str, ...]]:
    """Return the viewing after a play of ``title``, and the titles that are co-viewed with it once more.

    A title that is remembered moves to the front and pairs with nothing: watching on is not watching once more.
    """
    if title in viewing:
        return (title, *(one for one in viewing if one != title)), ()
    return (title, *viewing)[:VIEWING_MAX], viewing[:PAIRED_MAX]


def recommend(
    viewing: Viewing, neighbours: Mapping[str, Mapping[str, int]], *, titles_max: int
) -> Recommendation | None:
    """Return at most ``titles_max`` titles for a subscriber, or None when nothing is known that they have not watched.

    ``neighbours`` has, for a title, the counts of those co-viewed with it. What was watched last speaks loudest: a
    count is multiplied by 10 for the newest title, by 9 for the next, and so on. Equal scores go by name.
    """
    watched = frozenset(viewing)
    scores: Counter[str] = Counter()
    spoken: list[tuple[int, str]] = []
    for position, title in enumerate(viewing[:PAIRED_MAX]):
        weight = PAIRED_MAX - position
        said = 0
        for other, count in neighbours.get(title, {}).items():
            if other not in watched:
                scores[other] += weight * count
                said += weight * count
        spoken.append((said, title))
    if not scores:
        return None
    # Of equals the first counts for max: the one watched last.
    _, because = max(spoken, key=lambda one: one[0])
    return Recommendation(because=because, titles=tuple(top(scores, titles_max)))


def top(scores: Mapping[str, int], titles_max: int) -> Sequence[str]:
    """Return the ``titles_max`` titles with the highest scores, best first; equals by name."""
    return sorted(scores, key=lambda title: (-scores[title], title))[:titles_max]
