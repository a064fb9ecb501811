"""Toxics in their place on a proxy: each with a name, a stream, a share of the connections, and what it has touched."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from chaos.proxy.toxics.base import Direction, Meeting, StreamToxic, Toxic
from chaos.proxy.toxics.chain import Stage
from chaos.proxy.toxics.http import Count, HttpToxic
from chaos.proxy.toxics.http.conversation import Falling
from chaos.proxy.toxics.meter import Meter


@dataclass(slots=True, kw_only=True)
class Life:
    """What stays the same about a toxic when its settings are changed."""

    since_s: float
    """When it was installed, on the monotonic clock."""
    seed: str
    """Decides all its random choices, together with a connection's number and direction."""
    meter: Meter = field(default_factory=Meter)
    count: Count = field(default_factory=Count)

    def rng(self, connection: int, what: str) -> random.Random:
        """Return the source of the random choices of one sort on one connection."""
        return random.Random(f"{self.seed}/{connection}/{what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledToxic:
    """A toxic with its place: a name, a stream and a share of the connections (``toxicity``, 0 to 1)."""

    name: str
    direction: Direction
    stream: str
    """The direction as its owner wrote it; Toxiproxy takes any case and shows it again."""
    toxicity: float
    toxic: Toxic
    life: Life

    def hits(self, connection: int) -> bool:
        """Decide by lot whether it falls on the connection of this number.

        The same connection draws the same lot when the toxicity is changed: with a higher one, those hit before are hit
        still.
        """
        if self.toxicity >= 1.0:
            return True
        return self.toxicity > 0.0 and self.life.rng(connection, "toxicity").random() < self.toxicity

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions in which it works on bytes; none where it looks at requests or new connections."""
        if not isinstance(self.toxic, StreamToxic):
            return ()
        return tuple(Direction) if self.toxic.both_ways else (self.direction,)

    def stages(self, now_s: float, connection: int) -> Sequence[tuple[Direction, Stage | None]]:
        """Return the toxic at work on a connection: a stage for each direction that it has to do with.

        None for a stage: it is spared. Nothing at all: this is not a toxic on bytes.
        """
        toxic = self.toxic
        if not isinstance(toxic, StreamToxic):
            return ()
        if not self.hits(connection):
            return [(direction, None) for direction in self.directions]
        met = []
        for direction in self.directions:
            rng = partial(self.life.rng, connection, direction)
            stage = toxic.stage(Meeting(now_s=now_s, since_s=self.life.since_s, rng=rng))
            stage.meter = self.life.meter
            met.append((direction, stage))
        if len(met) == 2:
            met[0][1].twin, met[1][1].twin = met[1][1], met[0][1]
        return met

    def falling(self, connection: int) -> Falling | None:
        """Return the HTTP toxic at work on a connection; None when it is spared, or is not an HTTP toxic."""
        if not isinstance(self.toxic, HttpToxic) or not self.hits(connection):
            return None
        return Falling(
            name=self.name,
            toxic=self.toxic,
            on_answers=self.direction is Direction.DOWNSTREAM,
            count=self.life.count,
            meter=self.life.meter,
            rng=self.life.rng(connection, "requests"),
        )
