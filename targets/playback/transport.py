"""Calls between services: what may go wrong, reading answers, and how replicas share the time of a deadline.

The calls themselves are made by `chaos.resilience.web.ServiceClient`, one for each process. What a call may cost, and
what happens when it fails, is the business of the Command around it. Without isolation there is no time limit at all,
and that is on purpose: a bare call waits for as long as the other side lets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

from chaos.resilience import Deadline, IsolationError, Replicas
from chaos.resilience.web import Reply, ServiceFailed

_CONNECTIONS_MAX = 512


class CallFailed(Exception):  # noqa: N818 - it names what happened
    """The other side failed in a way that HTTP does not know: an answer that is none, a cache that is gone."""


FAILURES = (CallFailed, ServiceFailed, IsolationError, aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""What may go wrong with a call and is no mistake of ours. A rejected request (4xx) is none of these."""

Address = TypeVar("Address")
Result = TypeVar("Result")


async def first_to_answer(replicas: Replicas[Address], call: Callable[[Address], Awaitable[Result]]) -> Result:
    """Return ``call(address)`` of one replica, or of another one when it fails.

    Each attempt may use all of the time that the caller has left, up to the attempt's own timeout. ``Replicas.call``
    alone shares the time evenly between the attempts to come, which is right for one hop. On the way of a play four
    services in a row have replicas, and each would halve the time of the next: what is left for the last would be a
    sixteenth.
    """
    deadline = Deadline.current()
    if deadline is None:
        return await replicas.call(call)
    ours = deadline

    async def attempt(address: Address) -> Result:
        with ours:
            return await call(address)

    with Deadline.none():
        return await replicas.call(attempt)


def json_of(reply: Reply) -> object:
    """Return the body of a reply as JSON. Raises CallFailed when it is none."""
    try:
        parsed: object = reply.json()
    except ValueError as error:
        raise CallFailed(f"an answer with status {reply.status} is not JSON") from error
    return parsed


def new_session() -> aiohttp.ClientSession:
    """Return the session of a process: connections are kept and reused, everything else is left out."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
    )
