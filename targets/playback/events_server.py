"""A connection to the Valkey server of ``events``, and its failures by our name: for all who keep things there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from targets.playback.transport import CallFailed

CONNECTIONS_MAX = 16
SOCKET_TIMEOUT_S = 2.0


class NoGroup(CallFailed):
    """The consumer group is not there (yet, or any more: the server lost its data)."""


def connect(address: str) -> Any:
    """Return a client of the server at ``address``; nothing is sent yet.

    Repeating and giving up are the business of the Command around each call. The client's answers have other types from
    version to version, and it declares them all: hence Any.
    """
    host, _, port = address.rpartition(":")
    return Redis(
        host=host,
        port=int(port),
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        max_connections=CONNECTIONS_MAX,
    )


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Raise CallFailed, whatever the client library calls its trouble."""
    try:
        yield
    except RedisError as error:
        failed = NoGroup if "NOGROUP" in str(error) else CallFailed
        raise failed(f"events: {error}") from error
