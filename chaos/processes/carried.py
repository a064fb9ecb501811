"""How many bytes each open TCP connection has carried, as the kernel counts them.

The kernel's socket diagnostics (sock_diag(7)) list every TCP socket with its ``struct tcp_info`` (linux/tcp.h), in
which ``tcpi_bytes_acked`` are the bytes sent and confirmed, ``tcpi_bytes_received`` those received.
Needed because the real Toxiproxy counts a connection's bytes only when it has ended: a kept-alive one would look idle.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, any socket
_TCP_INFO = 2  # INET_DIAG_INFO
_ESTABLISHED = 1 << 1
_PORTS_AT = 4  # in struct inet_diag_msg: source and destination port, in network order
_ATTRIBUTES_AT = 72  # after struct inet_diag_msg
_BYTES_AT = 120  # tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info
_BYTES_END = 136
_ANSWER_BYTES_MAX = 1 << 18
_WITHIN_S = 1.0


def bytes_carried(ports: Collection[int]) -> dict[int, int]:
    """Return for each local port the bytes that its open connections have carried so far, both ways together.

    Empty where the kernel does not answer (it is not Linux, or it does not allow the question).
    """
    carried = dict.fromkeys(ports, 0)
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in _established(family):
                (port,) = struct.unpack_from(">H", message, _PORTS_AT)
                if port in carried:
                    carried[port] += _bytes_of(message)
    except (OSError, AttributeError):
        return {}
    return carried


def _established(family: int) -> Iterator[bytes]:
    """Yield the ``struct inet_diag_msg`` of every established TCP socket, with its attributes behind it."""
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_TCP_INFO - 1), _ESTABLISHED)
    head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(_WITHIN_S)
        link.send(head + request)
        while True:
            answer = link.recv(_ANSWER_BYTES_MAX)
            at = 0
            while at < len(answer):
                length, kind, *_ = _HEADER.unpack_from(answer, at)
                if kind in {_DONE, _ERROR}:
                    return
                yield answer[at + _HEADER.size : at + length]
                at += (length + 3) & ~3


def _bytes_of(message: bytes) -> int:
    at = _ATTRIBUTES_AT
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == _TCP_INFO and length >= 4 + _BYTES_END:
            return sum(struct.unpack_from("=QQ", message, at + 4 + _BYTES_AT))
        if length < 4:
            break
        at += (length + 3) & ~3
    return 0
