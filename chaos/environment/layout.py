"""The layout: which port each instance and each edge has, and what each process is told of the others. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.errors import EnvironmentFailure, suggest
from chaos.processes.ports import HOST
from chaos.proxy.control import ProxySpec
from chaos.topology.model import CalledInstance, Edge, Instance, InstanceConfig, Scalar, Topology, worker_name

_PLACEHOLDER = re.compile(
    r"\{(?:(port|host|instance|service|data_dir|folder|python|disabled|workers)|(calls|settings)\[([^\]{}]+)\])\}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What one start of the target is told, besides addresses."""

    seed: int = 0
    disabled: tuple[str, ...] = ()
    settings: Mapping[str, Scalar]
    """The topology's settings with the experiment's overrides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything listens. Every address is on loopback."""

    topology: Topology
    instances: Mapping[str, Instance]
    edges: Mapping[str, Edge]
    instance_ports: Mapping[str, int]
    edge_ports: Mapping[str, int]
    worker_ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The ports of their own of each instance's workers, where it has several that are forked for it."""

    def processes(self, instance: str) -> tuple[tuple[str, int], ...]:
        """Return name and port of each process of the instance that can be asked alone: itself, or its workers.

        The workers that a ``command`` makes itself cannot be asked alone: its one port stands for them all.
        """
        ports = self.worker_ports.get(instance)
        if ports is None:
            return ((instance, self.instance_ports[instance]),)
        return tuple((worker_name(instance, number), port) for number, port in enumerate(ports, start=1))

    def instance_address(self, instance: str) -> str:
        """Return ``host:port`` of the instance itself."""
        return f"{HOST}:{self.instance_ports[instance]}"

    def edge_address(self, edge: str) -> str:
        """Return ``host:port`` of the edge's proxy."""
        return f"{HOST}:{self.edge_ports[edge]}"

    def proxy_specs(self) -> tuple[ProxySpec, ...]:
        """Return a proxy for every edge."""
        return tuple(
            ProxySpec(name=edge.name, listen=self.edge_address(edge.name), upstream=self.instance_address(edge.callee))
            for edge in self.edges.values()
        )

    def instance_config(self, name: str, conditions: Conditions, *, data_dir: Path) -> InstanceConfig:
        """Return what the instance is told: its own proxies to the instances it calls, and its callers' to it."""
        instance = self.instances[name]
        return InstanceConfig(
            service=instance.service,
            instance=name,
            index=instance.index,
            host=HOST,
            port=self.instance_ports[name],
            labels=instance.labels,
            calls=self._calls(name, self.topology.services[instance.service].calls),
            reached_by=self.reached_by(name),
            settings=conditions.settings,
            disabled=conditions.disabled,
            seed=conditions.seed,
            data_dir=str(data_dir),
            workers=self.topology.services[instance.service].workers,
            worker_ports=self.worker_ports.get(name, ()),
        )

    def client_config(self, client: str, conditions: Conditions, *, data_dir: Path) -> InstanceConfig:
        """Return what a client (the load) is told; raises EnvironmentFailure when there is no such client."""
        if client not in self.topology.clients:
            clients = self.topology.clients
            raise EnvironmentFailure(
                f"{self.topology.file} has no client {client!r}{suggest(client, clients)}; "
                f"it has: {', '.join(clients) or 'none'}"
            )
        return InstanceConfig(
            service=client,
            instance=client,
            index=1,
            host=HOST,
            port=0,
            labels={},
            calls=self._calls(client, self.topology.clients[client]),
            reached_by={},
            settings=conditions.settings,
            disabled=conditions.disabled,
            seed=conditions.seed,
            data_dir=str(data_dir),
        )

    def reached_by(self, instance: str) -> dict[str, str]:
        """Return for each caller of the instance the address of that caller's proxy."""
        return {edge.caller: self.edge_address(edge.name) for edge in self.edges.values() if edge.callee == instance}

    def ports_of(self, name: str) -> tuple[int, ...]:
        """Return the ports at which the connections of an edge or an instance are seen; nothing for an unknown name.

        Those of an instance that nobody calls are seen at the proxies through which it calls others.
        """
        if (port := self.edge_ports.get(name)) is not None:
            return (port,)
        if (port := self.instance_ports.get(name)) is None:
            return ()
        if any(edge.callee == name for edge in self.edges.values()):
            return (port,)
        return (port, *(self.edge_ports[edge.name] for edge in self.edges.values() if edge.caller == name))

    def _calls(self, caller: str, services: Sequence[str]) -> dict[str, tuple[CalledInstance, ...]]:
        calls: dict[str, list[CalledInstance]] = {service: [] for service in services}
        for edge in self.edges.values():
            if edge.caller == caller:
                calls[edge.callee_service].append(
                    CalledInstance(
                        instance=edge.callee,
                        address=self.edge_address(edge.name),
                        labels=self.instances[edge.callee].labels,
                    )
                )
        return {service: tuple(called) for service, called in calls.items()}


def lay_out(topology: Topology, *, free: Callable[[], int], reserve: Callable[[int, str], int]) -> Layout:
    """Give every instance, every edge, and every one of several workers a port.

    ``free()`` returns a free port, ``reserve(port, purpose)`` takes a fixed one; both raise EnvironmentFailure when
    that is not possible. Fixed ports are taken first, so that no free one is chosen in their place.
    """
    instances = {instance.name: instance for instance in topology.instances()}
    fixed = {
        instance.name: reserve(service_port + instance.index - 1, instance.name)
        for instance in instances.values()
        if (service_port := topology.services[instance.service].port) is not None
    }
    edges = {edge.name: edge for edge in topology.edges()}
    return Layout(
        topology=topology,
        instances=instances,
        edges=edges,
        instance_ports={name: fixed.get(name) or free() for name in instances},
        edge_ports={name: free() for name in edges},
        worker_ports={
            name: tuple(free() for _ in range(service.workers))
            for name, instance in instances.items()
            if (service := topology.services[instance.service]).workers > 1 and service.python is not None
        },
    )


def command_line(command: Sequence[str], config: InstanceConfig, *, folder: Path) -> list[str]:
    """Return ``command`` with its placeholders (see ``Service``) replaced by what ``config`` says.

    Other braces are left as they are. Raises EnvironmentFailure for a service or setting that is not there.
    """
    return [filled(word, config, folder=folder, user=f"the command of service {config.service!r}") for word in command]


def filled(text: str, config: InstanceConfig, *, folder: Path, user: str) -> str:
    """Return ``text`` with the placeholders of a command line replaced; ``user`` says in errors whose text it is."""
    plain = {
        "port": str(config.port),
        "host": config.host,
        "instance": config.instance,
        "service": config.service,
        "data_dir": config.data_dir,
        "folder": str(folder.absolute()),
        "python": sys.executable,
        "disabled": ",".join(config.disabled),
        "workers": str(config.workers),
    }
    tables = {
        "calls": {service: ",".join(one.address for one in called) for service, called in config.calls.items()},
        "settings": {name: str(value) for name, value in config.settings.items()},
    }

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return plain[match[1]]
        table = tables[match[2]]
        if match[3] not in table:
            raise EnvironmentFailure(
                f"{user} uses {match[0]}, but there is no such entry in `{match[2]}`"
                f"{suggest(match[3], table)}; there are: {', '.join(table) or 'none'}"
            )
        return table[match[3]]

    return _PLACEHOLDER.sub(replace, text)
