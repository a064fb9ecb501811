"""The toxics, sans-IO: each kind of trouble on the wire with its settings, and when things leave under it.

Kinds, attributes and units are those of Toxiproxy 2.12, so that an experiment means the same on both servers. A
``Toxic`` is a kind with its settings; ``Toxic.stage`` is that toxic at work on one direction of one connection.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from math import inf
from typing import ClassVar

from chaos.proxy.toxics.chain import KIB, End, Item, Stage


class Direction(StrEnum):
    """``upstream`` is from the caller to the server, ``downstream`` the way back."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


def attribute(name: str) -> int:
    """Declare a setting: an integer that Toxiproxy calls ``name``, 0 unless given."""
    setting: int = field(default=0, metadata={"attribute": name})
    return setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic(ABC):
    """One kind of trouble with its settings. Its fields carry their unit; ``attributes`` are Toxiproxy's names."""

    kind: ClassVar[str]

    @abstractmethod
    def stage(self, now_s: float, rng: random.Random) -> Stage:
        """Return the toxic at work on a connection that it meets at ``now_s``."""

    @property
    def attributes(self) -> dict[str, int]:
        """The settings under Toxiproxy's names, in Toxiproxy's order."""
        return {str(setting.metadata["attribute"]): getattr(self, setting.name) for setting in fields(self)}

    def with_attributes(self, attributes: Mapping[str, int]) -> Toxic:
        """Return this toxic with some settings changed; names that it does not know are ignored."""
        names = {str(setting.metadata["attribute"]): setting.name for setting in fields(self)}
        return replace(self, **{names[name]: value for name, value in attributes.items() if name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Noop(Toxic):
    """Does nothing."""

    kind: ClassVar[str] = "noop"

    def stage(self, now_s: float, rng: random.Random) -> Stage:  # noqa: ARG002 - the toxics share one signature
        """Return a stage that passes everything on."""
        return Stage(now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Toxic):
    """Every chunk leaves ``latency_ms`` plus or minus up to ``jitter_ms`` after it came, in order."""

    kind: ClassVar[str] = "latency"
    latency_ms: int = attribute("latency")
    jitter_ms: int = attribute("jitter")

    def stage(self, now_s: float, rng: random.Random) -> Stage:
        """Return the delay line of one connection."""
        return _LatencyStage(self, now_s, rng)


class _LatencyStage(Stage):
    __slots__ = ("_rng", "_toxic")
    limit_bytes = 16 * KIB * KIB  # a delay line is as long as rate times delay: 160 MB/s at 100 ms

    def __init__(self, toxic: Latency, now_s: float, rng: random.Random) -> None:
        super().__init__(now_s)
        self._toxic = toxic
        self._rng = rng

    def _data(self, at_s: float, data: bytes) -> None:
        delay_ms: float = self._toxic.latency_ms
        if self._toxic.jitter_ms > 0:
            delay_ms += self._rng.uniform(-self._toxic.jitter_ms, self._toxic.jitter_ms)
        self._leave(at_s + max(0.0, delay_ms) / 1000, at_s, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(Toxic):
    """Bytes leave at ``rate_kb_s`` (1 KB is 1000 bytes); at 0 nothing leaves at all."""

    kind: ClassVar[str] = "bandwidth"
    rate_kb_s: int = attribute("rate")

    def stage(self, now_s: float, rng: random.Random) -> Stage:  # noqa: ARG002
        """Return the narrow pipe of one connection."""
        return _BandwidthStage(self, now_s)


class _BandwidthStage(Stage):
    """A chunk leaves when its last byte would have come through; a long one in pieces of a tenth of a second."""

    __slots__ = ("_piece_bytes", "_rate_bytes_s")

    def __init__(self, toxic: Bandwidth, now_s: float) -> None:
        super().__init__(now_s)
        self._rate_bytes_s = toxic.rate_kb_s * 1000
        self._piece_bytes = self._rate_bytes_s // 10

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
class SlowClose(Toxic):
    """The end of the connection is passed on ``delay_ms`` late; data is not touched."""

    kind: ClassVar[str] = "slow_close"
    delay_ms: int = attribute("delay")

    def stage(self, now_s: float, rng: random.Random) -> Stage:  # noqa: ARG002
        """Return the slow door of one connection."""
        return _SlowCloseStage(self, now_s)


class _SlowCloseStage(Stage):
    __slots__ = ("_delay_s",)

    def __init__(self, toxic: SlowClose, now_s: float) -> None:
        super().__init__(now_s)
        self._delay_s = max(0, toxic.delay_ms) / 1000

    def _end(self, at_s: float, end: End) -> None:
        self._leave(at_s + self._delay_s, at_s, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout(Toxic):
    """All data is dropped; after ``timeout_ms`` without any the connection is closed (at 0: never)."""

    kind: ClassVar[str] = "timeout"
    timeout_ms: int = attribute("timeout")

    def stage(self, now_s: float, rng: random.Random) -> Stage:  # noqa: ARG002
        """Return the silence of one connection."""
        return _TimeoutStage(self, now_s)


class _TimeoutStage(Stage):
    __slots__ = ("_timeout_s",)

    def __init__(self, toxic: Timeout, now_s: float) -> None:
        super().__init__(now_s)
        self._timeout_s = max(0, toxic.timeout_ms) / 1000
        self._close_after_silence(now_s)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPeer(Toxic):
    """The connection is reset ``timeout_ms`` after the first thing that wants to pass; nothing passes."""

    kind: ClassVar[str] = "reset_peer"
    timeout_ms: int = attribute("timeout")

    def stage(self, now_s: float, rng: random.Random) -> Stage:  # noqa: ARG002
        """Return the trap of one connection."""
        return _ResetPeerStage(self, now_s)


class _ResetPeerStage(Stage):
    __slots__ = ("_timeout_s",)

    def __init__(self, toxic: ResetPeer, now_s: float) -> None:
        super().__init__(now_s)
        self._timeout_s = max(0, toxic.timeout_ms) / 1000

    def _data(self, at_s: float, data: bytes) -> None:  # noqa: ARG002 - dropped
        self.push(at_s, End.RESET)

    def _end(self, at_s: float, end: End) -> None:  # noqa: ARG002 - any end becomes a reset
        self._leave(at_s + self._timeout_s, at_s, End.RESET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer(Toxic):
    """Data is cut into pieces of ``average_size_bytes`` plus or minus ``size_variation_bytes``, ``delay_us`` apart."""

    kind: ClassVar[str] = "slicer"
    average_size_bytes: int = attribute("average_size")
    size_variation_bytes: int = attribute("size_variation")
    delay_us: int = attribute("delay")

    def stage(self, now_s: float, rng: random.Random) -> Stage:
        """Return the knife of one connection."""
        return _SlicerStage(self, now_s, rng)


class _SlicerStage(Stage):
    __slots__ = ("_average", "_delay_s", "_free_s", "_rng", "_variation")

    def __init__(self, toxic: Slicer, now_s: float, rng: random.Random) -> None:
        super().__init__(now_s)
        # A piece has at least one byte, and a cut stays within the data, whatever the settings say.
        self._average = max(1, toxic.average_size_bytes)
        self._variation = min(max(0, toxic.size_variation_bytes), self._average - 1)
        self._delay_s = max(0, toxic.delay_us) / 1_000_000
        self._free_s = now_s
        self._rng = rng

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
            if self._variation > 0:
                middle += self._rng.randrange(-self._variation, self._variation)
            middle = min(max(middle, start + 1), end - 1)
            todo += [(middle, end), (start, middle)]
        return ends


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitData(Toxic):
    """The connection is closed when ``limit_bytes`` have passed."""

    kind: ClassVar[str] = "limit_data"
    limit_bytes: int = attribute("bytes")

    def stage(self, now_s: float, rng: random.Random) -> Stage:  # noqa: ARG002
        """Return the meter of one connection."""
        return _LimitDataStage(self, now_s)


class _LimitDataStage(Stage):
    __slots__ = ("_limit", "_passed_bytes")

    def __init__(self, toxic: LimitData, now_s: float) -> None:
        super().__init__(now_s)
        self._limit = max(0, toxic.limit_bytes)
        self._passed_bytes = 0

    def inherit(self, earlier: Stage) -> None:
        if isinstance(earlier, _LimitDataStage):
            self._passed_bytes = earlier._passed_bytes  # noqa: SLF001 - one class

    def _data(self, at_s: float, data: bytes) -> None:
        data = data[: max(0, self._limit - self._passed_bytes)]
        self._passed_bytes += len(data)
        if data:
            self._leave(at_s, at_s, data)
        if self._passed_bytes >= self._limit:
            self.push(at_s, End.CLOSE)


KINDS: Mapping[str, type[Toxic]] = {
    toxic.kind: toxic for toxic in (Noop, Latency, Bandwidth, SlowClose, Timeout, ResetPeer, Slicer, LimitData)
}
"""Every kind of toxic. A new one is a class above and its name here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledToxic:
    """A toxic with its place: a name, a stream and a share of the connections (``toxicity``, 0 to 1)."""

    name: str
    direction: Direction
    stream: str
    """The direction as its owner wrote it; Toxiproxy takes any case and shows it again."""
    toxicity: float
    toxic: Toxic

    def draw(self, now_s: float, rng: random.Random) -> Stage | None:
        """Decide by lot whether a connection feels this toxic; return its stage, or None when it is spared.

        A number is drawn whatever the toxicity is, so that changing it shifts no later draw.
        """
        return self.toxic.stage(now_s, rng) if rng.random() < self.toxicity else None
