"""The bulkhead: at most so many calls at once, so that one slow dependency cannot take every resource of its caller."""

from __future__ import annotations


class Bulkhead:
    """Permits for concurrent calls; taking one never waits.

    ``limit`` may be changed at any time (it is infinite for a bulkhead that is switched off); calls in progress keep
    their permits. Whoever acquires must release, however the call ends.
    """

    __slots__ = ("in_use", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.in_use = 0

    def try_acquire(self) -> bool:
        """Take a permit if there is one."""
        if self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    def release(self) -> None:
        """Give a permit back."""
        assert self.in_use > 0, "a permit was given back that nobody had"
        self.in_use -= 1
