"""Licences: from which date until which a title may be shown in a country.

A window is written as an interval of ISO 8601-2: ``2026-01-01/2026-03-01`` is licensed from the first date on, and on
the second one no more; ``..`` stands for an open end. A country without any window was never licensed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

WINDOWS_MAX: Final = 20
"""Windows that a title may have in one country."""

_OPEN = ".."


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Dates of a licence: from ``begin`` on, until before ``end``; None is an open end.

    Raises ValueError for a window in which there is no day.
    """

    begin: dt.date | None = None
    end: dt.date | None = None

    def __post_init__(self) -> None:
        if self.begin is not None and self.end is not None and self.begin >= self.end:
            raise ValueError(f"licence window {self}: it must begin before it ends")

    def __str__(self) -> str:
        return f"{_OPEN if self.begin is None else self.begin}/{_OPEN if self.end is None else self.end}"

    def holds(self, date: dt.date) -> bool:
        """Return whether ``date`` lies in this window."""
        return (self.begin is None or self.begin <= date) and (self.end is None or date < self.end)

    @staticmethod
    def parse(text: str) -> Window:
        """Read what ``str`` wrote. Raises ValueError for anything else."""
        return _parse(text)


ALWAYS: Final = Window()

Licences = Mapping[str, tuple[Window, ...]]
"""By country; windows may overlap."""


def window_on(windows: Sequence[Window], date: dt.date) -> Window | None:
    """Return the window that holds ``date``, the one that ends last where there are several, or None."""
    holding = [window for window in windows if window.holds(date)]
    return max(holding, key=lambda window: window.end or dt.date.max, default=None)


def licences_to_json(licences: Licences) -> dict[str, list[str]]:
    """Return the form that travels between services and lies in the cache."""
    return {country: [str(window) for window in windows] for country, windows in licences.items()}


def licences_from_json(data: object) -> Licences:
    """Read what ``licences_to_json`` wrote. Raises ValueError for anything else."""
    if not isinstance(data, dict):
        raise ValueError(f"not licences by country: {data!r:.80}")  # noqa: TRY004 - it is data
    return {str(country): _windows(windows) for country, windows in data.items()}


def _windows(data: object) -> tuple[Window, ...]:
    match data:
        case [*windows] if 1 <= len(windows) <= WINDOWS_MAX:
            return tuple(Window.parse(str(window)) for window in windows)
        case _:
            raise ValueError(f"not 1 to {WINDOWS_MAX} licence windows: {data!r:.80}")


@lru_cache(maxsize=4_096)
def _parse(text: str) -> Window:
    begin, slash, end = text.partition("/")
    try:
        if not slash:
            raise ValueError("there is no slash")  # noqa: TRY301 - told like any other mistake in it
        return Window(begin=_date(begin), end=_date(end))
    except ValueError as error:
        raise ValueError(f"licence window {text[:40]!r}, such as 2026-01-01/..: {error}") from error


def _date(text: str) -> dt.date | None:
    return None if text == _OPEN else dt.date.fromisoformat(text)
