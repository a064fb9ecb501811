"""The video of the playback target: its bitrates, its chunks and the one scale between real minutes and our seconds.

Real players keep minutes of video in their buffer, and so can sit out any fault of an experiment that lasts a minute.
`VideoScale` divides those buffers, and the bytes of a chunk, by one documented factor. With the default factor of 60 a
second here stands for a minute there.

Source of the real buffers: Huang, Johari, McKeown, Trunnell, Watson, "A Buffer-Based Approach to Rate Adaptation:
Evidence from a Large Video Streaming Service", SIGCOMM 2014 (a buffer of 240 s, a reservoir of 90 s, and a cushion of
126 s that reaches up to 90 % of the buffer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

CHUNK_S: Final = 1.0
"""Seconds of playing time in one chunk."""

LADDER_KBPS: Final[tuple[int, ...]] = (235, 750, 1750, 3000, 5800)
"""The bitrates every title is encoded at, in kbit/s as in the real world, rising."""

DEFAULT_FACTOR: Final = 60.0
REAL_BUFFER_CAP_S: Final = 240.0
REAL_RESERVOIR_S: Final = 90.0
REAL_CUSHION_S: Final = 126.0

CHUNK_BYTES_MIN: Final = 64
"""No chunk is smaller, so that there is room for its header and some payload at any scale."""

_BITS_PER_BYTE: Final = 8
_BITS_PER_KILOBIT: Final = 1000


@dataclass(frozen=True, slots=True)
class VideoScale:
    """How many times smaller than the real ones our buffers and chunks are.

    `factor` is the setting `video_scale` of the topology. Raises ValueError when it is not a number of 1 or more.
    """

    factor: float = DEFAULT_FACTOR

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor >= 1.0):
            raise ValueError(f"The video scale must be a number of 1 or more; it is {self.factor!r}.")

    def chunk_bytes(self, kbps: int) -> int:
        """Size in bytes of one chunk at the ladder rate `kbps`, header included; at least `CHUNK_BYTES_MIN`."""
        real_bytes = kbps * _BITS_PER_KILOBIT * CHUNK_S / _BITS_PER_BYTE
        return max(CHUNK_BYTES_MIN, round(real_bytes / self.factor))

    @property
    def buffer_cap_s(self) -> float:
        """Seconds of video the buffer holds at most."""
        return REAL_BUFFER_CAP_S / self.factor

    @property
    def reservoir_s(self) -> float:
        """Below this much video in the buffer, the lowest bitrate is asked for."""
        return REAL_RESERVOIR_S / self.factor

    @property
    def cushion_s(self) -> float:
        """Length of the stretch above the reservoir over which the bitrate rises to the top of the ladder."""
        return REAL_CUSHION_S / self.factor
