"""Leases: what is to go by itself unless its owner keeps saying that it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """For how long something is lent, and to whom."""

    owner: str
    """Who renews it; may be empty."""
    ttl_s: float
    """How long it lasts after it was granted or renewed. 0: it is not lent, and stays until it is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One thing that was lent."""

    terms: LeaseTerms
    _timer: asyncio.TimerHandle

    @property
    def left_s(self) -> float:
        """How long it still lasts."""
        return max(0.0, self._timer.when() - asyncio.get_running_loop().time())


class Leases:
    """All leases of a server."""

    def __init__(self) -> None:
        self._leases: dict[Hashable, tuple[Lease, Callable[[], None]]] = {}

    def get(self, key: Hashable) -> Lease | None:
        """Return the lease of a thing; None when it has none."""
        found = self._leases.get(key)
        return None if found is None else found[0]

    def grant(self, key: Hashable, terms: LeaseTerms, *, on_end: Callable[[], None]) -> None:
        """Lend a thing, or lend it anew; ``on_end`` is called when the time is over and nobody has renewed it."""
        self.end(key)
        timer = asyncio.get_running_loop().call_later(terms.ttl_s, self._expire, key)
        self._leases[key] = Lease(terms=terms, _timer=timer), on_end

    def renew(self, terms: LeaseTerms) -> int:
        """Let everything of this owner last so long from now on; return how much that is."""
        mine = [(key, on_end) for key, (lease, on_end) in self._leases.items() if lease.terms.owner == terms.owner]
        for key, on_end in mine:
            self.grant(key, terms, on_end=on_end)
        return len(mine)

    def end(self, key: Hashable) -> None:
        """Let a thing be nobody's: it stays until it is taken away. Nothing happens when it has no lease."""
        found = self._leases.pop(key, None)
        if found is not None:
            found[0]._timer.cancel()  # noqa: SLF001 - a lease and its collection are one thing

    def _expire(self, key: Hashable) -> None:
        found = self._leases.pop(key, None)
        if found is not None:
            found[1]()
