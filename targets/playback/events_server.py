"""A connection to the Valkey server of ``events``, and its failures by our name: for all who keep things there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError

from targets.playback import valkey_client
from targets.playback.transport import CallFailed

CONNECTIONS_MAX = 16
SOCKET_TIMEOUT_S = 2.0


class NoGroup(CallFailed):
    """The consumer group is not there (yet, or any more: the server lost its data)."""


def connect(address: str) -> Any:
    """Return a client of the server at ``address``; nothing is sent yet."""
    return valkey_client.connect(address, socket_timeout_s=SOCKET_TIMEOUT_S, connections_max=CONNECTIONS_MAX)


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Raise CallFailed, whatever the client library calls its trouble."""
    try:
        yield
    except RedisError as error:
        failed = NoGroup if "NOGROUP" in str(error) else CallFailed
        raise failed(f"events: {error}") from error
