"""What an OCA fetches and when: titles it is to hold and lacks, off-peak, the failed ones later. Pure.

listed --> lacking, not pausing --> fetched --> held
               ^                       |
               '--- a growing pause ---'  it could not be fetched, or was not what the manifest says
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from targets.playback.seed_data import title_index

FETCHED_MAX = 100
"""So many titles there is room for beside those that were delivered."""

_PAUSE_FIRST_S = 0.5
_PAUSE_MAX_S = 30.0
_FAILURES_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRules:
    """When a fill may work. ``every_s``: how often the origin is asked for its list, half more or less, by chance."""

    every_s: float = 2.0
    below_load: float = 0.5

    def __post_init__(self) -> None:
        if not self.every_s > 0:
            raise ValueError(f"settings.fill_every_s is {self.every_s}; more than 0 is needed.")
        if not 0 <= self.below_load <= 1:
            raise ValueError(f"settings.fill_below_load is {self.below_load}; it is a share from 0 to 1.")


class FillPlan:
    """The decisions of one OCA's fill. ``assigned`` are the titles it is to hold, ``delivered`` those it always had."""

    def __init__(self, rules: FillRules, *, assigned: int, delivered: int, rng: random.Random, now_s: float) -> None:
        self._rules = rules
        self._wanted = assigned & ~delivered
        self._rng = rng
        self._listed: dict[str, str] = {}
        self._pauses: dict[str, tuple[int, float]] = {}  # by title: failures in a row, the end of its pause
        self._ask_at_s = 0.0
        self._asked(now_s)

    def may_work(self, load: float) -> bool:
        """Whether it is off-peak here."""
        return load < self._rules.below_load

    def asks(self, now_s: float) -> bool:
        """Return whether the origin is to be asked for its list now; if so, the next time is set."""
        if now_s < self._ask_at_s:
            return False
        self._asked(now_s)
        return True

    def take(self, listed: Mapping[str, str]) -> None:
        """Take in the origin's list: the digests of its manifests, by title."""
        self._listed = {title: digest for title, digest in listed.items() if self._is_wanted(title)}
        self._pauses = {title: pause for title, pause in self._pauses.items() if title in self._listed}

    def choose(self, now_s: float, held: Mapping[str, str]) -> str | None:
        """Return the title to fetch next, given the digests of those fetched; None when there is nothing to do."""
        for title, digest in sorted(self._listed.items()):
            if held.get(title) == digest or (title not in held and len(held) >= FETCHED_MAX):
                continue
            _, until_s = self._pauses.get(title, (0, 0.0))
            if now_s >= until_s:
                return title
        return None

    def digest(self, title: str) -> str:
        """Return the digest that the list has for a title that was chosen."""
        return self._listed[title]

    def failed(self, now_s: float, title: str) -> float:
        """Note that ``title`` could not be fetched; return how long it is left alone."""
        failures = min(self._pauses.get(title, (0, 0.0))[0] + 1, _FAILURES_MAX)
        pause_s = min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** (failures - 1)) * (1.0 + 0.5 * self._rng.random())
        self._pauses[title] = (failures, now_s + pause_s)
        return pause_s

    def done(self, title: str) -> None:
        """Note that ``title`` was fetched."""
        self._pauses.pop(title, None)

    def _is_wanted(self, title: str) -> bool:
        position = title_index(title)
        return position is not None and bool(self._wanted >> position & 1)

    def _asked(self, now_s: float) -> None:
        self._ask_at_s = now_s + self._rules.every_s * (0.5 + self._rng.random())
