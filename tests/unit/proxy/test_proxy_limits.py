"""What the embedded proxy does not take on, whom it does not answer, and how little memory it needs."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from chaos.errors import EnvironmentFailure, UsageError
from chaos.proxy.embedded import ServerSettings, serve
from tests.tcp import listening
from tests.unit.proxy.running import PATIENCE_S, Api, Running, api_of, calling, command, eventually, running

TOKEN = "pass:word"  # as passwords are


# how much


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def small(request: pytest.FixtureRequest) -> Iterator[Running]:
    limits = ["--max-proxies", "3", "--max-connections", "4", "--max-body-bytes", "2000"]
    with running(*limits, uvloop=request.param == "uvloop") as server:
        yield server


@pytest.fixture
async def small_api(small: Running) -> AsyncIterator[Api]:
    async with api_of(small) as api:
        yield api


async def test_one_proxy_too_many_is_refused_and_there_is_room_again_when_one_goes(small_api):
    for name in "abc":
        await small_api.proxy("127.0.0.1:9", name)
    one_more = {"name": "d", "upstream": "127.0.0.1:9"}
    for path, body in (("/proxies", one_more), ("/populate", [one_more])):
        refused = await small_api("POST", path, body)
        assert refused.status >= 400
        assert "too many proxies: at most 3 at once, delete some" in refused.json["error"]
    await small_api.ok("POST", "/populate", [{"name": "a", "upstream": "127.0.0.1:8"}])  # in place of another
    await small_api.ok("DELETE", "/proxies/b")
    await small_api.proxy("127.0.0.1:9", "d")
    assert sorted(await small_api.ok("GET", "/proxies")) == ["a", "c", "d"]


async def test_one_connection_too_many_is_reset_and_there_is_room_again_when_one_goes(small_api):
    async with listening() as upstream, AsyncExitStack() as stack:
        listens = [await small_api.proxy(upstream, name) for name in "ab"]
        callers = [await stack.enter_async_context(calling(listen)) for listen in listens * 2]
        for caller in callers:
            await caller.say(b"ping")
            await caller.hears(b"ping")
        for listen in listens:
            with pytest.raises(ConnectionResetError):
                async with calling(listen) as refused:
                    await refused.rest()
        metrics = (await small_api("GET", "/metrics")).text
        assert f'refused_connections_total{{listener="{listens[0]}",proxy="a",upstream="{upstream}"}} 1' in metrics
        callers[0].writer.close()

        async def room() -> bool:
            return len(await small_api.connections(proxy="a")) == 1

        await eventually(room)
        async with calling(listens[1]) as caller:
            await caller.say(b"ping")
            await caller.hears(b"ping")


async def test_without_an_option_it_takes_as_many_connections_as_the_system_allows_and_not_the_shell():
    with running("--max-proxies", "3", files_soft=128) as server:
        async with api_of(server) as api, listening() as upstream, AsyncExitStack() as stack:
            listen = await api.proxy(upstream)
            for _ in range(20):  # 128 files are enough for 14
                caller = await stack.enter_async_context(calling(listen))
                await caller.say(b"ping")
                await caller.hears(b"ping")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_request_that_is_too_long_is_refused_and_the_next_one_is_answered(small_api, chunked):
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b'{"name": "' + b"x" * 100

    body = parts() if chunked else b'{"name": "' + b"x" * 4000
    async with small_api.session.post(f"{small_api.url}/proxies", data=body) as answer:
        assert answer.status == 413
    assert (await small_api("POST", "/proxies", {"name": "x" * 1000, "upstream": "127.0.0.1:9"})).status == 201


# whom


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    with running("--max-proxies", "100", CHAOS_PROXY_TOKEN=TOKEN) as server:
        yield server


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


PATHS = ["/version", "/proxies", "/metrics", "/receipts", "/nowhere"]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", TOKEN, "Basic", "Basic ====", "Basic ä", "Bearer \udcff",
     "Basic \udcff", "Digest x", basic("", "wrong"), basic(TOKEN, ""), basic("", ""), "Basic " + "x" * 5000],
)  # fmt: skip
async def test_who_does_not_know_the_token_gets_no_answer(guarded, authorization):
    """Over a bare socket: clients refuse to send some of these."""
    header = (
        b"" if authorization is None else b"Authorization: %s\r\n" % authorization.encode("utf-8", "surrogateescape")
    )
    for path in PATHS:
        async with calling(guarded.url.removeprefix("http://")) as caller:
            await caller.say(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n" % (path.encode(), header))
            heard = await caller.rest()
        assert heard.startswith(b"HTTP/1.1 401 ")
        assert b'WWW-Authenticate: Bearer, Basic realm="chaos proxy"\r\n' in heard
        assert heard.endswith(b'"status":401}\n')
        assert b"a token is needed: Authorization: Bearer TOKEN" in heard
        assert TOKEN.encode() not in heard


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic("", TOKEN), basic("me", TOKEN)]
)
async def test_who_knows_the_token_is_answered(guarded, authorization):
    async with api_of(guarded, headers={"Authorization": authorization}) as api:
        await api.proxy("127.0.0.1:9")
        await api.toxic("http_delay")
        assert [(await api("GET", path)).status for path in PATHS] == [200, 200, 200, 200, 404]


async def test_the_token_may_be_the_password_in_the_address(guarded):
    address = guarded.url.replace("http://", f"http://:{TOKEN.replace(':', '%3A')}@")
    async with aiohttp.ClientSession() as session:
        assert await Api(session, address).ok("GET", "/proxies") == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com", "2001:db8::1", "localhost.evil"])
async def test_an_api_that_others_can_reach_asks_for_a_token(host):
    with pytest.raises(UsageError, match=r"--token, listen on 127\.0\.0\.1, or say --allow-anyone"):
        await asyncio.wait_for(
            serve(ServerSettings(host=host, port=0, config=None), ready=print, stop=asyncio.Event()), PATIENCE_S
        )


@pytest.mark.parametrize("safe", [{"token": "x"}, {"allow_anyone": True}])
async def test_with_a_token_or_when_told_so_it_listens_where_it_is_told(safe):
    settings = ServerSettings(host="192.0.2.1", port=0, config=None, **safe)  # no machine has this address
    with pytest.raises(EnvironmentFailure, match=r"cannot listen on 192\.0\.2\.1:0 for the API"):
        await asyncio.wait_for(serve(settings, ready=print, stop=asyncio.Event()), PATIENCE_S)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
async def test_this_machine_needs_no_token(host):
    stop, said = asyncio.Event(), []

    def ready(url: str) -> None:
        said.append(url)
        stop.set()

    await asyncio.wait_for(serve(ServerSettings(host=host, port=0, config=None), ready=ready, stop=stop), PATIENCE_S)
    assert said[0].startswith(f"http://[{host}]:" if ":" in host else f"http://{host}:")


def test_the_program_refuses_as_well():
    done = subprocess.run(
        command("--host", "0.0.0.0", "--port", "0"), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 2
    assert "--host 0.0.0.0 lets everybody on the network break the connections behind this proxy" in done.stderr
    assert "Traceback" not in done.stderr


# memory


@pytest.fixture(params=["uvloop", "asyncio"])
def new(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A server of its own: memory that another test made it take would hide what this one does."""
    with running(uvloop=request.param == "uvloop") as server:
        yield server


@pytest.fixture
async def new_api(new: Running) -> AsyncIterator[Api]:
    async with api_of(new) as api:
        yield api


OFFERED_BYTES = 400_000_000
MEMORY_MAX_MIB = 30
HOLDING = {
    "no toxic": None,
    "latency": ("latency", {"latency": 50}),
    "latency that varies": ("latency", {"latency": 500, "jitter": 400, "distribution": "pareto"}),
    "http_delay": ("http_delay", {"delay_ms": 20}),
    "http_delay without end": ("http_delay", {"delay_ms": 3_600_000}),
    "http_corrupt": ("http_corrupt", {"every_bytes": 1000}),
    "partition": ("partition", {}),
    "slicer": ("slicer", {"average_size": 100, "delay": 10}),
}
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


class Flood:
    """Sends without end, as fast as it may."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    async def pour(self, writer: asyncio.StreamWriter, block: bytes = bytes(100_000)) -> None:
        while self.sent_bytes < OFFERED_BYTES:
            writer.write(block)
            await writer.drain()
            self.sent_bytes += len(block)

    async def stands_still(self) -> None:
        """Wait until its receiver has made it wait for a while."""
        async with asyncio.timeout(PATIENCE_S):
            seen = -1
            while not self.sent_bytes or self.sent_bytes != seen:
                seen = self.sent_bytes
                await asyncio.sleep(0.3)
        assert 0 < self.sent_bytes < OFFERED_BYTES / 4


@needs_proc
@pytest.mark.parametrize("holding", HOLDING)
async def test_a_caller_that_reads_nothing_makes_the_server_wait_and_costs_little_memory(new, new_api, holding):
    flood = Flood()

    async def serving(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % OFFERED_BYTES)
        await flood.pour(writer)

    async with listening(serving) as upstream:
        listen = await new_api.proxy(upstream)
        if HOLDING[holding] is not None:
            kind, attributes = HOLDING[holding]
            await new_api.toxic(kind, **attributes)
        before_mib = new.resident_mib()
        async with calling(listen, limit=1000) as caller:
            await caller.say(b"GET / HTTP/1.1\r\n\r\n")
            await flood.stands_still()
            assert new.resident_mib() - before_mib < MEMORY_MAX_MIB


@needs_proc
@pytest.mark.parametrize("holding", ["no toxic", "latency", "http_delay without end", "partition"])
async def test_a_server_that_reads_nothing_makes_the_caller_wait_and_costs_little_memory(new, new_api, holding):
    async def deaf(reader, writer):
        reader._transport.pause_reading()
        await asyncio.sleep(PATIENCE_S)

    flood = Flood()
    async with listening(deaf) as upstream:
        listen = await new_api.proxy(upstream)
        if HOLDING[holding] is not None:
            kind, attributes = HOLDING[holding]
            await new_api.toxic(kind, "upstream", **attributes)
        before_mib = new.resident_mib()
        async with calling(listen) as caller:
            await caller.say(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % OFFERED_BYTES)
            pouring = asyncio.create_task(flood.pour(caller.writer))
            await flood.stands_still()
            assert new.resident_mib() - before_mib < MEMORY_MAX_MIB
            pouring.cancel()


@needs_proc
async def test_a_caller_that_asks_without_end_has_to_wait_for_answers(new, new_api):
    async def silent(reader, writer):
        while await reader.read(100_000):
            pass

    flood = Flood()
    async with listening(silent) as upstream:
        listen = await new_api.proxy(upstream)
        await new_api.toxic("http_delay", path="/never")
        before_mib = new.resident_mib()
        async with calling(listen) as caller:
            pouring = asyncio.create_task(flood.pour(caller.writer, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * 1000))
            await flood.stands_still()
            assert new.resident_mib() - before_mib < MEMORY_MAX_MIB
            pouring.cancel()


@needs_proc
async def test_a_caller_that_does_not_read_what_stands_in_for_answers_has_to_wait(new, new_api):
    async with listening() as upstream:
        listen = await new_api.proxy(upstream)
        await new_api.toxic("http_status", "upstream", body="no" * 1000)
        before_mib = new.resident_mib()
        flood = Flood()
        async with calling(listen, limit=1000) as caller:
            pouring = asyncio.create_task(
                flood.pour(caller.writer, b"GET /a HTTP/1.1\r\nCookie: %s\r\n\r\n" % (b"0" * 2000) * 100)
            )
            await flood.stands_still()
            assert new.resident_mib() - before_mib < MEMORY_MAX_MIB
            sent_bytes = flood.sent_bytes
            async with asyncio.timeout(PATIENCE_S):
                while flood.sent_bytes < sent_bytes + 10_000_000:  # it reads, and so it may go on
                    assert await caller.reader.read(100_000)
            pouring.cancel()


async def test_a_caller_who_had_to_wait_goes_on_when_what_held_its_answers_is_gone(new_api):
    async with listening() as upstream:
        listen = await new_api.proxy(upstream)
        await new_api.toxic("http_status", "upstream", body="no")
        await new_api.toxic("bandwidth", "downstream", name="held", rate=0)
        flood = Flood()
        async with calling(listen) as caller:
            pouring = asyncio.create_task(
                flood.pour(caller.writer, b"GET /a HTTP/1.1\r\nCookie: %s\r\n\r\n" % (b"0" * 2000) * 100)
            )
            await flood.stands_still()
            sent_bytes = flood.sent_bytes
            await new_api.remove("held")
            async with asyncio.timeout(PATIENCE_S):
                while flood.sent_bytes < sent_bytes + 1_000_000:
                    assert await caller.reader.read(100_000)
            pouring.cancel()


@needs_proc
async def test_a_black_hole_takes_all_and_keeps_nothing(new, new_api):
    flood = Flood()
    async with listening() as upstream:
        listen = await new_api.proxy(upstream)
        await new_api.toxic("black_hole")
        before_mib = new.resident_mib()
        async with calling(listen) as caller, asyncio.timeout(PATIENCE_S):
            await flood.pour(caller.writer)
            assert new.resident_mib() - before_mib < MEMORY_MAX_MIB
