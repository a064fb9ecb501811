"""The recorder inside Locust: samples go into memory, and from there as whole lines into a spool file.

A line that has been written is safe from the death of this process; only what came in since the last flush
(a fifth of a second) can be lost. Writing to a file never blocks the greenlets for longer than a copy in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.groups import Group
from chaos.load.order import SAMPLES_SUFFIX
from chaos.samples import SampleOutcome

FLUSH_EVERY_S = 0.2
"""How often the owner of a recorder calls ``flush``."""

_BUFFER_LINES_MAX = 2000

_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps would make one for each line


class Recorder:
    """Appends samples to ``<folder>/<pid>.samples``. Not for several threads; greenlets are fine.

    Raises OSError from ``flush`` (and from ``record`` when the buffer is full) when the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}{SAMPLES_SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lines: list[str] = []

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file < 0

    def record(
        self,
        kind: str,
        scheduled_s: float,
        ended_s: float,
        outcome: SampleOutcome,
        values: Mapping[str, float] | None = None,
        group: Group | None = None,
    ) -> None:
        """Take one sample; the arguments are the fields of ``chaos.samples.Sample``. Dropped when we are closed."""
        if self.closed:
            return
        fields = (kind, scheduled_s, ended_s, outcome, values or {})
        self._lines.append(_encode(fields if group is None else (*fields, group)))
        if len(self._lines) >= _BUFFER_LINES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write out what is in memory."""
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        self._lines.clear()
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Write out what is in memory and close the file; harmless when it is closed already."""
        if not self.closed:
            self.flush()
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
