"""A locustfile with an open schedule, for the smallest targets: every visit opens a page once, when it is due.

Where there are several pages, they are opened in turn.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

from locust import User, events, task
from locust.env import Environment

from chaos import clock
from chaos.load.arrivals import Arrival
from chaos.load.dispatcher import Dispatcher
from chaos.load.station import Station, listen, order_for, part_of, run_or_die, when_settled
from chaos.samples import SampleOutcome

PATIENCE_S = 1.0


class Nobody(User):
    """Locust wants a class of users; the visits are started by the dispatcher."""

    @task
    def wait(self) -> None:
        pass

    def wait_time(self) -> float:
        return 3600.0


class Visit:
    """One visit."""

    def __init__(self, url: str, due_s: float, record: Callable[..., None]) -> None:
        self.settled = False
        self._url, self._due_s, self._record = url, due_s, record

    def run(self) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=PATIENCE_S) as answer:
                answer.read()
            self._settle(SampleOutcome.OK)
        except OSError:
            self._settle(SampleOutcome.FAILED)

    def tick(self, now_s: float) -> None:
        pass

    def end(self, now_s: float, reason: str | None) -> None:
        if not self.settled and reason is not None:
            self._settle(SampleOutcome.FAILED)

    def _settle(self, outcome: SampleOutcome) -> None:
        self.settled = True
        now_s = clock.monotonic_s()
        self._record("request", self._due_s, now_s, outcome, {"latency_s": now_s - self._due_s})


def on_init(environment: Environment, **_: object) -> None:
    order = order_for(environment)
    assert order is not None, "only under the runner"
    station = Station(environment, order)
    called = [one for some in order.client.calls.values() for one in some]

    def begin(arrival: Arrival, due_s: float, lag_s: float) -> Visit:
        page = called[arrival.number % len(called)]
        return Visit(f"http://{page.address}/", due_s, station.recorder.record)

    def visit() -> None:
        dispatcher = Dispatcher(begin, station.recorder.record)
        start_s = station.wait_for_start()
        run_or_die(lambda: dispatcher.run(order.arrivals(part_of(environment)), start_s))
        finish_by_s = station.wait_for_finish()
        dispatcher.stop()
        dispatcher.settle(finish_by_s)
        dispatcher.end("no outcome by the end of the run")
        station.done()

    when_settled(environment, visit)


listen(events.init, on_init)
