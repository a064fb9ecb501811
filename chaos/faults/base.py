"""What a fault is: a frozen dataclass that knows how to apply itself, and what it needs from the world to do so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol


class Layer(StrEnum):
    """Where a fault falls; it decides what its victims are."""

    WIRE = "wire"
    """Victims are edges (names of proxies)."""
    HOST = "host"
    """Victims are instances (names of processes)."""


class Stream(StrEnum):
    """Direction of a toxic: ``downstream`` is from the server to its caller, ``upstream`` the other way."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxicSpec:
    """A toxic as the proxy server knows it; ``attributes`` use the server's names and units."""

    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: Mapping[str, int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The evidence that a fault touched something.

    ``connections`` and ``bytes`` count what passed through, was cut by, or waited in front of the fault while
    it was there; ``evidence`` says in words how that was seen ("214 connections cut, 3 processes killed").
    """

    connections: int
    bytes: int
    evidence: str

    @property
    def touched(self) -> bool:
        """Whether the fault touched anything at all; a run with a fault that did not is inconclusive."""
        return self.connections > 0 or self.bytes > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Counters of one proxy or instance since it started; take the difference of two."""

    connections: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxicCount:
    """What a toxic itself has counted on one proxy since it was added."""

    connections: int
    requests: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request to the processes of one instance.

    ``{settings[name]}``, ``{instance}`` and ``{service}`` in ``path`` and ``authorization`` stand for a setting of the
    target, for the instance's name (of several workers, each one's own) and for its service.
    """

    method: str
    path: str
    json: str = ""
    """The body; empty: none."""
    authorization: str = ""
    """The header of this name; empty: none."""
    timeout_s: float


class World(Protocol):
    """What faults may do to the running target. ``chaos.environment`` is the real one; tests have a small one.

    Every method may be called again with the same arguments without harm. All raise ``EnvironmentFailure``
    when the world does not obey.
    """

    async def add_toxic(self, edge: str, toxic: ToxicSpec) -> None:
        """Add the toxic to the edge's proxy."""

    async def remove_toxic(self, edge: str, toxic_name: str) -> None:
        """Remove the toxic; nothing happens when it is not there."""

    async def set_edge_enabled(self, edge: str, *, enabled: bool) -> None:
        """Close the edge's listener and cut its connections, or open it again."""

    def edges_to(self, instances: Sequence[str]) -> tuple[str, ...]:
        """Return the edges over which these instances are called."""

    async def edge_traffic(self, edges: Sequence[str]) -> Mapping[str, Traffic]:
        """Return the traffic of each edge's proxy since it was created."""

    async def toxic_counts(self, edges: Sequence[str], toxic_name: str) -> Mapping[str, ToxicCount] | None:
        """Return what this toxic has counted on each edge; None where the proxy server does not count that."""

    async def open_connections(self, names: Sequence[str]) -> int:
        """Return how many connections are established to these edges' proxies or these instances now.

        For an instance that nobody calls, those count that it has itself to others.
        """

    async def waiting_bytes(self, instances: Sequence[str]) -> int:
        """Return the bytes and connections that wait unread in front of these instances' sockets now."""

    async def kill(self, instance: str) -> None:
        """End the instance with SIGKILL, and all it started; return when it is gone."""

    async def stop(self, instance: str) -> None:
        """End the instance with SIGTERM (SIGKILL after its ``stop_timeout_s``); return when it is gone."""

    async def pause(self, instance: str) -> None:
        """Freeze the instance with SIGSTOP."""

    async def resume(self, instance: str) -> None:
        """Let the instance go on (SIGCONT); nothing happens when it is not frozen or not there."""

    async def start(self, instance: str) -> None:
        """Start the instance again on its port if it is not running, and wait until it is healthy."""

    def restart_later(self, instance: str, delay_s: float) -> None:
        """Let the supervisor start the instance again after ``delay_s``, as ``start`` does."""

    def pid_of(self, instance: str) -> int | None:
        """Return the instance's process; None while it has none."""

    async def ask(self, instance: str, request: Request) -> tuple[bytes, ...]:
        """Send the request to each process of the instance, and return the bodies of their answers, in a fixed order.

        All are asked, and all must answer with a 2xx.
        """


class Applied(Protocol):
    """A fault in place."""

    async def receipt(self) -> Receipt:
        """Return what the fault has touched so far; called before ``undo``."""

    async def undo(self) -> None:
        """Take the fault back. Undoing twice is harmless."""


class Fault(Protocol):
    """One kind of fault: a frozen dataclass whose fields are its settings in the experiment file.

    The first line of the class docstring is the one-line help of ``chaos faults``; each field's metadata
    ``help`` explains the setting. ``check`` returns what is wrong with the settings, in words, or nothing.
    """

    kind: ClassVar[str]
    layer: ClassVar[Layer]

    @property
    def needs_embedded(self) -> bool:
        """Whether only the embedded proxy server can do it, and not Toxiproxy."""

    @property
    def proves_itself(self) -> bool:
        """Whether its receipt is evidence from outside of it; otherwise an experiment must say what must break."""

    @property
    def leaves_traces(self) -> bool:
        """Whether something stays in the target behind ``undo``, so that the next run needs a fresh one."""

    @property
    def holds(self) -> str:
        """What it holds of each victim until it is taken back, in words: ``the line``, ``the process``.

        Two faults cannot hold the same of one victim at the same time, for the end of one would end the other. Empty:
        nothing but what is its own, like a toxic with the fault's name.
        """

    def check(self) -> Sequence[tuple[str, str]]:
        """Return (setting, what is wrong and what is allowed) for each wrong setting."""

    def target_settings(self) -> Sequence[tuple[str, str]]:
        """Return (setting, name of a setting of the target) for each that is to be put in."""

    async def apply(self, world: World, victims: Sequence[str], name: str) -> Applied:
        """Put the fault on the victims (edges or instances, by layer). ``name`` is unique within the run.

        A fault that fails half-way takes back what it did before it raises.
        """
