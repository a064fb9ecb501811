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
from chaos.load.visits import VisitError, on_schedule


def buy(visit):
    for _ in range({TRIES} - 1):
        try:
            return visit.request("GET", "/order", timeout_s={PATIENCE_S})
        except VisitError:
            pass
    visit.request("GET", "/order", timeout_s={PATIENCE_S})


Customers = on_schedule(buy, kind="order")
"""
