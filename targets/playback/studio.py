"""The studio's masters and their encodings: every byte of video there is, as a function of the seed. Pure.

    seed --SHAKE-128--> pad --(title, chunk)--> a stretch of it: the master --every n-th byte--> payload at one bitrate

Two encoders that are given the same master give the same bytes. An OCA of the seeded catalogue was delivered with its
titles on board; it makes their chunks with this when they are asked for, which costs about 10 us, where files would
take 500 titles times 300 KB.
"""

from __future__ import annotations

import hashlib
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
        self._scale = scale
        self._master_bytes = _MASTER_FACTOR * scale.chunk_bytes(LADDER_KBPS[-1])
        self._pad = _pad(seed, self._master_bytes + _PAD_STARTS)

    def master(self, title: str, number: int) -> bytes:
        """Return chunk ``number`` of a title as the studio delivers it."""
        name = hashlib.blake2b(f"{title}/{number}".encode(), digest_size=8).digest()
        begin = int.from_bytes(name) % _PAD_STARTS
        return self._pad[begin : begin + self._master_bytes]

    def chunk(self, title: str, kbps: int, number: int) -> bytes:
        """Return chunk ``number`` of a title, encoded and packed, ``VideoScale.chunk_bytes(kbps)`` bytes long.

        The encoder keeps every n-th byte of the master, n as large as the size allows, beginning at a place that
        depends on the bitrate.
        """
        size = self._scale.chunk_bytes(kbps) - HEADER_BYTES
        step = self._master_bytes // size
        begin = kbps % (self._master_bytes - size * step + 1)
        payload = self.master(title, number)[begin : begin + size * step : step]
        return pack(payload, title=title, kbps=kbps, number=number)


@lru_cache(maxsize=4)
def _pad(seed: int, size_bytes: int) -> bytes:
    return hashlib.shake_128(f"studio/{seed}".encode()).digest(size_bytes)
