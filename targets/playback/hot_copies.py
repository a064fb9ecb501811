"""Hot copies: what a process has just learnt, or reads again and again, is kept at hand for a second. Pure.

A title that everybody plays would be read from one cache server for each play; so a key that was read ten times within
a second is copied, and read from there once a second at most. The store's own answer is kept likewise until the cache
has it, else every play of that moment would ask the store again. Both make an answer older by ``LIFE_S`` at most.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, Generic, TypeVar

V = TypeVar("V")

LIFE_S: Final = 1.0
"""Seconds that a copy lives: the staleness that it adds to the cache's own."""

HOT_READS: Final = 10
"""Reads of a key within a second from which on it is hot."""

COPIES_MAX: Final = 512
COUNTED_MAX: Final = 4_096
"""Keys whose reads are counted in one second; more are not, and so do not become hot in it."""

_SECOND = 1.0


class HotCopies(Generic[V]):
    """The copies of one kind of record, by key."""

    def __init__(self) -> None:
        self._copies: OrderedDict[str, tuple[float, V]] = OrderedDict()
        self._reads: Counter[str] = Counter()
        self._reads_before: Counter[str] = Counter()
        self._second_ends_s = float("-inf")

    def __len__(self) -> int:
        return len(self._copies)

    def read(self, now_s: float, key: str) -> V | None:
        """Return the copy for ``key``, if there is one that lives; count that it was asked for."""
        self._count(now_s, key)
        return self.peek(now_s, key)

    def peek(self, now_s: float, key: str) -> V | None:
        """Return the copy for ``key``, if there is one that lives."""
        until_s, value = self._copies.get(key, (float("-inf"), None))
        return value if now_s < until_s else None

    def offer(self, now_s: float, key: str, value: V) -> None:
        """Keep what was read elsewhere, if its key is hot."""
        if max(self._reads[key], self._reads_before[key]) >= HOT_READS:
            self.keep(now_s, key, value)

    def keep(self, now_s: float, key: str, value: V) -> None:
        """Keep a value; the oldest copy makes room for it."""
        self._copies[key] = (now_s + LIFE_S, value)
        self._copies.move_to_end(key)
        if len(self._copies) > COPIES_MAX:
            self._copies.popitem(last=False)

    def _count(self, now_s: float, key: str) -> None:
        if now_s >= self._second_ends_s:
            followed = now_s < self._second_ends_s + _SECOND
            self._reads_before = self._reads if followed else Counter()
            self._reads = Counter()
            self._second_ends_s = now_s + _SECOND
        if key in self._reads or len(self._reads) < COUNTED_MAX:
            self._reads[key] += 1
