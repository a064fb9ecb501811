"""The call graph's layout: every line drawn, no box over another, callers to the left."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.reports.html.graph import NODE_HEIGHT, NODE_WIDTH, lay_out
from chaos.topology.parser import load_topology
from chaos.topology.shape import target_shape

ROOT = Path(__file__).resolve().parents[4]
names = st.sampled_from(["", *"abcdefghij"])
graphs = st.dictionaries(names, st.lists(names, max_size=5, unique=True), max_size=8)


def drawn(calls, clients=()):
    layout = lay_out(calls, clients)
    return layout, {node.name: node for node in layout.nodes}


@given(graphs)
def test_every_service_and_every_line_is_drawn_and_no_box_lies_over_another(calls):
    layout, nodes = drawn(calls)
    assert set(nodes) == {*calls, *(one for many in calls.values() for one in many)}
    assert [line.pair for line in layout.lines] == [(one, other) for one in nodes for other in calls.get(one, ())]
    for one, other in itertools.combinations(layout.nodes, 2):
        assert abs(one.x - other.x) >= NODE_WIDTH or abs(one.y - other.y) >= NODE_HEIGHT
    for node in layout.nodes:
        assert NODE_WIDTH / 2 <= node.x <= layout.width - NODE_WIDTH / 2
        assert NODE_HEIGHT / 2 <= node.y <= layout.height - NODE_HEIGHT / 2


@given(graphs)
def test_the_same_graph_is_drawn_the_same(calls):
    assert lay_out(calls) == lay_out(calls)


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1]), max_size=16))
def test_without_cycles_every_caller_stands_left_of_whom_it_calls_and_lines_end_at_boxes(pairs):
    calls: dict[str, list[str]] = {}
    for caller, callee in sorted(pairs):
        calls.setdefault(f"s{caller}", []).append(f"s{callee}")
    layout, nodes = drawn(calls)
    for line in layout.lines:
        caller, callee = (nodes[name] for name in line.pair)
        assert caller.x + NODE_WIDTH < callee.x
        points = [float(number) for number in re.findall(r"-?\d+\.\d", line.path)]
        assert points[:2] == pytest.approx([caller.x + NODE_WIDTH / 2, caller.y], abs=0.11)
        assert points[-2:] == pytest.approx([callee.x - NODE_WIDTH / 2, callee.y], abs=0.11)


def test_clients_stand_leftmost_and_what_nobody_calls_in_front_of_what_it_calls():
    _, nodes = drawn({"client": ["web"], "web": ["db"], "job": ["db"]}, ["client"])
    assert nodes["client"].x < nodes["web"].x == nodes["job"].x < nodes["db"].x


def test_services_that_call_each_other_and_themselves_have_lines_both_ways():
    layout, _ = drawn({"a": ["b", "a"], "b": ["a"]})
    paths = {line.pair: line.path for line in layout.lines}
    assert len(set(paths.values())) == 3


def test_the_playback_target_is_sixteen_boxes_on_a_screen():
    shape = target_shape(load_topology(ROOT / "targets/playback/topology.yaml"))
    layout, nodes = drawn(shape.calls, ["client"])
    assert set(nodes) == {"client", *shape.services}
    assert layout.width < 1400
    assert layout.height < 500


def test_no_graph_is_an_empty_one():
    assert lay_out({}).nodes == ()
