"""Which instances and edges a selector names."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.experiment.model import Selector
from chaos.faults.base import Layer
from chaos.topology.model import Edge, Instance, Topology


def candidates(selector: Selector, topology: Topology) -> tuple[Instance, ...]:
    """Return the instances that ``service`` and ``where`` choose, before any are picked, in the order of the file."""
    return tuple(
        one
        for one in topology.instances()
        if one.service == selector.service
        and all(one.labels.get(name) == value for name, value in selector.where.items())
    )


def edges_to(selector: Selector, topology: Topology, instances: Sequence[Instance]) -> tuple[Edge, ...]:
    """Return the edges to these instances, of the selector's caller or of all."""
    names = {one.name for one in instances}
    return tuple(
        edge for edge in topology.edges() if edge.callee in names and selector.caller in {None, edge.caller_service}
    )


def victims(selector: Selector, topology: Topology, instances: Sequence[Instance], layer: Layer) -> tuple[str, ...]:
    """Return the names of a fault's victims: the instances themselves, or the edges to them."""
    match layer:
        case Layer.HOST:
            return tuple(one.name for one in instances)
        case Layer.WIRE:
            return tuple(edge.name for edge in edges_to(selector, topology, instances))
