"""The crowd: all who come to this process, from one dispatcher for the plays and one for each kind of visit.

So nobody waits for anybody of another kind: when a service is dead, those who came for it hang about, in a bounded
number and for a bounded time, and plays begin when they are due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import gevent

from chaos import clock
from chaos.load.arrivals import Arrival
from chaos.load.dispatcher import Dispatcher
from locustfiles.playback_mix import VisitKind, schedules
from locustfiles.playback_viewer import Viewer
from locustfiles.playback_visits import visitor
from locustfiles.playback_world import World

VISITORS_MAX = 1_000
"""No more of one kind at a time; the next begins late, and says so. It takes 200 visits a second to a dead service."""

FAREWELLS_AT_ONCE = 16
"""A crowd of 50 plays/s leaves some 600 behind; over so many connections that takes about half a second."""


class Crowd:
    """Everybody who comes, from the start to the end of a load."""

    def __init__(self, world: World, shares: Mapping[VisitKind, float]) -> None:
        self._world = world
        self._shares = shares
        self._plays = Dispatcher(lambda *arrival: Viewer.arriving(world, *arrival), world.record)
        self._visits = {
            kind: Dispatcher(visitor(world, kind), world.record, offered=False, sessions_max=VISITORS_MAX)
            for kind, share in shares.items()
            if share > 0.0
        }

    def start(
        self,
        spawn: Callable[[Callable[[], None]], object],
        *,
        start_s: float,
        plays: Iterator[Arrival],
        plays_per_s: float,
        duration_s: float = math.inf,
        part: int,
        parts: int,
    ) -> None:
        """Let people come from ``start_s`` on; ``spawn`` runs each of the dispatchers in a greenlet of its own.

        ``plays`` is the schedule of those who play something; the others come in their shares of ``plays_per_s``.
        """
        self._world.begin(start_s)
        visits = schedules(self._shares, self._world.seed, plays_per_s, duration_s, part=part, parts=parts)
        spawn(partial(self._plays.run, plays, start_s))
        for kind, dispatcher in self._visits.items():
            spawn(partial(dispatcher.run, visits[kind], start_s))

    def stop(self) -> None:
        """Let nobody come any more."""
        for dispatcher in self._all():
            dispatcher.stop()

    def settle(self, until_s: float) -> None:
        """Wait until every outcome is known, but not longer than ``until_s``."""
        for dispatcher in self._all():
            dispatcher.settle(until_s)

    def end(self, reason: str | None) -> None:
        """End all; without an outcome they have failed for ``reason`` (None: they are not recorded)."""
        for dispatcher in self._all():
            dispatcher.end(reason)

    def say_goodbye(self, until_s: float) -> None:
        """Report the stop of the sessions that were cut off, but do nothing of it after ``until_s``.

        Otherwise their streams count until their leases have run out, and whoever comes next to the same accounts, in
        the next run on this target, is refused.
        """
        farewells = self._world.farewells
        senders = [gevent.spawn(self._world.device().send_each, farewells) for _ in range(FAREWELLS_AT_ONCE)]
        gevent.joinall(senders, timeout=max(0.0, until_s - clock.monotonic_s()))
        gevent.killall(senders, block=False)
        farewells.clear()

    def _all(self) -> tuple[Dispatcher, ...]:
        return (self._plays, *self._visits.values())
