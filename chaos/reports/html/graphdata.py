"""What is known of each pair of services that call each other: its edges, those with faults, calls and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.reports.html.breakers import Pair, Tally, service_of
from chaos.reports.html.graph import Layout, lay_out
from chaos.reports.html.record import RunRecord

EDGES_LISTED = 60
"""Edges of one pair that are listed one by one; those with faults before others."""
_INSTANCES_MAX = 200
"""Of a service with more instances the first ones are shown."""


class Ways:
    """The pairs of services of one experiment, with what its run and its control did to them and saw of them."""

    def __init__(self, runs: Sequence[RunRecord]) -> None:
        self._runs = runs
        shape = next((run.started.target for run in runs if run.started and run.started.target), None)
        self.instances: Mapping[str, int] = dict(shape.services) if shape else {}
        """Service -> how many instances; empty when the journal does not tell."""
        calls: dict[str, list[str]] = {caller: list(called) for caller, called in shape.calls.items()} if shape else {}
        if shape is None:  # what has been seen of it
            for run in runs:
                for (caller, called), _ in run.breakers.by_way:
                    if called not in calls.setdefault(caller, []):
                        calls[caller].append(called)
        self.calls: Mapping[str, Sequence[str]] = calls
        self.clients = [caller for caller in calls if self.instances and caller not in self.instances]
        self.layout: Layout = lay_out(calls, self.clients)
        victims = {victim for run in runs for fault in run.faults.values() for victim in fault.victims}
        self._faulted_edges = {victim for victim in victims if "." in victim}
        self._faulted_instances = victims - self._faulted_edges
        self._edges_of = {line.pair: self._edges(line.pair) for line in self.layout.lines}

    def most(self, what: str, limit: int) -> list[Pair]:
        """Return the pairs with calls (or failed ones: ``errors``) in either run, those with most of them first."""
        found = {
            line.pair: sum(getattr(self.tally(line.pair, run), what) for run in self._runs)
            for line in self.layout.lines
        }
        return sorted((pair for pair, many in found.items() if many), key=lambda pair: -found[pair])[:limit]

    def counted_by(self, pair: Pair) -> str:
        """Return by what a pair's calls are counted: single tries where they are told of, commands elsewhere."""
        return "tries" if any((pair, True) in run.breakers.by_way for run in self._runs) else "commands"

    def tally(self, pair: Pair, run: RunRecord) -> Tally:
        """Return the calls of a pair in one run."""
        return run.breakers.by_way.get((pair, self.counted_by(pair) == "tries"), Tally())

    def faulted_instances(self, service: str) -> int:
        """Return how many instances of a service a fault fell on as such."""
        return sum(service_of(victim) == service for victim in self._faulted_instances)

    def _edges(self, pair: Pair) -> list[tuple[int, int, bool]]:
        """Return the pair's edges: the numbers of both instances (a client has 0), whether a fault lay on it."""
        caller, called = pair
        many = self.instances.get(caller)
        return [
            (one, other, self._faulted(_edge(pair, one, other), f"{called}-{other}"))
            for one in (range(1, min(many, _INSTANCES_MAX) + 1) if many is not None else (0,))
            for other in range(1, min(self.instances.get(called, 0), _INSTANCES_MAX) + 1)
        ]

    def _faulted(self, edge: str, called: str) -> bool:
        return edge in self._faulted_edges or called in self._faulted_instances

    def data(self, *, listed: bool) -> list[dict[str, object]]:
        """Return for each line of the layout what the page tells of it; with ``listed``, edge by edge."""
        found: list[dict[str, object]] = []
        for line in self.layout.lines:
            edges = self._edges_of[line.pair]
            tries = self.counted_by(line.pair) == "tries"
            shown = sorted(edges, key=lambda edge: not edge[2])[:EDGES_LISTED] if listed else []
            found.append(
                {
                    "from": line.pair[0],
                    "to": line.pair[1],
                    "edges": len(edges),
                    "faulted": sum(faulted for _, _, faulted in edges),
                    "tallies": [
                        [tally.calls, tally.errors] for tally in (self.tally(line.pair, run) for run in self._runs)
                    ],
                    "listed": [
                        [one, other, int(faulted), *self._of_edge(_edge(line.pair, one, other), tries=tries)]
                        for one, other, faulted in shown
                    ],
                }
            )
        return found

    def _of_edge(self, edge: str, *, tries: bool) -> list[list[int]]:
        tallies = [run.breakers.by_edge.get((edge, tries)) for run in self._runs]
        return [[tally.calls, tally.errors] if tally else [] for tally in tallies]


def _edge(pair: Pair, one: int, other: int) -> str:
    """Return an edge's name: ``gateway-1.play_api-2``, or ``client.oca-1``."""
    return f"{pair[0]}-{one}.{pair[1]}-{other}" if one else f"{pair[0]}.{pair[1]}-{other}"
