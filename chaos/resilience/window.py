"""A rolling window: how many calls succeeded and failed in the last seconds. It does no IO and reads no clock.

Time is cut into buckets, and the window is the current bucket and the ``buckets - 1`` before it::

        |<------------ window_s ------------>|
    ....[  2  ][  0  ][  5  ][  1  ][  3  ][ 4 -> now
        ^ marks[0]                         ^ marks[-1]

Successes and failures are counted upwards for ever; a *mark* remembers both counts at the moment a bucket began. What
the window holds is the counts now less the oldest mark, so that counting a call is one addition.
"""

from __future__ import annotations

Mark = tuple[int, int, int]
"""Successes, failures and slow calls counted when a bucket began."""


class RollingWindow:
    """Counts of the last ``window_s`` seconds, in ``buckets`` steps. Moments are seconds and never go back.

    ``successes`` and ``failures`` are all that were ever counted, ``failures_before`` those that have left the window,
    and ``next_bucket_s`` is when ``roll`` is due. They are open for a caller that counts a call every microsecond:
    until ``quiet_until_s`` it need only add to ``successes``. Whoever knows how long nothing else is to be done
    sets that moment; a failure takes it back.

    Example: ``window.succeeded(now_s); window.error_percent(now_s)``.
    """

    __slots__ = ("_bucket", "_bucket_s", "_marks", "failures", "failures_before", "next_bucket_s", "quiet_until_s",
                 "slow", "successes")  # fmt: skip

    def __init__(self, window_s: float, buckets: int) -> None:
        self._bucket_s = window_s / buckets
        self._bucket = -1
        self.next_bucket_s = float("-inf")
        self.quiet_until_s = float("-inf")
        self.successes = 0
        self.failures = 0
        self.slow = 0
        self.failures_before = 0
        self._marks: list[Mark] = [(0, 0, 0)] * buckets

    def succeeded(self, now_s: float) -> None:
        """Count a success."""
        if now_s >= self.next_bucket_s:
            self.roll(now_s)
        self.successes += 1

    def failed(self, now_s: float) -> None:
        """Count a failure."""
        if now_s >= self.next_bucket_s:
            self.roll(now_s)
        self.failures += 1
        self.quiet_until_s = float("-inf")

    def was_slow(self, now_s: float) -> None:
        """Count a call as slow, besides what else it was."""
        if now_s >= self.next_bucket_s:
            self.roll(now_s)
        self.slow += 1

    def counts(self, now_s: float) -> tuple[int, int]:
        """Return how many calls succeeded and how many failed within the window."""
        if now_s >= self.next_bucket_s:
            self.roll(now_s)
        successes, failures, _ = self._marks[0]
        return self.successes - successes, self.failures - failures

    def finished_counts(self, now_s: float) -> tuple[int, int]:
        """Return the same for the finished buckets alone, the current one left out."""
        if now_s >= self.next_bucket_s:
            self.roll(now_s)
        first, last = self._marks[0], self._marks[-1]
        return last[0] - first[0], last[1] - first[1]

    def slow_calls(self, now_s: float) -> int:
        """Return how many calls within the window were slow."""
        if now_s >= self.next_bucket_s:
            self.roll(now_s)
        return self.slow - self._marks[0][2]

    def error_percent(self, now_s: float) -> float:
        """Return the share of the window's calls that failed, 0..100; 0 for an empty window."""
        successes, failures = self.counts(now_s)
        total = successes + failures
        return 100.0 * failures / total if total else 0.0

    @property
    def has_failures(self) -> bool:
        """Whether any failure is in the window, as of the last moment it was told of."""
        return self.failures != self.failures_before

    def clear(self) -> None:
        """Forget every call; the buckets stay where they are."""
        now = (self.successes, self.failures, self.slow)
        self._marks = [now] * len(self._marks)
        self.failures_before = self.failures

    def roll(self, now_s: float) -> None:
        """Begin the bucket that ``now_s`` lies in, and forget those that have left the window."""
        bucket = max(int(now_s // self._bucket_s), self._bucket + 1)
        mark = (self.successes, self.failures, self.slow)
        passed = min(bucket - self._bucket, len(self._marks))
        self._marks = self._marks[passed:] + [mark] * passed
        self._bucket = bucket
        self.next_bucket_s = (bucket + 1) * self._bucket_s
        self.failures_before = self._marks[0][1]
