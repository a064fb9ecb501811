"""Processes that a test starts, and their end, whatever comes of the test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

END_WITHIN_S = 10.0
"""How long what was begun may take to end by itself: a guardian gives a Toxiproxy that hangs five seconds."""


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program; it is killed in the end, whatever comes of the test, and waited for."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_ended(alive: Callable[[], Sequence[int]], within_s: float = END_WITHIN_S) -> None:
    """Wait until ``alive`` names no process any more; those that it still names after ``within_s`` are killed."""
    limit_s = time.monotonic() + within_s
    while alive() and time.monotonic() < limit_s:
        time.sleep(0.02)
    limit_s += END_WITHIN_S
    while (pids := alive()) and time.monotonic() < limit_s:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
