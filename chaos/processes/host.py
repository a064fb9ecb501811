"""What the Linux kernel does for us with processes: dying with the parent, adopting orphans, names, family trees.

Imported by the launcher, so it imports little. Elsewhere than on Linux the calls do nothing, and the guardian
alone makes sure that no process outlives a run.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

RUN_VARIABLE = "CHAOS_RUN"
"""Environment variable that every process of a run carries; its value is the run's id."""

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_PROC = Path("/proc")


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """Ask the kernel for ``signal_number`` when our parent ends; end at once when it has ended already.

    The check after the request closes the gap in which the parent dies before the request was made.
    """
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none is out of reach."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """Set the name that ``ps`` and ``top`` show (its first 15 bytes)."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def start_ticks(pid: int) -> int | None:
    """Return when the process started (clock ticks since boot), or None when there is no such process.

    A pid together with its start is unique; a pid alone may have been given to a stranger.
    """
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


def is_alive(pid: int, start: int | None) -> bool:
    """Return whether exactly this process still runs (a zombie does not)."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] not in {"Z", "X"} and (start is None or int(fields[19]) == start)


def descendants(pid: int) -> list[int]:
    """Return the pids of all living descendants of ``pid``, nearest first; also those that left its group."""
    found: list[int] = []
    frontier = [pid]
    while frontier:
        children = [child for parent in frontier for child in _children(parent)]
        found += children
        frontier = children
    return found


def marked_processes(run: str) -> list[int]:
    """Return the pids of all other processes that carry ``CHAOS_RUN=<run>`` in the environment they began with."""
    needle = f"{RUN_VARIABLE}={run}".encode()
    return [pid for pid in _pids() if pid != os.getpid() and needle in _environment(pid) and is_alive(pid, None)]


def _pids() -> Iterator[int]:
    if not _PROC.is_dir():
        return
    for entry in os.listdir(_PROC):  # noqa: PTH208 - names are wanted, hundreds of them, quickly
        if entry.isdecimal():
            yield int(entry)


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` from the state on (the name before it may hold anything)."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(_PROC / str(pid) / "task")  # noqa: PTH208
    except OSError:
        return []
    children: list[int] = []
    for task in tasks:
        try:
            listed = (_PROC / str(pid) / "task" / task / "children").read_text()
        except FileNotFoundError:
            continue  # The thread ended, or the kernel was built without this file.
        except OSError:
            continue
        children += [int(child) for child in listed.split()]
    return children


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


_LIBC = ctypes.CDLL(None)
