"""A fake clock that feeds a chain and lets it out, as the event loop would."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from math import inf

from chaos.proxy.toxics import KINDS, Chain, End, Item, Meeting, Stage, Toxic

START_S = 1000.0
"""Clocks do not begin at 0."""


def stage(kind: str, *, at_s: float = 0.0, seed: int = 1, **attributes: int) -> Stage:
    """Return a toxic at work, its settings under Toxiproxy's names."""
    return toxic_stage(KINDS[kind]().with_attributes(attributes), at_s=at_s, seed=seed)


def toxic_stage(toxic: Toxic, *, at_s: float = 0.0, since_s: float = 0.0, seed: int = 1) -> Stage:
    """Return this toxic at work."""
    met = Meeting(now_s=START_S + at_s, since_s=START_S + since_s, rng=lambda: random.Random(seed))
    return toxic.stage(met)


def chain_of(*stages: Stage) -> Chain:
    chain = Chain()
    for number, each in enumerate(stages):
        chain.add(str(number), each)
    return chain


class Wire:
    """Feeds a chain at given moments and notes what comes out when; moments are relative to START_S."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.out: list[tuple[float, Item]] = []
        self._now_s = START_S

    def feed(self, at_s: float, item: Item) -> None:
        self.run_until(at_s)
        self.chain.feed(self._now_s, item)
        self._take()

    def change(self, at_s: float, change: Callable[[float], None]) -> None:
        """Do something to the chain at a moment; it is told the clock's time."""
        self.run_until(at_s)
        change(self._now_s)
        self._take()

    def run_until(self, at_s: float) -> None:
        until_s = START_S + at_s
        while self.chain.wake_s <= until_s:
            self._now_s = max(self._now_s, self.chain.wake_s)
            self._take()
        self._now_s = max(self._now_s, until_s)

    def finish(self) -> Wire:
        """Let out all that will ever come out by itself."""
        for _ in range(100_000):
            if self.chain.wake_s == inf:
                return self
            self.run_until(self.chain.wake_s - START_S)
        raise AssertionError("the chain never comes to rest")

    def _take(self) -> None:
        while (item := self.chain.pop(self._now_s)) is not None:
            self.out.append((round(self._now_s - START_S, 6), item))

    @property
    def data(self) -> bytes:
        return b"".join(item for _, item in self.out if isinstance(item, bytes))

    @property
    def end(self) -> tuple[float, End] | None:
        ends = [(at_s, item) for at_s, item in self.out if isinstance(item, End)]
        assert len(ends) <= 1
        return ends[0] if ends else None

    @property
    def moments(self) -> list[float]:
        return [at_s for at_s, _ in self.out]


def wire(*stages: Stage) -> Wire:
    return Wire(chain_of(*stages))


def whole(data: bytes) -> Iterable[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> Iterable[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def in_bursts(data: bytes) -> Sequence[bytes]:
    return [data[index : index + 7] for index in range(0, len(data), 7)]


FEEDINGS = [whole, byte_by_byte, in_bursts]
