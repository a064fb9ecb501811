"""What the kernel knows of TCP sockets: who is connected to a port, what waits unread, what was carried, who holds it.

Asked of the kernel's socket diagnostics where they answer. Where they do not, read from ``/proc/net/tcp`` and ``tcp6``
(proc(5)): one line per socket, addresses and ports in hexadecimal, the state in the fourth column, and
``tx_queue:rx_queue`` in the fifth; these have no count of the bytes carried. Where there is no ``/proc`` either,
everything is counted as none.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.processes.sock_diag import ESTABLISHED, LISTEN, TcpSocket, tcp_sockets

_PROC = Path("/proc")
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


def port_use(ports: Collection[int]) -> PortUse:
    """Return what goes on at these local ports now."""
    connections = waiting_bytes = waiting_connections = 0
    wanted = frozenset(ports)
    for one in _sockets_in(ESTABLISHED, LISTEN):
        if one.port not in wanted:
            continue
        if one.state == ESTABLISHED:
            connections += 1
            waiting_bytes += one.unread
        else:
            waiting_connections += one.unread
    return PortUse(connections=connections, waiting_bytes=waiting_bytes, waiting_connections=waiting_connections)


def bytes_carried(ports: Collection[int]) -> dict[int, int]:
    """Return for each local port the bytes that its open connections have carried so far, both ways together.

    Empty where the kernel does not tell. Needed because the real Toxiproxy counts a connection's bytes only when it has
    ended: a kept-alive one would look idle.
    """
    carried = dict.fromkeys(ports, 0)
    try:
        for one in tcp_sockets(ESTABLISHED, carried=True):
            if one.port in carried:
                carried[one.port] += one.carried_bytes
    except OSError:
        return {}
    return carried


def listener(port: int) -> str | None:
    """Return the process that listens on ``port`` as ``name (pid 4711)``, or None when it cannot be told.

    The processes of other users can be seen by root alone.
    """
    inodes = {inode for one, inode in _listed() if one.state == LISTEN and one.port == port}
    links = {f"socket:[{inode}]" for inode in inodes}
    if not links:
        return None
    for process in sorted(_PROC.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            held = any(os.readlink(fd) in links for fd in (process / "fd").iterdir())  # noqa: PTH115 - not a path
            if held:
                name = (process / "comm").read_text(errors="replace").strip()
                return f"{name} (pid {process.name})"
        except OSError:
            continue  # It ended meanwhile, or is not ours to look at.
    return None


def _sockets_in(*states: int) -> Sequence[TcpSocket]:
    """Return all sockets in these states; from ``/proc`` where the kernel does not answer."""
    try:
        return list(tcp_sockets(*states))
    except OSError:
        return [one for one, _ in _listed() if one.state in states]


def _listed() -> Iterator[tuple[TcpSocket, str]]:
    """Yield what ``/proc`` lists: each socket, and its inode."""
    for table in _TABLES:
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            fields = line.split()
            if len(fields) > 9:
                port, unread = (int(fields[column].rpartition(":")[2], 16) for column in (1, 4))
                yield TcpSocket(int(fields[3], 16), port, unread, 0), fields[9]
