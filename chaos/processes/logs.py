"""What a process that ended can tell: its last log lines, and its exit status in words."""

from __future__ import annotations

import signal
from pathlib import Path

LINES_SHOWN = 15
_TAIL_BYTES = 32 * 1024
_LINE_CHARS_MAX = 400


def last_lines(log: Path, *, lines: int = LINES_SHOWN) -> tuple[str, ...]:
    """Return the last lines of a log, long ones cut; nothing when there is no log."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(line[:_LINE_CHARS_MAX] for line in text.splitlines()[-lines:])


def ending_in_words(exit_status: int | None) -> str:
    """Return ``exit status 1``, or ``killed by SIGKILL`` for a negative status."""
    if exit_status is None:
        return "lost with the launcher"
    if exit_status >= 0:
        return f"exit status {exit_status}"
    try:
        return f"killed by {signal.Signals(-exit_status).name}"
    except ValueError:
        return f"killed by signal {-exit_status}"
