"""Faults on the wire: Toxiproxy's toxics, and a cut line.

The victims are edges, each with a proxy of its own, so a fault reaches one caller's view of a service::

    caller --upstream-->   [ proxy: toxic ]  --upstream-->   server
    caller <-downstream--  [ proxy: toxic ]  <-downstream--  server

A toxic sits in one direction. ``toxicity`` is the share of connections it falls on, drawn for each connection when
the toxic reaches it. Each setting names its attribute in Toxiproxy, which has no units in its names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from chaos.faults.base import Applied, Layer, Receipt, Stream, ToxicCount, ToxicSpec, Traffic, World
from chaos.faults.settings import CheckedSettings, setting
from chaos.faults.together import count, everywhere, take_back

HOUR_MS = 3_600_000
GIB = 2**30
UNLUCKY = 0.01
"""A toxic with a toxicity below 1 counts as felt when the chance that it missed every connection is below this."""


class Distribution(StrEnum):
    """How a delay varies from chunk to chunk."""

    UNIFORM = "uniform"
    NORMAL = "normal"
    PARETO = "pareto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxicFault(CheckedSettings):
    """Base of all faults that are a toxic on a proxy; a subclass is its settings."""

    layer: ClassVar[Layer] = Layer.WIRE

    toxicity: float = setting("share of the connections it falls on", 1.0, least=0.0001, most=1.0, share=True)

    def spec(self, name: str) -> ToxicSpec:
        """Return the toxic as Toxiproxy knows it."""
        attributes: dict[str, int | float | str] = {}
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if one.metadata["toxiproxy"] is not None:
                attributes[one.metadata["toxiproxy"]] = value
            elif one.metadata["extension"] is not None and value != one.default:
                attributes[one.metadata["extension"]] = str(value) if isinstance(value, StrEnum) else value
        stream = self.direction()
        return ToxicSpec(name=name, type=self.kind, stream=stream, toxicity=self.toxicity, attributes=attributes)

    def direction(self) -> Stream:
        """Return in which direction it works; that of a toxic on whole connections does not matter."""
        return Stream.DOWNSTREAM

    async def apply(self, world: World, victims: Sequence[str], name: str) -> Applied:
        """Add the toxic to every victim's proxy."""
        spec = self.spec(name)
        applied = AppliedToxic(
            world=world,
            edges=tuple(victims),
            spec=spec,
            open_before=await world.open_connections(victims),
            before=_total(await world.edge_traffic(victims)),
        )
        try:
            await everywhere(world.add_toxic(edge, spec) for edge in victims)
        except BaseException as cause:  # a cancelled apply takes back what it did, too
            await take_back(applied, cause)
            raise
        return applied


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic(ToxicFault):
    """Base of the toxics that work in one direction."""

    stream: Stream = setting("direction: downstream is from the server to the caller", Stream.DOWNSTREAM)  # noqa: RUF009 - a field

    def direction(self) -> Stream:
        """Return the setting."""
        return self.stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Toxic):
    """Delays everything that passes by a fixed time, give or take a random one."""

    kind: ClassVar[str] = "latency"

    latency_ms: int = setting("delay of every byte", most=HOUR_MS, toxiproxy="latency")
    jitter_ms: int = setting("the delay varies by up to this much, up and down", 0, most=HOUR_MS, toxiproxy="jitter")
    distribution: Distribution = setting(  # noqa: RUF009 - a field
        "how the delay varies: uniform up to jitter_ms, or normal or pareto (a long tail) with that standard "
        "deviation; these two need the embedded proxy",
        Distribution.UNIFORM,
        extension="distribution",
    )

    def check_together(self) -> Sequence[tuple[str, str]]:
        """A delay cannot be negative, so the jitter may not exceed the latency."""
        if self.distribution is not Distribution.UNIFORM and self.jitter_ms == 0:
            return [("distribution", f"{self.distribution} says how the delay varies, but jitter_ms is 0")]
        if self.jitter_ms <= self.latency_ms:
            return []
        return [("jitter_ms", f"{self.jitter_ms} is more than the latency_ms of {self.latency_ms} that it varies")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(Toxic):
    """Lets through no more than so many kilobytes a second on each connection."""

    kind: ClassVar[str] = "bandwidth"

    rate_kb_per_s: int = setting("the most that passes on one connection", least=1, most=GIB // 1000, toxiproxy="rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClose(Toxic):
    """Holds back the end of a connection: the other side learns late that it was closed."""

    kind: ClassVar[str] = "slow_close"

    delay_ms: int = setting("how long the close is held back", most=HOUR_MS, toxiproxy="delay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout(Toxic):
    """Swallows everything, as a lost network would, and closes the connection after a time, or never."""

    kind: ClassVar[str] = "timeout"

    timeout_ms: int = setting("closes the connection after this time; 0: never", 0, most=HOUR_MS, toxiproxy="timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPeer(Toxic):
    """Swallows everything and breaks the connection off with a TCP reset, after a time or at once."""

    kind: ClassVar[str] = "reset_peer"

    timeout_ms: int = setting("how long until the reset; 0: at once", 0, most=HOUR_MS, toxiproxy="timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer(Toxic):
    """Cuts what passes into small pieces, with a pause after each."""

    kind: ClassVar[str] = "slicer"

    average_size_bytes: int = setting("size of a piece, on average", least=1, most=GIB, toxiproxy="average_size")
    size_variation_bytes: int = setting(
        "the size varies by up to this much; less than the average", 0, most=GIB, toxiproxy="size_variation"
    )
    delay_us: int = setting("pause after each piece", 0, most=HOUR_MS * 1000, toxiproxy="delay")

    def check_together(self) -> Sequence[tuple[str, str]]:
        """A piece has at least one byte, so the variation stays below the average."""
        if self.size_variation_bytes < self.average_size_bytes:
            return []
        said = f"{self.size_variation_bytes} must be less than the average_size_bytes of {self.average_size_bytes}"
        return [("size_variation_bytes", said)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitData(Toxic):
    """Closes each connection once so many bytes have passed on it."""

    kind: ClassVar[str] = "limit_data"

    limit_bytes: int = setting("what may pass on one connection", most=GIB, toxiproxy="bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Down(CheckedSettings):
    """Cuts the line: open connections are closed and new ones refused."""

    kind: ClassVar[str] = "down"
    layer: ClassVar[Layer] = Layer.WIRE

    @property
    def holds(self) -> str:
        """The line, which is open or closed for everybody."""
        return "the line"

    async def apply(self, world: World, victims: Sequence[str], name: str) -> Applied:  # noqa: ARG002 - needs no name
        """Disable every victim's proxy."""
        applied = AppliedDown(
            world=world,
            edges=tuple(victims),
            cut=await world.open_connections(victims),
            before=_total(await world.edge_traffic(victims)),
        )
        try:
            await everywhere(world.set_edge_enabled(edge, enabled=False) for edge in victims)
        except BaseException as cause:
            await take_back(applied, cause)
            raise
        return applied


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedToxic:
    """A toxic in place on some edges."""

    world: World
    edges: tuple[str, ...]
    spec: ToxicSpec
    open_before: int
    before: Traffic

    async def receipt(self) -> Receipt:
        """Ask the toxics themselves; where they do not count, compare the proxies' traffic with what it was before."""
        counts = await self.world.toxic_counts(self.edges, self.spec.name)
        if counts is not None:
            return _counted(counts)
        now = _total(await self.world.edge_traffic(self.edges))
        passed = max(0, now.bytes - self.before.bytes)
        opened = max(0, now.connections - self.before.connections)
        where = count(len(self.edges), "edge")
        if passed == 0 and opened == 0:
            idle = f"; {count(self.open_before, 'open connection')} stayed idle" if self.open_before else ""
            return Receipt(connections=0, bytes=0, evidence=f"nothing was sent over {where}{idle}")
        # Not every proxy counts connections; those that are open now are then the best lower bound.
        seen = max(self.open_before + opened, await self.world.open_connections(self.edges))
        evidence = f"{count(seen, 'connection')} and {passed} bytes met it on {where}"
        if self.spec.toxicity >= 1.0:
            return Receipt(connections=seen, bytes=passed, evidence=evidence)
        return self._by_chance(seen, passed, evidence)

    def _by_chance(self, seen: int, passed: int, evidence: str) -> Receipt:
        """Judge a toxic that falls on a share of the connections only."""
        share = f"{self.spec.toxicity * 100:.3g} %"
        if seen == 0:
            said = f"{evidence}; it fell on {share} of connections that this proxy does not count"
            return Receipt(connections=0, bytes=passed, evidence=said)
        missed_all = (1.0 - self.spec.toxicity) ** seen
        if missed_all >= UNLUCKY:
            said = (
                f"{evidence}, but of these it fell on {share} only: the chance that it missed every one is "
                f"{missed_all:.0%}; raise the toxicity, the rate or the time"
            )
            return Receipt(connections=0, bytes=0, evidence=said)
        felt = seen * self.spec.toxicity
        said = f"{evidence}; it fell on {share} of them, about {felt:.0f}"
        # At least one felt it, as surely as UNLUCKY asks for.
        return Receipt(connections=max(1, round(felt)), bytes=round(passed * self.spec.toxicity), evidence=said)

    async def undo(self) -> None:
        """Remove the toxic everywhere."""
        await everywhere(self.world.remove_toxic(edge, self.spec.name) for edge in self.edges)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedDown:
    """Lines that are cut."""

    world: World
    edges: tuple[str, ...]
    cut: int
    before: Traffic

    async def receipt(self) -> Receipt:
        """Count the connections that were cut, and attempts where the proxy sees them."""
        now = _total(await self.world.edge_traffic(self.edges))
        tried = max(0, now.connections - self.before.connections)
        attempts = f", {count(tried, 'attempt')} refused" if tried else ""
        evidence = f"{count(self.cut, 'connection')} cut{attempts} on {count(len(self.edges), 'edge')}"
        return Receipt(connections=self.cut + tried, bytes=0, evidence=evidence)

    async def undo(self) -> None:
        """Open the lines again."""
        await everywhere(self.world.set_edge_enabled(edge, enabled=True) for edge in self.edges)


def _counted(counts: Mapping[str, ToxicCount]) -> Receipt:
    """Return what toxics that count for themselves have counted."""
    connections = sum(one.connections for one in counts.values())
    requests = sum(one.requests for one in counts.values())
    passed = sum(one.bytes for one in counts.values())
    where = count(len(counts), "edge")
    if connections == 0:
        return Receipt(connections=0, bytes=0, evidence=f"nothing met it on {where}")
    what = count(connections, "connection")
    met = f"{count(requests, 'request')} on {what}, {passed} bytes," if requests else f"{what} and {passed} bytes"
    return Receipt(connections=connections, bytes=passed, evidence=f"{met} met it on {where}")


def _total(traffic: Mapping[str, Traffic]) -> Traffic:
    return Traffic(
        connections=sum(one.connections for one in traffic.values()), bytes=sum(one.bytes for one in traffic.values())
    )
