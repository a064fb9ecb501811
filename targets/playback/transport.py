"""Calls between services: what may go wrong, what is passed on, reading answers, the session of a process.

The calls themselves are made by `chaos.resilience.web.ServiceClient`, one for each process. What a call may cost, and
what happens when it fails, is the business of the Command around it. Without isolation there is no time limit at all,
and that is on purpose: a bare call waits for as long as the other side lets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from chaos.resilience import IsolationError
from chaos.resilience.web import Reply, ServiceFailed
from chaos.resilience.web.session import Middleware

_CONNECTIONS_MAX = 512


class CallFailed(Exception):  # noqa: N818 - it names what happened
    """The other side failed in a way that HTTP does not know: an answer that is none, a cache that is gone."""


FAILURES = (CallFailed, ServiceFailed, IsolationError, aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""What may go wrong with a call and is no mistake of ours. A rejected request (4xx) is none of these."""


def chosen(headers: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return those headers whose names are listed: all that a service at the edge lets pass."""
    return {name: headers[name] for name in names if name in headers}


class BadTarget(ValueError):  # noqa: N818 - it names what is wrong
    """A request for something that is not passed on; the text says why."""


def target_of(request: web.BaseRequest) -> URL:
    """Return path and query of a request as they are passed on: in the form in which they can be looked at, too.

    It is what was sent, with percent-encoding in its usual form: ``/%70lay`` is ``/play``, and ``%2F`` stays as it is.
    The client that passes it on changes nothing more, so whatever is found out about this path is true of the one that
    is asked for. Raises BadTarget for a path that is none, and for one with a segment ``.`` or ``..``, encoded or not:
    whoever comes to resolve it would ask for another path than the one that was looked at.
    """
    path = request.rel_url.raw_path
    if not path.startswith("/"):
        raise BadTarget("a path must begin with /")
    if not {".", ".."}.isdisjoint(unquote(path).split("/")):
        raise BadTarget("a path must not have . or .. between its slashes")
    return URL(f"http://any{request.rel_url.raw_path_qs}").relative()


def may_be_repeated(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request may be made twice by what it says itself: it only asks, or it has a key to be known by."""
    return method in {"GET", "HEAD"} or "Idempotency-Key" in headers


def json_of(reply: Reply) -> object:
    """Return the body of a reply as JSON. Raises CallFailed when it is none."""
    try:
        parsed: object = reply.json()
    except ValueError as error:
        raise CallFailed(f"an answer with status {reply.status} is not JSON") from error
    return parsed


def new_session(*middlewares: Middleware) -> aiohttp.ClientSession:
    """Return a session for a process: connections are kept and reused, everything else is left out."""
    return aiohttp.ClientSession(
        middlewares=middlewares,
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
    )
