"""The follower: reads the samples that the recorders of all Locust processes write, as they come.

A line is taken once it is whole; a torn last line waits for its rest, and is left out when the rest never comes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from chaos.errors import EnvironmentFailure
from chaos.load.order import SAMPLES_SUFFIX
from chaos.samples import Sample

_READ_BYTES_MAX = 4 * 1024 * 1024
"""Read at most this much of one file in one go, so that the caller's event loop gets its turn."""


class Follower:
    """Follows all ``*.samples`` files of ``folder``, those that appear later included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def read(self) -> list[Sample]:
        """Return the samples written since the last call, file by file. Never blocks.

        Raises EnvironmentFailure when a whole line is not a sample: somebody else wrote into the folder.
        """
        samples: list[Sample] = []
        for path in sorted(self._folder.glob(f"*{SAMPLES_SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):
                samples += self._read_file(path)
        return samples

    def _read_file(self, path: Path) -> list[Sample]:
        offset = self._offsets.get(path, 0)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(_READ_BYTES_MAX)
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[path] = offset + len(whole)
        try:
            return [Sample.from_line(line) for line in whole.decode().splitlines()]
        except ValueError as error:
            raise EnvironmentFailure(f"{path}: the load wrote a line that is not a sample: {error}") from error
