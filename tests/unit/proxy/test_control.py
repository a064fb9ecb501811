"""What ProxyControl says when the server does not behave. (What it does with good servers: the conformance suite.)"""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from chaos.errors import EnvironmentFailure
from chaos.faults.base import Stream, ToxicSpec
from chaos.proxy.control import ProxyControl, ProxySpec
from tests.ports import free_port

TOXIC = ToxicSpec(name="t", type="latency", stream=Stream.UPSTREAM, toxicity=1.0, attributes={"latency": 1})
SPEC = ProxySpec(name="a", listen="127.0.0.1:0", upstream="127.0.0.1:9")


@pytest.fixture
async def serving():
    """Serve one answer to everything, or one by path; return a control that talks to it."""
    runners = []

    async def serve(answers, timeout_s: float = 2.0) -> ProxyControl:
        async def handle(request: web.Request) -> web.Response:
            status, text = answers.get(f"{request.method} {request.path}", answers.get("*", (404, "none")))
            if status == 0:
                await asyncio.sleep(30)
            return web.Response(status=status, text=text, headers={"Location": "/elsewhere"} if status == 302 else {})

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return ProxyControl("127.0.0.1", runner.addresses[0][1], timeout_s=timeout_s)

    yield serve
    for runner in runners:
        await runner.cleanup()


def every_request(control: ProxyControl):
    return [
        control.version(),
        control.create_all([SPEC]),
        control.delete_all(["a"]),
        control.add_toxic("a", TOXIC),
        control.remove_toxic("a", "t"),
        control.set_enabled("a", enabled=False),
        control.toxics(),
        control.enabled(),
        control.traffic(),
    ]


async def failures(control: ProxyControl) -> list[str]:
    found = await asyncio.gather(*every_request(control), return_exceptions=True)
    assert all(isinstance(each, EnvironmentFailure) for each in found), found
    return [str(each) for each in found]


async def test_a_server_that_is_not_there_is_reported_with_the_address_and_what_to_do():
    port = free_port()
    for text in await failures(ProxyControl("127.0.0.1", port)):
        assert f"no proxy server answers at http://127.0.0.1:{port} (connection refused); start one there" in text


@pytest.mark.parametrize("status", [500, 503, 302, 405])
async def test_a_bad_status_never_passes_silently(serving, status):
    for text in await failures(await serving({"*": (status, '{"error":"broken inside"}')})):
        assert "would not" in text
        assert f"broken inside (status {status})" in text


@pytest.mark.parametrize("answer", ["", "<html>", "[]", "3", '{"a":3}'])
async def test_something_that_is_not_toxiproxy_is_reported(serving, answer):
    control = await serving({"*": (200, answer)})
    for request in (control.version(), control.create_all([SPEC]), control.set_enabled("a", enabled=True)):
        with pytest.raises(EnvironmentFailure, match=r"Toxiproxy|did not make the proxy"):
            await request


async def test_a_server_that_hangs_is_given_up(serving):
    control = await serving({"*": (0, "")}, timeout_s=0.2)
    with pytest.raises(EnvironmentFailure, match=r"did not answer within 0\.2 s when told to ask for its version"):
        await control.version()


async def test_a_proxy_that_stays_as_it_was_is_a_failure(serving):
    proxy = '{"name":"a","listen":"127.0.0.1:1","upstream":"127.0.0.1:9","enabled":true,"toxics":[]}'
    control = await serving({"*": (200, proxy)})
    with pytest.raises(EnvironmentFailure, match="answers that the proxy is enabled"):
        await control.set_enabled("a", enabled=False)


async def test_a_proxy_that_populate_left_out_is_a_failure(serving):
    control = await serving({"GET /proxies": (200, "{}"), "*": (201, '{"proxies":null}')})
    with pytest.raises(EnvironmentFailure, match="did not make the proxy 'a'"):
        await control.create_all([SPEC])


async def test_traffic_needs_the_metrics_of_the_real_server(serving):
    control = await serving({"GET /proxies": (200, "{}")})
    with pytest.raises(EnvironmentFailure, match="-proxy-metrics"):
        await control.traffic()


async def test_traffic_adds_up_both_directions_and_reads_large_and_escaped_values(serving):
    lines = [
        "# TYPE toxiproxy_proxy_received_bytes_total counter",
        'toxiproxy_proxy_received_bytes_total{direction="downstream",proxy="a \\"b\\"",upstream="u"} 1.5e+09',
        'toxiproxy_proxy_received_bytes_total{direction="upstream",listener="l",proxy="a \\"b\\"",upstream="u"} 7',
        'toxiproxy_proxy_sent_bytes_total{direction="upstream",listener="l",proxy="a \\"b\\"",upstream="u"} 9',
        'chaos_proxy_accepted_connections_total{listener="l",proxy="a \\"b\\"",upstream="u"} 4',
        "nonsense",
    ]
    control = await serving({"GET /proxies": (200, '{"a \\"b\\"":{}}'), "*": (200, "\n".join(lines))})
    traffic = (await control.traffic())['a "b"']
    assert (traffic.bytes, traffic.connections) == (1_500_000_007, 4)


async def test_a_web_proxy_in_the_environment_does_not_come_between(serving, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    control = await serving({"*": (200, '{"version":"2.12.0"}')})
    assert await control.version() == "2.12.0"
