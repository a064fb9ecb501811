"""A locustfile that puts its accounts into groups: each visit is one of two hundred accounts', and says whose group."""

from __future__ import annotations

from locust import User, events, task
from locust.env import Environment

from chaos import clock
from chaos.groups import group_headers
from chaos.load.arrivals import Arrival
from chaos.load.dispatcher import Dispatcher
from chaos.load.http import Connection, HttpError
from chaos.load.order import LoadOrder
from chaos.load.station import Station, listen, order_for, part_of, run_or_die, when_settled
from chaos.samples import SampleOutcome

ACCOUNTS = 200
PATIENCE_S = 5.0


class Nobody(User):
    """Locust wants a class of users; the visits are started by the dispatcher."""

    @task
    def wait(self) -> None:
        pass

    def wait_time(self) -> float:
        return 3600.0


class Visit:
    """One visit of one account."""

    def __init__(self, order: LoadOrder, station: Station, arrival: Arrival, due_s: float) -> None:
        self.settled = False
        self._due_s, self._record = due_s, station.recorder.record
        self._group = order.group_of(f"account-{arrival.number % ACCOUNTS}")
        (called,) = (one for some in order.client.calls.values() for one in some)
        self._connection = Connection(called.address)

    def run(self) -> None:
        try:
            answer = self._connection.request(
                "GET", "/page", timeout_s=PATIENCE_S, headers=group_headers(self._group), body=b""
            )
            self._settle(SampleOutcome.OK if answer.status == 200 else SampleOutcome.FAILED)
        except HttpError:
            self._settle(SampleOutcome.FAILED)
        finally:
            self._connection.close()

    def tick(self, now_s: float) -> None:
        pass

    def end(self, now_s: float, reason: str | None) -> None:
        if not self.settled and reason is not None:
            self._settle(SampleOutcome.FAILED)

    def _settle(self, outcome: SampleOutcome) -> None:
        self.settled = True
        now_s = clock.monotonic_s()
        values = {"latency_s": now_s - self._due_s}
        self._record("visit", self._due_s, now_s, outcome, values, self._group)


def on_init(environment: Environment, **_: object) -> None:
    order = order_for(environment)
    assert order is not None, "only under the runner"
    station = Station(environment, order)

    def visit() -> None:
        dispatcher = Dispatcher(
            lambda arrival, due_s, _: Visit(order, station, arrival, due_s), station.recorder.record
        )
        start_s = station.wait_for_start()
        run_or_die(lambda: dispatcher.run(order.arrivals(part_of(environment)), start_s))
        finish_by_s = station.wait_for_finish()
        dispatcher.stop()
        dispatcher.settle(finish_by_s)
        dispatcher.end("no outcome by the end of the run")
        station.done()

    when_settled(environment, visit)


listen(events.init, on_init)
