"""One message on its way through a stage, with what is done to it."""

from __future__ import annotations

from math import inf
from typing import Protocol

from chaos.proxy.toxics.chain import End, Item
from chaos.proxy.toxics.http.framing import Head, without_header
from chaos.proxy.toxics.http.kinds import Treatment


class Out(Protocol):
    """Where a message's parts go."""

    def leave(self, due_s: float, arrived_s: float, item: Item) -> None:
        """Let a part leave at ``due_s``, or right behind the one before it when that is later."""


class Message:
    """A request or an answer that is treated; without a treatment its parts leave as they come."""

    __slots__ = ("_body_bytes", "_changed_up_to", "_free_s", "_out", "_treatment", "ready_s", "swallowed")

    def __init__(self, out: Out, at_s: float, treatment: Treatment, *, swallowed: bool) -> None:
        self._out = out
        self._treatment = treatment
        self._body_bytes = 0
        self._changed_up_to = 0  # the end of the last block of the body in which a byte was changed
        self._free_s = 0.0
        self.ready_s = at_s + treatment.delay_ms / 1000
        """Before this moment nothing of it leaves."""
        self.swallowed = swallowed
        """Whether something else stands in for it, so that it goes nowhere."""

    def head(self, at_s: float, head: Head) -> None:
        """Let the head leave, or the connection break off in its place."""
        if self._treatment.abort_after_bytes <= 0:
            self._out.leave(max(self.ready_s, at_s), at_s, End.RESET)
            return
        raw = head.raw
        for name in self._treatment.dropped_headers:
            raw = without_header(raw, name)
        self.frame(at_s, raw)

    def body(self, at_s: float, data: bytes) -> None:
        """Let a part of the body leave, changed or cut short."""
        treatment = self._treatment
        if treatment.corrupt_every_bytes:
            data = self._corrupted(data)
        room = treatment.abort_after_bytes - self._body_bytes
        self._body_bytes += len(data)
        if len(data) < room:
            self.frame(at_s, data)
            return
        self.frame(at_s, data[: int(room)])
        self._out.leave(max(self.ready_s, at_s, self._free_s), at_s, End.RESET)

    def frame(self, at_s: float, data: bytes) -> None:
        """Let bytes leave as they are."""
        if self.swallowed:
            return
        due_s = max(self.ready_s, at_s)
        rate = self._treatment.rate_bytes_s
        if rate == inf:
            self._out.leave(due_s, at_s, data)
            return
        piece_bytes = max(1, int(rate / 10))
        self._free_s = max(due_s, self._free_s)
        for start in range(0, len(data), piece_bytes):
            piece = data[start : start + piece_bytes]
            self._free_s += len(piece) / rate
            self._out.leave(self._free_s, at_s, piece)

    def calm(self, now_s: float) -> None:
        """Let the rest of it go on untroubled."""
        self.ready_s = min(self.ready_s, now_s)
        self._free_s = 0.0
        self._treatment = Treatment()

    def _corrupted(self, data: bytes) -> bytes:
        """Change a byte in each block that begins in this part of the body, among the block's bytes that are here."""
        every, rng = self._treatment.corrupt_every_bytes, self._treatment.corrupt_rng
        assert rng is not None
        changed = bytearray(data)
        while self._changed_up_to < self._body_bytes + len(data):
            begin = max(0, self._changed_up_to - self._body_bytes)
            changed[rng.randrange(begin, min(begin + every, len(data)))] ^= rng.randrange(1, 256)
            self._changed_up_to += every
        return bytes(changed)
