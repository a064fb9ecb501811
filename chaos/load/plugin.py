"""The plugin for locustfiles that know nothing of us; passed to Locust as one more locustfile, it records requests.

The users of such a file wait for their answers, so its load is a closed one: a system that stands still gets fewer
requests, and there is no schedule to be late on, hence no lag. What happens:

- Locust's users start at the runner's start moment, and are stopped ``duration_s`` later (or when the runner says so);
- every ``request`` event becomes a sample of kind ``request`` with ``latency_s``, whatever its name or method.

It leaves a process alone in which a locustfile talks to the runner itself (see `chaos.load.station`).
"""

from __future__ import annotations

import logging

import gevent
from locust import events
from locust.env import Environment
from locust.runners import Runner

from chaos import clock
from chaos.load.order import LoadOrder
from chaos.load.station import Station, is_claimed, listen, order_for, run_or_die
from chaos.samples import REQUEST_KIND, SampleOutcome

logger = logging.getLogger(__name__)


class RequestRecording:
    """Records the requests of one Locust process, and starts and stops its users on the runner's word."""

    def __init__(self, environment: Environment, order: LoadOrder) -> None:
        self._environment = environment
        self._order = order
        self._station = Station(environment, order)

    def hold_until_start(self) -> None:
        """Block, and with it Locust's start of the users, until the start moment; then let time run."""
        start_s = self._station.wait_for_start()
        gevent.sleep(max(0.0, start_s - clock.monotonic_s()))
        listen(self._environment.events.request, self._on_request)
        run_or_die(lambda: self._end(start_s + self._order.duration_s))

    def _on_request(
        self, response_time: float | None = None, exception: BaseException | None = None, **_: object
    ) -> None:
        now_s = clock.monotonic_s()
        latency_s = (response_time or 0.0) / 1000.0
        outcome = SampleOutcome.OK if exception is None else SampleOutcome.FAILED
        self._station.recorder.record(REQUEST_KIND, now_s - latency_s, now_s, outcome, {"latency_s": latency_s})

    def _end(self, end_s: float) -> None:
        finishing = gevent.spawn(self._station.wait_for_finish)
        finishing.join(timeout=max(0.0, end_s - clock.monotonic_s()))
        # The users' requests under way are given until the runner's deadline; it may name it only after the end.
        stopping = gevent.spawn(self._stop_users)
        finish_by_s = finishing.get()
        stopping.join(timeout=max(0.0, finish_by_s - clock.monotonic_s()))
        stopping.kill(block=False)
        self._station.done()

    def _stop_users(self) -> None:
        runner = self._environment.runner
        assert isinstance(runner, Runner)
        for greenlet in list(runner.user_greenlets):
            for user in greenlet.args[:1]:  # empty once the greenlet has ended
                gevent.spawn(user.stop)  # after its task; `_end` sees to it that this does not take too long
        runner.user_greenlets.join()


def _on_test_start(environment: Environment, **_: object) -> None:
    if is_claimed(environment):
        return
    order = order_for(environment)
    if order is not None:
        RequestRecording(environment, order).hold_until_start()


listen(events.test_start, _on_test_start)
