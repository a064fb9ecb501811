"""Trouble as on a bad network, sans-IO: what Toxiproxy does not have, and falls on whole connections or one direction.

A proxy stands between two connections of its own and sees no packets, so it plays what packet loss looks like to the
two ends: nothing arrives, nothing is lost for good, and what was sent comes in one go once the network is back (as by
TCP's retransmissions). ``BlackHole`` alone loses what it takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from chaos.proxy.toxics.base import HOUR_MS, Meeting, StreamToxic, Toxic, attribute
from chaos.proxy.toxics.chain import End, Item, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Toxic):
    """New connections are broken off (RST) as soon as they are there; open ones go on. Its toxicity is the share."""

    kind: ClassVar[str] = "refuse"
    extension: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackHole(StreamToxic):
    """Connections are accepted, and then there is silence: all is swallowed both ways, and nothing ever closes.

    When the toxic is removed, connections that have lost something are broken off (RST); others go on.
    """

    kind: ClassVar[str] = "black_hole"
    extension: ClassVar[bool] = True
    both_ways: ClassVar[bool] = True

    def stage(self, met: Meeting) -> Stage:
        """Return the hole in one direction."""
        return _BlackHoleStage(met.now_s)


class _BlackHoleStage(Stage):
    __slots__ = ("_lost",)

    def __init__(self, now_s: float) -> None:
        super().__init__(now_s)
        self._lost: End | None = None

    def inherit(self, earlier: Stage) -> None:
        if isinstance(earlier, _BlackHoleStage):
            self._lost = earlier._lost  # noqa: SLF001 - one class
            self._ended = earlier._ended  # noqa: SLF001

    def _data(self, at_s: float, data: bytes) -> None:  # noqa: ARG002 - swallowed
        self._lost = End.RESET

    def _end(self, at_s: float, end: End) -> None:  # noqa: ARG002
        self._lost = self._lost or end

    def release(self) -> list[Item]:
        return [self._lost] if self._lost is not None else []


class _Holding(Stage, ABC):
    """Holds what comes while the way is shut; everything goes on, in order, when it is open again."""

    __slots__ = ("_met_s",)

    def __init__(self, now_s: float) -> None:
        super().__init__(now_s)
        self._met_s = now_s

    @abstractmethod
    def _opens_s(self, at_s: float) -> float:
        """Return the first moment at or after ``at_s`` at which the way is open; infinity for never."""

    def _data(self, at_s: float, data: bytes) -> None:
        self._hold(at_s, data)

    def _end(self, at_s: float, end: End) -> None:
        self._hold(at_s, end)

    def _hold(self, at_s: float, item: Item) -> None:
        # What came under other settings could pass as soon as the way is open by these: not at once if it is shut now.
        self._leave(self._opens_s(max(at_s, self._met_s)), at_s, item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(StreamToxic):
    """One direction is cut: nothing gets through it until the toxic is removed, while the other works."""

    kind: ClassVar[str] = "partition"
    extension: ClassVar[bool] = True

    def stage(self, met: Meeting) -> Stage:
        """Return the cut in this direction."""
        return _Partitioned(met.now_s)


class _Partitioned(_Holding):
    __slots__ = ()

    def _opens_s(self, at_s: float) -> float:  # noqa: ARG002 - never by itself
        return inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(StreamToxic):
    """A connection stands still both ways for ``duration_ms``, once ``after_ms`` have passed since the toxic met it.

    With ``every_ms`` it does so again and again, each time that much after it last began. A ``duration_ms`` of 0 lasts
    until the toxic is removed.
    """

    kind: ClassVar[str] = "stall"
    extension: ClassVar[bool] = True
    both_ways: ClassVar[bool] = True
    duration_ms: int = attribute("duration_ms", 0, least=0, most=HOUR_MS)
    after_ms: int = attribute("after_ms", 0, least=0, most=HOUR_MS)
    every_ms: int = attribute("every_ms", 0, least=0, most=HOUR_MS)

    def stage(self, met: Meeting) -> Stage:
        """Return the still direction of one connection."""
        return _Stalled(self, met)

    def problems_together(self) -> list[str]:
        """A stall must be over before the next one begins."""
        if self.every_ms == 0 or 0 < self.duration_ms < self.every_ms:
            return []
        return [f"every_ms is {self.every_ms}, which must be more than duration_ms, and that more than 0"]


class _Stalled(_Holding):
    __slots__ = ("_duration_s", "_every_s", "_start_s")

    def __init__(self, toxic: Stall, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._start_s = met.now_s + toxic.after_ms / 1000
        self._duration_s = toxic.duration_ms / 1000 or inf
        self._every_s = toxic.every_ms / 1000

    def inherit(self, earlier: Stage) -> None:
        if isinstance(earlier, _Stalled):
            self._start_s = earlier._start_s  # noqa: SLF001 - one class

    def _opens_s(self, at_s: float) -> float:
        since_s = at_s - self._start_s
        if since_s >= 0 and self._every_s:
            since_s %= self._every_s
        return at_s + self._duration_s - since_s if 0 <= since_s < self._duration_s else at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Flap(StreamToxic):
    """The link goes down for ``down_ms`` and up for ``up_ms``, in turn, for all connections at the same moments.

    It goes down when the toxic is installed.
    """

    kind: ClassVar[str] = "flap"
    extension: ClassVar[bool] = True
    both_ways: ClassVar[bool] = True
    down_ms: int = attribute("down_ms", 1000, least=1, most=HOUR_MS)
    up_ms: int = attribute("up_ms", 1000, least=1, most=HOUR_MS)

    def stage(self, met: Meeting) -> Stage:
        """Return one direction of the flapping link."""
        return _Flapping(self, met)


class _Flapping(_Holding):
    __slots__ = ("_down_s", "_period_s", "_since_s")

    def __init__(self, toxic: Flap, met: Meeting) -> None:
        super().__init__(met.now_s)
        self._since_s = met.since_s
        self._down_s = toxic.down_ms / 1000
        self._period_s = (toxic.down_ms + toxic.up_ms) / 1000

    def _opens_s(self, at_s: float) -> float:
        within_s = (at_s - self._since_s) % self._period_s
        return at_s + self._down_s - within_s if within_s < self._down_s else at_s
