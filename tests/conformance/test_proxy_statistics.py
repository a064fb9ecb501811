"""Delays, rates, shares and sizes, as distributions: what a toxic does to many chunks, not to one.

Every comparison is one-sided or has two sides of different width. A server must not be too early, too fast or too
small: there the bounds are those of the toxic, less what clocks round. It may be late, because the machine is busy:
there the bounds are wide. ``FALSE_ALARM`` is the probability that a fair server fails a comparison by its own dice; the
embedded servers throw the same dice in every run (seed 1). Lateness is no matter of dice: a comparison says how much of
it it forgives, and where it can it measures the machine by an untroubled proxy beside the troubled one.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from math import comb, log, sqrt
from statistics import mean, pstdev

import pytest

from tests.conformance.conftest import Caller

SERVERS = ["embedded", "real"]
"""The chains are the same on every event loop; the other files show that their connections are."""

FALSE_ALARM = 1e-6
EARLY_S = 0.001
"""What a server's timers may be early: event loops round to a millisecond."""
NORMAL_QUANTILE = 4.76
"""A normal variable is farther below its mean than this many standard deviations once in 1 / FALSE_ALARM cases."""

both_streams = pytest.mark.parametrize("stream", ["upstream", "downstream"])


@pytest.fixture
async def echoing(upstream, proxy) -> tuple[str, str]:
    """Where two proxies to one echo server listen: ``p``, which is troubled, and ``free``, which is not."""
    server = await upstream()
    return await proxy(server.address), await proxy(server.address, "free")


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def deviation(count: int) -> float:
    """How far an empirical distribution of so many values may lie on one side of the true one.

    The bound of Dvoretzky, Kiefer, Wolfowitz and Massart: more than d happens with at most exp(-2 count d^2).
    """
    return sqrt(log(1 / FALSE_ALARM) / (2 * count))


def above(values: Sequence[float], cdf: Callable[[float], float]) -> float:
    """Return the most by which the empirical distribution lies above a continuous one: how much is too small."""
    return max(rank / len(values) - cdf(value) for rank, value in enumerate(sorted(values), 1))


def below(values: Sequence[float], cdf: Callable[[float], float]) -> float:
    """Return the most by which the empirical distribution lies below a continuous one: how much is too large."""
    return max(cdf(value) - rank / len(values) for rank, value in enumerate(sorted(values)))


def uniform(low: float, high: float) -> Callable[[float], float]:
    return lambda value: min(1.0, max(0.0, (value - low) / (high - low)))


def binomial_bounds(count: int, share: float) -> tuple[int, int]:
    """Return the least and the most hits of ``count``, each side left with a probability of FALSE_ALARM / 2."""
    weights = [comb(count, hits) * share**hits * (1 - share) ** (count - hits) for hits in range(count + 1)]
    low = next(hits for hits, total in enumerate(accumulate(weights)) if total > FALSE_ALARM / 2)
    high = count - next(hits for hits, total in enumerate(accumulate(reversed(weights))) if total > FALSE_ALARM / 2)
    return low, high


def test_the_statistics_themselves():
    assert binomial_bounds(10, 0.5) == (0, 10)
    assert binomial_bounds(300, 0.3) == (53, 130)
    assert binomial_bounds(300, 0.25) == (41, 113)
    even = [(rank + 0.5) / 100 for rank in range(100)]
    assert above(even, uniform(0, 1)) == pytest.approx(0.005)
    assert below(even, uniform(0, 1)) == pytest.approx(0.005)
    assert above(even, uniform(0.25, 1.25)) == pytest.approx(0.255)
    assert below(even, uniform(-0.25, 0.75)) == pytest.approx(0.255)
    assert deviation(1000) == pytest.approx(0.0831, abs=1e-4)


@both_streams
async def test_jitter_is_uniform(echoing, toxic, call, stream):
    """1000 delays of latency 50 and jitter 40 against the uniform distribution from 10 to 90 ms.

    The fastest exchange through the untroubled proxy at the same time is subtracted: what is left is the delay and some
    lateness. Forgiven is three times the lateness of 19 of 20 untroubled exchanges, and 10 ms. Tolerances:

    - no exchange takes less than 10 ms (and ``EARLY_S``);
    - the distribution is at most 0.083 above the uniform one (false alarm 1e-6), and 1/80 because the real server draws
      whole milliseconds, and 1/80 for ``EARLY_S``;
    - it is at most 0.083 (false alarm 1e-6) and that twentieth below the uniform one moved by the forgiven lateness;
    - the mean is at most 3.5 ms (false alarm 1e-6) and ``EARLY_S`` below 49.5 ms, which is the real server's, and at
      most 3.5 ms and the forgiven lateness above 50 ms. Here a delay counts as 90 ms and the forgiven lateness at most:
      one pause of the machine makes 40 exchanges late.
    """
    await toxic("latency", stream, latency=50, jitter=40)
    done = asyncio.Event()

    async def untroubled() -> list[float]:
        caller, times = await call(echoing[1]), []
        while not done.is_set():
            times.append(await caller.exchange())
            await asyncio.sleep(0.01)
        return times

    async def troubled() -> list[float]:
        caller = await call(echoing[0])
        return [await caller.exchange() for _ in range(25)]

    measuring = [asyncio.create_task(untroubled()) for _ in range(2)]
    exchanges = [time for times in await asyncio.gather(*(troubled() for _ in range(40))) for time in times]
    done.set()
    free = [time for times in await asyncio.gather(*measuring) for time in times]
    delays = [time - min(free) for time in exchanges]
    late_s = 3 * (quantile(free, 0.95) - min(free)) + 0.01
    mean_deviation_s = NORMAL_QUANTILE * 0.08 / sqrt(12 * len(delays))
    capped = [min(delay, 0.09 + late_s) for delay in delays]

    assert min(exchanges) >= 0.01 - EARLY_S
    assert above(delays, uniform(0.01, 0.09)) <= deviation(len(delays)) + 1 / 80 + EARLY_S / 0.08
    assert below(delays, uniform(0.01 + late_s, 0.09 + late_s)) <= deviation(len(delays)) + 0.05
    assert mean(delays) >= 0.0495 - mean_deviation_s - EARLY_S
    assert mean(capped) <= 0.05 + mean_deviation_s + late_s


@both_streams
async def test_latency_is_the_same_for_every_chunk_and_does_not_add_up(echoing, toxic, call, stream):
    """100 chunks, one every 5 ms, under a latency of 100 ms: each is 100 ms on its way, though 20 are at once.

    Tolerances: none is earlier than 100 ms (less ``EARLY_S``); half of them at most 50 ms later, which is what
    a busy machine is forgiven; no false alarm by dice, because none are thrown. Delays that add up would give 5 s.
    """
    await toxic("latency", stream, latency=100)
    loop = asyncio.get_running_loop()
    caller = await call(echoing[0])
    sent, times = [], []

    async def send() -> None:
        for _ in range(100):
            sent.append(loop.time())
            await caller.say(b"12345678")
            await asyncio.sleep(0.005)

    sending = asyncio.create_task(send())
    async with asyncio.timeout(20):
        for number in range(100):
            await caller.reader.readexactly(8)
            times.append(loop.time() - sent[number])
    await sending
    assert min(times) >= 0.1 - EARLY_S
    assert quantile(times, 0.5) <= 0.15


@dataclass(frozen=True)
class Crowd:
    """Many new connections through ``p``, a few at a time."""

    listen: str
    call: Callable[[str], Awaitable[Caller]]

    async def heard(self, count: int, data: bytes) -> list[int]:
        """Let each of ``count`` connections say ``data``; return how many bytes of its echo each of them heard."""
        at_once = asyncio.Semaphore(40)

        async def one() -> int:
            answer = b""
            async with at_once, asyncio.timeout(20):
                caller = await self.call(self.listen)
                with suppress(ConnectionError):
                    await caller.say(data)
                    while len(answer) < len(data) and (more := await caller.reader.read(len(data))):
                        answer += more
                caller.writer.close()
            return len(answer)

        return await asyncio.gather(*(one() for _ in range(count)))


@both_streams
async def test_toxicity_is_a_binomial_share_of_the_connections(echoing, toxic, call, stream):
    """300 new connections at toxicity 0.3: from 53 to 130 of them are hit (false alarm 1e-6).

    A hit is known by the end of the connection and not by a time: lateness does not matter.
    """
    await toxic("limit_data", stream, toxicity=0.3, bytes=0)
    heard = await Crowd(echoing[0], call).heard(300, b"x")
    low, high = binomial_bounds(300, 0.3)
    assert low <= heard.count(0) <= high


async def test_the_toxics_of_a_chain_hit_independently_of_each_other(echoing, toxic, api, call):
    """300 new connections, two toxics of toxicity 0.5: the second alone hits 41 to 113 of them (false alarm 1e-6).

    The first lets one byte of three pass, the second two. If one throw decided for both, the second would hit no
    connection alone, or half of them. Lateness does not matter.
    """
    await toxic("limit_data", toxicity=0.5, bytes=1)
    body = {"name": "second", "type": "limit_data", "toxicity": 0.5, "attributes": {"bytes": 2}}
    await api.ok("POST", "/proxies/p/toxics", body)
    heard = await Crowd(echoing[0], call).heard(300, b"xyz")
    for size, share in ((1, 0.5), (2, 0.25), (3, 0.25)):
        low, high = binomial_bounds(300, share)
        assert low <= heard.count(size) <= high


async def test_bandwidth_is_kept_on_both_streams_at_once(upstream, proxy, toxic, call):
    """1 MB each way at once at 500 KB/s: it takes 2 s.

    Tolerances: at no moment has more come than 500 KB/s give up to then (and ``EARLY_S``); all has come after 2.5 s, a
    quarter more, which is what a busy machine is forgiven. No false alarm by dice, because none are thrown.
    """
    rate_bytes_s, size = 500_000, 1_000_000
    loop = asyncio.get_running_loop()

    async def arrivals(reader: asyncio.StreamReader) -> list[tuple[float, int]]:
        """When how many bytes had come."""
        came, total = [], 0
        while total < size and (data := await reader.read(size)):
            total += len(data)
            came.append((loop.time(), total))
        return came

    at_the_server: asyncio.Future[list[tuple[float, int]]] = loop.create_future()

    async def pour(reader, writer, heard):
        writer.write(bytes(size))
        at_the_server.set_result(await arrivals(reader))
        await reader.read()

    listen = await proxy((await upstream(pour)).address)
    await toxic("bandwidth", "upstream", rate=500)
    await toxic("bandwidth", "downstream", rate=500)
    start_s = loop.time()
    caller = await call(listen)
    async with asyncio.timeout(20):
        caller.writer.write(bytes(size))
        for came in await asyncio.gather(arrivals(caller.reader), at_the_server):
            assert all(total <= rate_bytes_s * (moment_s - start_s + EARLY_S) for moment_s, total in came)
            assert came[-1][1] == size
            assert came[-1][0] - start_s <= 1.25 * size / rate_bytes_s


@dataclass(frozen=True)
class Slices:
    """What came out of a slicer, read from a bare socket as it came."""

    sizes: list[int]
    moments_s: list[float]
    """When each came, after the data was sent."""

    def alone(self, delay_s: float) -> list[int]:
        """The reads, from the first on, that are certainly one piece each, when pieces come so far apart.

        Where the n-th read comes before the piece n + 1 may come, there was one piece in each read up to it. A reader
        that is late, because the machine is busy, reads several pieces at once: nothing is known from there on.
        """
        in_time = [n for n, moment_s in enumerate(self.moments_s, 1) if moment_s < n * delay_s - EARLY_S]
        return self.sizes[: max(in_time, default=0)]


class BareSockets:
    """Connections through ``p`` without an event loop's buffers at their ends: a read is what came at once."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.open: list[socket.socket] = []

    async def joined(self, listen: str, stream: str) -> tuple[socket.socket, socket.socket]:
        """Make a connection through the proxy; return its sending and its receiving end for this stream."""
        host, _, port = listen.rpartition(":")
        caller = await asyncio.to_thread(socket.create_connection, (host, int(port)))
        self.open.append(caller)
        accepted, _ = await asyncio.get_running_loop().sock_accept(self.listening)
        self.open.append(accepted)
        for end in (caller, accepted):
            end.setblocking(False)
        return (caller, accepted) if stream == "upstream" else (accepted, caller)

    async def sliced(self, sender: socket.socket, receiver: socket.socket, size: int) -> Slices:
        """Send so many bytes at once, and read them as they come."""
        loop = asyncio.get_running_loop()
        slices = Slices([], [])
        start_s = loop.time()
        await loop.sock_sendall(sender, bytes(size))
        async with asyncio.timeout(20):
            while sum(slices.sizes) < size:
                slices.sizes.append(len(await loop.sock_recv(receiver, size)))
                slices.moments_s.append(loop.time() - start_s)
                assert slices.sizes[-1] > 0, "the connection has ended"
        return slices


@pytest.fixture
async def slice_many(proxy, toxic) -> AsyncIterator[Callable[..., Awaitable[list[Slices]]]]:
    """Slice bytes on many connections at once: ``await slice_many(count, size, stream, **settings)``."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        listening.setblocking(False)
        sockets = BareSockets(listening)

        async def run(count: int, size: int, stream: str, **attributes: int) -> list[Slices]:
            listen = await proxy(f"127.0.0.1:{listening.getsockname()[1]}")
            await toxic("slicer", stream, **attributes)
            links = [await sockets.joined(listen, stream) for _ in range(count)]
            return await asyncio.gather(*(sockets.sliced(*ends, size) for ends in links))

        yield run
        for end in sockets.open:
            end.close()


def model_pieces(size: int, average: int, variation: int, rng: random.Random) -> list[int]:
    """Return the sizes of a slicer's pieces: halve what is too long, and move each cut by the variation."""
    if size - average <= variation:
        return [size]
    left = size // 2 + (rng.randrange(-variation, variation) if variation else 0)
    return model_pieces(left, average, variation, rng) + model_pieces(size - left, average, variation, rng)


@both_streams
async def test_a_slicers_pieces_are_as_long_and_as_far_apart_as_it_says(slice_many, stream):
    """40 times 800 bytes in pieces of 100 plus or minus 20, 50 ms apart, against a model of the slicer.

    A piece is the half of a longer one, moved by up to 20 bytes, until it has 120 at most: so it has 40 at least, and
    the mean is 94. Tolerances:

    - no read is below 40 bytes, and none that is certainly one piece (``Slices.alone``) above 120;
    - the mean number of pieces is the model's, 8.50, plus or minus 0.45 (false alarm 1e-6 on each side), where reads
      that may be several pieces are counted to the server's favour: as one, or as many of 40 bytes;
    - some pieces are longer than 100 bytes and some shorter (all on one side: never);
    - the n-th read comes not before n - 1 delays (less ``EARLY_S``), and the last at most 1 s late.
    """
    delay_s = 0.05
    many = await slice_many(40, 800, stream, average_size=100, size_variation=20, delay=50_000)
    alone = [slices.alone(delay_s) for slices in many]
    sizes = [size for pieces in alone for size in pieces]
    pieces_min = sum(len(slices.sizes) for slices in many)
    pieces_max = len(sizes) + sum(
        size // 40 for pieces, slices in zip(alone, many, strict=True) for size in slices.sizes[len(pieces) :]
    )
    rng = random.Random(1)
    model = [len(model_pieces(800, 100, 20, rng)) for _ in range(5000)]
    tolerance = NORMAL_QUANTILE * pstdev(model) / sqrt(len(many))

    assert min(size for slices in many for size in slices.sizes) >= 40
    assert 40 <= min(sizes) < 100 < max(sizes) <= 120
    assert pieces_min / len(many) <= mean(model) + tolerance
    assert pieces_max / len(many) >= mean(model) - tolerance
    for slices in many:
        assert all(moment_s >= number * delay_s - EARLY_S for number, moment_s in enumerate(slices.moments_s))
        assert slices.moments_s[-1] <= len(slices.sizes) * delay_s + 1


@both_streams
async def test_a_slicer_without_variation_cuts_exactly_in_halves(slice_many, stream):
    """10 times 1000 bytes: 62, 63, 62, 63 and so on, 16 pieces 40 ms apart.

    No dice are thrown, and nothing is forgiven: every read ends where a piece ends, and those that are certainly one
    piece (``Slices.alone``) are the pieces in their order.
    """
    pieces = model_pieces(1000, 100, 0, random.Random(1))
    assert pieces == [62, 63] * 8
    for slices in await slice_many(10, 1000, stream, average_size=100, delay=40_000):
        assert set(accumulate(slices.sizes)) <= set(accumulate(pieces))
        alone = slices.alone(0.04)
        assert alone == pieces[: len(alone)]
        assert all(moment_s >= number * 0.04 - EARLY_S for number, moment_s in enumerate(slices.moments_s))


@both_streams
async def test_a_slicer_moves_its_cut_evenly_to_both_sides(slice_many, stream):
    """100 times 150 bytes with an average of 100 plus or minus 20: one cut, from 20 before the middle to 19 after it.

    Tolerances: the distribution of the first pieces is at most 0.263 away from the uniform one from 55 to 95 (false
    alarm 2e-6, for two sides), and 1/40 because bytes are whole. Reads that may be both pieces are left out.
    """
    many = await slice_many(100, 150, stream, average_size=100, size_variation=20, delay=100_000)
    first = [pieces[0] for slices in many if (pieces := slices.alone(0.1))]
    assert set(first) <= set(range(55, 95))
    assert above(first, uniform(55, 95)) <= deviation(len(first)) + 1 / 40
    assert below(first, uniform(55, 95)) <= deviation(len(first)) + 1 / 40
