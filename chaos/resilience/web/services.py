"""Calls to other services with blame in the exceptions: ``ServiceClient`` over one ``ClientSession`` per process.

::

    client = ServiceClient(session, enabled=isolation.enabled)
    reply = await client.request("POST", "http://127.0.0.1:8000/rank", json={"title": "title-0042"})
    reply.status, reply.headers, reply.body     # body: bytes, read completely
    reply.json()                                # the body parsed

``request`` returns for a status under 400, and otherwise raises what a ``Command`` or ``Replicas`` around it
understands:

====================================  =====================================================================
the service answered                  raised
====================================  =====================================================================
503 or 429 with ``Retry-After``       ``ServiceOverloaded`` (an ``Overloaded``) with ``reply`` and
                                      ``retry_after_s``: alive, has done nothing, not counted
429 without it                        the same, with ``retry_after_s`` 1.0
400..499                              ``Rejected`` (a ``BadRequest``), with ``status``, ``body``, ``json()``
500 and over                          ``ServiceFailed``, with ``status``, ``body``
(nothing: refused, reset, too large)  aiohttp's ``ClientError`` unchanged
(nothing in time)                     ``TimeoutError``; inside a command, the command's ``DeadlineExceeded``
====================================  =====================================================================

It sends the current deadline, priority and group as headers and waits no longer than the deadline. ``enabled=False``
leaves the deadline alone (no header, no time limit of its own), for controls; the mapping of answers stays.
"""

from __future__ import annotations

import json
import math
from asyncio import get_running_loop
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from chaos.resilience.deadline import DEADLINE_HEADER, current_scope, to_header
from chaos.resilience.errors import BadRequest, DeadlineSpent, Overloaded
from chaos.resilience.expiry import ends_this_task
from chaos.resilience.groups import GROUP_HEADER, current_group
from chaos.resilience.shedding import PRIORITY_HEADER, Priority, current_priority

_UNLIMITED = aiohttp.ClientTimeout(total=None)
"""For a call that a command cuts off: a second timer, aiohttp's own, would only cost time."""

RETRY_AFTER_DEFAULT_S = 1.0
"""The pause taken for an overloaded service that names none, or none that is a number of seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a service answered, read completely."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the body parsed as JSON; ``ValueError`` when it is none."""
        return json.loads(self.body)


class Rejected(BadRequest):
    """The service said that the request is wrong (4xx): asking again, or elsewhere, would not change its answer."""

    def __init__(self, service: str, reply: Reply) -> None:
        super().__init__(f"{service} rejected the request with status {reply.status}")
        self.service = service
        self.status = reply.status
        self.headers = reply.headers
        self.body = reply.body

    def json(self) -> Any:
        """Return the body parsed as JSON; ``ValueError`` when it is none."""
        return json.loads(self.body)


class ServiceFailed(Exception):  # noqa: N818 - the sentence reads well where it is caught
    """The service answered that it failed (5xx)."""

    def __init__(self, service: str, reply: Reply) -> None:
        super().__init__(f"{service} failed with status {reply.status}")
        self.service = service
        self.status = reply.status
        self.headers = reply.headers
        self.body = reply.body


class ServiceOverloaded(Overloaded):
    """The service answered that it has too much to do (503 or 429 with ``Retry-After``); ``reply`` is that answer."""

    def __init__(self, service: str, reply: Reply) -> None:
        super().__init__(service, retry_after_s=retry_after_s(reply.headers.get("Retry-After")))
        self.reply = reply


class ServiceClient:
    """Calls services over one ``ClientSession``, carrying the deadline along and naming who is at fault.

    ``timeout_s`` limits a request made without any deadline; ``body_bytes_max`` is the largest answer taken in.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        enabled: bool = True,
        timeout_s: float = 10.0,
        body_bytes_max: int = 4 << 20,
    ) -> None:
        self._session = session
        self._enabled = enabled
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._body_bytes_max = body_bytes_max

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        data: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        answers: Collection[int] = (),
    ) -> Reply:
        """Send a request and return the answer, or raise as the table in the module's text says.

        ``answers`` are statuses to be returned although the table says otherwise: for those who pass answers on, to
        whom a 429 with which somebody behind them limits one caller is no sign of trouble.
        ``DeadlineSpent`` when the current deadline has passed before anything was sent.
        """
        sent = dict(headers or {})
        if (priority := current_priority()) is not Priority.NORMAL:
            sent[PRIORITY_HEADER] = priority.to_header()
        if group := current_group():
            sent[GROUP_HEADER] = group
        timeout = _UNLIMITED
        if self._enabled:
            scope = current_scope()
            if scope.at_s == math.inf:
                timeout = self._timeout
            else:
                left_s = scope.at_s - get_running_loop().time()
                if left_s <= 0:
                    raise DeadlineSpent(url)
                sent[DEADLINE_HEADER] = to_header(left_s)
                if not ends_this_task(scope):
                    timeout = aiohttp.ClientTimeout(total=left_s)
        async with self._session.request(
            method, url, json=json, data=data, params=params, headers=sent, timeout=timeout
        ) as response:
            reply = Reply(status=response.status, headers=response.headers, body=await self._read(response))
        return reply if reply.status in answers else _checked(url, reply)

    async def get(
        self, url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a GET; see ``request``."""
        return await self.request("GET", url, params=params, headers=headers)

    async def post(self, url: str, *, json: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a POST with a JSON body; see ``request``."""
        return await self.request("POST", url, json=json, headers=headers)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._body_bytes_max:
                raise aiohttp.ClientPayloadError(f"{response.url}: the answer is over {self._body_bytes_max} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


def _checked(url: str, reply: Reply) -> Reply:
    """Return a good answer; raise for any other."""
    if reply.status < 400:
        return reply
    if reply.status == 429 or (reply.status == 503 and "Retry-After" in reply.headers):
        raise ServiceOverloaded(url, reply)
    if reply.status < 500:
        raise Rejected(url, reply)
    raise ServiceFailed(url, reply)


def retry_after_s(value: str | None) -> float:
    """Return the seconds that a ``Retry-After`` asks for. A date is not understood and means the default."""
    text = (value or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 9 else RETRY_AFTER_DEFAULT_S
