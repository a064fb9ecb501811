"""What is seen from outside: the Hystrix stream, Prometheus' metrics, latencies, rolling counts, listeners."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from chaos.resilience import BreakerChanged, CallEnded, CommandSettings, Isolation
from chaos.resilience.latency import LatencyWindow
from chaos.resilience.metrics import OUTCOMES
from chaos.resilience.web.prometheus import metrics_handler
from chaos.resilience.web.stream import hystrix_event, hystrix_stream
from tests.unit.resilience.kit import BREAKER, NEVER_OPENS, Dependency, make_command, play, static
from tests.unit.resilience.virtual import virtual

TEXT = {"type", "name", "group", "propertyValue_executionIsolationStrategy"}
TRUTHS = {
    "isCircuitBreakerOpen",
    "propertyValue_circuitBreakerForceOpen",
    "propertyValue_circuitBreakerForceClosed",
    "propertyValue_executionIsolationThreadInterruptOnTimeout",
    "propertyValue_requestCacheEnabled",
    "propertyValue_requestLogEnabled",
}
NUMBERS = {
    "reportingHosts", "errorPercentage", "errorCount", "requestCount", "rollingCountCollapsedRequests",
    "rollingCountExceptionsThrown", "rollingCountFailure", "rollingCountFallbackFailure",
    "rollingCountFallbackRejection", "rollingCountFallbackSuccess", "rollingCountResponsesFromCache",
    "rollingCountSemaphoreRejected", "rollingCountShortCircuited", "rollingCountSuccess",
    "rollingCountThreadPoolRejected", "rollingCountTimeout", "rollingCountBadRequests",
    "currentConcurrentExecutionCount", "latencyExecute_mean", "latencyTotal_mean",
    "propertyValue_circuitBreakerRequestVolumeThreshold",
    "propertyValue_circuitBreakerSleepWindowInMilliseconds", "propertyValue_circuitBreakerErrorThresholdPercentage",
    "propertyValue_executionIsolationThreadTimeoutInMilliseconds",
    "propertyValue_executionIsolationSemaphoreMaxConcurrentRequests",
    "propertyValue_fallbackIsolationSemaphoreMaxConcurrentRequests",
    "propertyValue_metricsRollingStatisticalWindowInMilliseconds",
}  # fmt: skip
"""The fields without which the Hystrix dashboard drops a command, and what it does with them."""


def check_fields(event):
    for names, kind in ((TEXT, str), (TRUTHS, bool), (NUMBERS, int)):
        for name in names:
            assert type(event[name]) is kind, name
    for latency in (event["latencyExecute"], event["latencyTotal"]):
        assert set(latency) >= {"50", "90", "99", "99.5"}
        assert all(type(value) is int for value in latency.values())


async def busy_isolation():
    """Commands that have seen everything."""
    isolation = Isolation(rng=random.Random(1))
    settings = CommandSettings(timeout_s=0.05, max_concurrent=2, breaker=NEVER_OPENS)
    rank = isolation.command("rank", Dependency(), fallback=static, settings=settings)
    await play(rank, "..x")
    await rank("ok", 0.2)
    await asyncio.gather(*(rank("ok", 0.01) for _ in range(4)))
    isolation.command("idle", Dependency(), settings=CommandSettings(timeout_s=None))
    price = isolation.command("price", Dependency(), settings=CommandSettings(breaker=BREAKER))
    await play(price, "xb.")
    return isolation


async def test_every_event_has_the_fields_that_the_dashboard_checks():
    isolation = await busy_isolation()
    rank, idle, price = [hystrix_event(one, group="g", now_ms=1) for one in isolation.snapshot()]
    for event in (rank, idle, price):
        check_fields(json.loads(json.dumps(event)))
    assert (rank["requestCount"], rank["errorCount"], rank["errorPercentage"]) == (8, 4, 50)
    assert (rank["rollingCountSuccess"], rank["rollingCountTimeout"], rank["rollingCountSemaphoreRejected"]) == (
        4,
        1,
        2,
    )
    assert (rank["rollingCountFallbackSuccess"], rank["rollingCountExceptionsThrown"]) == (4, 0)
    assert rank["rollingMaxConcurrentExecutionCount"] == 2
    assert (price["isCircuitBreakerOpen"], price["rollingCountShortCircuited"]) == (True, 2)
    assert price["rollingCountExceptionsThrown"] == 3


class Client:
    """An application with both pages, and a client of it."""

    def __init__(self, isolation, **options):
        app = web.Application()
        app.router.add_get("/hystrix.stream", hystrix_stream(isolation, group="g", interval_s=0.02, **options))
        app.router.add_get("/metrics", metrics_handler(isolation))
        self.client = TestClient(TestServer(app))

    async def __aenter__(self):
        await self.client.start_server()
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


async def test_the_stream_goes_on_and_ends_with_its_reader():
    isolation = await busy_isolation()
    async with Client(isolation, connections_max=2) as client:
        readers = [await client.get("/hystrix.stream") for _ in range(2)]
        assert readers[0].headers["Content-Type"] == "text/event-stream;charset=UTF-8"
        text = ""
        while text.count("ping:") < 3:
            text += (await readers[0].content.readany()).decode()
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        assert [event["name"] for event in events[:3]] == ["rank", "idle", "price"]
        assert len(events) == 9
        async with client.get("/hystrix.stream") as refused:
            assert refused.status == 503
        for reader in readers:
            reader.close()
        for _ in range(200):
            async with client.get("/hystrix.stream") as again:
                if again.status == 200:
                    return
            await asyncio.sleep(0.01)
        raise AssertionError("the places of readers that went away were not freed")


async def test_prometheus_reads_the_same_numbers():
    isolation = await busy_isolation()
    async with Client(isolation) as client, client.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        text = await response.text()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for one in isolation.snapshot():
        for outcome in OUTCOMES:
            assert samples["chaos_command_calls_total", one.command, outcome] == getattr(one.counts, outcome)
        assert samples["chaos_command_limit", one.command] == one.limit
        assert samples["chaos_breaker_state", one.command, one.state] == 1
    assert samples["chaos_breaker_state", "price", "closed"] == 0
    assert samples["chaos_command_latency_seconds", "rank", "0.99"] > 0


async def test_openmetrics_is_given_to_who_asks_and_two_isolations_do_not_meet():
    first, second = await busy_isolation(), Isolation(rng=random.Random(1))
    metrics_handler(second)
    accept = {"Accept": "application/openmetrics-text"}
    async with Client(first) as client, client.get("/metrics", headers=accept) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await response.text()).endswith("# EOF\n")


@virtual
async def test_snapshots_tell_of_the_last_ten_seconds():
    command = make_command(breaker=NEVER_OPENS)
    await play(command, "..x")
    await asyncio.sleep(5.0)
    await asyncio.gather(*(command("ok", 0.1) for _ in range(4)))
    one = command.snapshot()
    assert (one.rolling.success, one.rolling.failure, one.peak_in_flight) == (6, 1, 4)
    assert one.latency.quantiles_s[1.0] == pytest.approx(0.1)
    await asyncio.sleep(6.0)
    one = command.snapshot()
    assert (one.rolling.success, one.rolling.failure, one.counts.success) == (4, 0, 6)
    await asyncio.sleep(5.0)
    one = command.snapshot()
    assert (one.rolling.calls, one.peak_in_flight, one.latency.mean_s) == (0, 0, 0.0)


@virtual
async def test_a_million_calls_a_second_are_counted_though_only_some_are_measured():
    command = make_command()
    for _ in range(5_000):
        await command()
    one = command.snapshot()
    assert (one.rolling.success, one.counts.success) == (5_000, 5_000)
    assert command.breaker.window.counts(0.0) == (5_000, 0)
    assert command._meter.latencies.count(0.0) == 50


@virtual
async def test_listeners_hear_of_every_call_and_every_change():
    isolation = Isolation(rng=random.Random(1))
    heard = []
    first = isolation.command("first", Dependency(), fallback=static, settings=CommandSettings(breaker=BREAKER))
    isolation.listen(heard.append)
    second = isolation.command("second", Dependency(), breaker=first.breaker)
    await play(first, ".x.")
    await play(second, ".")
    await asyncio.sleep(0.3)
    await play(second, ".")
    told = [
        (one.command, one.outcome) if isinstance(one, CallEnded) else (one.breaker, one.before, one.after)
        for one in heard
    ]
    assert told == [
        ("first", "success"),
        ("first", "closed", "open"),
        ("first", "failure"),
        ("first", "short_circuited"),
        ("second", "short_circuited"),
        ("first", "open", "half-open"),
        ("first", "half-open", "closed"),
        ("second", "success"),
    ]
    assert isinstance(heard[1], BreakerChanged)


def test_a_window_of_latencies_forgets_and_is_bounded():
    window = LatencyWindow(10.0, buckets=10, samples_max=5)
    for number in range(100):
        window.record(number * 0.1, 0.01 * number)
    assert window.count(9.95) == 50
    assert window.count(15.0) == 20
    assert window.quantile(100.0, 0.5) is None
    window.record(100.0, 3.0)
    assert window.quantile(100.0, 0.5) == 3.0
    for _ in range(4):
        window.record(100.0, 3.0)
    assert window.full_until_s == 101.0
