"""Rate limits by key, such as an account or an address: the generic cell rate algorithm, one number for each key. Pure.

A key may ask ``burst`` times at once and ``rate_per_s`` in the long run. The number kept for it is the moment at which
all that it has used up will have grown back (GCRA's "theoretical arrival time", ITU-T I.371): the same decisions as a
token bucket's, without a timer that fills it.
"""

from __future__ import annotations

from collections import OrderedDict

KEYS_MAX = 20_000
"""Keys that are remembered; beyond that the one that asked longest ago is forgotten, and may have its burst again."""


class RateLimiter:
    """Says of each request whether its key may make it now. ``rate_per_s`` and ``burst`` are above 0."""

    def __init__(self, rate_per_s: float, burst: float, *, keys_max: int = KEYS_MAX) -> None:
        if not (rate_per_s > 0 and burst >= 1 and keys_max >= 1):
            raise ValueError(f"a rate limit of {rate_per_s:g} /s with a burst of {burst:g} lets nobody through")
        self._interval_s = 1.0 / rate_per_s
        self._tolerance_s = (burst - 1) * self._interval_s
        self._full_s: OrderedDict[str, float] = OrderedDict()
        self._keys_max = keys_max

    def wait_s(self, now_s: float, key: str) -> float:
        """Count a request and return 0; or count nothing and return after how many seconds there may be one."""
        full_s = max(self._full_s.get(key, now_s), now_s)
        wait_s = full_s - self._tolerance_s - now_s
        if wait_s > 0:
            return wait_s
        self._full_s[key] = full_s + self._interval_s
        self._full_s.move_to_end(key)
        if len(self._full_s) > self._keys_max:
            self._full_s.popitem(last=False)
        return 0.0
