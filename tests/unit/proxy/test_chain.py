"""Chains of several toxics, live changes, and backpressure."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.proxy.toxics import KINDS, Chain, End, Item, Meter, Stage
from tests.unit.proxy.wire import START_S, Wire, chain_of, stage, toxic_stage, wire


def test_latencies_add_up():
    line = wire(stage("latency", latency=100), stage("latency", latency=50))
    line.feed(0.0, b"a")
    line.feed(0.02, b"b")
    assert line.finish().out == [(0.15, b"a"), (0.17, b"b")]


def test_what_a_toxic_ends_the_next_one_may_delay():
    line = wire(stage("limit_data", bytes=3), stage("slow_close", delay=1000))
    line.feed(0.0, b"abcdef")
    assert line.finish().out == [(0.0, b"abc"), (1.0, End.CLOSE)]


def test_order_matters():
    before = wire(stage("limit_data", bytes=3), stage("slicer", average_size=1))
    before.feed(0.0, b"abcdef")
    assert [item for _, item in before.finish().out] == [b"a", b"b", b"c", End.CLOSE]
    dropped = wire(stage("timeout", timeout=0), stage("limit_data", bytes=0))
    dropped.feed(0.0, b"abcdef")
    assert dropped.finish().out == []


def test_a_late_timer_does_not_add_up():
    chain = chain_of(stage("latency", latency=100), stage("bandwidth", rate=10))
    chain.feed(START_S, bytes(3000))
    late_s = START_S + 0.25  # the loop was busy; two pieces are due
    popped = []
    while (item := chain.pop(late_s)) is not None:
        popped.append(len(item))
    assert popped == [1000]
    assert chain.wake_s == pytest.approx(START_S + 0.3)


def test_a_full_stage_lets_the_one_before_it_hold_the_bytes():
    latency, narrow = stage("latency", latency=10), stage("bandwidth", rate=1)
    chain = chain_of(latency, narrow)
    line = Wire(chain)
    for _ in range(20):
        line.feed(0.0, bytes(32 * 1024))
    line.run_until(1.0)
    assert narrow.held_bytes < narrow.limit_bytes + 2 * 32 * 1024
    assert latency.held_bytes > 10 * 32 * 1024
    assert not chain.full
    line.change(2.0, lambda now_s: chain.remove(now_s, "1"))
    assert len(line.finish().data) == 20 * 32 * 1024


def test_many_tiny_chunks_cost_more_than_their_bytes():
    chain = chain_of(stage("bandwidth", rate=0))
    for _ in range(2000):
        chain.feed(START_S, b"x")
    assert chain.full


def test_a_toxic_added_later_hits_what_is_still_in_the_chain():
    chain = chain_of(stage("latency", latency=100))
    line = Wire(chain)
    line.feed(0.0, b"x")
    line.change(0.05, lambda _: chain.add("1", stage("latency", at_s=0.05, latency=200)))
    assert line.finish().out == [(0.3, b"x")]


def test_a_removed_toxic_lets_go_of_what_it_held_in_order():
    chain = chain_of(stage("latency", latency=1000), stage("latency", latency=10))
    line = Wire(chain)
    line.feed(0.0, b"a")
    line.feed(0.1, b"b")
    line.change(0.5, lambda now_s: chain.remove(now_s, "0"))
    line.feed(0.5, b"c")
    assert line.finish().out == [(0.51, b"a"), (0.51, b"b"), (0.51, b"c")]


def test_a_shorter_latency_counts_from_arrival():
    chain = chain_of(stage("latency", latency=1000))
    line = Wire(chain)
    line.feed(0.0, b"a")
    line.feed(0.4, b"b")
    line.change(0.5, lambda now_s: chain.replace(now_s, "0", stage("latency", at_s=0.5, latency=300)))
    assert line.finish().out == [(0.5, b"a"), (0.7, b"b")]


def test_a_spared_connection_is_idle_and_its_toxic_can_be_changed_and_removed():
    chain = Chain()
    chain.add("a", None)
    assert chain.idle
    chain.replace(START_S, "a", stage("latency", latency=100))
    assert not chain.idle
    chain.replace(START_S, "a", None)
    chain.remove(START_S, "a")
    assert chain.idle
    assert chain.wake_s == inf


def test_a_chain_whose_toxics_are_gone_is_idle_when_it_holds_nothing():
    chain = chain_of(stage("latency", latency=100))
    chain.feed(START_S, b"x")
    chain.remove(START_S, "0")
    assert not chain.idle
    assert chain.wake_s == -inf
    assert chain.pop(START_S) == b"x"
    assert chain.idle


HARMLESS = st.one_of(
    st.tuples(
        st.just("latency"), st.fixed_dictionaries({"latency": st.integers(0, 500), "jitter": st.integers(0, 100)})
    ),
    st.tuples(st.just("bandwidth"), st.fixed_dictionaries({"rate": st.integers(1, 50)})),
    st.tuples(st.just("slow_close"), st.fixed_dictionaries({"delay": st.integers(0, 500)})),
    st.tuples(
        st.just("slicer"),
        st.fixed_dictionaries(
            {"average_size": st.integers(1, 40), "size_variation": st.integers(0, 40), "delay": st.integers(0, 5000)}
        ),
    ),
    st.tuples(st.just("noop"), st.just({})),
)
ACTIONS = st.one_of(
    st.tuples(st.just("feed"), st.binary(min_size=1, max_size=200)),
    st.tuples(st.just("add"), HARMLESS, st.booleans()),
    st.tuples(st.just("change"), HARMLESS, st.booleans(), st.integers(0, 10)),
    st.tuples(st.just("remove"), st.integers(0, 10)),
    st.tuples(st.just("wait"), st.floats(0.0, 0.5)),
)


def built(toxic: tuple[str, dict[str, int]], *, hit: bool, now_s: float) -> Stage | None:
    kind, attributes = toxic
    return toxic_stage(KINDS[kind]().with_attributes(attributes), at_s=now_s - START_S, seed=3) if hit else None


@settings(max_examples=150)
@given(actions=st.lists(ACTIONS, max_size=30), ended=st.booleans())
def test_toxics_that_only_delay_lose_and_reorder_nothing_whatever_is_changed_on_the_way(actions, ended):
    chain, names, sent, clock_s = Chain(), [], b"", 0.0
    line = Wire(chain)
    for number, step in enumerate(actions):
        match step:
            case ("wait", duration_s):
                clock_s += duration_s
                line.run_until(clock_s)
            case ("feed", data):
                line.feed(clock_s, data)
                sent += data
            case ("add", toxic, hit):
                names.append(str(number))
                chain.add(names[-1], built(toxic, hit=hit, now_s=START_S + clock_s))
            case ("change", toxic, hit, index) if names:
                chain.replace(
                    START_S + clock_s, names[index % len(names)], built(toxic, hit=hit, now_s=START_S + clock_s)
                )
            case ("remove", index) if names:
                chain.remove(START_S + clock_s, names.pop(index % len(names)))
        line.run_until(clock_s)
    if ended:
        line.feed(clock_s, End.EOF)
    line.finish()
    assert line.data == sent
    assert (line.end is not None) == ended
    assert line.moments == sorted(line.moments)
    if ended:
        assert line.out[-1][1] is End.EOF


@settings(max_examples=200)
@given(
    kind=st.sampled_from([("latency", {"latency": 0}), ("latency", {"latency": 40}), ("bandwidth", {"rate": 20})]),
    chunks=st.lists(st.tuples(st.floats(0.0, 0.3), st.integers(1, 5000)), max_size=20),
)
def test_the_short_way_past_a_stage_is_the_long_way_but_for_the_time_that_counts_as_now(kind, chunks):
    early_s = 0.0005
    ways: dict[bool, list[tuple[float, Item]]] = {}
    meters = {short: Meter() for short in (True, False)}
    for short in (True, False):
        at_work = stage(kind[0], **kind[1])
        at_work.meter = meters[short]
        line, clock_s = wire(at_work), 0.0
        for pause_s, size in chunks:
            clock_s += pause_s
            line.run_until(clock_s)
            if short and line.chain.passes(START_S + clock_s, bytes(size), START_S + clock_s + early_s):
                line.out.append((clock_s, bytes(size)))
            else:
                line.feed(clock_s, bytes(size))
        ways[short] = line.finish().out
    assert b"".join(item for _, item in ways[True]) == b"".join(item for _, item in ways[False])
    arrivals = [[at_s for at_s, item in ways[short] for _ in item] for short in (True, False)]
    assert all(abs(a - b) <= 2 * early_s for a, b in zip(*arrivals, strict=True))
    assert meters[True] == meters[False]
