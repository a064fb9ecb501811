"""How much an OCA can send: a bucket of bytes that fills at its capacity and holds one second's worth. Pure."""

from __future__ import annotations

MEASURE_S = 1.0
"""The load is that of the last second, or of longer."""


class Admission:
    """Admits what fits the capacity. A request that does not fit is refused at once, while it still costs nothing."""

    def __init__(self, capacity_bytes_per_s: float, now_s: float) -> None:
        self._capacity = capacity_bytes_per_s
        self._left_bytes = capacity_bytes_per_s
        self._filled_s = now_s
        self._sent_bytes = 0
        self._measured_s = now_s
        self.load = 0.0
        """The share of the capacity that was used, as it was measured last."""

    def admit(self, now_s: float, size_bytes: int) -> bool:
        """Return whether ``size_bytes`` may be sent now, and count them if so."""
        self._left_bytes = min(self._capacity, self._left_bytes + (now_s - self._filled_s) * self._capacity)
        self._filled_s = now_s
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        self._sent_bytes += size_bytes
        return True

    def measure_load(self, now_s: float) -> float:
        """Return the share of the capacity used since this was asked last, or in the last second if that is longer."""
        elapsed_s = max(now_s - self._measured_s, MEASURE_S)
        share = self._sent_bytes / (self._capacity * elapsed_s)
        self._sent_bytes = 0
        self._measured_s = now_s
        self.load = min(share, 1.0)
        return self.load
