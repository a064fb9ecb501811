"""How a chunk looks on the wire and on disk: a header that says which chunk it is, and its payload. Pure.

    0        4                20     24       28       32       36
    | "OCA1" | title, 0-padded | kbps | number | length | CRC-32 | payload ...

Numbers are unsigned, big-endian, 4 bytes each. The checksum covers all of the header before it and the payload, so that
a chunk of another title, bitrate or position is as wrong as one with a flipped bit.

CRC-32 and not BLAKE2b, because a player checks every chunk, nobody forges one here, and the largest chunk of the
default scale (12 KiB) takes 2 us instead of 12 us to check. It finds every burst of errors up to 32 bits, and misses
one of 2**32 others. What a file is accepted by once and for all, the manifest's digest, is BLAKE2b (see `manifest`).
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

MAGIC: Final = b"OCA1"
TITLE_BYTES_MAX: Final = 16

_FIELDS: Final = struct.Struct(">4s16sIII")
_CHECKSUM: Final = struct.Struct(">I")
HEADER_BYTES: Final = _FIELDS.size + _CHECKSUM.size
"""What a chunk has before its payload."""


def pack(payload: bytes, *, title: str, kbps: int, number: int) -> bytes:
    """Return the chunk with this payload. Raises ValueError for a title that is too long or has other than ASCII."""
    name = title.encode("ascii")
    if not 0 < len(name) <= TITLE_BYTES_MAX:
        raise ValueError(f"a title has from 1 to {TITLE_BYTES_MAX} characters; {title!r} has {len(name)}")
    fields = _FIELDS.pack(MAGIC, name, kbps, number, len(payload))
    return b"".join((fields, _CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(fields))), payload))


def check(body: bytes, title: str, kbps: int, number: int) -> str | None:
    """Return what is wrong with ``body`` as this chunk of this title, in a few words; None when nothing is."""
    if len(body) <= HEADER_BYTES:
        return f"a chunk of {len(body)} bytes"
    magic, name, has_kbps, has_number, length = _FIELDS.unpack_from(body)
    if magic != MAGIC:
        return "no chunk"
    if length != len(body) - HEADER_BYTES:
        return f"{len(body) - HEADER_BYTES} bytes of {length}"
    (checksum,) = _CHECKSUM.unpack_from(body, _FIELDS.size)
    view = memoryview(body)
    if checksum != zlib.crc32(view[HEADER_BYTES:], zlib.crc32(view[: _FIELDS.size])):
        return "a wrong checksum"
    if (name.rstrip(b"\0"), has_kbps, has_number) != (title.encode(), kbps, number):
        return "another chunk"
    return None
