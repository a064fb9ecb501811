"""Long streams in chunks of every size, both ways at once, byte by byte the same: through chains, changes and ends.

What is said is random, and another thing each way; so are the chunks, from one byte to 64 KiB, the pauses between them,
and the portions that are read. All of it comes from seeds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

SERVERS = ["embedded", "real"]
"""The chains are the same on every event loop; the other files show that their connections are."""

SIZE = 400_000
TIMEOUT_S = 20


def difference(heard: bytes, said: bytes) -> str:
    """Say how a stream differs from what was said; empty when it does not. A diff of so many bytes helps nobody."""
    if heard == said:
        return ""
    shorter = min(len(heard), len(said))
    wrong = next((at for at in range(shorter) if heard[at] != said[at]), shorter)
    return f"{len(heard)} bytes were heard of {len(said)}; byte {wrong} is the first that differs"


@dataclass
class Rein:
    """Holds a speaker back: how much it may say for now. What must happen before the rest is said then does."""

    size: int

    async def after(self, start: int) -> int:
        """Wait until what is at ``start`` may be said; return where it has to stop."""
        while start >= self.size:
            await asyncio.sleep(0.001)
        return self.size


async def speak(
    writer: asyncio.StreamWriter, data: bytes, rng: random.Random, pause_s: float, rein: Rein | None = None
) -> None:
    """Say the data in chunks of random sizes, small and large ones alike, with a pause after every other one."""
    start = 0
    while start < len(data):
        end = start + int(2 ** rng.uniform(0, 16))
        if rein is not None:
            end = min(end, await rein.after(start))
        writer.write(data[start:end])
        await writer.drain()
        await asyncio.sleep(rng.choice([0, pause_s]))
        start = end


async def hear(reader: asyncio.StreamReader, size: int, rng: random.Random, into: bytearray) -> None:
    """Read so many bytes, or until the end, in portions of random sizes."""
    while len(into) < size and (data := await reader.read(min(size - len(into), rng.randrange(1, 65536)))):
        into += data
        await asyncio.sleep(0)


@dataclass
class Dialogue:
    """What the two ends of one connection say to each other at the same time, and what they hear."""

    seed: int
    size: int = SIZE
    pause_s: float = 0.001
    reins: dict[str, Rein] = field(default_factory=dict)
    """By speaker, ``server`` or ``caller``; one without a rein says everything as it can."""
    heard_by_server: bytearray = field(default_factory=bytearray)
    heard_by_caller: bytearray = field(default_factory=bytearray)
    server_has_done: asyncio.Event = field(default_factory=asyncio.Event)

    def said_by(self, speaker: str) -> bytes:
        return random.Random(f"{self.seed} {speaker}").randbytes(self.size)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._talk(reader, writer, "server", self.heard_by_server)
        self.server_has_done.set()

    async def call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._talk(reader, writer, "caller", self.heard_by_caller)
        await self.server_has_done.wait()

    def differences(self) -> list[str]:
        """How what was heard differs from what was said, at the server and at the caller."""
        return [
            difference(self.heard_by_server, self.said_by("caller")),
            difference(self.heard_by_caller, self.said_by("server")),
        ]

    async def _talk(self, reader, writer, speaker: str, heard: bytearray) -> None:
        rng = random.Random(f"chunks of {self.seed} {speaker}")
        speaking = asyncio.create_task(speak(writer, self.said_by(speaker), rng, self.pause_s, self.reins.get(speaker)))
        await hear(reader, self.size, random.Random(f"portions of {self.seed} {speaker}"), heard)
        await speaking


@pytest.fixture
async def converse(upstream, proxy, call) -> Callable[..., Awaitable[None]]:
    """Hold dialogues at the same time, each through its own connection of the proxy ``p``, and compare.

    The first byte on a connection says which dialogue it is. After a dialogue nothing more may come than its end.
    """
    held: list[Dialogue] = []

    async def serve(reader, writer, heard):
        await held[(await reader.readexactly(1))[0]].serve(reader, writer)
        heard.data += await reader.read()

    server = await upstream(serve)
    listen = await proxy(server.address)

    async def one(number: int) -> None:
        caller = await call(listen)
        await caller.say(bytes([number]))
        with suppress(TimeoutError):  # then the comparison tells what is missing
            async with asyncio.timeout(TIMEOUT_S):
                await held[number].call(caller.reader, caller.writer)
        assert held[number].differences() == ["", ""]
        caller.writer.write_eof()
        assert await caller.rest() == b""

    async def run(*dialogues: Dialogue) -> None:
        held.extend(dialogues)
        await asyncio.gather(*(one(number) for number in range(len(dialogues))))
        assert [heard.data for heard in server.heard] == [b""] * len(dialogues)

    return run


CHAINS = {
    "no toxics": [],
    "noop": [("noop", {})],
    "latency, slicer": [
        ("latency", {"latency": 20, "jitter": 15}),
        ("slicer", {"average_size": 3000, "size_variation": 1000, "delay": 100}),
    ],
    "bandwidth, latency": [("bandwidth", {"rate": 1500}), ("latency", {"latency": 30})],
    "slicer, bandwidth, latency": [
        ("slicer", {"average_size": 2000, "size_variation": 1999}),
        ("bandwidth", {"rate": 2000}),
        ("latency", {"latency": 15, "jitter": 15}),
    ],
    "two slicers, the second finer": [
        ("slicer", {"average_size": 5000, "size_variation": 10}),
        ("slicer", {"average_size": 100, "size_variation": 90}),
    ],
    "every toxic that loses nothing": [
        ("slow_close", {"delay": 30}),
        ("latency", {"latency": 10, "jitter": 10}),
        ("limit_data", {"bytes": 1_000_000}),
        ("bandwidth", {"rate": 3000}),
        ("noop", {}),
        ("slicer", {"average_size": 4000, "size_variation": 3000, "delay": 50}),
        ("latency", {"latency": 5}),
    ],
}


@pytest.mark.parametrize("chain", CHAINS)
async def test_streams_both_ways_pass_a_chain_on_either_stream_unchanged(converse, api, chain):
    for stream in ("upstream", "downstream"):
        for number, (kind, attributes) in enumerate(CHAINS[chain]):
            body = {"name": f"{stream}{number}", "type": kind, "stream": stream, "attributes": attributes}
            await api.ok("POST", "/proxies/p/toxics", body)
    await converse(*(Dialogue(seed) for seed in range(3)))


SETTINGS = {
    "latency": ({"latency": 300}, {"latency": 100, "jitter": 50}),
    "bandwidth": ({"rate": 100}, {"rate": 400}),
    "slicer": ({"average_size": 1000, "delay": 10_000}, {"average_size": 300, "size_variation": 100, "delay": 1000}),
}


@pytest.mark.parametrize("kind", SETTINGS)
async def test_a_toxic_that_comes_and_changes_and_goes_in_the_middle_of_streams_loses_nothing(converse, api, kind):
    """On both streams at once. A change comes when another fifth is heard; what is behind the next is said after it."""
    first, second = SETTINGS[kind]
    reins = {speaker: Rein(2 * SIZE // 5) for speaker in ("caller", "server")}
    dialogue = Dialogue(1, pause_s=0.02, reins=reins)

    async def change(stream: str, heard: bytearray, rein: Rein) -> None:
        path = f"/proxies/p/toxics/{kind}_{stream}"
        for fifths, request in (
            (1, ("POST", "/proxies/p/toxics", {"type": kind, "stream": stream, "attributes": first})),
            (2, ("PATCH", path, {"attributes": second})),
            (3, ("DELETE", path)),
        ):
            while len(heard) < fifths * SIZE // 5:
                await asyncio.sleep(0.001)
            await api.ok(*request)
            rein.size = (fifths + 2) * SIZE // 5

    async with asyncio.TaskGroup() as group:
        group.create_task(change("upstream", dialogue.heard_by_server, reins["caller"]))
        group.create_task(change("downstream", dialogue.heard_by_caller, reins["server"]))
        await converse(dialogue)


class Meddler:
    """Adds, changes and removes toxics that lose nothing, at random, as long as it is let."""

    def __init__(self, api, rng: random.Random) -> None:
        self.api = api
        self.rng = rng
        self.names: list[str] = []
        self.changes = {"POST": 0, "PATCH": 0, "DELETE": 0}

    async def meddle(self) -> None:
        while True:
            method = self.rng.choice(["POST", "PATCH", "DELETE"] if self.names else ["POST"])
            if len(self.names) == 6 and method == "POST":
                method = "DELETE"
            await getattr(self, f"_{method.lower()}")()
            self.changes[method] += 1
            await asyncio.sleep(self.rng.choice([0, 0.005, 0.02]))

    async def _post(self) -> None:
        kind, stream = self.rng.choice(["latency", "bandwidth", "slicer", "noop"]), self.rng.choice(["up", "down"])
        name = f"{kind}{sum(self.changes.values())}"
        body = {"name": name, "type": kind, "stream": f"{stream}stream", **self._settings(kind)}
        await self.api.ok("POST", "/proxies/p/toxics", body)
        self.names.append(name)

    async def _patch(self) -> None:
        name = self.rng.choice(self.names)
        await self.api.ok("PATCH", f"/proxies/p/toxics/{name}", self._settings(name.rstrip("0123456789")))

    async def _delete(self) -> None:
        name = self.names.pop(self.rng.randrange(len(self.names)))
        await self.api.ok("DELETE", f"/proxies/p/toxics/{name}")

    def _settings(self, kind: str) -> dict[str, object]:
        size = self.rng.randrange(200, 8000)
        attributes = {
            "latency": {"latency": self.rng.randrange(40), "jitter": self.rng.randrange(30)},
            "bandwidth": {"rate": self.rng.randrange(500, 5000)},
            "slicer": {
                "average_size": size,
                "size_variation": self.rng.randrange(size),
                "delay": self.rng.randrange(500),
            },
            "noop": {},
        }[kind]
        return {"attributes": attributes, "toxicity": self.rng.choice([1.0, 1.0, 0.5])}


@pytest.mark.parametrize("seed", [1, 2])
async def test_streams_pass_unchanged_while_chains_are_changed_at_random(converse, api, seed):
    """The last tenth is said only when ten toxics have been added, ten changed and ten removed."""
    rein = Rein(9 * SIZE // 10)
    reins = {"caller": rein, "server": rein}
    meddler = Meddler(api, random.Random(seed))
    async with asyncio.TaskGroup() as group:
        meddling = group.create_task(meddler.meddle())
        conversing = group.create_task(
            converse(*(Dialogue(10 * seed + number, pause_s=0.025, reins=reins) for number in range(4)))
        )
        while min(meddler.changes.values()) < 10:
            await asyncio.sleep(0.001)
        rein.size = SIZE
        await conversing
        meddling.cancel()


SLOW_CHAIN = [
    ("slicer", {"average_size": 3000, "size_variation": 1000, "delay": 200}),
    ("latency", {"latency": 80, "jitter": 20}),
    ("bandwidth", {"rate": 2000}),
]


async def add_slow_chain(toxic, stream: str) -> None:
    for kind, attributes in SLOW_CHAIN:
        await toxic(kind, stream, **attributes)


@dataclass
class Ending:
    """A server that hears everything until the end, and then answers."""

    answer: bytes = b""
    heard: bytearray = field(default_factory=bytearray)
    heard_all: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: object) -> None:
        await hear(reader, 10 * SIZE, random.Random("portions"), self.heard)
        self.heard_all.set()
        await speak(writer, self.answer, random.Random("chunks of the answer"), 0.001)


async def test_the_end_of_a_caller_comes_after_its_last_byte_through_a_chain(upstream, proxy, toxic, call):
    server, said = Ending(), random.Random(1).randbytes(SIZE)
    listen = await proxy((await upstream(server.serve)).address)
    await add_slow_chain(toxic, "upstream")
    caller = await call(listen)
    await speak(caller.writer, said, random.Random(2), 0.001)
    caller.writer.write_eof()
    async with asyncio.timeout(TIMEOUT_S):
        await server.heard_all.wait()
    assert difference(server.heard, said) == ""
    assert await caller.rest() == b""


async def test_an_end_that_waits_in_a_toxic_is_let_go_with_what_is_before_it(upstream, proxy, toxic, call, api):
    server, said = Ending(), random.Random(3).randbytes(SIZE)
    listen = await proxy((await upstream(server.serve)).address)
    await toxic("latency", "upstream", latency=60_000)
    await toxic("slicer", "upstream", average_size=5000)
    caller = await call(listen)
    await speak(caller.writer, said, random.Random(4), 0.001)
    caller.writer.write_eof()
    await asyncio.sleep(0.1)
    assert server.heard == b""
    await api.ok("DELETE", "/proxies/p/toxics/latency_upstream")
    async with asyncio.timeout(TIMEOUT_S):
        await server.heard_all.wait()
    assert difference(server.heard, said) == ""


async def test_the_end_of_a_server_comes_after_its_last_byte_through_a_chain(upstream, proxy, toxic, call):
    said = random.Random(5).randbytes(SIZE)

    async def pour(reader, writer, heard):
        await speak(writer, said, random.Random(6), 0.001)

    listen = await proxy((await upstream(pour)).address)
    await add_slow_chain(toxic, "downstream")
    assert difference(await (await call(listen)).rest(), said) == ""


async def test_the_embedded_proxy_answers_a_half_closed_caller_at_length_through_a_chain(
    server, upstream, proxy, toxic, call
):
    if not server.embedded:
        pytest.skip("the real server closes both directions when one ends; the answer is lost")
    said, answer = random.Random(7).randbytes(SIZE), random.Random(8).randbytes(SIZE)
    ending = Ending(answer)
    listen = await proxy((await upstream(ending.serve)).address)
    await add_slow_chain(toxic, "upstream")
    await add_slow_chain(toxic, "downstream")
    caller = await call(listen)
    await speak(caller.writer, said, random.Random(9), 0.001)
    caller.writer.write_eof()
    assert difference(await caller.rest(), answer) == ""
    assert difference(ending.heard, said) == ""


async def test_the_embedded_proxy_lets_a_caller_go_on_when_the_server_has_ended_its_stream(
    server, upstream, proxy, toxic, call
):
    if not server.embedded:
        pytest.skip("the real server closes both directions when one ends; what the caller says is lost")
    said = random.Random(10).randbytes(SIZE)
    ending = Ending()

    async def end_and_listen(reader, writer, heard):
        writer.write(b"go on")
        writer.write_eof()
        await ending.serve(reader, writer, heard)

    listen = await proxy((await upstream(end_and_listen)).address)
    await add_slow_chain(toxic, "upstream")
    await add_slow_chain(toxic, "downstream")
    caller = await call(listen)
    assert await caller.rest() == b"go on"
    await speak(caller.writer, said, random.Random(11), 0.001)
    caller.writer.write_eof()
    async with asyncio.timeout(TIMEOUT_S):
        await ending.heard_all.wait()
    assert difference(ending.heard, said) == ""
