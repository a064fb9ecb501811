"""Scaling: a topology with other numbers of instances and workers than its file has, within what the file allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum

from chaos.topology.model import Service, Topology
from chaos.topology.tables import MAX_EDGES, MAX_INSTANCES


class Dimension(StrEnum):
    """What can be scaled; the keys of experiments and of ``--set``."""

    REPLICAS = "replicas"
    """Instances of a service, each with proxies of its own."""
    WORKERS = "workers"
    """Processes of each instance, which serve its port together."""


def refusal(service: Service, dimension: Dimension, number: int) -> str | None:
    """Return why this service cannot have so many, and what it can have; None when it can."""
    scaling = service.scaling
    match dimension:
        case Dimension.REPLICAS:
            least, most, noun = scaling.replicas_least, scaling.replicas_most or MAX_INSTANCES, "instance"
        case Dimension.WORKERS:
            least, most, noun = 1, scaling.workers_most, "worker"
    if least <= number <= most:
        return None
    if least == most:
        allowed = f"{least} {noun}{'s' if least != 1 else ''}, and no other number"
    else:
        allowed = f"{least} to {most} {noun}s"
    return f"{service.name} cannot have {number}: its topology allows {allowed} (scaling)"


def scaled(topology: Topology, *, replicas: Mapping[str, int], workers: Mapping[str, int]) -> Topology:
    """Return the topology with these numbers, by service; the services are there and may have them.

    More instances than the file has repeat its labels in turn, fewer keep the first ones: two zones a and b become
    a, b, a, b, or a alone.
    """
    services = dict(topology.services)
    said = list(topology.scaled)
    for name, number in replicas.items():
        labels = services[name].instances
        if number != len(labels):
            services[name] = replace(
                services[name], instances=tuple(labels[index % len(labels)] for index in range(number))
            )
            said.append(f"{name}: {_counted(number, 'instance')} instead of {len(labels)}")
    for name, number in workers.items():
        before = services[name].workers
        if number != before:
            services[name] = replace(services[name], workers=number)
            said.append(f"{name}: {_counted(number, 'worker')} instead of {before}")
    return replace(topology, services=services, scaled=tuple(said))


def too_large(topology: Topology) -> str | None:
    """Return why the topology is larger than a target may be; None when it is not."""
    instances = sum(len(service.instances) for service in topology.services.values())
    if instances > MAX_INSTANCES:
        return f"{instances} instances in all, allowed are {MAX_INSTANCES}"
    processes = sum(len(service.instances) * service.workers for service in topology.services.values())
    if processes > MAX_INSTANCES:
        return f"{processes} processes in all (instances times workers), allowed are {MAX_INSTANCES}"
    edges = len(topology.edges())
    if edges > MAX_EDGES:
        return f"{edges} edges (caller to instance called) in all, allowed are {MAX_EDGES}"
    return None


def port_clashes(services: Mapping[str, Service]) -> Iterator[tuple[str, str]]:
    """Yield each service whose fixed ports cannot be, and why."""
    taken: dict[int, str] = {}
    for name, service in services.items():
        if service.port is None:
            continue
        last = service.port + len(service.instances) - 1
        if last > 65535:
            yield name, f"the last of {len(service.instances)} instances would get port {last}"
        clash = next((port for port in range(service.port, last + 1) if port in taken), None)
        if clash is not None:
            yield name, f"port {clash} belongs to the service {taken[clash]} already"
        taken.update(dict.fromkeys(range(service.port, last + 1), name))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
