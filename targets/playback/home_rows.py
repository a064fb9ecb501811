"""The rows that travel through the cache: a subscriber's own, and a country's popular titles, as JSON. Pure.

Readers trust nothing: what cannot be read is as good as missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from targets.playback.coviewing import Recommendation
from targets.playback.seed_data import title_index

ROW_TITLES_MAX = 40
"""Titles of a row in the cache: more than are shown, for some may not be licensed where the reader is."""

_ROW_BYTES_MAX = 16_384


def recommendation_to_bytes(recommendation: Recommendation | None) -> bytes:
    """Return a subscriber's own row as it lies in the cache; None: there is nothing to recommend (any more)."""
    if recommendation is None:
        return _compact({"because": None, "titles": []})
    return _compact({"because": recommendation.because, "titles": recommendation.titles})


def recommendation_from_bytes(data: bytes | None) -> Recommendation | None:
    """Read what ``recommendation_to_bytes`` wrote; None for anything else."""
    match _parsed(data):
        case {"because": str(because), "titles": [*titles]} if _is_title(because):
            kept = _titles(titles)
            return Recommendation(because=because, titles=kept) if kept else None
        case _:
            return None


def popular_to_bytes(titles: Sequence[str]) -> bytes:
    """Return a country's popular titles as they lie in the cache."""
    return _compact({"titles": titles})


def popular_from_bytes(data: bytes | None) -> tuple[str, ...]:
    """Read what ``popular_to_bytes`` wrote; no titles for anything else."""
    match _parsed(data):
        case {"titles": [*titles]}:
            return _titles(titles)
        case _:
            return ()


def _parsed(data: bytes | None) -> object:
    if data is None or len(data) > _ROW_BYTES_MAX:
        return None
    try:
        parsed: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return parsed


def _titles(titles: Sequence[object]) -> tuple[str, ...]:
    """Return what are names of titles, each once."""
    return tuple(dict.fromkeys(one for one in titles if isinstance(one, str) and _is_title(one)))[:ROW_TITLES_MAX]


def _is_title(name: str) -> bool:
    return title_index(name) is not None


def _compact(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
