"""The call graph laid out in layers: callers to the left, callees to the right, few lines crossing.

The method is that of Sugiyama, Tagawa and Toda (1981): cycles are opened, every service gets the layer of its longest
way from a client, ways that cross layers get a bend in each, and each layer is ordered by the mean place of its
neighbours. Replicas of a service are one node, so that 120 edges are some twenty lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

NODE_WIDTH = 124.0
NODE_HEIGHT = 40.0
LAYER_GAP = 62.0
ROW_GAP = 20.0
BEND_HEIGHT = 14.0
MARGIN = 14.0
LOOP_WIDTH = 20.0
"""How far the line of a service that calls itself stands out."""
_SWEEPS = 12
_SERVICES_MAX = 200
"""Of a graph with more, the first ones are drawn."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A service or a client, and the middle of its box."""

    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """All edges from one service to another: the path of an SVG."""

    pair: Pair
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything is; units are those of the SVG."""

    nodes: tuple[Node, ...]
    lines: tuple[Line, ...]
    width: float
    height: float


def lay_out(calls: Mapping[str, Sequence[str]], clients: Sequence[str] = ()) -> Layout:
    """Return the places of all services named in ``calls`` (caller -> callees). ``clients`` stand leftmost."""
    names = list(dict.fromkeys([*clients, *calls, *(one for many in calls.values() for one in many)]))[:_SERVICES_MAX]
    known = set(names)
    pairs = [(caller, one) for caller in names for one in dict.fromkeys(calls.get(caller, ())) if one in known]
    forward = _without_cycles(names, [pair for pair in pairs if pair[0] != pair[1]])
    layer = _layers(names, forward, clients)
    layers, chains = _with_bends(names, forward, layer)
    _order(layers, chains)
    y = _heights(layers, chains)
    x = {name: MARGIN + NODE_WIDTH / 2 + level * (NODE_WIDTH + LAYER_GAP) for name, level in layer.items()}
    nodes = tuple(Node(name=name, x=round(x[name], 1), y=round(y[name], 1)) for name in names)
    lines = []
    for pair in pairs:
        turned = pair not in chains and pair[::-1] in chains and pair[0] != pair[1]
        chain = chains.get(pair[::-1] if turned else pair, ())
        lines.append(Line(pair=pair, path=_path(pair, chain, layer, x, y, turned=turned)))
    loops = [x[caller] + LOOP_WIDTH for caller, callee in pairs if caller == callee]
    width = max([*x.values(), *loops], default=0.0) + NODE_WIDTH / 2 + MARGIN
    height = max(y.values(), default=0.0) + NODE_HEIGHT / 2 + MARGIN
    return Layout(nodes=nodes, lines=tuple(lines), width=round(width, 1), height=round(height, 1))


def _without_cycles(names: Sequence[str], pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with those turned round that close a cycle; no pair twice."""
    callees: dict[str, list[str]] = {name: [] for name in names}
    for one, other in pairs:
        callees[one].append(other)
    done: set[str] = set()
    open_ways: dict[str, None] = {}
    result: dict[Pair, None] = {}
    for root in names:
        if root in done:
            continue
        stack = [(root, iter(callees[root]))]
        open_ways[root] = None
        while stack:
            name, rest = stack[-1]
            callee = next(rest, None)
            if callee is None:
                stack.pop()
                done.add(name)
                del open_ways[name]
            elif callee in open_ways:
                result[callee, name] = None
            else:
                result[name, callee] = None
                if callee not in done:
                    open_ways[callee] = None
                    stack.append((callee, iter(callees[callee])))
    return list(result)


def _layers(names: Sequence[str], pairs: Sequence[Pair], clients: Sequence[str]) -> dict[str, int]:
    """Return for each name its layer, 0 the leftmost: behind the last of its callers."""
    callers: dict[str, list[str]] = {name: [] for name in names}
    callees: dict[str, list[str]] = {name: [] for name in names}
    for caller, callee in pairs:
        callers[callee].append(caller)
        callees[caller].append(callee)
    layer: dict[str, int] = {}
    left = {name: len(callers[name]) for name in names}
    ready = [name for name in names if not left[name]]
    while ready:
        name = ready.pop()
        layer[name] = max((layer[caller] + 1 for caller in callers[name]), default=0)
        for callee in callees[name]:
            left[callee] -= 1
            if not left[callee]:
                ready.append(callee)
    for name in names:  # what nobody calls stands in front of what it calls, and clients alone at the left
        if not callers[name] and name not in clients and callees[name]:
            layer[name] = max(layer[name], min(layer[callee] for callee in callees[name]) - 1)
    used = {level: place for place, level in enumerate(sorted(set(layer.values())))}
    return {name: used[level] for name, level in layer.items()}


def _with_bends(
    names: Sequence[str], pairs: Sequence[Pair], layer: Mapping[str, int]
) -> tuple[list[list[str]], dict[Pair, tuple[str, ...]]]:
    """Return each layer's names and bends, and for each pair all that its line goes through, both ends too."""
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in names:
        layers[layer[name]].append(name)
    chains: dict[Pair, tuple[str, ...]] = {}
    for caller, callee in pairs:
        chain = [caller]
        for level in range(layer[caller] + 1, layer[callee]):
            bend = f"\0{caller}\0{callee}\0{level}"
            layers[level].append(bend)
            chain.append(bend)
        chains[caller, callee] = (*chain, callee)
    return layers, chains


def _neighbours(chains: Mapping[Pair, Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {}
    behind: dict[str, list[str]] = {}
    for chain in chains.values():
        for left, right in pairwise(chain):
            before.setdefault(right, []).append(left)
            behind.setdefault(left, []).append(right)
    return before, behind


def _order(layers: list[list[str]], chains: Mapping[Pair, Sequence[str]]) -> None:
    """Sort each layer by the mean place of its neighbours, to and fro, and keep the order with fewest crossings."""
    before, behind = _neighbours(chains)
    best = [list(level) for level in layers]
    fewest = _crossings(layers, behind)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        neighbours = before if forward else behind
        for level in layers[1:] if forward else layers[-2::-1]:
            place = {name: at for names in layers for at, name in enumerate(names)}
            level.sort(key=lambda name: fmean([place[one] for one in neighbours.get(name, ())] or [place[name]]))
        crossings = _crossings(layers, behind)
        if crossings < fewest:
            fewest, best = crossings, [list(level) for level in layers]
    layers[:] = best


def _crossings(layers: Sequence[Sequence[str]], behind: Mapping[str, Sequence[str]]) -> int:
    crossings = 0
    for level, following in pairwise(layers):
        place = {name: at for at, name in enumerate(following)}
        ends = [sorted(place[one] for one in behind.get(name, ()) if one in place) for name in level]
        for at, here in enumerate(ends):
            crossings += sum(other < one for below in ends[at + 1 :] for other in below for one in here)
    return crossings


def _heights(layers: Sequence[Sequence[str]], chains: Mapping[Pair, Sequence[str]]) -> dict[str, float]:
    """Return the y of every name and bend: near its neighbours', in the order of its layer, with room between."""
    before, behind = _neighbours(chains)
    y: dict[str, float] = {}
    for level in layers:
        _spread(level, dict.fromkeys(level, 0.0), y)
    for sweep in range(_SWEEPS):
        for level in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = {
                name: fmean([y[one] for one in (*before.get(name, ()), *behind.get(name, ()))] or [y[name]])
                for name in level
            }
            _spread(level, wanted, y)
    top = min((y[name] - _size(name) / 2 for level in layers for name in level), default=0.0)
    return {name: height - top + MARGIN for name, height in y.items()}


def _spread(level: Sequence[str], wanted: Mapping[str, float], y: dict[str, float]) -> None:
    """Place a layer as near as can be to where it wants to be (pool adjacent violators), none over another."""
    offset = 0.0
    blocks: list[tuple[float, int]] = []  # mean of the wanted places less their offsets, and how many share it
    offsets = []
    for at, name in enumerate(level):
        if at:
            offset += (_size(level[at - 1]) + _size(name)) / 2 + (ROW_GAP if _is_node(name) else ROW_GAP / 2)
        offsets.append(offset)
        mean, many = wanted[name] - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, number = blocks.pop()
            mean, many = (mean * many + other * number) / (many + number), many + number
        blocks.append((mean, many))
    places = [mean for mean, many in blocks for _ in range(many)]
    for name, place, off in zip(level, places, offsets, strict=True):
        y[name] = place + off


def _is_node(name: str) -> bool:
    return not name.startswith("\0")


def _size(name: str) -> float:
    return NODE_HEIGHT if _is_node(name) else BEND_HEIGHT


def _path(
    pair: Pair,
    chain: Sequence[str],
    layer: Mapping[str, int],
    x: Mapping[str, float],
    y: Mapping[str, float],
    *,
    turned: bool,
) -> str:
    """Return the way from box to box, with a level stretch through each bend's layer."""
    caller, callee = pair
    if caller == callee:
        right, at = x[caller] + NODE_WIDTH / 2, y[caller]
        return f"M{right:.1f},{at - 8:.1f} c26,-12 26,28 0,16"
    ends = [x[chain[0]] + NODE_WIDTH / 2, x[chain[-1]] - NODE_WIDTH / 2]
    first = layer[chain[0]]
    points = [(ends[0], y[chain[0]])]
    for step, bend in enumerate(chain[1:-1], start=1):
        middle = MARGIN + NODE_WIDTH / 2 + (first + step) * (NODE_WIDTH + LAYER_GAP)
        points += [(middle - NODE_WIDTH / 2, y[bend]), (middle + NODE_WIDTH / 2, y[bend])]
    points.append((ends[1], y[chain[-1]]))
    if turned:
        points.reverse()
    parts = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        half = (x0 + x1) / 2
        parts.append(
            f"L{x1:.1f},{y1:.1f}" if y0 == y1 else f"C{half:.1f},{y0:.1f} {half:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
        )
    return " ".join(parts)
