"""The manifest of a title: which encodings there are, how large each chunk is, and the digests to accept them by. Pure.

    {"title": "title-0501", "chunks": 12, "encodings": [{"kbps": 235, "chunk_bytes": 490, "digests": [...]}, ...],
     "digest": "..."}

An encoding is one object, all chunks of a bitrate one after the other, each ``chunk_bytes`` long. A digest is BLAKE2b
of 16 bytes, in hexadecimal. That of the whole covers everything else in the manifest, so it also names its version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from targets.playback.seed_data import title_index

CHUNKS_MAX = 240
"""The longest title that is encoded, in chunks."""

ENCODINGS_MAX = 16
CHUNK_BYTES_MAX = 1 << 20
MANIFEST_BYTES_MAX = 512 * 1024
OBJECT_BYTES_MAX = 64 << 20
"""The largest encoding of a title."""

DIGEST_BYTES = 16


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A title at one bitrate."""

    kbps: int
    chunk_bytes: int
    digests: tuple[str, ...]
    """Of each chunk, in order."""

    @property
    def size_bytes(self) -> int:
        """Size of the object."""
        return self.chunk_bytes * len(self.digests)

    def to_json(self) -> dict[str, object]:
        """Return the form it has in the manifest."""
        return {"kbps": self.kbps, "chunk_bytes": self.chunk_bytes, "digests": list(self.digests)}

    @classmethod
    def from_json(cls, data: object) -> Encoding:
        """Read what ``to_json`` wrote. Raises ValueError for anything else."""
        match data:
            case {"kbps": int(kbps), "chunk_bytes": int(chunk_bytes), "digests": list(digests)}:
                if not (kbps > 0 and 0 < chunk_bytes <= CHUNK_BYTES_MAX):
                    raise ValueError(f"an encoding of {kbps} kbit/s with chunks of {chunk_bytes} bytes")
                if not all(isinstance(one, str) and len(one) == 2 * DIGEST_BYTES for one in digests):
                    raise ValueError(f"a digest of the encoding of {kbps} kbit/s is none")
                return cls(kbps=kbps, chunk_bytes=chunk_bytes, digests=tuple(digests))
            case _:
                raise ValueError(f"not an encoding: {str(data)[:80]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All encodings of a title, by rising bitrate."""

    title: str
    chunks: int
    encodings: tuple[Encoding, ...]

    digest: str = field(init=False)
    """The digest of the whole."""

    def __post_init__(self) -> None:
        content = json.dumps(self._content(), separators=(",", ":"), sort_keys=True)
        object.__setattr__(self, "digest", digest_of(content.encode()))

    @property
    def size_bytes(self) -> int:
        """Size of all objects together."""
        return sum(one.size_bytes for one in self.encodings)

    def encoding(self, kbps: int) -> Encoding | None:
        """Return the encoding of this bitrate, if there is one."""
        return next((one for one in self.encodings if one.kbps == kbps), None)

    def to_json(self) -> dict[str, object]:
        """Return the manifest as it travels and is stored."""
        return {**self._content(), "digest": self.digest}

    @classmethod
    def from_json(cls, data: object) -> Manifest:
        """Read what ``to_json`` wrote. Raises ValueError for anything else, a wrong digest included."""
        match data:
            case {"title": str(title), "chunks": int(chunks), "encodings": list(encodings), "digest": str(digest)}:
                if title_index(title) is None:
                    raise ValueError(f"not a title: {title[:40]!r}")
                if not (0 < chunks <= CHUNKS_MAX and 0 < len(encodings) <= ENCODINGS_MAX):
                    raise ValueError(f"a manifest of {chunks} chunks in {len(encodings)} encodings")
                manifest = cls(title=title, chunks=chunks, encodings=tuple(map(Encoding.from_json, encodings)))
            case _:
                raise ValueError("not a manifest")
        rates = [one.kbps for one in manifest.encodings]
        if rates != sorted(set(rates)) or any(len(one.digests) != chunks for one in manifest.encodings):
            raise ValueError(f"the manifest of {title} does not name {chunks} chunks of each of rising bitrates")
        if manifest.digest != digest:
            raise ValueError(f"the manifest of {title} has not the digest that it says")
        return manifest

    @classmethod
    def from_bytes(cls, body: bytes) -> Manifest:
        """Read a manifest's JSON. Raises ValueError when it is none."""
        if len(body) > MANIFEST_BYTES_MAX:
            raise ValueError(f"a manifest of {len(body)} bytes; at most {MANIFEST_BYTES_MAX} are allowed")
        try:
            data: object = json.loads(body)
        except RecursionError as error:
            raise ValueError("not a manifest") from error
        return cls.from_json(data)

    def _content(self) -> Mapping[str, object]:
        return {
            "title": self.title,
            "chunks": self.chunks,
            "encodings": [one.to_json() for one in self.encodings],
        }


def encoding_of(kbps: int, chunks: Sequence[bytes]) -> Encoding:
    """Return the manifest's entry for chunks, which are of one size."""
    return Encoding(kbps=kbps, chunk_bytes=len(chunks[0]), digests=tuple(map(digest_of, chunks)))


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the manifest's JSON."""
    return json.dumps(manifest.to_json(), separators=(",", ":")).encode()
