"""Single requests and whole connections in trouble, end to end: real sockets, and the proxy on both event loops."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.tcp import listening
from tests.unit.proxy.http_streams import heads, understand
from tests.unit.proxy.running import PATIENCE_S, Api, calling, eventually

BIG = bytes(range(251)) * 20_000  # 5 MB


class Site:
    """An HTTP server behind the proxy ``p``."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.address = ""
        self.url = ""

    async def say_again(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        body = await request.read()
        return web.Response(body=f"{request.method} {request.path_qs} ".encode() + body)

    async def big(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.query.get("as") == "chunks":
            response.enable_chunked_encoding()
        else:
            response.content_length = len(BIG)
        await response.prepare(request)
        for at in range(0, len(BIG), 100_000):
            await response.write(BIG[at : at + 100_000])
        await response.write_eof()
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket


@pytest.fixture
async def site(api: Api) -> AsyncIterator[Site]:
    site = Site()
    application = web.Application(client_max_size=2**30)
    application.router.add_get("/big", site.big)
    application.router.add_get("/ws", site.socket)
    application.router.add_route("*", "/{tail:.*}", site.say_again)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.address = await api.proxy(f"127.0.0.1:{runner.addresses[0][1]}")
    site.url = f"http://{site.address}"
    yield site
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """One connection, used again for each request."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1), timeout=timeout) as session:
        yield session


async def ask(client: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, bytes]:
    async with client.get(url, headers=headers) as answer:
        return answer.status, await answer.read()


# single requests


async def test_one_account_is_refused_by_nobody_but_the_toxic_and_the_others_share_its_connection(site, client, api):
    await api.toxic("http_status", "upstream", status=503, body="no", header="X-Account", header_value="test-*")
    for number in range(20):
        assert await ask(client, f"{site.url}/a{number}", **{"X-Account": "test-7"}) == (503, b"no")
        assert await ask(client, f"{site.url}/b{number}", **{"X-Account": "8"}) == (200, b"GET /b%d " % number)
        assert await ask(client, f"{site.url}/c{number}") == (200, b"GET /c%d " % number)
    assert site.asked == [f"/{letter}{number}" for number in range(20) for letter in "bc"]
    (connection,) = await api.connections()
    assert (connection["id"], connection["toxics"]) == (1, ["http_status_upstream"])
    assert (await api.receipt("http_status_upstream"))["requests"] == 20


async def test_pipelined_requests_get_their_answers_in_order(site, api):
    await api.toxic("http_status", "upstream", status=503, path="/fail/*")
    await api.toxic("http_delay", "upstream", delay_ms=50, path="/slow/*")
    await api.toxic("http_status", status=504, path="/lost/*")
    paths = [f"/{kind}/{number}" for number in range(12) for kind in ("ok", "fail", "slow", "lost", "fail")]
    async with calling(site.address) as caller:
        await caller.say(b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths[:-1]))
        await caller.say(f"GET {paths[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        found = understand([await caller.rest()], methods=["GET"] * len(paths))
    expected = {"ok": "200", "slow": "200", "fail": "503", "lost": "504"}
    assert heads(found) == [expected[path.split("/")[1]] for path in paths]
    for path, (head, body, _, complete) in zip(paths, found.messages, strict=True):
        assert complete
        assert head.status != 200 or body == f"GET {path} ".encode()
    assert sorted(site.asked) == sorted(path for path in paths if not path.startswith("/fail"))


async def test_a_pipeline_may_come_byte_by_byte(site, api):
    await api.toxic("http_status", "upstream", status=503, path="/fail")
    async with calling(site.address) as caller:
        for byte in b"GET /fail HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            await caller.say(bytes([byte]))
            await asyncio.sleep(0)
        assert heads(understand([await caller.rest()], methods=["GET"] * 2)) == ["503", "200"]


@pytest.mark.parametrize("query", ["", "?as=chunks"])
@pytest.mark.parametrize("falls", [False, True])
async def test_a_long_answer_is_not_changed_by_what_only_slows_or_spares_it(site, client, api, query, falls):
    await api.toxic("http_throttle", rate_kb_per_s=20_000, path="/big" if falls else "/never")
    await api.toxic("http_delay", "upstream", delay_ms=1, path="/big" if falls else "/never")
    status, body = await ask(client, f"{site.url}/big{query}")
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(BIG).digest())
    assert (await api.receipt("http_throttle_downstream"))["requests"] == falls


async def test_a_long_request_is_not_changed_by_what_only_slows_or_spares_it(site, client, api):
    await api.toxic("http_throttle", "upstream", rate_kb_per_s=20_000, path="/slow")
    for path in ("/slow", "/"):
        async with client.post(site.url + path, data=io.BytesIO(BIG)) as answer:
            assert await answer.read() == f"POST {path} ".encode() + BIG


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
async def test_an_aborted_request_is_a_reset_for_the_caller(site, api, stream):
    await api.toxic("http_abort", stream, path="/bad")
    async with calling(site.address) as caller:
        await caller.say(b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n")
        await caller.head()
        await caller.hears(b"GET /good ")
        await caller.say(b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await caller.rest()
    assert ("/bad" in site.asked) == (stream == "downstream")


async def test_an_answer_aborted_in_its_body_is_a_reset_after_so_many_bytes(site, api):
    await api.toxic("http_abort", after_bytes=5, path="/bad")
    async with calling(site.address) as caller:
        await caller.say(b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await caller.head()).startswith(b"HTTP/1.1 200 ")
        await caller.hears(b"GET /")
        with pytest.raises(ConnectionResetError):
            await caller.rest()


@pytest.mark.parametrize("query", ["", "?as=chunks"])
async def test_a_corrupted_body_keeps_its_length_and_the_connection_goes_on(site, client, api, query):
    await api.toxic("http_corrupt", every_bytes=10_000, path="/big")
    _, body = await ask(client, f"{site.url}/big{query}")
    assert len(body) == len(BIG)
    changed = [at // 10_000 for at, (a, b) in enumerate(zip(body, BIG, strict=True)) if a != b]
    assert changed == list(range(len(BIG) // 10_000))
    assert await ask(client, f"{site.url}/next") == (200, b"GET /next ")
    assert len(await api.connections()) == 1


async def test_a_held_answer_comes_when_its_toxic_is_removed_and_a_new_one_falls_on_the_next(site, client, api):
    assert await ask(client, f"{site.url}/1") == (200, b"GET /1 ")
    await api.toxic("http_delay", delay_ms=3_600_000)
    asking = asyncio.create_task(ask(client, f"{site.url}/2"))
    await eventually(lambda: received(api, "http_delay_downstream"))
    assert not asking.done()
    await api.toxic("http_status", "upstream", status=418)  # not for what is under way
    await api.remove("http_delay_downstream")
    assert await asking == (200, b"GET /2 ")
    assert (await ask(client, f"{site.url}/3"))[0] == 418
    await api.remove("http_status_upstream")
    assert await ask(client, f"{site.url}/4") == (200, b"GET /4 ")
    (connection,) = await api.connections()
    assert (connection["id"], connection["toxics"]) == (1, [])


async def received(api: Api, toxic: str) -> bool:
    return (await api.receipt(toxic))["first"] is not None


async def test_other_toxics_on_the_connection_do_their_work_on_what_http_toxics_say(site, client, api):
    await api.toxic("latency", latency=100)
    await api.toxic("http_status", "upstream", status=503)
    await api.toxic("slicer", average_size=8)
    begun_s = asyncio.get_running_loop().time()
    assert (await ask(client, site.url))[0] == 503
    assert asyncio.get_running_loop().time() - begun_s >= 0.099


async def test_a_caller_that_waits_for_a_word_before_it_sends_its_body(site, client, api):
    await api.toxic("http_status", "upstream", status=413, path="/refused")
    async with client.post(f"{site.url}/taken", data=b"x" * 1000, expect100=True) as answer:
        assert await answer.read() == b"POST /taken " + b"x" * 1000
    async with calling(site.address) as caller:
        await caller.say(b"POST /refused HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert heads(understand([await caller.rest()], methods=["POST"])) == ["413"]
    assert site.asked == ["/taken"]


@pytest.mark.parametrize("first", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"])
async def test_who_wants_the_connection_closed_gets_that_from_a_toxic_too(site, api, first):
    await api.toxic("http_status", "upstream", status=503, body="no")
    async with calling(site.address) as caller:
        await caller.say(first)
        assert (await caller.rest()).endswith(b"\r\nConnection: close\r\n\r\nno")
    await eventually(lambda: nobody_there(api))


async def nobody_there(api: Api) -> bool:
    return await api.connections() == []


async def test_a_web_socket_passes_while_requests_on_other_connections_fail(site, client, api):
    await api.toxic("http_status", status=500, header="X-Fail")
    await api.toxic("http_delay", delay_ms=50, path="/ws")
    async with aiohttp.ClientSession() as other, other.ws_connect(f"{site.url}/ws") as socket:
        for number in range(50):
            await socket.send_str(f"message {number}")
            assert await socket.receive_str(timeout=PATIENCE_S) == f"message {number}"
        assert (await ask(client, site.url, **{"X-Fail": "1"}))[0] == 500


async def test_other_protocols_pass_http_toxics_as_they_are(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("http_status", "upstream", status=503)
        await api.toxic("http_abort")
        for said in (b"AMQP\x00\x00\x09\x01", b"*1\r\n$4\r\nPING\r\n", b"\x16\x03\x01" + bytes(500), b"A\x00\x00\x00"):
            async with calling(listen) as caller:
                for _ in range(3):
                    await caller.say(said)
                    await caller.hears(said)


# connections that are half closed


@pytest.mark.parametrize("kind", ["bandwidth", "http_delay", "stall", "partition"])
async def test_toxics_come_and_go_on_a_connection_whose_caller_has_ended_its_stream(api, kind):
    async def late(reader, writer):
        asked = await reader.read(-1)
        await reading.wait()
        writer.write(b"answer to " + asked)

    reading = asyncio.Event()
    async with listening(late) as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("latency", "upstream", latency=1)
        async with calling(listen) as caller:
            await caller.say(b"x")
            caller.writer.write_eof()
            await eventually(lambda: received(api, "latency_upstream"))
            await asyncio.sleep(0.1)
            path = f"/proxies/p/toxics/{kind}_upstream"
            for _ in range(2):
                await api.toxic(kind, "upstream", **({"rate": 1000} if kind == "bandwidth" else {}))
                await api.ok("PATCH", path, {"toxicity": 0.0})
                await api.ok("PATCH", path, {"toxicity": 1.0})
                await api.ok("DELETE", path)
            await api.remove("latency_upstream")
            assert (await api.connections())[0]["toxics"] == []
            reading.set()
            assert await caller.rest() == b"answer to x"
