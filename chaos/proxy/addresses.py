"""Where proxies listen and lead to: reading addresses as the real server does, and opening listeners."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket

from chaos.proxy.problems import CannotBindError, ProxyError

BACKLOG = 1024
LOOPBACK = "127.0.0.1"
EVERY_INTERFACE = "::"
"""Listened at only where a proxy is asked for with a port and no host; see ``resolve``."""


_KEEP_ALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 9))
"""Seconds until the first probe and between them, and how many may be lost: what Go, and so the real server, sets."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can be at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def keep_alive(connection: socket.socket) -> None:
    """Let the system notice when the other machine has vanished; what a listener has, its connections have as well.

    On this machine nobody vanishes without a word, and the probes of thousands of connections at once get lost.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):  # absent on some systems
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def split_address(address: str) -> tuple[str, str]:
    """Split ``host:port`` or ``[host]:port``. ValueError with the real server's words when it is neither."""
    host, colon, port = address.rpartition(":")
    if not colon or (address.startswith("[") and address.endswith("]")):
        raise ValueError(f"address {address}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    if ":" in host:
        raise ValueError(f"address {address}: too many colons in address")
    return host, port


async def resolve(listen: str) -> tuple[str, int]:
    """Return the address to listen at: IPv4 first, as the real server does. ProxyError when it is none.

    An empty address means some free port of 127.0.0.1; the real server would open it to the whole network. With a
    port but no host (``:8080``) every interface is meant, as there.
    """
    if not listen:
        return LOOPBACK, 0
    try:
        host, port_text = split_address(listen)
    except ValueError as error:
        raise ProxyError(str(error)) from None
    try:
        port = int(port_text) if port_text.isdigit() or not port_text else socket.getservbyname(port_text, "tcp")
    except ValueError:
        port = 0
    except OSError:
        raise ProxyError(f"lookup tcp/{port_text}: unknown port") from None
    if port > 65535:
        raise ProxyError(f"address {port_text}: invalid port")
    if not host:
        return EVERY_INTERFACE, port
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise ProxyError(f"lookup {host}: no such host") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    address = found[0][4]
    return str(address[0]), int(address[1])


async def open_listener(listen: str) -> socket.socket:
    """Return a socket that listens there. ProxyError when that cannot be."""
    try:
        host, port = await resolve(listen)
    except ProxyError as error:
        raise ProxyError(f"listen tcp: {error}", error.status) from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Both families only for ":8080", where the caller has asked for every interface.
        every_interface = host == EVERY_INTERFACE
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=every_interface)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CannotBindError(f"listen tcp {address_text((host, port))}: bind: {reason}") from None
    # Its connections have this from it. Event loops see to it only for sockets whose protocol is written down, and with
    # Nagle's algorithm an answer of two parts waits 40 ms for the receiver's acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not is_loopback(host):
        keep_alive(listener)
    return listener


def address_text(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """Return a socket's address as ``host:port``."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
