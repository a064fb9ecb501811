"""A disk that can be told to misbehave: everything that is kept in files is read and written through one of these.

    slow       every read waits first                         {"slow_ms": 300}
    corrupt    a bit is flipped in this share of the reads    {"corrupt_share": 0.1}
    full       nothing can be written: ENOSPC                 {"full": true}
    failing    nothing can be read or written: EIO            {"failing": true}

What the operating system itself says of a disk comes out as the same OSError, so nobody has to know which it was.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

SLOW_MS_MAX = 60_000.0
PART = ".part"
"""What the name of a file ends with that is not all there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFaults:
    """How a disk misbehaves; as it is made, not at all."""

    slow_ms: float = 0.0
    corrupt_share: float = 0.0
    full: bool = False
    failing: bool = False

    @classmethod
    def from_json(cls, data: object) -> DiskFaults:
        """Read faults from a request's body. Raises ValueError that says what is allowed."""
        known = {one.name: one.type for one in fields(cls)}
        if not isinstance(data, dict) or not data:
            raise ValueError(f"a JSON object with some of {', '.join(known)} is needed")
        for name, value in data.items():
            if name not in known:
                raise ValueError(f"there is no fault {str(name)[:40]!r}; there are {', '.join(known)}")
            if isinstance(value, bool) != (known[name] == "bool") or not isinstance(value, bool | int | float):
                raise ValueError(f"{name} is {str(value)[:40]!r}; a {known[name]} is needed")
        faults = cls(**data)
        if not 0.0 <= faults.slow_ms <= SLOW_MS_MAX:
            raise ValueError(f"slow_ms is {faults.slow_ms}; from 0 to {SLOW_MS_MAX:g} are possible")
        if not 0.0 <= faults.corrupt_share <= 1.0:
            raise ValueError(f"corrupt_share is {faults.corrupt_share}; it is a share from 0 to 1")
        return faults


@dataclass(slots=True, kw_only=True)
class DiskCounts:
    """What a disk has done since the process started."""

    reads: int = 0
    reads_slowed: int = 0
    reads_corrupted: int = 0
    reads_failed: int = 0
    writes: int = 0
    writes_refused: int = 0


class Disk:
    """Files below ``folder``, by names such as ``title-0501/235``. ``rng`` decides which reads are corrupted.

    Every method but ``size`` and ``names`` raises OSError when the disk fails.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder = folder
        self._rng = rng
        self._healthy = True
        self._faults = DiskFaults()
        self.counts = DiskCounts()

    @property
    def faults(self) -> DiskFaults:
        """How it misbehaves; may be set at any moment."""
        return self._faults

    @faults.setter
    def faults(self, faults: DiskFaults) -> None:
        self._faults = faults
        self._healthy = faults == DiskFaults()

    def to_json(self) -> dict[str, object]:
        """Return faults and counts, for who asks."""
        return {**asdict(self._faults), **asdict(self.counts)}

    async def read(self, content: Callable[[], bytes]) -> bytes:
        """Return what ``content`` gives, as this disk would read it."""
        self.counts.reads += 1
        if self._healthy:
            return content()
        faults = self._faults
        if faults.slow_ms:
            self.counts.reads_slowed += 1
            await asyncio.sleep(faults.slow_ms / 1000)
        if faults.failing:
            self.counts.reads_failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = content()
        if data and self._rng.random() < faults.corrupt_share:
            self.counts.reads_corrupted += 1
            data = _with_a_flipped_bit(data, self._rng)
        return data

    async def read_file(self, name: str, begin: int = 0, length: int = -1) -> bytes:
        """Return ``length`` bytes of a file from ``begin`` on, fewer when it ends before; -1: all that follow."""
        return await self.read(lambda: self._content(name, begin, length))

    def append(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a file, which is made when it is not there."""
        self._before_write()
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def publish(self, part: str, name: str, *, durable: bool = False) -> None:
        """Give a file that is complete its name, in one step; ``durable``: return when the system has it on disk."""
        self._before_write()
        if durable:
            _sync(self._path(part))
        self._path(name).parent.mkdir(parents=True, exist_ok=True)
        self._path(part).replace(self._path(name))
        if durable:
            _sync(self._path(name).parent)

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Make or replace a file, in one step."""
        part = name + PART
        self.remove(part)
        try:
            self.append(part, data)
            self.publish(part, name, durable=durable)
        except OSError:
            self.remove(part)
            raise

    def remove(self, name: str) -> None:
        """Remove a file, if it is there; and its folder, when nothing else is in it."""
        path = self._path(name)
        path.unlink(missing_ok=True)
        try:
            path.parent.rmdir()
        except OSError:
            return  # other files are in it, or it never was there

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None when there is none."""
        try:
            return self._path(name).stat().st_size
        except OSError:
            return None

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what is in a folder; none when there is no folder."""
        try:
            return sorted(path.name for path in self._path(folder).iterdir())
        except OSError:
            return []

    def _before_write(self) -> None:
        self.counts.writes += 1
        if self._faults.full or self._faults.failing:
            self.counts.writes_refused += 1
            number = errno.EIO if self._faults.failing else errno.ENOSPC
            raise OSError(number, os.strerror(number))

    def _content(self, name: str, begin: int, length: int) -> bytes:
        with self._path(name).open("rb") as file:
            file.seek(begin)
            return file.read(length)

    def _path(self, name: str) -> Path:
        assert not {"..", ""} & set(name.split("/")[:-1]), "names are made by us, of checked parts"
        return self._folder / name


def _with_a_flipped_bit(data: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(data)
    position = rng.randrange(len(flipped) * 8)
    flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
