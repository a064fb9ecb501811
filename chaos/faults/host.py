"""Faults on the host: processes killed, stopped, frozen and restarted.

The victims are instances. Ended processes are started again when the fault is taken back, or earlier by a supervisor
(``restart_after_s``), as a process manager or an orchestrator would. A process that nobody was connected to was not
missed by anyone: the receipt counts the connections that were open when the fault fell, and for one that stayed away
those that its callers tried to open since (they may connect anew for every request). A worker, which nobody calls, has
those that it opened itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Applied, Layer, Receipt, World
from chaos.faults.settings import CheckedSettings, setting
from chaos.faults.together import count, everywhere, take_back

PROCESS = "the process"
"""What the faults here hold of a victim: it runs, is frozen, or is gone."""
_RESTART_HELP = "a supervisor starts the process again after this time; without it, it stays away until the fault ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending(CheckedSettings, ABC):
    """Base of the faults that end processes."""

    layer: ClassVar[Layer] = Layer.HOST
    how: ClassVar[str]
    """The past participle for the receipt."""

    @property
    def holds(self) -> str:
        """The process, also where a supervisor starts it again: undoing starts whatever is away."""
        return PROCESS

    async def apply(self, world: World, victims: Sequence[str], name: str) -> Applied:  # noqa: ARG002 - needs no name
        """End every victim, and ask for its restart where one is wanted."""
        instances = tuple(victims)
        delay_s = self.restart_delay_s()
        # Whoever connects after a restart met a healthy process: attempts are evidence only where there is none.
        edges = world.edges_to(instances) if delay_s is None else ()
        applied = AppliedEnding(
            world=world,
            instances=instances,
            connections=await world.open_connections(instances),
            edges=edges,
            before=await _attempts_on(world, edges),
            how=self.how,
        )
        try:
            await everywhere(self.end(world, instance) for instance in instances)
        except BaseException as cause:  # a cancelled apply takes back what it did, too
            await take_back(applied, cause)
            raise
        if delay_s is not None:
            for instance in instances:
                world.restart_later(instance, delay_s)
        return applied

    @abstractmethod
    async def end(self, world: World, instance: str) -> None:
        """End one instance; what a kind is."""

    def restart_delay_s(self) -> float | None:
        """Return after how long a supervisor starts it again; None: not at all."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill(Ending):
    """Ends processes at once (SIGKILL), as a crash or the out-of-memory killer does."""

    kind: ClassVar[str] = "kill"
    how: ClassVar[str] = "killed"

    restart_after_s: float | None = setting(_RESTART_HELP, None, most=3600)

    async def end(self, world: World, instance: str) -> None:
        """Kill one instance."""
        await world.kill(instance)

    def restart_delay_s(self) -> float | None:
        """Return the setting."""
        return self.restart_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Ending):
    """Ends processes gracefully (SIGTERM, and SIGKILL when that takes too long), as a deployment does."""

    kind: ClassVar[str] = "stop"
    how: ClassVar[str] = "stopped"

    restart_after_s: float | None = setting(_RESTART_HELP, None, most=3600)

    async def end(self, world: World, instance: str) -> None:
        """Stop one instance."""
        await world.stop(instance)

    def restart_delay_s(self) -> float | None:
        """Return the setting."""
        return self.restart_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(Ending):
    """Stops processes gracefully and starts them again at once: what a restart costs its users."""

    kind: ClassVar[str] = "restart"
    how: ClassVar[str] = "restarted"

    async def end(self, world: World, instance: str) -> None:
        """Stop one instance."""
        await world.stop(instance)

    def restart_delay_s(self) -> float | None:
        """At once."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(CheckedSettings):
    """Freezes processes (SIGSTOP): they hold their connections and answer nothing, as in a long garbage collection."""

    kind: ClassVar[str] = "pause"
    layer: ClassVar[Layer] = Layer.HOST

    @property
    def holds(self) -> str:
        """The process."""
        return PROCESS

    async def apply(self, world: World, victims: Sequence[str], name: str) -> Applied:  # noqa: ARG002 - needs no name
        """Freeze every victim."""
        instances = tuple(victims)
        connections = await world.open_connections(instances)
        applied = AppliedPause(world=world, instances=instances, connections=connections)
        try:
            await everywhere(world.pause(instance) for instance in instances)
        except BaseException as cause:
            await take_back(applied, cause)
            raise
        return applied


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedEnding:
    """Processes that were ended."""

    world: World
    instances: tuple[str, ...]
    connections: int
    edges: tuple[str, ...]
    """Where attempts to connect to them are counted; none for processes that come back while the fault lasts."""
    before: int
    how: str

    async def receipt(self) -> Receipt:
        """Say how many connections broke, and how many more came to nothing where the proxies see them."""
        ended = f"{count(len(self.instances), 'process')} {self.how}"
        tried = max(0, await _attempts_on(self.world, self.edges) - self.before)
        if self.connections == 0 and tried == 0:
            return Receipt(connections=0, bytes=0, evidence=f"{ended}, but nobody was connected")
        broke = [f"{count(self.connections, 'connection')} broke"]
        broke += [f"{count(tried, 'attempt')} to connect failed"] if tried else []
        return Receipt(connections=self.connections + tried, bytes=0, evidence=f"{ended}, {' and '.join(broke)}")

    async def undo(self) -> None:
        """Start the processes that are still away, and wait until they are healthy."""
        await everywhere(self.world.start(instance) for instance in self.instances)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedPause:
    """Processes that are frozen."""

    world: World
    instances: tuple[str, ...]
    connections: int

    async def receipt(self) -> Receipt:
        """Count what waits in front of the frozen processes; called while they still are."""
        waiting = await self.world.waiting_bytes(self.instances)
        frozen = f"{count(len(self.instances), 'process')} frozen"
        if self.connections == 0 and waiting == 0:
            return Receipt(connections=0, bytes=0, evidence=f"{frozen}, but nobody was connected")
        held = f"{count(self.connections, 'connection')} held, {waiting} bytes waiting unread at the end"
        return Receipt(connections=self.connections, bytes=waiting, evidence=f"{frozen}, {held}")

    async def undo(self) -> None:
        """Let the processes go on."""
        await everywhere(self.world.resume(instance) for instance in self.instances)


async def _attempts_on(world: World, edges: Sequence[str]) -> int:
    """Return how many connections the proxies of these edges have been asked for since they were created."""
    return sum(one.connections for one in (await world.edge_traffic(edges)).values()) if edges else 0
