"""The kernel's own list of TCP sockets, asked for by state (sock_diag(7)).

Each is a ``struct inet_diag_msg`` (linux/inet_diag.h) and, where it is asked for, its ``struct tcp_info``
(linux/tcp.h) behind it. Under load a machine has tens of thousands of connections that are over and wait a minute for
stray packets; ``/proc/net/tcp`` writes out each of them, which takes a tenth of a second, and here they are left out.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ESTABLISHED, LISTEN = 1, 10
"""States of a TCP socket (linux/tcp_states.h)."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, any socket
_STATE_AT, _PORT_AT, _UNREAD_AT = 1, 4, 56  # in struct inet_diag_msg; the ports are in network order
_ATTRIBUTES_AT = 72  # after struct inet_diag_msg
_TCP_INFO = 2  # INET_DIAG_INFO
_BYTES_AT = 120  # tcpi_bytes_acked (sent and confirmed) and tcpi_bytes_received in struct tcp_info
_BYTES_END = 136
_ANSWER_BYTES_MAX = 1 << 18
_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """One socket, IPv4 or IPv6."""

    state: int
    port: int
    """The local one."""
    unread: int
    """Bytes that arrived and were not read; of a listening socket, connections that wait to be accepted."""
    carried_bytes: int
    """Bytes that the connection has carried so far, both ways together; 0 where nobody asked."""


def tcp_sockets(*states: int, carried: bool = False) -> Iterator[TcpSocket]:
    """Yield all sockets in these states, with the bytes they have ``carried`` where that is wanted.

    Raises:
        OSError: The kernel does not answer: it is not Linux, or it does not allow the question.
    """
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError("this system has no netlink sockets")
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _messages(family, sum(1 << state for state in states), _TCP_INFO if carried else 0):
            (port,) = struct.unpack_from(">H", message, _PORT_AT)
            (unread,) = struct.unpack_from("=I", message, _UNREAD_AT)
            yield TcpSocket(message[_STATE_AT], port, unread, _carried_by(message) if carried else 0)


def _messages(family: int, states: int, attribute: int) -> Iterator[bytes]:
    """Yield the ``struct inet_diag_msg`` of every TCP socket in these states (a bit each), with its attributes."""
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (attribute - 1) if attribute else 0, states)
    head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(_WITHIN_S)
        link.send(head + request)
        while True:
            answer = link.recv(_ANSWER_BYTES_MAX)
            at = 0
            while at < len(answer):
                length, kind, *_ = _HEADER.unpack_from(answer, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    (error,) = struct.unpack_from("=i", answer, at + _HEADER.size)
                    raise OSError(-error, "the kernel does not list its sockets")
                yield answer[at + _HEADER.size : at + length]
                at += _aligned(length)


def _carried_by(message: bytes) -> int:
    at = _ATTRIBUTES_AT
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == _TCP_INFO and length >= 4 + _BYTES_END:
            return sum(struct.unpack_from("=QQ", message, at + 4 + _BYTES_AT))
        if length < 4:
            break
        at += _aligned(length)
    return 0


def _aligned(length: int) -> int:
    return (length + 3) & ~3
