"""A client of a Valkey server, as every service here wants one: it tries once, within limits of its own."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def connect(address: str, *, socket_timeout_s: float, connections_max: int) -> Any:
    """Return a client of the server at ``address`` (``host:port``); nothing is sent yet.

    Repeating, waiting and giving up are the business of the Command around each call. The client's answers have other
    types from version to version, and it declares them all: hence Any.
    """
    host, _, port = address.rpartition(":")
    return Redis(
        host=host,
        port=int(port),
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=socket_timeout_s,
        max_connections=connections_max,
    )
