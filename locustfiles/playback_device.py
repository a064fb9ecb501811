"""A device under gevent: carries out what the sans-IO client wants done, and tells Locust of each request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar, assert_never

import gevent
from gevent.event import Event

from chaos import clock
from chaos.load.http import Connection, HttpError
from targets.playback import client_protocol as client

ASIDE_MAX = 500
"""So many reports may be under way in this process; further ones are not sent, as if they had been lost."""

_FINE = frozenset({200, 201, 202, 403, 409})
"""Answers; 403 and 409 are the service's right."""

Result = TypeVar("Result")


class Statistics:
    """Locust's own statistics. ``fire`` is its event ``request``."""

    def __init__(self, fire: Callable[..., Any]) -> None:
        self._fire = fire

    def count(
        self, kind: str, name: str, began_s: float, *, length: int = 0, error: Exception | str | None = None
    ) -> None:
        """Count a request that ends now."""
        self._fire(
            request_type=kind,
            name=name,
            response_time=(clock.monotonic_s() - began_s) * 1000.0,
            response_length=length,
            response=None,
            exception=error,
            context={},
        )

    def count_answer(self, request: client.HttpRequest, began_s: float, status: int, length: int) -> None:
        """Count a request that was answered."""
        error = None if status in _FINE else f"HTTP {status}"
        self.count(request.method, name_of(request), began_s, length=length, error=error)


def name_of(request: client.HttpRequest) -> str:
    """Return the name under which Locust counts a request: its path, without what differs each time."""
    return "/titles/chunk" if request.kind is client.RequestKind.CHUNK else request.path.partition("?")[0]


class Device:
    """One device, with connections of its own; all its requests have ``headers`` as well."""

    _aside = 0  # of all devices

    def __init__(self, statistics: Statistics, headers: Mapping[str, str]) -> None:
        self._statistics = statistics
        self._headers = headers
        self._open: dict[str, Connection] = {}  # by address: those probed, then only the one in use

    def carry_through(self, steps: Generator[client.Request, client.Answer, Result]) -> Result:
        """Do all that a generator of requests wants done; return what it returns. Its greenlet may be killed."""
        try:
            request = next(steps)
            while True:
                request = steps.send(self._carry_out(request))
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            self._close_all()

    def _carry_out(self, request: client.Request) -> client.Answer:
        match request:
            case client.HttpRequest():
                return self._http(request)
            case client.ProbeAll():
                return self._probe(request)
            case client.SendAside():
                self._send_aside(request.request)
                return client.Woken(now_s=clock.monotonic_s())
            case client.Wait(until_s=until_s):
                gevent.sleep(max(0.0, until_s - clock.monotonic_s()))
                return client.Woken(now_s=clock.monotonic_s())
            case _:
                assert_never(request)

    def _http(self, request: client.HttpRequest) -> client.Reply:
        return self._exchange(self._connection_to(request.address, fresh=request.fresh), request)

    def _exchange(self, connection: Connection, request: client.HttpRequest) -> client.Reply:
        began_s = clock.monotonic_s()
        headers = {**request.headers, **self._headers} if self._headers else request.headers
        try:
            answer = connection.request(
                request.method, request.path, timeout_s=request.timeout_s, headers=headers, body=request.body
            )
        except HttpError as error:
            self._statistics.count(request.method, name_of(request), began_s, error=error)
            return client.Reply(now_s=clock.monotonic_s(), error=str(error))
        self._statistics.count_answer(request, began_s, answer.status, len(answer.body))
        return client.Reply(now_s=clock.monotonic_s(), status=answer.status, body=bytes(answer.body))

    def _send_aside(self, request: client.HttpRequest) -> None:
        """Send it in a greenlet that outlives the device's own, for as long as the request's time limit."""
        if Device._aside >= ASIDE_MAX:
            return

        def send() -> None:
            connection = Connection(request.address)
            try:
                self._exchange(connection, request)
            finally:
                connection.close()
                Device._aside -= 1

        Device._aside += 1
        gevent.spawn(send)

    def send_each(self, requests: deque[client.HttpRequest]) -> None:
        """Take one request after the other from ``requests`` and send it, whatever comes of it, until none is left."""
        try:
            while requests:
                request = requests.popleft()
                self._exchange(self._connection_to(request.address, fresh=False), request)
        finally:
            self._close_all()

    def _connection_to(self, address: str, *, fresh: bool) -> Connection:
        """Return the open connection to ``address``, or a new one, and close all others."""
        kept = None if fresh else self._open.pop(address, None)
        self._close_all()
        self._open[address] = connection = kept or Connection(address)
        return connection

    def _close_all(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _probe(self, probe: client.ProbeAll) -> client.Probed:
        self._close_all()
        began_s = clock.monotonic_s()
        count = self._statistics.count
        latencies_s: list[float | None] = [None] * len(probe.addresses)
        news = Event()  # the first good answer, and the last answer of all
        asking: set[int] = set(range(len(probe.addresses)))

        def ask(position: int, address: str) -> None:
            connection = Connection(address)
            try:
                answer = connection.request("GET", probe.path, timeout_s=probe.timeout_s, headers=self._headers)
            except HttpError as error:
                count("GET", "/probe", began_s, error=error)
            else:
                good = answer.status == 200
                if good:
                    latencies_s[position] = clock.monotonic_s() - began_s
                    self._open[address] = connection
                    if len(self._open) == 1:
                        news.set()
                else:
                    connection.close()
                wrong = None if good else f"HTTP {answer.status}"
                count("GET", "/probe", began_s, length=len(answer.body), error=wrong)
            asking.discard(position)
            if not asking:
                news.set()

        greenlets = [gevent.spawn(ask, position, address) for position, address in enumerate(probe.addresses)]
        try:
            news.wait(probe.timeout_s)
            if asking:
                news.clear()
                news.wait(min(probe.grace_s, max(0.0, began_s + probe.timeout_s - clock.monotonic_s())))
        finally:
            if asking:
                gevent.killall([greenlets[position] for position in asking], block=False)
        for _ in asking:
            count("GET", "/probe", began_s, error="slower than the others")
        return client.Probed(now_s=clock.monotonic_s(), latencies_s=tuple(latencies_s))
