"""The studio's masters and their encodings: every byte of video there is, as a function of the seed. Pure.

    seed --SHAKE-128--> pad --(title, chunk)--> a stretch of it: the master --every n-th byte--> payload at one bitrate

Two encoders that are given the same master give the same bytes. An OCA of the seeded catalogue was delivered with its
titles on board; it makes their chunks with this when they are asked for, which costs about 10 us, where files would
take 500 titles times 300 KB.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache

from targets.playback.chunk_format import HEADER_BYTES, pack
from targets.playback.video import LADDER_KBPS, VideoScale

_PAD_STARTS = 1 << 16
"""At so many places of the pad a master may begin."""

_MASTER_FACTOR = 2
"""A master has so many times the bytes of its best encoding."""


class Studio:
    """The masters of the world of ``seed``, for chunks of the sizes of ``scale``."""

    def __init__(self, seed: int, scale: VideoScale) -> None:
        self._master_bytes = _MASTER_FACTOR * scale.chunk_bytes(LADDER_KBPS[-1])
        self._pad = _pad(seed, self._master_bytes + _PAD_STARTS)
        self._kept = {kbps: self._kept_at(kbps, scale.chunk_bytes(kbps) - HEADER_BYTES) for kbps in LADDER_KBPS}

    def master(self, title: str, number: int) -> bytes:
        """Return chunk ``number`` of a title as the studio delivers it."""
        begin = _begin(title, number)
        return self._pad[begin : begin + self._master_bytes]

    def chunk(self, title: str, kbps: int, number: int) -> bytes:
        """Return chunk ``number`` of a title, encoded and packed, ``VideoScale.chunk_bytes(kbps)`` bytes long.

        The encoder keeps every n-th byte of the master, n as large as the size allows, beginning at a place that
        depends on the bitrate. Raises KeyError for a bitrate that is not in the ladder.
        """
        kept = self._kept[kbps]
        begin = _begin(title, number)
        # The same bytes as ``self.master(title, number)[kept.start : kept.stop : kept.step]``, without a copy of all.
        payload = self._pad[begin + kept.start : begin + kept.stop : kept.step]
        return pack(payload, title=title, kbps=kbps, number=number)

    def _kept_at(self, kbps: int, size_bytes: int) -> range:
        """Return the positions of a master that an encoding keeps."""
        step = self._master_bytes // size_bytes
        begin = kbps % (self._master_bytes - size_bytes * step + 1)
        return range(begin, begin + size_bytes * step, step)


def _begin(title: str, number: int) -> int:
    return zlib.crc32(f"{title}/{number}".encode()) % _PAD_STARTS


@lru_cache(maxsize=4)
def _pad(seed: int, size_bytes: int) -> bytes:
    return hashlib.shake_128(f"studio/{seed}".encode()).digest(size_bytes)
