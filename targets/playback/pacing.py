"""How fast bytes go out: a token bucket that says when the next ones may be sent, and one for each connection. Pure.

    burst_bytes |#####        after a pause a burst goes out at once, then bytes_per_s
                |     ##  ##
                '----------------> time

Pacing keeps one client's download from filling the buffers on the way and slowing everybody else's (Spang et al.,
"Sammy: smoothing video traffic to be a friendly internet neighbor", SIGCOMM 2023).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

CONNECTIONS_MAX = 4_096
"""How many buckets are kept before the full ones, which say no more than new ones would, are thrown away."""


class TokenBucket:
    """Lets ``bytes_per_s`` through in the long run, and ``burst_bytes`` at once; it is full in the beginning."""

    def __init__(self, *, bytes_per_s: float, burst_bytes: float, now_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._full_s = now_s
        """When the bucket was full or, in the future, will be full if nothing more is taken."""

    def take(self, now_s: float, size_bytes: int) -> float:
        """Take the tokens for ``size_bytes`` and return after how many seconds they may go out; 0.0: now.

        What is more than a burst goes out when the bucket would be full, had it that size.
        """
        self._full_s = max(self._full_s, now_s) + size_bytes / self._bytes_per_s
        return max(0.0, self._full_s - now_s - self._burst_bytes / self._bytes_per_s)

    def is_full(self, now_s: float) -> bool:
        """Whether it would let as much through as a new one."""
        return self._full_s <= now_s


class Pacing:
    """A token bucket for each connection, for as long as it is not full."""

    def __init__(self, *, bytes_per_s: float, burst_bytes: float, connections_max: int = CONNECTIONS_MAX) -> None:
        self.bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._connections_max = connections_max
        self._buckets: dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, now_s: float, connection: Hashable, size_bytes: int) -> float:
        """Return after how many seconds ``size_bytes`` may go out on ``connection``. See ``TokenBucket.take``."""
        bucket = self._buckets.get(connection)
        if bucket is None:
            if len(self._buckets) >= self._connections_max:
                self._forget(now_s)
            bucket = TokenBucket(bytes_per_s=self.bytes_per_s, burst_bytes=self._burst_bytes, now_s=now_s)
            self._buckets[connection] = bucket
        return bucket.take(now_s, size_bytes)

    def _forget(self, now_s: float) -> None:
        left = {connection: one for connection, one in self._buckets.items() if not one.is_full(now_s)}
        # Only as many connections as are busy at once are left; should these be too many, the oldest begin anew.
        self._buckets = dict(list(left.items())[-self._connections_max // 2 :])


def pieces(size_bytes: int, delay_s: float, bytes_per_s: float, *, piece_bytes: int) -> Iterator[tuple[slice, float]]:
    """Yield the pieces of a body, each with the seconds from now at which it may go out.

    ``delay_s`` is what ``take`` said of the whole: the last piece goes out then, and each other one as much earlier as
    what comes after it takes.
    """
    for begin in range(0, size_bytes, piece_bytes):
        end = min(begin + piece_bytes, size_bytes)
        yield slice(begin, end), max(0.0, delay_s - (size_bytes - end) / bytes_per_s)
