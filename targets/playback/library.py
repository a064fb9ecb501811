"""The titles of an OCA: those it was delivered with, and those it has fetched and checked since.

    title-0001 ... title-0500    delivered: chunks are made by the studio's function when they are asked for
    title-0501/<digest>/235      fetched: one file for each encoding, in a folder of the manifest's digest
    title-0501/manifest          says which folder counts; written last, so what it names is all there

Both are read through the OCA's disk. Only what the manifest's digests say was right is taken in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from targets.playback.disk import Disk
from targets.playback.manifest import Encoding, Manifest, digest_of, manifest_bytes
from targets.playback.seed_data import title_index
from targets.playback.studio import Studio
from targets.playback.video import LADDER_KBPS, VideoScale

DELIVERED_CHUNKS_MAX = 10_000
"""A title that was delivered is as long as anybody's session."""


class WrongBytes(Exception):  # noqa: N818 - it names what was found
    """A file is not what the manifest says."""


class Library:
    """What an OCA holds. ``version`` grows whenever ``titles`` changes."""

    def __init__(self, disk: Disk, studio: Studio, scale: VideoScale, *, delivered: int) -> None:
        self._disk = disk
        self._studio = studio
        self._delivered = delivered
        self._sizes = {kbps: scale.chunk_bytes(kbps) for kbps in LADDER_KBPS}
        self._fetched: dict[str, Manifest] = {}
        self.titles = delivered
        """Bitmap of the titles that can be served (see `seed_data.title_index`)."""
        self.version = 1

    @property
    def fetched(self) -> Mapping[str, str]:
        """The digests of the titles that were fetched and checked."""
        return {title: one.digest for title, one in self._fetched.items()}

    def chunk_bytes(self, title: str, kbps: int, number: int) -> int | None:
        """Return the size of a chunk, or None when it is not held here."""
        position = title_index(title)
        if position is None or not self.titles >> position & 1:
            return None
        if (manifest := self._fetched.get(title)) is not None:
            encoding = manifest.encoding(kbps)
            return encoding.chunk_bytes if encoding is not None and 0 <= number < manifest.chunks else None
        return self._sizes.get(kbps) if 0 <= number < DELIVERED_CHUNKS_MAX else None

    async def chunk(self, title: str, kbps: int, number: int) -> bytes:
        """Return a chunk that is held, as the disk gives it. Raises OSError."""
        manifest = self._fetched.get(title)
        encoding = manifest.encoding(kbps) if manifest is not None else None
        if manifest is None or encoding is None:
            return await self._disk.read(lambda: self._studio.chunk(title, kbps, number))
        size = encoding.chunk_bytes
        return await self._disk.read_file(file_name(manifest, kbps), number * size, size)

    async def find(self, title: str) -> None:
        """Take in a title that the disk has from before, when all of it is right; else remove what there is of it.

        Raises OSError.
        """
        try:
            manifest = Manifest.from_bytes(await self._disk.read_file(_manifest_name(title)))
            for encoding in manifest.encodings:
                await self.check(file_name(manifest, encoding.kbps), encoding)
        except (ValueError, WrongBytes, FileNotFoundError):
            self._disk.remove(_manifest_name(title))
            return
        self._take_in(manifest)

    async def check(self, name: str, encoding: Encoding) -> None:
        """Compare a file with its digests, chunk by chunk. Raises WrongBytes, and OSError."""
        if self._disk.size(name) != encoding.size_bytes:
            raise WrongBytes(f"{name} has {self._disk.size(name)} bytes instead of {encoding.size_bytes}")
        for number, digest in enumerate(encoding.digests):
            data = await self._disk.read_file(name, number * encoding.chunk_bytes, encoding.chunk_bytes)
            if digest_of(data) != digest:
                raise WrongBytes(f"chunk {number} of {name} has not the digest that its manifest says")
            await asyncio.sleep(0)  # who asks for chunks meanwhile goes first

    def complete(self, manifest: Manifest) -> None:
        """Take in a title whose files are all there and checked, in place of an older version. Raises OSError."""
        before = self._fetched.get(manifest.title)
        self._disk.write(_manifest_name(manifest.title), manifest_bytes(manifest))
        self._take_in(manifest)
        if before is not None and before.digest != manifest.digest:
            for encoding in before.encodings:
                self._disk.remove(file_name(before, encoding.kbps))

    def _take_in(self, manifest: Manifest) -> None:
        position = title_index(manifest.title)
        assert position is not None, "a manifest has a title"
        self._fetched[manifest.title] = manifest
        self.titles |= 1 << position
        self.version += 1


def file_name(manifest: Manifest, kbps: int) -> str:
    """Name of the file of an encoding."""
    return f"{manifest.title}/{manifest.digest}/{kbps}"


def _manifest_name(title: str) -> str:
    return f"{title}/manifest"
