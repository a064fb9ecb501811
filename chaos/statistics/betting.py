"""Evidence by betting: how much a gambler would have won who bet, second by second, that more fails than is allowed.

If the true share is at most the limit, nobody wins in the long run, whatever the bets: the chance that a fortune of 1
ever grows to 100 is at most 1 in 100 (Ville 1939). So the fortune may be looked at after every second, and acted on at
once. Nothing is assumed but that a second's share lies between 0 and 1 and has no higher mean than the limit, given
the seconds before it: bursts within a second are harmless. (Shafer, "Testing by betting", JRSS A 184, 2021;
Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable

BETS = 10
"""Stakes that are bet at once, each by its own gambler; the evidence is their mean fortune."""


class Evidence:
    """The evidence that the mean of what is taken exceeds ``limit``, a share between 0 and 1.

    ``E = mean over 10 bets of product(1 + bet * (Y_t - limit))`` with bets of 1/10, 2/10, ... of ``0.5 / limit``, so
    that one gambler never loses more than half of the fortune in a second.
    """

    __slots__ = ("_limit", "_logs", "most")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._logs = [0.0] * BETS
        self.most = 1.0
        """The largest that it has ever been: the chance of reaching it by chance is at most 1 / most."""

    @property
    def now(self) -> float:
        """The evidence now: 1 says nothing, 100 is strong, below 1 speaks against an excess."""
        largest = max(self._logs)
        if largest == math.inf or largest > 690.0:  # beyond what a float holds
            return math.inf
        return math.fsum(math.exp(log) for log in self._logs) / BETS

    def take(self, share: float) -> float:
        """Take one second's share (0 to 1, ValueError otherwise) and return the evidence after it."""
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share lies between 0 and 1, not at {share!r}")
        if self._limit <= 0.0:
            if share > 0.0:  # not even one failure is allowed, so that one is proof
                self._logs = [math.inf] * BETS
        elif self._limit < 1.0:
            stake = 0.5 / self._limit / BETS
            self._logs = [
                log + math.log1p(stake * (number + 1) * (share - self._limit)) for number, log in enumerate(self._logs)
            ]
        self.most = max(self.most, self.now)
        return self.now


def most_evidence(shares: Iterable[float], limit: float) -> float:
    """Return the largest evidence that there ever was, second by second, that the mean share exceeds ``limit``."""
    evidence = Evidence(limit)
    for share in shares:
        evidence.take(share)
    return evidence.most
