"""Prometheus' text at ``/metrics``, written by its own library: counters, gauges and latencies of all commands."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from chaos.resilience.isolation import Isolation
from chaos.resilience.metrics import OUTCOMES, CommandSnapshot
from chaos.resilience.web.server import Handler

_STATES = ("closed", "open", "half-open")
_FALLBACKS = {"success": "fallback_success", "failure": "fallback_failure", "rejected": "fallback_rejected"}
_QUANTILES = (0.5, 0.9, 0.99)


def metrics_handler(isolation: Isolation, *, registry: CollectorRegistry | None = None) -> Handler:
    """Return a handler for ``/metrics``; in the format that the request's Accept header asks for.

    The commands' metrics are put into ``registry``, to be shown with others; unless given it is a registry of its own
    (never the library's global one).
    """
    shown = CollectorRegistry() if registry is None else registry
    shown.register(CommandCollector(isolation))

    async def handle(request: web.Request) -> web.StreamResponse:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(shown), headers={"Content-Type": content_type})

    return handle


class CommandCollector(Collector):
    """Yields the metrics of an isolation's commands whenever somebody asks."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    def describe(self) -> list[Metric]:
        """Return the metrics without values, so that registering needs no event loop."""
        return list(_families([]))

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        yield from _families(self._isolation.snapshot())


def _families(snapshots: list[CommandSnapshot]) -> Iterator[Metric]:
    calls = CounterMetricFamily("chaos_command_calls", "Calls that ended, by outcome.", labels=["command", "outcome"])
    fallbacks = CounterMetricFamily("chaos_command_fallbacks", "Fallbacks tried.", labels=["command", "outcome"])
    in_flight = GaugeMetricFamily("chaos_command_in_flight", "Calls in progress.", labels=["command"])
    waiting = GaugeMetricFamily("chaos_command_waiting", "Calls in the bulkhead's queue.", labels=["command"])
    limit = GaugeMetricFamily("chaos_command_limit", "The most calls at once, now.", labels=["command"])
    state = GaugeMetricFamily("chaos_breaker_state", "1 for the state it is in.", labels=["command", "state"])
    latency = GaugeMetricFamily(
        "chaos_command_latency_seconds", "Quantiles of the last ten seconds.", labels=["command", "quantile"]
    )
    for one in snapshots:
        for outcome in OUTCOMES:
            calls.add_metric([one.command, outcome], getattr(one.counts, outcome))
        for outcome, name in _FALLBACKS.items():
            fallbacks.add_metric([one.command, outcome], getattr(one.counts, name))
        in_flight.add_metric([one.command], one.in_flight)
        waiting.add_metric([one.command], one.waiting)
        limit.add_metric([one.command], one.limit)
        for name in _STATES:
            state.add_metric([one.command, name], float(one.state == name))
        for fraction in _QUANTILES:
            latency.add_metric([one.command, str(fraction)], one.latency.quantiles_s[fraction])
    yield from (calls, fallbacks, in_flight, waiting, limit, state, latency)
