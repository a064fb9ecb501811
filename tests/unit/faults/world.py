"""A small world that records what faults do to it, and can be made to disobey."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaos.errors import EnvironmentFailure
from chaos.faults.base import Request, ToxicCount, ToxicSpec, Traffic


@dataclass
class SmallWorld:
    """Edges and instances as sets of what is wrong with them; empty sets are a healthy world."""

    connections: int = 7
    traffic: dict[str, Traffic] = field(default_factory=dict)
    waiting: int = 0
    counts: dict[tuple[str, str], ToxicCount] | None = None
    """What toxics have counted; None: this world's do not."""
    disobeys: set[str] = field(default_factory=set)
    """Names of edges and instances on which every harmful action fails, after it had its effect."""
    hangs: set[str] = field(default_factory=set)
    """Names on which harmful actions have their effect and then never return."""
    toxics: dict[tuple[str, str], ToxicSpec] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    hooked: set[str] = field(default_factory=set)
    pids: dict[str, int | None] = field(default_factory=dict)
    """Processes that are not 1."""
    answers: dict[str, object] = field(default_factory=dict)
    """What instances answer, as JSON; a list is what each of several workers does."""
    log: list[tuple[str, str]] = field(default_factory=list)

    @property
    def harmed(self) -> bool:
        return bool(self.toxics or self.closed or self.gone or self.frozen or self.hooked)

    async def _harm(self, action: str, name: str) -> None:
        self.log.append((action, name))
        if name in self.hangs:
            await asyncio.get_running_loop().create_future()
        if name in self.disobeys:
            raise EnvironmentFailure(f"{name} does not obey")

    async def add_toxic(self, edge: str, toxic: ToxicSpec) -> None:
        self.toxics[edge, toxic.name] = toxic
        await self._harm("add_toxic", edge)

    async def remove_toxic(self, edge: str, toxic_name: str) -> None:
        self.toxics.pop((edge, toxic_name), None)
        self.log.append(("remove_toxic", edge))

    async def set_edge_enabled(self, edge: str, *, enabled: bool) -> None:
        if enabled:
            self.closed.discard(edge)
            self.log.append(("open", edge))
        else:
            self.closed.add(edge)
            await self._harm("close", edge)

    def edges_to(self, instances: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"caller->{instance}" for instance in instances)

    async def edge_traffic(self, edges: Sequence[str]) -> Mapping[str, Traffic]:
        return {edge: self.traffic.get(edge, Traffic(connections=0, bytes=0)) for edge in edges}

    async def toxic_counts(self, edges: Sequence[str], toxic_name: str) -> Mapping[str, ToxicCount] | None:
        if self.counts is None:
            return None
        nothing = ToxicCount(connections=0, requests=0, bytes=0)
        return {edge: self.counts.get((edge, toxic_name), nothing) for edge in edges}

    async def open_connections(self, names: Sequence[str]) -> int:
        return self.connections

    async def waiting_bytes(self, instances: Sequence[str]) -> int:
        return self.waiting

    async def kill(self, instance: str) -> None:
        self.gone.add(instance)
        await self._harm("kill", instance)

    async def stop(self, instance: str) -> None:
        self.gone.add(instance)
        await self._harm("stop", instance)

    async def pause(self, instance: str) -> None:
        self.frozen.add(instance)
        await self._harm("pause", instance)

    async def resume(self, instance: str) -> None:
        self.frozen.discard(instance)
        self.log.append(("resume", instance))

    async def start(self, instance: str) -> None:
        self.gone.discard(instance)
        self.log.append(("start", instance))

    def restart_later(self, instance: str, delay_s: float) -> None:
        self.log.append((f"restart_later {delay_s:g}", instance))

    def pid_of(self, instance: str) -> int | None:
        return self.pids.get(instance, 1)

    async def ask(self, instance: str, request: Request) -> tuple[bytes, ...]:
        match request.method:
            case "GET":
                self.log.append((f"GET {request.path}", instance))
            case "DELETE":
                self.hooked.discard(instance)
                self.log.append((f"DELETE {request.path}", instance))
            case _:
                self.hooked.add(instance)
                await self._harm(f"{request.method} {request.path} {request.json}".strip(), instance)
        answers = self.answers.get(instance)
        return tuple(json.dumps(one).encode() for one in (answers if isinstance(answers, list) else [answers]))
