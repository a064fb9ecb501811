"""Receipts: what a toxic has touched, counted by itself as things meet it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """What one toxic has touched since it was installed. Moments are on the caller's monotonic clock."""

    connections: int = 0
    """Connections on which something met it."""
    requests: int = 0
    """Requests that it fell on; only HTTP toxics look at requests."""
    bytes: int = 0
    """Bytes that met it: of an HTTP toxic, those of the requests or answers that it fell on."""
    first_s: float | None = None
    last_s: float | None = None

    def touch(self, at_s: float, *, connections: int = 0, requests: int = 0, size_bytes: int = 0) -> None:
        """Count something that met the toxic at ``at_s``."""
        self.connections += connections
        self.requests += requests
        self.bytes += size_bytes
        if self.first_s is None:
            self.first_s = at_s
        self.last_s = at_s
