"""Toxiproxy's kinds of toxics, sans-IO: each with its settings, and when things leave under it.

Kinds, attributes and units are those of Toxiproxy 2.12, so that an experiment means the same on both servers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from chaos.proxy.toxics.base import Meeting, StreamToxic, attribute
from chaos.proxy.toxics.chain import KIB, End, Item, Stage

UNIFORM = "uniform"
PARETO_SHAPE = 3.0
PARETO_MEAN = PARETO_SHAPE / (PARETO_SHAPE - 1)
PARETO_DEVIATION = math.sqrt(PARETO_SHAPE / (PARETO_SHAPE - 2)) / (PARETO_SHAPE - 1)
"""Mean and standard deviation of a Pareto distribution of that shape with the least value 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noop(StreamToxic):
    """Does nothing."""

    kind: ClassVar[str] = "noop"

    def stage(self, met: Meeting) -> Stage:
        """Return a stage that passes everything on."""
        return Stage(met.now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(StreamToxic):
    """Every chunk leaves ``latency_ms`` after it came, give or take what ``jitter_ms`` says, in order.

    How the delay varies: ``uniform`` up to ``jitter_ms`` both ways, as in Toxiproxy; ``normal`` with a standard
    deviation of ``jitter_ms``; ``pareto`` with the same mean and standard deviation, and a long tail (shape 3, as in
    Linux' netem). A delay is never negative.
    """

    kind: ClassVar[str] = "latency"
    latency_ms: int = attribute("latency")
    jitter_ms: int = attribute("jitter")
    distribution: str = attribute("distribution", UNIFORM, one_of=(UNIFORM, "normal", "pareto"), extension=True)

    def stage(self, met: Meeting) -> Stage:
        """Return the delay line of one connection."""
        return _LatencyStage(self, met)

    def delays_ms(self, rng: random.Random) -> Callable[[], float]:
        """Return what makes the delay of each chunk."""
        mean_ms, jitter_ms = self.latency_ms, self.jitter_ms
        match self.distribution:
            case "normal":
                return lambda: rng.gauss(mean_ms, jitter_ms)
            case "pareto":
                return lambda: mean_ms + jitter_ms * (rng.paretovariate(PARETO_SHAPE) - PARETO_MEAN) / PARETO_DEVIATION
            case _:
                return lambda: mean_ms + rng.uniform(-jitter_ms, jitter_ms)


class _LatencyStage(Stage):
    __slots__ = ("_delay_s", "_delays_ms")
    limit_bytes = 16 * KIB * KIB  # a delay line is as long as rate times delay: 160 MB/s at 100 ms

    def __init__(self, toxic: Latency, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._delay_s = max(0, toxic.latency_ms) / 1000
        self._delays_ms = toxic.delays_ms(met.rng()) if toxic.jitter_ms > 0 else None

    def passes(self, at_s: float, data: bytes, until_s: float) -> bool:
        due_s = at_s + self._delay_s
        if self._delays_ms is not None or due_s > until_s or self._last_due_s > until_s:
            return False
        self._count(at_s, len(data))
        self._last_due_s = max(due_s, self._last_due_s)
        return True

    def _data(self, at_s: float, data: bytes) -> None:
        if self._delays_ms is None:
            self._leave(at_s + self._delay_s, at_s, data)
        else:
            self._leave(at_s + max(0.0, self._delays_ms()) / 1000, at_s, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(StreamToxic):
    """Bytes leave at ``rate_kb_s`` (1 KB is 1000 bytes); at 0 nothing leaves at all."""

    kind: ClassVar[str] = "bandwidth"
    rate_kb_s: int = attribute("rate")

    def stage(self, met: Meeting) -> Stage:
        """Return the narrow pipe of one connection."""
        return _BandwidthStage(self, met)


class _BandwidthStage(Stage):
    """A chunk leaves when its last byte would have come through; a long one in pieces of a tenth of a second."""

    __slots__ = ("_piece_bytes", "_rate_bytes_s")

    def __init__(self, toxic: Bandwidth, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._rate_bytes_s = toxic.rate_kb_s * 1000
        self._piece_bytes = self._rate_bytes_s // 10

    def passes(self, at_s: float, data: bytes, until_s: float) -> bool:
        if len(data) > self._piece_bytes:
            return False
        free_s = max(at_s, self._last_due_s) + len(data) / self._rate_bytes_s
        if free_s > until_s:
            return False
        self._count(at_s, len(data))
        self._last_due_s = free_s
        return True

    def _data(self, at_s: float, data: bytes) -> None:
        if self._rate_bytes_s <= 0:
            self._leave(inf, at_s, data)
            return
        # An unused second is not saved up: the pipe starts anew with what comes after a pause.
        free_s = max(at_s, self._last_due_s)
        for start in range(0, len(data), self._piece_bytes):
            piece = data[start : start + self._piece_bytes]
            free_s += len(piece) / self._rate_bytes_s
            self._leave(free_s, at_s, piece)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClose(StreamToxic):
    """The end of the connection is passed on ``delay_ms`` late; data is not touched."""

    kind: ClassVar[str] = "slow_close"
    delay_ms: int = attribute("delay")

    def stage(self, met: Meeting) -> Stage:
        """Return the slow door of one connection."""
        return _SlowCloseStage(self, met)


class _SlowCloseStage(Stage):
    __slots__ = ("_delay_s",)

    def __init__(self, toxic: SlowClose, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._delay_s = max(0, toxic.delay_ms) / 1000

    def _end(self, at_s: float, end: End) -> None:
        self._leave(at_s + self._delay_s, at_s, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout(StreamToxic):
    """All data is dropped; after ``timeout_ms`` without any the connection is closed (at 0: never)."""

    kind: ClassVar[str] = "timeout"
    timeout_ms: int = attribute("timeout")

    def stage(self, met: Meeting) -> Stage:
        """Return the silence of one connection."""
        return _TimeoutStage(self, met)


class _TimeoutStage(Stage):
    __slots__ = ("_timeout_s",)

    def __init__(self, toxic: Timeout, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._timeout_s = max(0, toxic.timeout_ms) / 1000
        self._close_after_silence(met.now_s)

    def _data(self, at_s: float, data: bytes) -> None:  # noqa: ARG002 - dropped
        self._close_after_silence(at_s)

    def _end(self, at_s: float, end: End) -> None:
        self._queue.clear()
        self._queue.append((at_s, at_s, end))

    def _close_after_silence(self, at_s: float) -> None:
        if self._timeout_s > 0:
            self._queue.clear()
            self._queue.append((at_s + self._timeout_s, at_s, End.CLOSE))

    def rest(self) -> list[tuple[float, Item]]:
        # The pending close belongs to the old settings; only an end that came from before goes over.
        return [(at_s, item) for at_s, item in Stage.rest(self) if self._ended]

    def release(self) -> list[Item]:
        # Bytes are missing from the stream: it cannot go on as if nothing had happened.
        return [End.CLOSE]

    def spare(self) -> list[Item]:
        # As in Toxiproxy, where only the removal closes: what is missing stays so, and what comes passes.
        return Stage.release(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPeer(StreamToxic):
    """The connection is reset ``timeout_ms`` after the first thing that wants to pass; nothing passes."""

    kind: ClassVar[str] = "reset_peer"
    timeout_ms: int = attribute("timeout")

    def stage(self, met: Meeting) -> Stage:
        """Return the trap of one connection."""
        return _ResetPeerStage(self, met)


class _ResetPeerStage(Stage):
    __slots__ = ("_timeout_s",)

    def __init__(self, toxic: ResetPeer, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._timeout_s = max(0, toxic.timeout_ms) / 1000

    def _data(self, at_s: float, data: bytes) -> None:  # noqa: ARG002 - dropped
        self.push(at_s, End.RESET)

    def _end(self, at_s: float, end: End) -> None:  # noqa: ARG002 - any end becomes a reset
        self._leave(at_s + self._timeout_s, at_s, End.RESET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer(StreamToxic):
    """Data is cut into pieces of ``average_size_bytes`` plus or minus ``size_variation_bytes``, ``delay_us`` apart."""

    kind: ClassVar[str] = "slicer"
    average_size_bytes: int = attribute("average_size")
    size_variation_bytes: int = attribute("size_variation")
    delay_us: int = attribute("delay")

    def stage(self, met: Meeting) -> Stage:
        """Return the knife of one connection."""
        return _SlicerStage(self, met)


class _SlicerStage(Stage):
    __slots__ = ("_average", "_delay_s", "_free_s", "_rng", "_variation")

    def __init__(self, toxic: Slicer, met: Meeting) -> None:
        super().__init__(met.now_s)
        # A piece has at least one byte, and a cut stays within the data, whatever the settings say.
        self._average = max(1, toxic.average_size_bytes)
        self._variation = min(max(0, toxic.size_variation_bytes), self._average - 1)
        self._delay_s = max(0, toxic.delay_us) / 1_000_000
        self._free_s = met.now_s
        self._rng = met.rng() if self._variation > 0 else None

    def _data(self, at_s: float, data: bytes) -> None:
        self._free_s = max(at_s, self._free_s)
        start = 0
        for end in self._cuts(len(data)):
            self._leave(self._free_s, at_s, data[start:end])
            self._free_s += self._delay_s
            start = end

    def _end(self, at_s: float, end: End) -> None:
        self._leave(max(at_s, self._free_s), at_s, end)

    def _cuts(self, size: int) -> list[int]:
        """Return where the pieces end: halve until a piece is small enough, each cut moved by the variation."""
        ends: list[int] = []
        todo = [(0, size)]
        while todo:
            start, end = todo.pop()
            if end - start - self._average <= self._variation:
                ends.append(end)
                continue
            middle = start + (end - start) // 2
            if self._rng is not None:
                middle += self._rng.randrange(-self._variation, self._variation)
            middle = min(max(middle, start + 1), end - 1)
            todo += [(middle, end), (start, middle)]
        return ends


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitData(StreamToxic):
    """The connection is closed when ``limit_bytes`` have passed."""

    kind: ClassVar[str] = "limit_data"
    limit_bytes: int = attribute("bytes")

    def stage(self, met: Meeting) -> Stage:
        """Return the meter of one connection."""
        return _LimitDataStage(self, met)


class _LimitDataStage(Stage):
    __slots__ = ("_limit", "_passed_bytes")

    def __init__(self, toxic: LimitData, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._limit = max(0, toxic.limit_bytes)
        self._passed_bytes = 0

    def inherit(self, earlier: Stage) -> None:
        if isinstance(earlier, _LimitDataStage):
            held = earlier._queue  # noqa: SLF001 - one class
            # What is held goes through the new settings next, and is counted then.
            held_bytes = sum(len(item) for _, _, item in held if isinstance(item, bytes))
            self._passed_bytes = earlier._passed_bytes - held_bytes  # noqa: SLF001

    def _data(self, at_s: float, data: bytes) -> None:
        data = data[: max(0, self._limit - self._passed_bytes)]
        self._passed_bytes += len(data)
        if data:
            self._leave(at_s, at_s, data)
        if self._passed_bytes >= self._limit:
            self.push(at_s, End.CLOSE)
