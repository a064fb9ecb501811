"""Which OCA to stream from: the fastest and most reliable of those that the backend offered.

Latencies on a good day differ by noise alone, so everything within a tolerance of the fastest is equally fast; among
equals the ISP that the backend put first is preferred, because its OCAs are nearest, and within it chance decides, so
that many clients with the same list do not all fall on the same OCA.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from targets.playback.client_protocol import Oca

_HEALTHY_TOLERANCE = 2.0
"""An answer within this many times the fastest one is as good, however small both are."""


class OcaChoice:
    """The candidates in order of preference, and the one in use.

    Starts in the backend's order (best first) with the first one in use.
    """

    def __init__(self, ocas: Sequence[Oca], *, tolerance_s: float, rng: random.Random) -> None:
        assert ocas, "a ticket has at least one OCA"
        self._offered = tuple(ocas)
        self._tolerance_s = tolerance_s
        self._rng = rng
        self._failures: Counter[str] = Counter()
        self._silent: set[str] = set()  # those that did not answer the last probe
        self._current = self._offered[0]
        self._next: list[Oca] = list(self._offered[1:])

    @property
    def offered(self) -> tuple[Oca, ...]:
        """All candidates in the backend's order: the order that `rank` takes latencies in."""
        return self._offered

    @property
    def current(self) -> Oca:
        """The OCA in use."""
        return self._current

    def rank(self, latencies_s: Sequence[float | None]) -> None:
        """Order all candidates anew by what probes of ``offered`` measured (None: no answer), and use the best.

        Who answered comes before who did not, who has failed this session less often before who failed more often.
        """
        answered = [latency for latency in latencies_s if latency is not None]
        fastest_s = min(answered, default=0.0)
        good_s = max(fastest_s + self._tolerance_s, fastest_s * _HEALTHY_TOLERANCE)
        nearest = self._offered[0].isp

        def preference(candidate: tuple[Oca, float | None]) -> tuple[bool, int, float, bool, float]:
            oca, latency_s = candidate
            slowness_s = 0.0 if latency_s is None or latency_s <= good_s else latency_s
            return latency_s is None, self._failures[oca.id], slowness_s, oca.isp != nearest, self._rng.random()

        self._silent = {oca.id for oca, latency in zip(self._offered, latencies_s, strict=True) if latency is None}
        ranked = sorted(zip(self._offered, latencies_s, strict=True), key=preference)
        self._use([oca for oca, _ in ranked])

    def start_over(self) -> None:
        """Begin again at the top of the backend's list, without having measured anything."""
        self._use(list(self._offered))

    def leave(self) -> bool:
        """Go from the current OCA, which has let us down, to the next one; False when there is none left.

        Among those that have given no cause for doubt, OCAs of other ISPs come first from now on: an OCA seldom goes
        alone, its ISP's link may be what is gone.
        """
        self._failures[self._current.id] += 1
        if not self._next:
            return False
        suspect = self._current.isp
        self._next.sort(key=lambda oca: (self._is_doubtful(oca), oca.isp == suspect))
        self._current = self._next.pop(0)
        return True

    def _is_doubtful(self, oca: Oca) -> bool:
        return oca.id in self._silent or self._failures[oca.id] > 0

    def _use(self, ordered: list[Oca]) -> None:
        self._current = ordered[0]
        self._next = ordered[1:]
