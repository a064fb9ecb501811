"""What the kernel says of the machine's processors, as counters that only grow: /proc, read and parsed.

==================  =====================================================================================
/proc/stat          ticks of all processors: idle, waiting for disks, and *stolen* by the hypervisor
/proc/pressure/cpu  microseconds in which somebody was ready to run and had no processor (PSI, Linux 4.20)
/proc/schedstat     nanoseconds that ready processes waited in run queues, all added up (where it is built in)
/proc/<pid>/stat    ticks that a process used, whose child it is, and how much it makes way for others
==================  =====================================================================================

See proc(5) and the kernel's Documentation/accounting/psi.rst and scheduler/sched-stats.rst. Where a file is missing (an
older kernel, another system), its figure is None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PROCESSES_MAX = 4000
"""Of more, reading all of them would itself be a disturbance."""
POLITE_NICE = 15
"""From this niceness on, a process gets 3 % or less of what an ordinary one gets (``sched_prio_to_weight``)."""

_SCHED_IDLE = 5
"""The scheduling class of those who take only what nobody wants; see sched(7)."""
_READ_BYTES = 65_536
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PRESSURE = re.compile(r"^some .*\btotal=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processors:
    """Counters of all processors together, in seconds; differences of two readings are what happened between them."""

    number: int
    busy_s: float
    idle_s: float
    stolen_s: float
    waited_s: float | None = None
    """In which somebody waited for a processor."""
    queued_s: float | None = None
    """That ready processes waited, added up over all of them."""


def read_processors(proc: Path = PROC) -> Processors | None:
    """Return the counters now; None where this system has none. A few reads of the kernel's memory, some 0.2 ms."""
    stat = _text(proc / "stat")
    if stat is None:
        return None
    return processors_from(stat, pressure=_text(proc / "pressure" / "cpu"), schedstat=_text(proc / "schedstat"))


def processors_from(stat: str, *, pressure: str | None = None, schedstat: str | None = None) -> Processors | None:
    """Return the counters in the texts of these files; None when the first is not what Linux writes."""
    lines = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    if not lines or len(lines[0]) < 9 or not all(part.isdigit() for part in lines[0][1:9]):
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = (int(part) / _TICKS_PER_S for part in lines[0][1:9])
    found = _PRESSURE.search(pressure or "")
    queued = [line.split() for line in (schedstat or "").splitlines() if re.match(r"cpu\d", line)]
    return Processors(
        number=max(1, len(lines) - 1),
        busy_s=user + nice + system + irq + softirq,
        idle_s=idle + iowait,
        stolen_s=steal,
        waited_s=int(found[1]) / 1e6 if found else None,
        queued_s=sum(int(line[8]) for line in queued) / 1e9 if queued and all(len(one) > 8 for one in queued) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """One process: its parent, the seconds of processor that it has used, and whether it makes way for everybody."""

    parent: int
    used_s: float
    polite: bool


def read_processes(proc: Path = PROC) -> Mapping[int, ProcessUse]:
    """Return every process by its number: one small read each, some 2 ms for a hundred of them.

    Empty where this system does not tell, and where there are more than ``PROCESSES_MAX``.
    """
    try:
        names = [name for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - once a second, so quickly
    except OSError:
        return {}
    if len(names) > PROCESSES_MAX:
        return {}
    texts = {int(name): _text(f"{proc}/{name}/stat") for name in names}
    found = {pid: process_from(text) for pid, text in texts.items() if text is not None}
    return {pid: one for pid, one in found.items() if one is not None}


def process_from(stat: str) -> ProcessUse | None:
    """Return what a process' ``stat`` says; None when it is not what Linux writes."""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    try:
        return ProcessUse(
            parent=int(fields[1]),
            used_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
            polite=int(fields[38]) == _SCHED_IDLE or int(fields[16]) >= POLITE_NICE,
        )
    except (IndexError, ValueError):
        return None


def tree_of(root: int, processes: Mapping[int, ProcessUse]) -> frozenset[int]:
    """Return a process and all below it."""
    below: dict[int, list[int]] = {}
    for pid, process in processes.items():
        below.setdefault(process.parent, []).append(pid)
    found, left = {root}, [root]
    while left:
        new = set(below.get(left.pop(), ())) - found  # what is read while it changes may have a circle
        found |= new
        left += new
    return frozenset(found)


def _text(path: Path | str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _READ_BYTES).decode(errors="replace")
    except OSError:
        return None  # the process has ended meanwhile
    finally:
        os.close(descriptor)
