"""What an experiment, or `chaos up`, changes of its target: settings, numbers of instances, numbers of workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chaos.errors import Problem, UsageError
from chaos.experiment import tables as t
from chaos.experiment.overrides import override
from chaos.fields import Field, Section, Table, Where, one_of
from chaos.topology.model import Scalar, Topology
from chaos.topology.parser import load_topology
from chaos.topology.scaling import Dimension, port_clashes, refusal, scaled, too_large
from chaos.yamlfile import Mapping as Tree
from chaos.yamlfile import Node, Place

CHANGES = Table(t.SETTINGS, t.REPLICAS, t.SERVICE_WORKERS)
"""What can be changed of a target without an experiment."""

_SCALED: Mapping[Dimension, Field[Mapping[str, int]]] = {
    Dimension.REPLICAS: t.REPLICAS,
    Dimension.WORKERS: t.SERVICE_WORKERS,
}


def load_target(path: Path, overrides: Mapping[str, str]) -> tuple[Topology, Mapping[str, Scalar]]:
    """Return a target's topology with ``overrides`` (``replicas.<service>``, ``workers.<service>``), and its settings.

    The settings are those overridden (``settings.<name>``). Raises UsageError with every problem.
    """
    topology = load_topology(path)
    problems: list[Problem] = []
    tree = override(Tree(place=Place(source="--set"), entries=()), overrides, problems)
    section = CHANGES.read(tree, Where(problems=problems))
    if section is not None:
        check_settings(section, topology)
        topology = scale(section, topology)
    if problems or section is None:
        raise UsageError(problems)
    return topology, section.get_or(t.SETTINGS, {})


def scale(section: Section, topology: Topology) -> Topology:
    """Return the topology with the section's ``replicas`` and ``workers``; what cannot be is reported."""
    wanted: dict[Dimension, dict[str, int]] = {dimension: {} for dimension in Dimension}
    for dimension, one in _SCALED.items():
        for name, number in section.get_or(one, {}).items():
            service = topology.services.get(name)
            said = (
                one_of(name, tuple(topology.services), noun="service of the target")
                if service is None
                else refusal(service, dimension, number)
            )
            if said is None:
                wanted[dimension][name] = number
            else:
                section.where.inside(one.key).inside(name).report(node_of(section, one, name), said)
    larger = scaled(topology, replicas=wanted[Dimension.REPLICAS], workers=wanted[Dimension.WORKERS])
    if not larger.scaled:
        return topology
    if said := too_large(larger):
        section.report(t.REPLICAS if section.has(t.REPLICAS) else t.SERVICE_WORKERS, said)
        return topology
    for name, said in port_clashes(larger.services):
        section.report(t.REPLICAS, f"{name}: {said}")
    return larger


def check_settings(section: Section, topology: Topology) -> None:
    """Report settings that the target does not have, or that are of another type there."""
    for name, value in section.get_or(t.SETTINGS, {}).items():
        where, node = section.where.inside(t.SETTINGS.key).inside(name), node_of(section, t.SETTINGS, name)
        if name not in topology.settings:
            where.report(node, one_of(name, tuple(topology.settings), noun="setting of the target"))
        elif _type_word(value) != _type_word(topology.settings[name]):
            where.report(
                node, f"{value!r} is {_type_word(value)}; in the target it is {_type_word(topology.settings[name])}"
            )


def node_of(section: Section, one: Field[object], name: str) -> Node:
    """Return the node of one entry of a mapping."""
    node = section.at(one)
    entry = next((entry for entry in getattr(node, "entries", ()) if entry.key == name), None)
    return node if entry is None else entry.value


def _type_word(value: Scalar) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
