"""The target as data: services, their instances, the edges between them, and how to measure the whole.

A topology file describes any application. The framework expands it into *instances* (one process each, named
``oca-7``) and *edges* (one proxy each, named ``play_api-1.playback_apps-2``: caller, dot, callee).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

Scalar = str | int | float | bool
"""What a setting may be in a topology or an experiment."""


class Measure(StrEnum):
    """How a metric is computed from the samples of a window."""

    SHARE = "share"
    """good / counted: (ok + fallback) / (ok + fallback + failed); refusals are answers and do not count."""
    RATE = "rate"
    """good samples per second, counted at the moment they ended."""
    QUANTILE = "quantile"
    """the ``quantile`` of ``field`` over the good samples."""
    RATIO = "ratio"
    """sum of ``field`` / sum of the fields in ``per``, over all samples."""
    FALLBACK_SHARE = "fallback_share"
    """fallback / (ok + fallback): how many good answers were degraded ones."""


class Unit(StrEnum):
    """How a value is written for people, and which suffix a rule's limit may carry."""

    PERCENT = "%"
    SECONDS = "s"
    PER_SECOND = "/s"
    PLAIN = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of the steady state, computed from the load's samples of the kind ``of``.

    ``field`` names a numeric value of the samples (``play_delay_s``), ``per`` the values of the denominator.
    """

    name: str
    title: str
    measure: Measure
    of: str
    unit: Unit
    field: str | None = None
    per: tuple[str, ...] = ()
    quantile: float | None = None
    detail: bool = False
    """Shown to people only where a rule is about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How to know that an instance serves: ``http_path`` answers 200, or, without one, its port accepts."""

    http_path: str | None = None
    timeout_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How far a service may be scaled. Whoever asks for more, or for less, is told what is allowed."""

    replicas_least: int = 1
    replicas_most: int | None = None
    """None: as many as a target may have in all."""
    workers_most: int = 1
    """1 for a service whose memory must be that of one process, or that does not listen on a shared socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One kind of process of the target.

    Exactly one of ``command`` and ``python`` is set. ``command`` is an argument vector in which ``{port}``, ``{host}``,
    ``{instance}``, ``{service}``, ``{data_dir}``, ``{folder}`` (the topology's), ``{python}`` (the interpreter that
    runs chaos), ``{disabled}`` (protections switched off, comma-separated), ``{workers}``, ``{calls[other]}``
    (addresses, comma-separated) and ``{settings[name]}`` are replaced. ``python`` is ``module:function``; the function
    is called with an ``InstanceConfig`` in a process forked from one that has the module imported already, so that
    thirty services start in the time of one import.
    """

    name: str
    command: tuple[str, ...] | None = None
    python: str | None = None
    instances: tuple[Mapping[str, str], ...] = ({},)
    """Labels of each instance; instance *i* (from 1) is called ``<service>-<i>``."""
    workers: int = 1
    """Processes of each instance that serve its port together. A ``python`` service has them forked for it; a
    ``command`` is told the number and makes them itself."""
    scaling: Scaling = Scaling()
    calls: tuple[str, ...] = ()
    health: HealthCheck = HealthCheck()
    isolation_path: str | None = None
    """HTTP path that answers with the states of the service's circuit breakers, or None."""
    port: int | None = None
    """First port; instance *i* gets ``port + i - 1``. None: free ports are chosen."""
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_timeout_s: float = 1.0
    """Seconds from SIGTERM until SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One process of a service: ``oca-7``."""

    name: str
    service: str
    index: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One caller's way to one instance; it has a proxy of its own, of the same name."""

    name: str
    caller: str
    """An instance name, or the name of a client."""
    caller_service: str
    callee: str
    """An instance name."""
    callee_service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A whole target, as read from ``topology.yaml``."""

    name: str
    file: Path
    services: Mapping[str, Service]
    clients: Mapping[str, tuple[str, ...]]
    """Callers outside the target (the load), and the services they call."""
    preload: str | None = None
    """A Python module to import once before instances are forked from it."""
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    protections: Mapping[str, str] = field(default_factory=dict)
    """Each protection that a control may switch off, with a sentence on what it does."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    scaled: tuple[str, ...] = ()
    """What differs from the file in numbers of instances and workers, in words."""

    @property
    def folder(self) -> Path:
        """The folder of the topology file."""
        return self.file.parent

    def protects_by(self, name: str) -> bool:
        """Whether ``name`` can be switched off: one of ``protections``, or a part of one, as in ``fallbacks@rank``.

        What stands after the ``@`` is for the target to understand.
        """
        return name.partition("@")[0] in self.protections

    def instances(self) -> tuple[Instance, ...]:
        """Return every instance, in the order of the file."""
        return tuple(
            Instance(name=f"{service.name}-{index}", service=service.name, index=index, labels=labels)
            for service in self.services.values()
            for index, labels in enumerate(service.instances, start=1)
        )

    def edges(self) -> tuple[Edge, ...]:
        """Return every edge: clients first, then services, each caller instance to each callee instance."""
        instances = self.instances()
        callers: list[tuple[str, str, tuple[str, ...]]] = [
            (client, client, calls) for client, calls in self.clients.items()
        ]
        callers += [(one.name, one.service, self.services[one.service].calls) for one in instances]
        return tuple(
            Edge(
                name=f"{caller}.{callee.name}",
                caller=caller,
                caller_service=caller_service,
                callee=callee.name,
                callee_service=callee.service,
            )
            for caller, caller_service, calls in callers
            for called in calls
            for callee in instances
            if callee.service == called
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledInstance:
    """An instance as one caller sees it: ``address`` (``host:port``) is the caller's own proxy to it."""

    instance: str
    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceConfig:
    """All that one instance (or a client) is told when it starts; also JSON in the variable ``CHAOS_INSTANCE``."""

    service: str
    instance: str
    """The instance's name; in one of several workers the worker's (see ``for_worker``)."""
    index: int
    host: str
    port: int
    labels: Mapping[str, str]
    calls: Mapping[str, tuple[CalledInstance, ...]]
    """For each service that this one calls, its instances."""
    reached_by: Mapping[str, str]
    """For each caller (instance or client name), the address of that caller's proxy to this instance."""
    settings: Mapping[str, Scalar]
    disabled: tuple[str, ...]
    """Protections that are switched off in this run."""
    seed: int
    data_dir: str
    """A folder of this instance's own; it is gone after the run."""
    workers: int = 1
    """How many processes serve this instance's port."""
    worker_ports: tuple[int, ...] = ()
    """A port of its own for each of several workers, by which it alone can be asked; empty for one process."""
    shared_fd: int | None = None
    """In one of several workers: the descriptor of a bound TCP socket, this worker's part of the instance's port, to
    listen on beside ``port``. None for one process."""

    def for_worker(self, number: int, *, shared_fd: int) -> InstanceConfig:
        """Return what worker ``number`` (from 1) is told: a name, a port and a folder of its own.

        Its name is ``<instance>-w<number>``, so whatever is derived from the name (seeds, names that must be unique)
        differs between workers as it does between instances.
        """
        return replace(
            self,
            instance=worker_name(self.instance, number),
            port=self.worker_ports[number - 1],
            data_dir=f"{self.data_dir}/w{number}",
            shared_fd=shared_fd,
        )


def worker_name(instance: str, number: int) -> str:
    """Return the name of worker ``number`` (from 1) of an instance that has several."""
    return f"{instance}-w{number}"
