"""Connections through a proxy: bytes, ends, cuts, and what is counted."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ports import dead_address

MIB = 1024 * 1024


async def ends(caller) -> bool:
    async with asyncio.timeout(5):
        await caller.until_end()
    return True


async def test_bytes_pass_unchanged_both_ways_at_once(upstream, proxy, call):
    server = await upstream()
    caller = await call(await proxy(server.address))
    data = random.Random(1).randbytes(4 * MIB)
    sending = asyncio.create_task(caller.say(data))
    async with asyncio.timeout(20):
        assert await caller.reader.readexactly(len(data)) == data
    await sending
    assert server.heard[0].data == data


async def test_what_a_caller_says_before_the_server_is_reached_is_not_lost(upstream, proxy, call):
    server = await upstream()
    listen = await proxy(server.address)
    callers = await asyncio.gather(*(call(listen) for _ in range(50)))
    for number, caller in enumerate(callers):
        caller.writer.write(b"hello %d" % number)
    for number, caller in enumerate(callers):
        wanted = b"hello %d" % number
        assert await caller.reader.readexactly(len(wanted)) == wanted


async def test_a_server_may_speak_first(upstream, proxy, call):
    async def greet(reader, writer, heard):
        writer.write(b"220 welcome\r\n")
        await reader.read(1)

    caller = await call(await proxy((await upstream(greet)).address))
    async with asyncio.timeout(5):
        assert await caller.reader.readline() == b"220 welcome\r\n"


async def test_a_server_that_closes_has_all_its_bytes_delivered_first(upstream, proxy, call):
    async def send_and_go(reader, writer, heard):
        writer.write(b"x" * MIB)
        await writer.drain()

    caller = await call(await proxy((await upstream(send_and_go)).address))
    assert await caller.rest() == b"x" * MIB


async def test_a_caller_that_closes_has_all_its_bytes_delivered_first(upstream, proxy, call):
    async def listen_only(reader, writer, heard):
        while data := await reader.read(65536):
            heard.data += data

    server = await upstream(listen_only)
    caller = await call(await proxy(server.address))
    await caller.say(b"x" * MIB)
    caller.writer.close()
    async with asyncio.timeout(10):
        while not server.heard:
            await asyncio.sleep(0.01)
        await server.heard[0].eof.wait()
    assert server.heard[0].data == b"x" * MIB


async def test_the_end_of_a_half_closed_connection_reaches_the_server(upstream, proxy, call):
    server = await upstream()
    caller = await call(await proxy(server.address))
    await caller.exchange(b"hello")
    caller.writer.write_eof()
    async with asyncio.timeout(5):
        await server.heard[0].eof.wait()
    assert server.heard[0].data == b"hello"
    assert await ends(caller)


async def test_the_embedded_proxy_delivers_answers_to_a_half_closed_caller(server, upstream, proxy, call):
    if not server.embedded:
        pytest.skip("the real server closes both directions when one ends; the answer is lost")

    async def answer_at_the_end(reader, writer, heard):
        heard.data += await reader.read(-1)
        await asyncio.sleep(0.1)
        writer.write(bytes(reversed(heard.data)))

    caller = await call(await proxy((await upstream(answer_at_the_end)).address))
    await caller.say(b"abc")
    caller.writer.write_eof()
    assert await caller.rest() == b"cba"


async def test_disabling_cuts_connections_and_refuses_new_ones_and_enabling_brings_them_back(
    upstream, proxy, call, api
):
    server = await upstream()
    listen = await proxy(server.address)
    callers = [await call(listen) for _ in range(3)]
    for caller in callers:
        await caller.exchange()
    disabled = await api.ok("POST", "/proxies/p", {"enabled": False})
    assert (disabled["enabled"], disabled["listen"]) == (False, listen)
    assert all([await ends(caller) for caller in callers])
    async with asyncio.timeout(5):
        for heard in server.heard:
            await heard.eof.wait()
    with pytest.raises(ConnectionRefusedError):
        await call(listen)
    enabled = await api.ok("POST", "/proxies/p", {"enabled": True})
    assert (enabled["enabled"], enabled["listen"]) == (True, listen)
    await (await call(listen)).exchange()


async def test_deleting_a_proxy_cuts_its_connections(upstream, proxy, call, api):
    listen = await proxy((await upstream()).address)
    caller = await call(listen)
    await caller.exchange()
    await api.ok("DELETE", "/proxies/p")
    assert await ends(caller)
    with pytest.raises(ConnectionRefusedError):
        await call(listen)


async def test_a_new_upstream_cuts_connections_and_serves_new_ones(upstream, proxy, call, api):
    async def shout(reader, writer, heard):
        while data := await reader.read(100):
            writer.write(data.upper())

    listen = await proxy((await upstream()).address)
    caller = await call(listen)
    await caller.exchange(b"hello")
    changed = await api.ok("PATCH", "/proxies/p", {"upstream": (await upstream(shout)).address})
    assert changed["listen"] == listen
    assert await ends(caller)
    caller = await call(listen)
    await caller.say(b"hello")
    assert await caller.reader.readexactly(5) == b"HELLO"


async def test_a_caller_of_a_server_that_is_down_is_accepted_and_closed(proxy, call):
    listen = await proxy(dead_address())
    for _ in range(3):
        caller = await call(listen)
        with suppress(ConnectionError):
            await caller.say(b"hello")
            assert await caller.rest() == b""
        assert await ends(caller)


@pytest.mark.parametrize("address", ["127.0.0.1", "nonsense", "127.0.0.1:no-such-port", "127.0.0.1:99999"])
async def test_an_upstream_that_is_no_address_is_a_server_that_is_down(proxy, call, address):
    assert await ends(await call(await proxy(address)))


async def test_a_server_that_comes_up_later_is_reached(upstream, proxy, call, api):
    listen = await proxy("127.0.0.1:1")
    assert await ends(await call(listen))
    await api.ok("PATCH", "/proxies/p", {"upstream": (await upstream()).address})
    await (await call(listen)).exchange()


async def test_a_killed_caller_is_noticed_by_the_server(upstream, proxy, call):
    server = await upstream()
    caller = await call(await proxy(server.address))
    await caller.exchange()
    caller.writer.transport.abort()
    async with asyncio.timeout(5):
        await server.heard[0].eof.wait()


async def test_a_proxy_listens_on_ipv6_too(upstream, proxy, call):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    listen = await proxy((await upstream()).address, listen="[::1]:0")
    assert re.fullmatch(r"\[::1\]:[1-9]\d+", listen)
    await (await call(listen)).exchange()


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", [None, "bandwidth", "slicer"])
async def test_a_slow_reader_makes_the_sender_wait_and_costs_no_memory(server, upstream, proxy, call, toxic, kind):
    sent = 0

    async def pour(reader, writer, heard):
        nonlocal sent
        block = bytes(256 * 1024)
        while sent < 200 * MIB:
            writer.write(block)
            await writer.drain()
            sent += len(block)

    listen = await proxy((await upstream(pour)).address)
    if kind:
        await toxic(kind, rate=100_000, average_size=10_000)
    before = resident_kib(server.pid)
    caller = await call(listen)
    assert await caller.reader.readexactly(1000)
    async with asyncio.timeout(10):
        stuck = -1
        while stuck != sent:  # until the sender stands still
            stuck = sent
            await asyncio.sleep(0.2)
    assert stuck < 40 * MIB  # what the buffers of three sockets hold
    assert resident_kib(server.pid) - before < 40 * 1024


def metric(text: str, name: str, **labels: str) -> float | None:
    for line in text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rpartition(" ")[2])
    return None


async def test_bytes_are_counted_by_direction_under_the_real_servers_names(upstream, proxy, call, api):
    async def answer(reader, writer, heard):
        await reader.readexactly(10)
        writer.write(b"y" * 25)
        await reader.read(1)

    server = await upstream(answer)
    listen = await proxy(server.address)
    labels = {"proxy": "p", "listener": listen, "upstream": server.address}
    for _ in range(2):
        caller = await call(listen)
        await caller.say(b"x" * 10)
        assert await caller.reader.readexactly(25)
        caller.writer.close()
    async with asyncio.timeout(5):
        for what in ("received", "sent"):
            for direction, size in (("upstream", 20), ("downstream", 50)):
                name = f"toxiproxy_proxy_{what}_bytes_total"
                while metric((await api("GET", "/metrics")).text, name, direction=direction, **labels) != size:
                    await asyncio.sleep(0.02)
    if api.server.embedded:
        assert metric((await api("GET", "/metrics")).text, "chaos_proxy_accepted_connections_total", **labels) == 2
