"""Whole connections in trouble, end to end: real sockets, and the proxy on both event loops."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from chaos.proxy.addresses import open_listener
from tests.tcp import listening
from tests.unit.proxy.running import PATIENCE_S, Api, Caller, calling, eventually


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def answers(caller: Caller, said: bytes = b"ping") -> float:
    """Say something to an echo; return how long it took to come back."""
    begun_s = now_s()
    await caller.say(said)
    await caller.hears(said)
    return now_s() - begun_s


async def is_refused(listen: str) -> bool:
    """Whether a new connection is reset."""
    try:
        async with calling(listen) as caller:
            await answers(caller)
    except (ConnectionError, asyncio.IncompleteReadError):
        return True
    return False


async def nobody_there(api: Api) -> bool:
    return await api.connections() == []


# refuse


async def test_refused_connections_are_reset_and_open_ones_go_on(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        async with calling(listen) as caller:
            await answers(caller)
            await api.toxic("refuse")
            assert [await is_refused(listen) for _ in range(5)] == [True] * 5
            await answers(caller)
            await api.remove("refuse_downstream")
            assert not await is_refused(listen)
            await answers(caller)
        await eventually(lambda: nobody_there(api))


async def test_a_share_of_the_connections_is_refused_and_raising_it_spares_none_of_them(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("refuse", toxicity=0.5)
        refused = [await is_refused(listen) for _ in range(40)]
        assert 5 < sum(refused) < 35
        assert (await api.receipt("refuse_downstream"))["connections"] == sum(refused)
        metrics = (await api("GET", "/metrics")).text.splitlines()
        labels = f'{{listener="{listen}",proxy="p",upstream="{upstream}"}}'
        assert f"chaos_proxy_accepted_connections_total{labels} 40" in metrics
        assert f"chaos_proxy_refused_connections_total{labels} {sum(refused)}" in metrics
        await api.ok("PATCH", "/proxies/p/toxics/refuse_downstream", {"toxicity": 0.0})
        assert not any([await is_refused(listen) for _ in range(10)])


# black_hole


async def test_a_black_hole_swallows_both_ways_and_resets_who_lost_something_when_it_goes(api):
    async with listening() as upstream, AsyncExitStack() as stack:
        listen = await api.proxy(upstream)
        idle, asking = [await stack.enter_async_context(calling(listen)) for _ in range(2)]
        await answers(idle)
        await answers(asking)
        await api.toxic("black_hole")
        new = await stack.enter_async_context(calling(listen))
        for caller in (asking, new):
            await caller.say(b"lost")
            await caller.hears_nothing()
        assert (await api.receipt("black_hole_downstream"))["bytes"] == 8
        await api.remove("black_hole_downstream")
        for caller in (asking, new):
            with pytest.raises(ConnectionResetError):
                await caller.rest()
        await answers(idle)


async def test_a_caller_that_gives_up_in_a_black_hole_is_forgotten_when_it_goes(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("black_hole")
        for _ in range(10):
            async with calling(listen) as caller:
                await caller.say(b"lost")
        assert len(await api.connections()) <= 10
        await api.remove("black_hole_downstream")
        await eventually(lambda: nobody_there(api))


# partition


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
async def test_a_partition_cuts_one_direction_and_what_was_held_arrives_in_order(api, stream):
    heard = bytearray()

    async def greeting(reader, writer):
        writer.write(b"hello")
        while data := await reader.read(100):
            heard.extend(data)
            writer.write(data)

    async with listening(greeting) as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("partition", stream)
        async with calling(listen) as caller:
            if stream == "upstream":
                await caller.hears(b"hello")
            await caller.say(b"one ")
            await caller.say(b"two ")
            await caller.hears_nothing()
            assert bytes(heard) == (b"" if stream == "upstream" else b"one two ")
            await api.remove(f"partition_{stream}")
            await caller.hears(b"one two " if stream == "upstream" else b"helloone two ")
            await answers(caller)


async def test_a_partition_cut_both_ways_is_two_toxics(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("partition", "upstream")
        await api.toxic("partition", "downstream")
        async with calling(listen) as caller:
            await caller.say(b"ping")
            await caller.hears_nothing()
            await api.remove("partition_upstream")
            await caller.hears_nothing()
            await api.remove("partition_downstream")
            await caller.hears(b"ping")


async def test_the_end_of_a_caller_is_held_by_a_partition_as_well(api):
    ended = asyncio.Event()

    async def listener(reader, writer):
        await reader.read(-1)
        ended.set()

    async with listening(listener) as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("partition", "upstream")
        async with calling(listen) as caller:
            await caller.say(b"x")
            caller.writer.write_eof()
            await asyncio.sleep(0.2)
            assert not ended.is_set()
            await api.remove("partition_upstream")
            assert await caller.rest() == b""
            assert ended.is_set()
        await eventually(lambda: nobody_there(api))


# stall and flap


async def test_a_stall_holds_a_connection_for_its_time_once(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        async with calling(listen) as caller:
            await answers(caller)
            begun_s = now_s()
            await api.toxic("stall", duration_ms=400)
            await answers(caller)
            assert now_s() - begun_s >= 0.399
            for _ in range(20):
                await answers(caller)
        begun_s = now_s()
        async with calling(listen) as caller:  # a new connection is met anew
            await answers(caller)
            assert now_s() - begun_s >= 0.399


async def test_a_stall_without_end_ends_with_its_toxic(api):
    async with listening() as upstream, calling(await api.proxy(upstream)) as caller:
        await answers(caller)
        await api.toxic("stall")
        await caller.say(b"held")
        await caller.hears_nothing()
        await api.ok("PATCH", "/proxies/p/toxics/stall_downstream", {"attributes": {"duration_ms": 0}})
        await caller.hears_nothing()
        await api.remove("stall_downstream")
        await caller.hears(b"held")


async def test_a_flapping_link_is_down_for_all_connections_together(api):
    async with listening() as upstream, AsyncExitStack() as stack:
        listen = await api.proxy(upstream)
        callers = [await stack.enter_async_context(calling(listen)) for _ in range(3)]
        for caller in callers:
            await answers(caller)
        begun_s = now_s()
        await api.toxic("flap", down_ms=500, up_ms=3_600_000)
        callers.append(await stack.enter_async_context(calling(listen)))
        await asyncio.gather(*(answers(caller) for caller in callers))
        assert now_s() - begun_s >= 0.499
        for caller in callers:  # it is up, and stays so
            await answers(caller)
        assert (await api.receipt("flap_downstream"))["connections"] == 4


async def test_latency_may_have_a_long_tail(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        made = await api.toxic("latency", latency=50, jitter=10, distribution="pareto")
        assert made["attributes"] == {"latency": 50, "jitter": 10, "distribution": "pareto"}
        async with calling(listen) as caller:
            delays_s = [await answers(caller) for _ in range(10)]
        assert min(delays_s) >= 0.050 - 0.010 * (1.5 - 1) / 0.75**0.5 - 0.001  # a Pareto distribution has a floor


# connections that come and go


async def test_callers_that_leave_while_the_server_is_being_reached_leave_nothing_behind(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("http_status", "upstream", status=503)
        for wait_ms in range(60):
            async with calling(listen) as caller:
                await caller.say(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                if wait_ms % 2:
                    await asyncio.sleep(wait_ms / 20_000)
        await eventually(lambda: nobody_there(api))


async def test_answers_given_at_once_leave_nothing_behind(api):
    async with listening() as upstream:
        listen = await api.proxy(upstream)
        await api.toxic("http_status", "upstream", status=503)
        for _ in range(20):
            async with calling(listen) as caller:
                await caller.say(b"GET / HTTP/1.0\r\n\r\n")
                assert (await caller.rest()).startswith(b"HTTP/1.1 503 ")
        await eventually(lambda: nobody_there(api))


@pytest.mark.parametrize("kind", [None, "latency", "http_delay"])
async def test_a_caller_that_ends_its_stream_and_then_goes_is_noticed_by_a_server_that_sends_without_end(api, kind):
    noticed = asyncio.Event()

    async def endless(reader, writer):
        await reader.read(-1)
        try:
            while True:
                writer.write(bytes(1000))
                await writer.drain()
                await asyncio.sleep(0.001)
        finally:
            noticed.set()

    async with listening(endless) as upstream:
        listen = await api.proxy(upstream)
        if kind is not None:
            await api.toxic(kind)
            await api.toxic(kind, "upstream")
        async with calling(listen) as caller:
            await caller.say(b"GET / HTTP/1.1\r\n\r\n")
            caller.writer.write_eof()
            await caller.hears(bytes(1000))
        await asyncio.wait_for(noticed.wait(), PATIENCE_S)
        await eventually(lambda: nobody_there(api))


async def test_small_parts_of_an_answer_do_not_wait_for_each_other():
    """With Nagle's algorithm the second part waits for the acknowledgement of the first, which comes late."""
    with await open_listener("127.0.0.1:0") as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_open_connections_are_listed_and_closed_one_by_one_and_all_together(api):
    async with listening() as upstream, AsyncExitStack() as stack:
        listen = await api.proxy(upstream)
        callers = [await stack.enter_async_context(calling(listen)) for _ in range(4)]
        for number, caller in enumerate(callers):
            await answers(caller, b"x" * (number + 1))
        await api.toxic("noop", "upstream", name="both", toxicity=1.0)
        await api.toxic("noop", "upstream", name="none", toxicity=0.0)
        await api.toxic("stall", "upstream", name="later", after_ms=60_000)
        await api.toxic("http_delay", "upstream", name="http", path="/never")
        listed = await api.connections()
        assert [one["id"] for one in listed] == [1, 2, 3, 4]
        assert [one["upstream_bytes"] for one in listed] == [one["downstream_bytes"] for one in listed] == [1, 2, 3, 4]
        for one, caller in zip(listed, callers, strict=True):
            assert one["caller"] == "{}:{}".format(*caller.writer.get_extra_info("sockname"))
            assert one["server"] == upstream
            assert one["age_ms"] >= 0
            assert one["toxics"] == ["http", "both", "later"]
        await api.ok("DELETE", "/proxies/p/connections/3")
        assert await callers.pop(2).rest() == b""
        assert [one["id"] for one in await api.connections()] == [1, 2, 4]
        for caller in callers:
            await answers(caller)
        assert await api.ok("DELETE", "/proxies/p/connections") == {"closed": 3}
        for caller in callers:
            assert await caller.rest() == b""
        await eventually(lambda: nobody_there(api))
        assert await api.ok("DELETE", "/proxies/p/connections") == {"closed": 0}


@pytest.mark.parametrize("number", ["0", "-1", "1", "x", "1.0", "9" * 5000, "%D9%A1"])
async def test_a_connection_that_is_not_there_is_not_found(api, number):
    async with listening() as upstream:
        await api.proxy(upstream)
        answer = await api("DELETE", f"/proxies/p/connections/{number}")
        assert (answer.status, answer.json) == (404, {"error": "connection not found", "status": 404})
        assert (await api("GET", "/proxies/nobody/connections")).status == 404
