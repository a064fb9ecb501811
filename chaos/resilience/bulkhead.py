"""The bulkhead: at most so many calls at once, so that one slow dependency cannot take every resource of its caller.

Calls beyond the limit are refused at once, or wait in a bounded queue, first come first served. The limit is fixed, or
finds itself: see ``chaos.resilience.limits``.
"""

from __future__ import annotations

import asyncio

from chaos.resilience.errors import BulkheadFull
from chaos.resilience.limits import Limit


class Bulkhead:
    """Permits for concurrent calls. Whoever gets one must give it back, however the call ends.

    ``limit`` is infinite for a bulkhead that is switched off; ``set_limit`` changes it at any time, and calls in
    progress keep their permits. ``queue_max`` calls may wait. With ``adaptive`` the limit follows what ``ended`` is
    told.

    For a caller in a hurry: while ``in_use < calm_limit`` a permit may be taken by ``in_use += 1``, for there is one
    and it makes no new ``peak``; and with ``plain`` it may be given back by ``in_use -= 1``.
    """

    __slots__ = ("_adaptive", "_queue", "calm_limit", "in_use", "limit", "peak", "plain", "queue_max")

    def __init__(self, limit: float, *, queue_max: int = 0, adaptive: Limit | None = None) -> None:
        self.limit = limit if adaptive is None else adaptive.value
        self.in_use = 0
        self.peak = 0
        self.calm_limit: float = 0
        self.queue_max = queue_max
        self.plain = queue_max == 0 and adaptive is None
        self._adaptive = adaptive
        # A list, for most bulkheads have no queue, and an empty deque is larger than all the rest of them.
        self._queue: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def try_acquire(self) -> bool:
        """Take a permit if there is one, and nobody waits for it."""
        if self.in_use >= self.limit or self._queue:
            return False
        self._take()
        return True

    async def wait(self, name: str) -> None:
        """Wait for a permit. Raises BulkheadFull at once when the queue has no place; ``name`` is whose it is.

        A waiter that is cancelled leaves the queue; a permit that it was just given goes to the next one.
        """
        if len(self._queue) >= self.queue_max:
            raise BulkheadFull(name, self.limit)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._hand_over()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release()
            else:
                turn.cancel()
                if turn in self._queue:
                    self._queue.remove(turn)
            raise

    def release(self) -> None:
        """Give a permit back; the first in the queue gets it."""
        assert self.in_use > 0, "a permit was given back that nobody had"
        self.in_use -= 1
        if self._queue:
            self._hand_over()

    def ended(self, now_s: float, duration_s: float | None, *, failed: bool) -> None:
        """Give a permit back, and let the limit learn from how long the call took; None tells nothing."""
        if self._adaptive is not None and duration_s is not None:
            self._adaptive.observe(now_s, duration_s, self.in_use, failed=failed)
            if self._adaptive.value != self.limit:
                self.set_limit(self._adaptive.value)
        self.release()

    def set_limit(self, limit: float) -> None:
        """Change the limit; a lower one takes no permit away, a higher one wakes those who wait."""
        self.limit = limit
        self.calm_limit = min(self.calm_limit, limit)
        self._hand_over()

    def take_peak(self) -> int:
        """Return the most permits in use since the last time, and begin anew from those in use now."""
        peak, self.peak = self.peak, self.in_use
        self.calm_limit = min(self.peak, self.limit)
        return peak

    def _take(self) -> None:
        self.in_use += 1
        if self.in_use > self.peak:
            self.peak = self.in_use
            self.calm_limit = min(self.peak, self.limit)

    def _hand_over(self) -> None:
        while self._queue and self.in_use < self.limit:
            turn = self._queue.pop(0)
            if not turn.done():
                self._take()
                turn.set_result(None)
