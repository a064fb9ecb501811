"""Isolation around every request of an aiohttp ``ClientSession``, in one line.

::

    session = aiohttp.ClientSession(middlewares=[isolate(isolation)])

Each host gets a command of its own. What comes out of a request is what came out before, but for the refusals:

==========================================  =====================  ==========================================
what happened                               counts as              the caller gets
==========================================  =====================  ==========================================
a status under 400                          success                the response
400..499                                    the caller's mistake   the response
503 or 429 with Retry-After, 429            overloaded             the response
500 and over                                failure                the response, or a fallback's
refused, reset, timed out                   failure                aiohttp's exception, or a fallback's response
breaker open, bulkhead full, no time        refused                ``ShortCircuited``, ``BulkheadFull``,
                                                                   ``DeadlineSpent``, or a fallback's response
its deadline came                           timeout                ``DeadlineExceeded``, or a fallback's response
==========================================  =====================  ==========================================

The command covers a request until the headers of its answer are there; a body that is read afterwards is not covered:
use ``Command.guard`` around calls that stream. The current deadline travels along in a header.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from chaos.resilience.attempts import Replicas
from chaos.resilience.command import Command
from chaos.resilience.deadline import DEADLINE_HEADER, Deadline
from chaos.resilience.errors import BadRequest, Overloaded
from chaos.resilience.isolation import Isolation
from chaos.resilience.settings import CommandSettings, ReplicaSettings
from chaos.resilience.web.services import retry_after_s

COMMANDS_MAX = 256
"""The most commands that one middleware makes; further names share one, so that nothing grows with time."""

_OTHERS = "others"
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

Middleware: TypeAlias = Callable[[ClientRequest, ClientHandlerType], Awaitable[ClientResponse]]
ResponseFallback: TypeAlias = Callable[
    [Exception, ClientRequest, ClientHandlerType], Awaitable[ClientResponse] | ClientResponse
]
"""Answers instead; the handler can be used to ask somebody else."""


class ResponseFailed(Exception):  # noqa: N818 - it names what happened
    """Cause given to a fallback: the service answered with a status of 500 and over. ``response`` is that answer."""

    def __init__(self, response: ClientResponse) -> None:
        super().__init__(f"{response.method} {response.url} was answered with status {response.status}")
        self.response = response


class _AnsweredNo(BadRequest):
    """Carries a response of 4xx through the command."""

    def __init__(self, response: ClientResponse) -> None:
        super().__init__()
        self.response = response


class _AnsweredLater(Overloaded):
    """Carries the response of an overloaded service through the command."""

    response: ClientResponse


def by_host(request: ClientRequest) -> str:
    """Return the name of the command for a request: its host and port."""
    return f"{request.url.host}:{request.url.port}"


def isolate(
    isolation: Isolation,
    *,
    by: Callable[[ClientRequest], str] = by_host,
    settings: CommandSettings | Callable[[str], CommandSettings] | None = None,
    fallback: ResponseFallback | Sequence[ResponseFallback] = (),
    replicas: Mapping[str, Sequence[str]] | None = None,
    replica_settings: ReplicaSettings | None = None,
    commands_max: int = COMMANDS_MAX,
) -> IsolatingMiddleware:
    """Return a client middleware that puts a command around every request; see the module's text.

    ``by`` names the command of a request (by host and port unless given; ``lambda request: request.url.path`` makes it
    by route). ``settings`` are those of all commands, or a function of the name. ``fallback`` answers instead.

    ``replicas`` maps names, used as hosts in URLs, to the ``host:port`` of equal servers: ``http://catalogue/titles``
    with ``{"catalogue": ["10.0.0.1:80", "10.0.0.2:80"]}`` goes to the less busy of two, and to another one when it
    fails, if the method is one that may be repeated (not POST or PATCH).
    """
    return IsolatingMiddleware(
        isolation,
        by=by,
        settings=settings,
        fallbacks=[fallback] if callable(fallback) else list(fallback),
        fleets={
            name: Replicas(name, addresses, isolation=isolation, settings=replica_settings)
            for name, addresses in (replicas or {}).items()
        },
        commands_max=commands_max,
    )


class IsolatingMiddleware:
    """What ``isolate`` returns: a client middleware that can be asked for its commands."""

    def __init__(
        self,
        isolation: Isolation,
        *,
        by: Callable[[ClientRequest], str],
        settings: CommandSettings | Callable[[str], CommandSettings] | None,
        fallbacks: Sequence[ResponseFallback],
        fleets: Mapping[str, Replicas[str]],
        commands_max: int,
    ) -> None:
        self._isolation = isolation
        self._by = by
        self._settings = settings
        self._fallbacks = [_passing(one) for one in fallbacks]
        self._fleets = fleets
        self._commands_max = commands_max
        self._commands: dict[str, Command[[ClientRequest, ClientHandlerType], ClientResponse]] = {}

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Pass a request on, isolated."""
        try:
            return await self.command_for(self._by(request))(request, handler)
        except (_AnsweredNo, _AnsweredLater, ResponseFailed) as answer:
            return answer.response

    def command_for(self, name: str) -> Command[[ClientRequest, ClientHandlerType], ClientResponse]:
        """Return the command called ``name``, made when it is first asked for."""
        if name not in self._commands and len(self._commands) >= self._commands_max:
            name = _OTHERS
        if name not in self._commands:
            settings = self._settings
            self._commands[name] = self._isolation.command(
                name,
                self._run,
                fallback=self._fallbacks,
                settings=settings(name) if callable(settings) else settings,
            )
        return self._commands[name]

    async def _run(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        fleet = self._fleets.get(request.url.host or "")
        if fleet is None:
            return await _send(self._isolation, request, handler)
        return await _send_to_one_of(self._isolation, fleet, request, handler)


async def _send(isolation: Isolation, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    if isolation.enabled:
        deadline = Deadline.current()
        if deadline is not None:
            request.headers[DEADLINE_HEADER] = deadline.to_header()
    response = await handler(request)
    status = response.status
    if status < 400:
        return response
    retry_after = response.headers.get("Retry-After")
    if status == 429 or (status == 503 and retry_after is not None):
        later = _AnsweredLater(str(request.url), retry_after_s=retry_after_s(retry_after))
        later.response = response
        raise later
    if status < 500:
        raise _AnsweredNo(response)
    raise ResponseFailed(response)


async def _send_to_one_of(
    isolation: Isolation, fleet: Replicas[str], request: ClientRequest, handler: ClientHandlerType
) -> ClientResponse:
    named = request.url
    dropped: ClientResponse | None = None

    async def send(address: str) -> ClientResponse:
        nonlocal dropped
        if dropped is not None:
            dropped.release()  # another replica answers in its place
            dropped = None
        host, _, port = address.rpartition(":")
        request.url = named.with_host(host).with_port(int(port))
        request.headers["Host"] = address
        try:
            return await _send(isolation, request, handler)
        except (_AnsweredLater, ResponseFailed) as answer:
            dropped = answer.response
            raise

    if request.method in _IDEMPOTENT:
        return await fleet.call(send)
    return await fleet.call(send, attempts=1)


def _passing(
    fallback: ResponseFallback,
) -> Callable[[Exception, ClientRequest, ClientHandlerType], Awaitable[ClientResponse]]:
    """Return ``fallback`` as a command calls it; the response that it replaces gives its connection back."""

    async def answer(cause: Exception, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if isinstance(cause, _AnsweredLater | ResponseFailed):
            cause.response.release()
        given = fallback(cause, request, handler)
        return await given if isinstance(given, Awaitable) else given

    return answer
