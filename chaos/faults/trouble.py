"""Faults on the wire as on a bad network: lost packets, cut directions, flapping links.

The embedded proxy alone has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Stream
from chaos.faults.network import HOUR_MS, ToxicFault
from chaos.faults.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension(ToxicFault):
    """Base of the toxics that Toxiproxy does not have; they fall on whole connections, unless they say otherwise."""

    @property
    def needs_embedded(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Extension):
    """Breaks new connections off at once (TCP reset), all or a share of them; open ones go on."""

    kind: ClassVar[str] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackHole(Extension):
    """Accepts connections and answers nothing: all is swallowed, both ways, and nothing is ever closed."""

    kind: ClassVar[str] = "black_hole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(Extension):
    """Cuts one direction, while the other works; what was held arrives when it heals, as TCP sends again."""

    kind: ClassVar[str] = "partition"

    stream: Stream = setting(  # noqa: RUF009 - a field
        "the direction that is cut: downstream is from the server to the caller", Stream.DOWNSTREAM
    )

    def direction(self) -> Stream:
        """Return the setting."""
        return self.stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(Extension):
    """Lets whole connections stand still for a time, once or again and again; nothing is lost."""

    kind: ClassVar[str] = "stall"

    duration_ms: int = setting("for how long; 0: until the fault ends", 0, most=HOUR_MS, extension="duration_ms")
    after_ms: int = setting("how long a connection works before it", 0, most=HOUR_MS, extension="after_ms")
    every_ms: int = setting("from one stall to the next; 0: there is one only", 0, most=HOUR_MS, extension="every_ms")

    def check_together(self) -> Sequence[tuple[str, str]]:
        """A stall must be over before the next one begins."""
        if self.every_ms == 0 or 0 < self.duration_ms < self.every_ms:
            return []
        said = f"{self.every_ms} must be more than duration_ms ({self.duration_ms}), and that more than 0"
        return [("every_ms", said)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flap(Extension):
    """The link goes down and up in turn, for all connections at the same moments; nothing is lost, it comes late."""

    kind: ClassVar[str] = "flap"

    down_ms: int = setting("how long it is down", 1000, least=1, most=HOUR_MS, extension="down_ms")
    up_ms: int = setting("how long it is up", 1000, least=1, most=HOUR_MS, extension="up_ms")
