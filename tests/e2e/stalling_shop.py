"""A small shop that fails in a metastable way, for real: one till, a queue, and customers who ask again.

The till takes ``WORK_S`` for each order, one after the other, some 60 a second, and forgets nothing: an order whose
customer has given up is worked off all the same. A customer waits ``PATIENCE_S``, gives up and asks again, ``TRIES``
times in all, so that a shop that is late gets five times its load: from 12 customers a second on it stays late for
good. With ``protected``, the shop admits by the isolation layer: no more in the queue than can be served in time, the
rest is told so at once.
"""

from __future__ import annotations

WORK_S = 0.016
PATIENCE_S = 0.3
TRIES = 5

SOURCE = f"""
import asyncio, signal

from aiohttp import web

from chaos.resilience.bulkhead import Bulkhead
from chaos.resilience.errors import BulkheadFull


def main(config):
    asyncio.run(serve(config))


async def serve(config):
    till = Bulkhead(1, queue_max=10 if config.settings["protected"] else 100_000)

    async def order(request):
        if not till.try_acquire():
            try:
                await till.wait("till")
            except BulkheadFull:
                return web.Response(status=503)
        try:
            await asyncio.sleep({WORK_S})
        finally:
            till.release()
        return web.Response()

    app = web.Application()
    app.router.add_get("/healthz", lambda request: asyncio.sleep(0, web.Response()))
    app.router.add_get("/order", order)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, config.host, config.port).start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await runner.cleanup()
"""

TOPOLOGY = """
name: shop
settings: {protected: false}
clients: {customers: {calls: [shop]}}
services:
  shop: {python: "shop_service:main", health: {http: /healthz}}
metrics:
  availability: {title: availability, measure: share, of: order}
"""

EXPERIMENT = """
title: A stall of a second and a half
target: target
phases: {warm_up: 500ms, baseline: 2s, fault: 1600ms, recovery: 5s}
load: {locustfile: locustfile.py, rate: 5/s, max_start_lag: 5s}
faults: [{kind: pause, service: shop, for: 1500ms}]
steady_state: ["availability >= 90%"]
verdict: {max_taken: 100%}
metastability: {up_to: 100/s, hold: 5s, precision: 400%, trials: 1, recovers_up_to: 20/s}
"""

LOCUSTFILE = f"""
import gevent
from locust import User, events, task

from chaos import clock
from chaos.load.dispatcher import Dispatcher
from chaos.load.http import Connection, HttpError
from chaos.load.station import Station, listen, order_for, part_of, run_or_die, when_settled
from chaos.samples import SampleOutcome


class Nobody(User):
    @task
    def wait(self):
        gevent.sleep(3600.0)


class Customer:
    def __init__(self, address, due_s, record):
        self.settled = False
        self._address, self._due_s, self._record = address, due_s, record

    def run(self):
        for _ in range({TRIES}):
            connection = Connection(self._address)
            try:
                if connection.request("GET", "/order", timeout_s={PATIENCE_S}).status == 200:
                    return self._settle(SampleOutcome.OK)
            except HttpError:
                pass
            finally:
                connection.close()
        self._settle(SampleOutcome.FAILED)

    def tick(self, now_s):
        pass

    def end(self, now_s, reason):
        if not self.settled and reason is not None:
            self._settle(SampleOutcome.FAILED)

    def _settle(self, outcome):
        self.settled = True
        self._record("order", self._due_s, clock.monotonic_s(), outcome, {{}})


def on_init(environment, **_):
    order = order_for(environment)
    station = Station(environment, order)
    (called,) = (one for some in order.client.calls.values() for one in some)
    dispatcher = Dispatcher(
        lambda arrival, due_s, lag_s: Customer(called.address, due_s, station.recorder.record), station.recorder.record
    )

    def shop():
        start_s = station.wait_for_start()
        run_or_die(lambda: dispatcher.run(order.arrivals(part_of(environment)), start_s))
        finish_by_s = station.wait_for_finish()
        dispatcher.stop()
        dispatcher.settle(finish_by_s)
        dispatcher.end("no outcome by the end of the run")
        station.done()

    when_settled(environment, shop)


listen(events.init, on_init)
"""
