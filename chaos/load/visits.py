"""A load for any application, in a few lines: visits that are made when they are due, whatever became of others.

A whole locustfile::

    from chaos.load.visits import Visit, on_schedule

    def buy(visit: Visit) -> None:
        visit.request("GET", "/", timeout_s=0.5)
        visit.request("POST", "/orders", timeout_s=1.0, body=b"one")

    Customers = on_schedule(buy)

Under ``chaos run`` the function is called for every arrival of the experiment's open schedule (``load: {rate: 30/s}``),
each time in a greenlet of its own. So a system that stands still gets no fewer visits, and what a visit waited counts
from the moment at which it was due. A visit is one sample, of the kind ``request`` unless `on_schedule` is told
another, with ``latency_s``; it has failed when its function raises.

Under plain ``locust --host http://...`` each user makes one visit a second, and no more than one at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from urllib.parse import urlsplit

import gevent
from locust import User, constant_throughput, events, task
from locust.env import Environment

from chaos import clock
from chaos.load.arrivals import Arrival
from chaos.load.dispatcher import Dispatcher, Record
from chaos.load.order import LoadOrder
from chaos.load.station import Station, listen, order_for, part_of, run_or_die, when_settled
from chaos.load.visit import Session, Visit, VisitError, Visiting
from chaos.samples import REQUEST_KIND, SampleOutcome

__all__ = ["SampleOutcome", "Visit", "VisitError", "on_schedule"]


def on_schedule(visiting: Visiting, *, kind: str = REQUEST_KIND) -> type[User]:
    """Let people come, each of whom does ``visiting``; ``kind`` is that of their samples.

    Returns the class that Locust wants to see in a locustfile: give it a name there, and call this once.
    """

    def begin(environment: Environment, **_: object) -> None:
        order = order_for(environment)
        if order is not None:
            scheduled = _Scheduled(environment, order, visiting, kind)
            when_settled(environment, scheduled.run)

    listen(events.init, begin)

    class Visitors(User):
        """Makes visits under plain Locust; under the runner the schedule does."""

        wait_time = constant_throughput(1.0)  # type: ignore[no-untyped-call,unused-ignore]

        @task
        def visit(self) -> None:
            """Make one visit."""
            if LoadOrder.from_environment() is not None:
                gevent.sleep(3600.0)
                return
            _visit_by_hand(self.environment, str(self.host or ""), visiting, kind)

    return Visitors


class _Scheduled:
    """The visits of one Locust process under the runner."""

    def __init__(self, environment: Environment, order: LoadOrder, visiting: Visiting, kind: str) -> None:
        self._environment = environment
        self._order = order
        self._visiting = visiting
        self._kind = kind
        self._station = Station(environment, order)
        self._record: Record = self._station.recorder.record

    def run(self) -> None:
        """Make all visits, from the runner's start to its finish."""
        order = self._order
        if not order.rate_per_s:
            raise ValueError(
                "this locustfile makes visits on a schedule; write load.rate in the experiment: rate: 30/s"
            )
        dispatcher = Dispatcher(lambda arrival, due_s, _: self._begin(arrival, due_s), self._record)
        start_s = self._station.wait_for_start()
        run_or_die(lambda: dispatcher.run(order.arrivals(part_of(self._environment)), start_s))
        finish_by_s = self._station.wait_for_finish()
        dispatcher.stop()
        dispatcher.settle(finish_by_s)
        dispatcher.end("no outcome by the end of the run")
        self._station.done()

    def _begin(self, arrival: Arrival, due_s: float) -> Session:
        order = self._order
        visit = Visit(
            number=arrival.number,
            due_s=due_s,
            seed=order.seed,
            services=tuple(order.client.calls),
            address_of=self._address_of,
            settings=order.settings,
            group_of=order.group_of,
        )
        return Session(visit, self._visiting, self._settle)

    def _address_of(self, service: str | None, number: int) -> str:
        called = self._order.client.calls
        if service is None and len(called) == 1:
            (service,) = called
        if service is None or service not in called:
            known = ", ".join(called)
            raise ValueError(f"visit.request: service is {service!r}, and the client of the topology calls {known}")
        replicas = called[service]
        return replicas[number % len(replicas)].address

    def _settle(self, visit: Visit, why: str) -> None:
        now_s = clock.monotonic_s()
        outcome = SampleOutcome.FAILED if why else visit.outcome
        values = {"latency_s": now_s - visit.due_s, **visit.values}
        self._record(self._kind, visit.due_s, now_s, outcome, values, visit.group)
        _tell(self._environment, self._kind, visit, why)


def _visit_by_hand(environment: Environment, host: str, visiting: Visiting, kind: str) -> None:
    """Make one visit under plain Locust, and put it into Locust's own statistics."""
    url = urlsplit(host)
    if url.scheme != "http" or url.hostname is None:
        raise ValueError(f"--host is {host!r}; name the application's address: --host http://127.0.0.1:8080")
    address = f"{url.hostname}:{url.port or 80}"
    visit = Visit(
        number=random.randrange(2**31), due_s=clock.monotonic_s(), seed=0, address_of=lambda _service, _number: address
    )
    Session(visit, visiting, lambda visit, why: _tell(environment, kind, visit, why)).run()


def _tell(environment: Environment, kind: str, visit: Visit, why: str) -> None:
    """Put a visit into Locust's own statistics."""
    fire: Callable[..., None] = environment.events.request.fire
    fire(
        request_type="visit",
        name=kind,
        response_time=1000.0 * (clock.monotonic_s() - visit.due_s),
        response_length=0,
        exception=VisitError(why) if why else None,
        context={},
    )
