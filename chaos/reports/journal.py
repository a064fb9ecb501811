"""The journal: every event of a run as one line of JSON, written the moment it happens and never changed after.

::

    {"journal": "chaos", "version": 1}
    {"event": "run_started", "t_s": 0.0, "experiment": "an ISP's OCAs die", "seed": 7, ...}
    {"event": "phase_started", "t_s": 0.0, "phase": "warm_up"}
    ...
    {"event": "run_ended", "t_s": 61.3, "outcome": "held", "verdict": {...}}

A file may hold several runs, one after the other; each opening of the file writes a head line of its own. A process
that is killed leaves at most its last line torn: readers skip a torn line at the end of the file or in front of a
head line. How an event becomes an object is said in ``eventjson``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from chaos.errors import EnvironmentFailure, Problem, UsageError
from chaos.events import Event, RunEnded
from chaos.reports.eventjson import event_from_json, event_to_json

VERSION = 1
"""Raised when a reader of the old form could no longer read the new one; a new field does not raise it."""

LINE_BYTES_MAX = 16 * 1024 * 1024
"""A longer line is no journal's."""


class JournalWriter:
    """Writes a journal; ``handle`` is a sink for events. A context manager that closes the file.

    A new file is made; to a journal that is there already the new run is appended. One process writes a file at a
    time. Raises UsageError when the file is no journal, is being written, or cannot be opened; ``handle`` raises
    EnvironmentFailure, once, when the disk refuses a line, and stays silent from then on, so that a run whose
    journal failed can still be healed and ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: IO[bytes] | None = path.open("ab+")
        except OSError as failure:
            raise UsageError(f"{path}: cannot be written as a journal: {failure.strerror}") from failure
        try:
            self._begin(self._file)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def handle(self, event: Event) -> None:
        """Write one event; it is in the operating system's hands when this returns, and on the disk after RunEnded."""
        self._write(event_to_json(event), sync=isinstance(event, RunEnded))

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _begin(self, file: IO[bytes]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            raise UsageError(f"{self.path}: another run is writing this journal; choose another file") from failure
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(0)
            check_head(self.path, file.readline(LINE_BYTES_MAX))
            file.seek(end - 1)
            if file.read(1) != b"\n":  # end the line that an earlier process left torn
                file.write(b"\n")
        self._write({"journal": "chaos", "version": VERSION}, sync=False)

    def _write(self, document: Mapping[str, object], *, sync: bool) -> None:
        if self._file is None:
            return
        line = json.dumps(document, ensure_ascii=False, separators=(", ", ": ")) + "\n"
        try:
            self._file.write(line.encode("utf-8", "backslashreplace"))
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())
        except OSError as failure:
            self._give_up()
            raise EnvironmentFailure(f"{self.path}: the journal cannot be written: {failure.strerror}") from failure

    def _give_up(self) -> None:
        file, self._file = self._file, None
        assert file is not None
        with contextlib.suppress(OSError):  # the line that could not be written is still in the buffer
            file.close()


def read_journal(path: Path) -> tuple[Event, ...]:
    """Return all events of a journal, in order. Raises UsageError for a file that is none, with the line at fault."""
    found: list[Event] = []
    torn: tuple[int, str] | None = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), start=1):
                if number == 1:
                    check_head(path, line)
                    continue
                begins = is_head(line)
                if torn is not None and not begins:
                    raise UsageError([_problem(path, torn[0], torn[1])])
                torn = None
                if begins:
                    check_head(path, line, number)
                    continue
                try:
                    found.append(event_from_json(_parse(line)))
                except _TornError as failure:
                    torn = (number, str(failure))
                except ValueError as failure:
                    raise UsageError([_problem(path, number, str(failure))]) from None
    except OSError as failure:
        raise UsageError(f"{path}: cannot be read: {failure.strerror}") from failure
    return tuple(found)


class _TornError(ValueError):
    """A line that is not JSON at all."""


def _parse(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as failure:
        raise _TornError("is not a line of JSON") from failure


def is_head(line: bytes) -> bool:
    """Return whether the line is one that each opening of a journal begins with."""
    return line.startswith(b'{"journal"')


def check_head(path: Path, line: bytes, number: int = 1) -> None:
    """Raise UsageError for a head line that is none, or that of a form this version cannot read."""
    try:
        head = _parse(line)
    except _TornError:
        head = None
    if not isinstance(head, dict) or head.get("journal") != "chaos":
        message = 'is not a journal of chaos: it would begin with {"journal": "chaos", ...}; '
        message += "name a file that `chaos run --journal FILE` wrote"
        raise UsageError([_problem(path, number, message)])
    version = head.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        message = f"a journal of version {version!r:.20}, and this chaos reads up to {VERSION}: use a newer chaos"
        raise UsageError([_problem(path, number, message)])


def _problem(path: Path, number: int, message: str) -> Problem:
    return Problem(file=str(path), line=number, key="", message=message)
