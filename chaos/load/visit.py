"""One visit to an application: what it asks for, as whom, and what becomes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping

from chaos.groups import Group, group_headers
from chaos.load.http import Answer, Connection, HttpError
from chaos.samples import SampleOutcome
from chaos.topology.model import Scalar


class VisitError(Exception):
    """A visit came to nothing, for a reason in words. Locustfiles may raise it as well."""


class Visit:
    """One visit, as its function sees it.

    What the function may set: ``outcome``, where the visit succeeded by a makeshift answer (`SampleOutcome.FALLBACK`)
    or was refused (`SampleOutcome.REFUSED`); ``values``, further figures for the metrics of the topology, in base
    units.
    """

    def __init__(
        self,
        *,
        number: int,
        due_s: float,
        seed: int,
        services: tuple[str, ...] = (),
        address_of: Callable[[str | None, int], str],
        settings: Mapping[str, Scalar] | None = None,
        group_of: Callable[[str], Group | None] = lambda _: None,
    ) -> None:
        self.number = number
        """Which arrival this is."""
        self.due_s = due_s
        """The moment at which it was due (monotonic clock)."""
        self.rng = random.Random(f"{seed}/visit/{number}")
        """For every choice of the visit: the same seed makes the same visits."""
        self.services = services
        """Whom the client of the topology calls; nobody under plain Locust, where all requests go to ``--host``."""
        self.settings: Mapping[str, Scalar] = settings or {}
        """``load.settings`` of the experiment; empty under plain Locust."""
        self.outcome = SampleOutcome.OK
        self.values: dict[str, float] = {}
        self.group: Group | None = None
        self._address_of = address_of
        self._group_of = group_of
        self._connections: dict[str, Connection] = {}

    def come_as(self, account: str) -> None:
        """Say whose visit it is: the account decides its group, where the experiment has a control group."""
        self.group = self._group_of(account)

    def request(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        service: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        statuses: Container[int] = range(200, 400),
    ) -> Answer:
        """Send one request and return its answer; nothing is sent twice, and no redirect is followed.

        ``service`` is one that the client of the topology calls, and need not be said where there is only one; of its
        replicas, visits take one after the other. Raises VisitError when there is no whole answer within
        ``timeout_s``, or one with another status than ``statuses``.
        """
        address = self._address_of(service, self.number)
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = Connection(address)
        headers = {**(headers or {}), **group_headers(self.group)}
        try:
            answer = connection.request(method, path, timeout_s=timeout_s, headers=headers, body=body)
        except HttpError as error:
            raise VisitError(f"{method} {path}: {error}") from None
        if answer.status not in statuses:
            raise VisitError(f"{method} {path}: status {answer.status}")
        return answer

    def close(self) -> None:
        """Close the connections of the visit. Harmless twice."""
        for connection in self._connections.values():
            connection.close()


Visiting = Callable[[Visit], None]
"""What a visit does. Returns when it has succeeded, and raises when it has not."""


class Session:
    """A visit as the dispatcher sees it."""

    def __init__(self, visit: Visit, visiting: Visiting, settle: Callable[[Visit, str], None]) -> None:
        self.settled = False
        self._visit = visit
        self._visiting = visiting
        self._settle = settle

    def run(self) -> None:
        """Make the visit; a mistake in its function is told in Locust's log, and fails the visit."""
        try:
            self._visiting(self._visit)
            why = ""
        except VisitError as failure:
            why = str(failure)
        finally:
            self._visit.close()
        self._end(why)

    def tick(self, now_s: float) -> None:
        """Report nothing: a visit has one outcome."""

    def end(self, now_s: float, reason: str | None) -> None:  # noqa: ARG002 - the dispatcher's word for the moment
        """Fail the visit, unless its outcome is known."""
        if reason is not None:
            self._end(reason)

    def _end(self, why: str) -> None:
        if not self.settled:
            self.settled = True
            self._settle(self._visit, why)
