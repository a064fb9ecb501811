"""Each toxic's core, on a fake clock: fed whole, byte by byte and in bursts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

import pytest

from chaos.proxy.toxics import KINDS, Chain, Direction, End, InstalledToxic, Life, Toxic
from tests.unit.proxy.wire import FEEDINGS, START_S, Wire, chain_of, stage, wire

TEXT = bytes(range(256)) * 2
Feeding = Callable[[bytes], Iterable[bytes]]
every_feeding = pytest.mark.parametrize("feeding", FEEDINGS)


def feed_all(line: Wire, feeding: Feeding, data: bytes = TEXT, *, at_s: float = 0.0, end: End | None = End.EOF) -> Wire:
    for chunk in feeding(data):
        line.feed(at_s, chunk)
    if end is not None:
        line.feed(at_s, end)
    return line.finish()


# latency


@every_feeding
def test_latency_delays_every_chunk_by_the_same_time(feeding):
    line = feed_all(wire(stage("latency", latency=100)), feeding)
    assert line.data == TEXT
    assert set(line.moments) == {0.1}


def test_latency_counts_from_arrival_so_a_stream_keeps_its_rhythm():
    line = wire(stage("latency", latency=100))
    for at_s in (0.0, 0.03, 0.06, 0.3):
        line.feed(at_s, b"x")
    assert line.finish().moments == [0.1, 0.13, 0.16, 0.4]


def test_latency_lets_the_end_go_right_behind_the_last_byte():
    line = wire(stage("latency", latency=100))
    line.feed(0.0, b"x")
    line.feed(0.02, End.EOF)
    assert line.finish().out == [(0.1, b"x"), (0.1, End.EOF)]
    alone = wire(stage("latency", latency=100))
    alone.feed(0.02, End.EOF)
    assert alone.finish().end == (0.02, End.EOF)


def test_jitter_spreads_around_the_latency_and_never_changes_the_order():
    line = wire(stage("latency", latency=100, jitter=50))
    for index in range(1000):
        line.feed(float(index), index.to_bytes(2, "big"))
    line.finish()
    delays = [at_s - index for index, at_s in enumerate(line.moments)]
    assert line.data == b"".join(index.to_bytes(2, "big") for index in range(1000))
    assert 0.0499 <= min(delays) < 0.06
    assert 0.14 < max(delays) <= 0.1501
    assert sum(delays) / 1000 == pytest.approx(0.1, abs=0.005)


def test_jitter_greater_than_the_latency_is_no_time_travel():
    line = wire(stage("latency", latency=10, jitter=1000))
    for index in range(50):
        line.feed(index * 10.0, b"x")
    assert all(at_s >= index * 10.0 for index, at_s in enumerate(line.finish().moments))


def test_a_negative_latency_is_none():
    line = wire(stage("latency", latency=-500))
    line.feed(1.0, b"x")
    assert line.out == [(1.0, b"x")]


def test_jitter_overtakes_nothing_within_a_burst():
    line = wire(stage("latency", latency=100, jitter=100))
    for index in range(200):
        line.feed(0.0, bytes([index]))
    assert line.finish().data == bytes(range(200))
    assert line.moments == sorted(line.moments)


# bandwidth


@every_feeding
def test_bandwidth_takes_as_long_as_the_rate_says(feeding):
    data = bytes(20_000)
    line = feed_all(wire(stage("bandwidth", rate=10)), feeding, data, end=None)
    assert line.data == data
    assert line.moments[-1] == pytest.approx(2.0)


@every_feeding
def test_bandwidth_never_lets_more_through_than_the_rate(feeding):
    line = feed_all(wire(stage("bandwidth", rate=10)), feeding, bytes(5_000), end=None)
    passed = 0
    for at_s, item in line.out:
        passed += len(item)
        assert passed <= 10_000 * at_s + 0.01


def test_bandwidth_sends_a_long_chunk_in_pieces_of_a_tenth_of_a_second():
    line = feed_all(wire(stage("bandwidth", rate=10)), lambda data: [data], bytes(2_500))
    assert [(at_s, len(item)) for at_s, item in line.out if isinstance(item, bytes)] == [
        (0.1, 1000),
        (0.2, 1000),
        (0.25, 500),
    ]
    assert line.end == (0.25, End.EOF)


def test_bandwidth_does_not_save_up_an_unused_second():
    line = wire(stage("bandwidth", rate=10))
    line.feed(0.0, bytes(1000))
    line.feed(5.0, bytes(1000))
    assert line.finish().moments == [0.1, 5.1]


def test_bandwidth_of_zero_lets_nothing_through_until_it_is_removed():
    chain = chain_of(stage("bandwidth", rate=0))
    line = Wire(chain)
    line.feed(0.0, b"held")
    line.feed(1.0, End.EOF)
    line.run_until(1000.0)
    assert line.out == []
    assert chain.wake_s == inf
    line.change(1000.0, lambda now_s: chain.remove(now_s, "0"))
    assert line.out == [(1000.0, b"held"), (1000.0, End.EOF)]


def test_bandwidth_makes_a_fast_sender_wait():
    chain = chain_of(stage("bandwidth", rate=1))
    line = Wire(chain)
    assert not chain.full
    line.feed(0.0, bytes(100_000))
    assert chain.full
    line.run_until(90.0)
    assert not chain.full


# slow_close


@every_feeding
def test_slow_close_delays_the_end_and_no_byte(feeding):
    line = feed_all(wire(stage("slow_close", delay=500)), feeding, at_s=2.0)
    assert line.data == TEXT
    assert line.end == (2.5, End.EOF)
    assert set(line.moments) == {2.0, 2.5}


def test_removing_slow_close_closes_at_once():
    chain = chain_of(stage("slow_close", delay=60_000))
    line = Wire(chain)
    line.feed(0.0, End.EOF)
    line.change(1.0, lambda now_s: chain.remove(now_s, "0"))
    assert line.end == (1.0, End.EOF)


# timeout


@every_feeding
def test_timeout_drops_all_data_and_closes(feeding):
    line = feed_all(wire(stage("timeout", timeout=300)), feeding, end=None)
    assert line.out == [(0.3, End.CLOSE)]


def test_timeout_counts_from_the_last_data():
    line = wire(stage("timeout", timeout=300))
    line.feed(0.2, b"x")
    line.feed(0.4, b"y")
    assert line.finish().out == [(0.7, End.CLOSE)]


def test_timeout_closes_a_connection_that_never_says_anything():
    line = wire(stage("timeout", timeout=300))
    assert line.finish().out == [(0.3, End.CLOSE)]


def test_timeout_of_zero_never_closes():
    line = wire(stage("timeout", timeout=0))
    line.feed(0.0, b"x")
    line.run_until(1e6)
    assert line.out == []


def test_timeout_passes_the_senders_end_on():
    line = wire(stage("timeout", timeout=300))
    line.feed(0.1, End.EOF)
    assert line.finish().out == [(0.1, End.EOF)]


def test_removing_timeout_closes_the_connection_because_bytes_are_missing():
    chain = chain_of(stage("timeout", timeout=0))
    line = Wire(chain)
    line.feed(0.0, b"lost")
    line.change(1.0, lambda now_s: chain.remove(now_s, "0"))
    assert line.out == [(1.0, End.CLOSE)]


def test_a_timeout_that_spares_a_connection_from_now_on_lets_it_go_on():
    chain = chain_of(stage("timeout", timeout=1000))
    line = Wire(chain)
    line.feed(0.0, b"lost")
    line.change(0.9, lambda now_s: chain.replace(now_s, "0", None))
    line.feed(2.0, b"x")
    line.change(3.0, lambda now_s: chain.remove(now_s, "0"))
    assert line.finish().out == [(2.0, b"x")]


def test_changing_timeout_starts_its_time_anew():
    chain = chain_of(stage("timeout", timeout=1000))
    line = Wire(chain)
    line.change(0.9, lambda now_s: chain.replace(now_s, "0", stage("timeout", at_s=0.9, timeout=400)))
    assert line.finish().out == [(1.3, End.CLOSE)]


# reset_peer


@every_feeding
def test_reset_peer_resets_after_its_timeout_and_passes_nothing(feeding):
    line = feed_all(wire(stage("reset_peer", timeout=200)), feeding, at_s=1.0)
    assert line.out == [(1.2, End.RESET)]


def test_reset_peer_waits_for_the_first_data():
    line = wire(stage("reset_peer", timeout=0))
    line.run_until(100.0)
    assert line.out == []
    line.feed(100.0, b"x")
    assert line.out == [(100.0, End.RESET)]


def test_reset_peer_turns_an_end_into_a_reset():
    line = wire(stage("reset_peer", timeout=100))
    line.feed(0.0, End.EOF)
    assert line.finish().out == [(0.1, End.RESET)]


# slicer


@every_feeding
def test_slicer_cuts_into_pieces_of_about_the_average_size(feeding):
    data = bytes(index % 251 for index in range(10_000))
    line = feed_all(wire(stage("slicer", average_size=100, size_variation=20)), feeding, data)
    sizes = [len(item) for _, item in line.out if isinstance(item, bytes)]
    assert line.data == data
    assert max(sizes) <= 120
    assert min(sizes) >= 1


def test_slicer_sizes_vary_around_the_average():
    line = feed_all(wire(stage("slicer", average_size=100, size_variation=20)), lambda data: [data], bytes(100_000))
    sizes = [len(item) for _, item in line.out if isinstance(item, bytes)]
    assert len(set(sizes)) > 10
    assert 60 <= sum(sizes) / len(sizes) <= 120


def test_slicer_without_variation_halves():
    line = feed_all(wire(stage("slicer", average_size=30)), lambda data: [data], bytes(100))
    assert [len(item) for _, item in line.out if isinstance(item, bytes)] == [25, 25, 25, 25]


def test_slicer_waits_between_pieces():
    line = wire(stage("slicer", average_size=1, delay=10_000))
    line.feed(0.0, b"abc")
    line.feed(0.0, b"d")
    line.feed(0.0, End.EOF)
    assert line.finish().out == [(0.0, b"a"), (0.01, b"b"), (0.02, b"c"), (0.03, b"d"), (0.04, End.EOF)]


@pytest.mark.parametrize("settings", [{}, {"average_size": -5}, {"average_size": 3, "size_variation": 1000}])
def test_slicer_survives_senseless_settings(settings):
    line = feed_all(wire(stage("slicer", **settings)), lambda data: [data])
    assert line.data == TEXT
    assert all(item for _, item in line.out)


# limit_data


@every_feeding
def test_limit_data_closes_after_exactly_that_many_bytes(feeding):
    line = feed_all(wire(stage("limit_data", bytes=100)), feeding)
    assert line.data == TEXT[:100]
    assert line.end == (0.0, End.CLOSE)


def test_limit_data_passes_less_than_the_limit_and_the_end():
    line = feed_all(wire(stage("limit_data", bytes=100)), lambda data: [data], b"short")
    assert line.out == [(0.0, b"short"), (0.0, End.EOF)]


def test_limit_data_of_zero_closes_at_the_first_data():
    line = wire(stage("limit_data", bytes=0))
    assert line.finish().out == []
    line.feed(1.0, b"x")
    assert line.out == [(1.0, End.CLOSE)]


def test_changing_limit_data_keeps_count():
    chain = chain_of(stage("limit_data", bytes=10))
    line = Wire(chain)
    line.feed(0.0, b"12345")
    line.change(1.0, lambda now_s: chain.replace(now_s, "0", stage("limit_data", at_s=1.0, bytes=7)))
    line.feed(2.0, b"6789")
    assert line.data == b"1234567"
    assert line.end == (2.0, End.CLOSE)


@pytest.mark.parametrize(("limit_bytes", "passes"), [(10, b"1234567890"), (7, b"1234567"), (3, b"12345")])
def test_changing_limit_data_counts_once_what_it_holds_at_that_moment(limit_bytes, passes):
    chain = chain_of(stage("limit_data", bytes=20))
    line = Wire(chain)
    line.feed(0.0, b"12345")
    chain.feed(START_S, b"678")  # the receiver does not read just now: nothing is popped
    chain.replace(START_S, "0", stage("limit_data", bytes=limit_bytes))
    line.feed(1.0, b"9012345")
    assert line.data == passes
    assert line.end is not None


# the table


def test_the_kinds_that_are_not_extensions_are_toxiproxys():
    assert {kind for kind, toxic in KINDS.items() if not toxic.extension} == {
        "noop", "latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data",
    }  # fmt: skip
    assert {kind: list(toxic().attributes) for kind, toxic in KINDS.items() if kind in {"latency", "slicer"}} == {
        "latency": ["latency", "jitter"],
        "slicer": ["average_size", "size_variation", "delay"],
    }


def test_attributes_that_are_not_given_stay_and_unknown_ones_are_ignored():
    toxic = KINDS["latency"]().with_attributes({"latency": 5, "bogus": 1}).with_attributes({"jitter": 2})
    assert toxic.attributes == {"latency": 5, "jitter": 2}


def installed(toxicity: float, *, seed: int = 1, toxic: Toxic | None = None) -> InstalledToxic:
    return InstalledToxic(
        name="t",
        direction=Direction.UPSTREAM,
        stream="upstream",
        toxicity=toxicity,
        toxic=toxic or KINDS["latency"](),
        life=Life(since_s=START_S, seed=f"{seed}/p/t/1"),
    )


def hit_by(toxicity: float, *, seed: int = 1) -> set[int]:
    toxic = installed(toxicity, seed=seed)
    return {number for number in range(1000) if toxic.hits(number)}


def test_toxicity_decides_by_the_seed_which_connections_are_hit():
    assert hit_by(0.3) == hit_by(0.3) != hit_by(0.3, seed=2)
    assert 250 < len(hit_by(0.3)) < 350
    assert len(hit_by(1.0)) == 1000
    assert not hit_by(0.0)


def test_with_a_higher_toxicity_those_hit_before_are_hit_still():
    assert hit_by(0.2) < hit_by(0.5)


def test_the_same_seed_gives_the_same_jitters():
    def moments(seed: int) -> list[float]:
        line = wire(stage("latency", seed=seed, latency=100, jitter=50))
        for index in range(20):
            line.feed(float(index), b"x")
        return line.finish().moments

    assert moments(7) == moments(7) != moments(8)


def test_an_empty_chain_passes_everything_at_once():
    line = Wire(Chain())
    line.feed(0.0, b"x")
    line.feed(0.0, End.EOF)
    assert line.out == [(0.0, b"x"), (0.0, End.EOF)]
    assert line.chain.idle
