"""What the embedded proxy has beyond Toxiproxy, over real connections; the real server is not asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

SERVERS = ["embedded", "embedded on asyncio"]


@pytest.fixture
async def site(proxy) -> AsyncIterator[str]:
    """An HTTP server behind the proxy ``p``: it says what it was asked; returns the proxy's URL."""

    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        return web.Response(body=request.method.encode() + b" " + request.path_qs.encode() + b" " + body)

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    yield f"http://{await proxy(f'127.0.0.1:{runner.addresses[0][1]}')}"
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """One connection, used again for each request."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def ask(client: aiohttp.ClientSession, url: str, **options: object) -> tuple[int, bytes]:
    async with client.get(url, **options) as answer:
        return answer.status, await answer.read()


async def receipt(api, name: str) -> dict[str, object]:
    return await api.ok("GET", f"/proxies/p/toxics/{name}/receipt")


# single requests


async def test_one_account_feels_a_fault_and_the_others_pass_on_the_same_connection(site, client, toxic, api):
    await toxic("http_status", "upstream", status=503, body="no", header="X-Account", header_value="test-*")
    for _ in range(3):
        assert await ask(client, f"{site}/a", headers={"X-Account": "test-7"}) == (503, b"no")
        assert await ask(client, f"{site}/a?b", headers={"X-Account": "8"}) == (200, b"GET /a?b ")
    assert await api.ok("GET", "/proxies/p/connections") != []
    counted = await receipt(api, "http_status_upstream")
    assert (counted["connections"], counted["requests"]) == (1, 3)


async def test_a_fault_comes_and_goes_on_an_open_connection(site, client, toxic, api):
    assert await ask(client, f"{site}/1") == (200, b"GET /1 ")
    await toxic("http_status", "downstream", status=500)
    assert (await ask(client, f"{site}/2"))[0] == 500
    await api.ok("PATCH", "/proxies/p/toxics/http_status_downstream", {"attributes": {"status": 404}})
    assert (await ask(client, f"{site}/3"))[0] == 404
    await api.ok("PATCH", "/proxies/p/toxics/http_status_downstream", {"toxicity": 0.0})
    assert await ask(client, f"{site}/4") == (200, b"GET /4 ")
    await api.ok("PATCH", "/proxies/p/toxics/http_status_downstream", {"toxicity": 1.0})
    assert (await ask(client, f"{site}/5"))[0] == 404
    await api.ok("DELETE", "/proxies/p/toxics/http_status_downstream")
    assert await ask(client, f"{site}/6") == (200, b"GET /6 ")
    assert len(await api.ok("GET", "/proxies/p/connections")) == 1


async def test_an_aborted_request_is_a_reset(site, client, toxic):
    await toxic("http_abort", "downstream", path="/bad")
    with pytest.raises(aiohttp.ClientError):
        await ask(client, f"{site}/bad")
    assert await ask(client, f"{site}/good") == (200, b"GET /good ")


async def test_a_corrupted_body_keeps_its_length(site, client, toxic):
    await toxic("http_corrupt", "downstream", every_bytes=100)
    said = b"x" * 1000
    async with client.post(f"{site}/", data=said) as answer:
        heard = await answer.read()
    assert len(heard) == len(b"POST / ") + 1000
    assert 9 <= sum(a != b for a, b in zip(heard, b"POST / " + said, strict=True)) <= 11


async def test_delays_and_dropped_headers(site, client, toxic):
    await toxic("http_delay", "upstream", delay_ms=150, path="/slow")
    await toxic("http_drop_header", "downstream", name="Server")
    begun_s = asyncio.get_running_loop().time()
    async with client.get(f"{site}/quick") as answer:
        assert "Server" not in answer.headers
    quick_s = asyncio.get_running_loop().time() - begun_s
    begun_s = asyncio.get_running_loop().time()
    assert (await ask(client, f"{site}/slow"))[0] == 200
    assert asyncio.get_running_loop().time() - begun_s >= 0.14
    assert quick_s < 5


async def test_requests_and_byte_toxics_together(site, client, toxic):
    await toxic("latency", "downstream", latency=20)
    await toxic("slicer", "upstream", average_size=10)
    await toxic("http_status", "upstream", status=503, every=2)
    assert [(await ask(client, f"{site}/{number}"))[0] for number in range(6)] == [200, 503] * 3


# a bad network


async def test_refused_connections_are_reset_and_open_ones_go_on(upstream, proxy, toxic, call, api):
    listen = await proxy((await upstream()).address)
    caller = await call(listen)
    await caller.exchange()
    await toxic("refuse")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await (await call(listen)).exchange()
    await caller.exchange()
    assert (await receipt(api, "refuse_downstream"))["connections"] == 3
    await api.ok("DELETE", "/proxies/p/toxics/refuse_downstream")
    await (await call(listen)).exchange()


async def silent(caller, data: bytes = b"ping") -> None:
    await caller.say(data)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await caller.reader.read(1)


async def test_a_black_hole_is_silent_and_resets_who_lost_something(upstream, proxy, toxic, call, api):
    server = await upstream()
    listen = await proxy(server.address)
    idle, asking = await call(listen), await call(listen)
    await idle.exchange()
    await asking.exchange()
    await toxic("black_hole")
    await silent(asking)
    await silent(await call(listen))
    assert all(bytes(heard.data) in {b"ping", b""} for heard in server.heard)
    await api.ok("DELETE", "/proxies/p/toxics/black_hole_downstream")
    with pytest.raises(ConnectionResetError):
        await asking.rest()
    await idle.exchange()


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
async def test_a_partition_holds_one_direction_and_what_was_held_arrives(upstream, proxy, toxic, call, api, stream):
    server = await upstream()
    caller = await call(await proxy(server.address))
    await caller.exchange(b"one")
    await toxic("partition", stream)
    await silent(caller, b"two")
    assert bytes(server.heard[0].data) == (b"one" if stream == "upstream" else b"onetwo")
    await api.ok("DELETE", f"/proxies/p/toxics/partition_{stream}")
    async with asyncio.timeout(10):
        assert await caller.reader.readexactly(3) == b"two"


async def test_a_stall_and_a_flapping_link_delay_and_lose_nothing(upstream, proxy, toxic, call, api):
    caller = await call(await proxy((await upstream()).address))
    await caller.exchange()
    await toxic("stall", duration_ms=200)
    assert await caller.exchange() >= 0.15
    assert await caller.exchange() < 5
    await api.ok("DELETE", "/proxies/p/toxics/stall_downstream")
    await toxic("flap", down_ms=200, up_ms=60_000)
    assert await caller.exchange() >= 0.15


# leases


async def names(api) -> list[str]:
    return [one["name"] for one in await api.ok("GET", "/proxies/p/toxics")]


async def gone_within(api, seconds: float) -> bool:
    deadline_s = asyncio.get_running_loop().time() + seconds
    while await names(api) and asyncio.get_running_loop().time() < deadline_s:
        await asyncio.sleep(0.02)
    return await names(api) == []


async def lend(api, ttl_ms: int, owner: str = "me", **settings: object) -> dict[str, object]:
    return await api.ok(
        "POST", "/proxies/p/toxics", {"type": "timeout", "name": "t", "ttl_ms": ttl_ms, "owner": owner, **settings}
    )


async def test_a_toxic_goes_by_itself_when_nobody_renews_its_lease(upstream, proxy, api):
    await proxy((await upstream()).address)
    made = await lend(api, 300)
    assert (made["ttl_ms"], made["owner"]) == (300, "me")
    assert 0 < made["left_ms"] <= 300
    assert await gone_within(api, 10)
    assert "chaos_proxy_expired_toxics_total" in (await api("GET", "/metrics")).text


async def test_a_lease_is_renewed_by_its_owner_or_for_one_toxic(upstream, proxy, api):
    await proxy((await upstream()).address)
    await lend(api, 400)
    for number in range(8):
        await asyncio.sleep(0.1)
        if number % 2:
            assert await api.ok("POST", "/renew", {"owner": "me", "ttl_ms": 400}) == {"renewed": 1}
        else:
            await api.ok("PATCH", "/proxies/p/toxics/t", {"ttl_ms": 400, "owner": "me"})
    assert await names(api) == ["t"]
    assert await api.ok("POST", "/renew", {"owner": "somebody else", "ttl_ms": 400}) == {"renewed": 0}
    assert await gone_within(api, 10)


async def test_to_renew_a_lease_does_not_begin_the_toxic_anew(upstream, proxy, api, call):
    listen = await proxy((await upstream()).address)
    await lend(api, 60_000, attributes={"timeout": 600})
    caller = await call(listen)
    closing = asyncio.create_task(caller.until_end())
    for _ in range(10):
        await asyncio.sleep(0.05)
        await api.ok("PATCH", "/proxies/p/toxics/t", {"ttl_ms": 60_000, "owner": "me"})
    assert 0.5 < await closing < 1.05


async def test_a_lease_can_be_given_up_and_ends_with_its_toxic(upstream, proxy, api):
    await proxy((await upstream()).address)
    await lend(api, 300)
    kept = await api.ok("PATCH", "/proxies/p/toxics/t", {"ttl_ms": 0})
    assert "ttl_ms" not in kept
    await asyncio.sleep(0.5)
    assert await names(api) == ["t"]
    await api.ok("DELETE", "/proxies/p/toxics/t")
    await lend(api, 300)
    await api.ok("POST", "/reset")
    await api.ok("POST", "/proxies/p/toxics", {"type": "noop", "name": "t"})
    await asyncio.sleep(0.5)
    assert await names(api) == ["t"]  # the old lease is not the new toxic's


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/proxies/p/toxics", {"type": "noop", "ttl_ms": -1}),
        ("/proxies/p/toxics", {"type": "noop", "ttl_ms": 10**9}),
        ("/renew", {"ttl_ms": 5}),
        ("/renew", {"owner": "me"}),
        ("/renew", {"owner": "me", "ttl_ms": 0}),
    ],
)
async def test_a_lease_that_cannot_be_is_refused(upstream, proxy, api, path, body):
    await proxy((await upstream()).address)
    answer = await api("POST", path, body)
    assert (answer.status, "ttl_ms" in answer.text) == (400, True)


# what is seen


async def test_open_connections_are_listed_with_what_passed_and_can_be_closed(upstream, proxy, toxic, call, api):
    server = await upstream()
    listen = await proxy(server.address)
    callers = [await call(listen) for _ in range(3)]
    for caller in callers:
        await caller.exchange(b"12345")
    await toxic("latency", latency=1)
    listed = await api.ok("GET", "/proxies/p/connections")
    assert [one["id"] for one in listed] == [1, 2, 3]
    assert {(one["upstream_bytes"], one["downstream_bytes"]) for one in listed} == {(5, 5)}
    assert {one["server"] for one in listed} == {server.address}
    assert [one["caller"] for one in listed] == [
        f"127.0.0.1:{caller.writer.get_extra_info('sockname')[1]}" for caller in callers
    ]
    assert {tuple(one["toxics"]) for one in listed} == {("latency_downstream",)}
    assert (await api("DELETE", "/proxies/p/connections/2")).status == 204
    assert await callers[1].until_end() < 5
    await callers[0].exchange()
    assert await api.ok("DELETE", "/proxies/p/connections") == {"closed": 2}
    assert await callers[0].until_end() < 5
    assert (await api("DELETE", "/proxies/p/connections/2")).status == 404
    assert (await api("DELETE", "/proxies/p/connections/x")).status == 404
    assert await api.ok("GET", "/proxies/p/connections") == []


async def test_receipts_and_metrics_say_what_a_toxic_touched(upstream, proxy, toxic, call, api):
    listen = await proxy((await upstream()).address)
    await toxic("latency", "upstream", latency=1)
    untouched = await receipt(api, "latency_upstream")
    assert untouched == {"connections": 0, "requests": 0, "bytes": 0, "first": None, "last": None}
    for _ in range(2):
        await (await call(listen)).exchange(b"x" * 50)
    counted = (await api.ok("GET", "/receipts"))["p"]["latency_upstream"]
    assert (counted["connections"], counted["requests"], counted["bytes"]) == (2, 0, 100)
    assert counted["first"] <= counted["last"]
    assert counted["first"].endswith("+00:00")
    labels = '{proxy="p",stream="upstream",toxic="latency_upstream",type="latency"}'
    lines = (await api("GET", "/metrics")).text.splitlines()
    assert f"chaos_toxic_connections_total{labels} 2" in lines
    assert f"chaos_toxic_bytes_total{labels} 100" in lines
    assert any(line.startswith(f"chaos_toxic_last_touch_timestamp_seconds{labels} 1") for line in lines)
    assert any(line.startswith('chaos_proxy_open_connections{listener="') and line.endswith(" 2") for line in lines)
    assert (await api("GET", "/proxies/p/toxics/nobody/receipt")).status == 404


async def test_settings_of_extensions_are_checked_and_those_of_toxiproxys_kinds_are_not(upstream, proxy, api):
    await proxy((await upstream()).address)
    wrong = await api("POST", "/proxies/p/toxics", {"type": "http_status", "attributes": {"stauts": 503}})
    assert wrong.status == 400
    assert "stauts is no setting of http_status, which has status, body" in wrong.text
    wrong = await api("POST", "/proxies/p/toxics", {"type": "flap", "attributes": {"up_ms": 0}})
    assert (wrong.status, "up_ms is 0, allowed is 1 to" in wrong.text) == (400, True)
    await api.ok("POST", "/proxies/p/toxics", {"type": "flap", "attributes": {"up_ms": 5}})
    wrong = await api("PATCH", "/proxies/p/toxics/flap_downstream", {"attributes": {"down_ms": -3}})
    assert wrong.status == 400
    assert (await api.ok("GET", "/proxies/p/toxics/flap_downstream"))["attributes"] == {"down_ms": 1000, "up_ms": 5}
    plain = await api.ok("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latncy": 5, "latency": -5}})
    assert plain == {
        "attributes": {"latency": -5, "jitter": 0},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }


# memory


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


HOLDING = {
    "no toxic": None,
    "latency": ("latency", {"latency": 20}),
    "bandwidth": ("bandwidth", {"rate": 5}),
    "partition": ("partition", {}),
    "an HTTP toxic": ("http_delay", {"delay_ms": 10}),
    "a slow answer": ("http_throttle", {"rate_kb_per_s": 5}),
}


@pytest.mark.parametrize("holding", HOLDING)
async def test_a_caller_that_reads_nothing_makes_the_server_wait(server, upstream, proxy, toxic, holding):
    """Each caller is offered 200 MB; what the proxy and the kernel hold of it is a small part."""
    offered = 200_000_000
    sent = 0

    async def pour(reader, writer, heard):
        nonlocal sent
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % offered)
        chunk = bytes(100_000)
        for _ in range(offered // len(chunk)):
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    listen = await proxy((await upstream(pour)).address)
    if HOLDING[holding] is not None:
        kind, attributes = HOLDING[holding]
        await toxic(kind, "downstream", **attributes)
    before_kib = resident_kib(server.pid)
    host, _, port = listen.rpartition(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
        seen = -1
        while sent != seen:
            seen = sent
            await asyncio.sleep(0.3)
        grown_kib = resident_kib(server.pid) - before_kib
    assert sent < 60_000_000
    assert grown_kib < 40_000
