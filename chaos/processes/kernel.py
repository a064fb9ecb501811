"""What the kernel knows of TCP sockets: who is connected to a port, what waits unread, who holds it.

Read from ``/proc/net/tcp`` and ``tcp6`` (proc(5)): one line per socket, addresses and ports in hexadecimal, the
state in the fourth column, and ``tx_queue:rx_queue`` in the fifth. For an established connection ``rx_queue`` is
the number of bytes that arrived and were not read; for a listening socket it is the number of connections that
wait to be accepted. Where there is no ``/proc`` everything is counted as none.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED = "01"
_LISTEN = "0A"
_TABLES = ("tcp", "tcp6")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortUse:
    """What goes on at a set of local ports, on the server's side of each connection."""

    connections: int
    """Established connections."""
    waiting_bytes: int
    """Bytes that arrived over them and were not read yet."""
    waiting_connections: int
    """Connections that wait to be accepted (they count as established as well)."""


def port_use(ports: Collection[int], *, proc: Path = Path("/proc")) -> PortUse:
    """Return what goes on at these local ports now."""
    connections = waiting_bytes = waiting_connections = 0
    wanted = {f"{port:04X}" for port in ports}
    for fields in _sockets(proc):
        if fields[1].rpartition(":")[2] not in wanted:
            continue
        unread = int(fields[4].rpartition(":")[2], 16)
        if fields[3] == _ESTABLISHED:
            connections += 1
            waiting_bytes += unread
        elif fields[3] == _LISTEN:
            waiting_connections += unread
    return PortUse(connections=connections, waiting_bytes=waiting_bytes, waiting_connections=waiting_connections)


def listener(port: int, *, proc: Path = Path("/proc")) -> str | None:
    """Return the process that listens on ``port`` as ``name (pid 4711)``, or None when it cannot be told.

    The processes of other users can be seen by root alone.
    """
    wanted = f"{port:04X}"
    inodes = {f[9] for f in _sockets(proc) if f[3] == _LISTEN and f[1].rpartition(":")[2] == wanted}
    links = {f"socket:[{inode}]" for inode in inodes}
    if not links:
        return None
    for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            held = any(os.readlink(fd) in links for fd in (process / "fd").iterdir())  # noqa: PTH115 - not a path
            if held:
                name = (process / "comm").read_text(errors="replace").strip()
                return f"{name} (pid {process.name})"
        except OSError:
            continue  # It ended meanwhile, or is not ours to look at.
    return None


def _sockets(proc: Path) -> Iterator[list[str]]:
    for table in _TABLES:
        try:
            lines = (proc / "net" / table).read_text().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            fields = line.split()
            if len(fields) > 9:
                yield fields
