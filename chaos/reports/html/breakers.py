"""What the services told of their breakers, second by second: when each was not closed, and who failed whom.

A command is named by its service as it likes. Three forms tell whom it calls: ``store[store-2]`` is one try at one
instance, ``cache_control-1.report`` a command for one instance, ``steering.rank`` a command of a service, which may
have made several tries. Where tries are told of, they are what is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.reports.html.reading import Breaker

SPANS_MAX = 2000
"""Of all breakers of one run; a breaker that flaps for hours has been seen by then."""
COMMANDS_MAX = 5000
"""Commands of one run that are followed."""
CLOSED = "closed"

_TRY = re.compile(r".*\[(?P<instance>[^\[\]]+)\]")
_WORKER = re.compile(r"-w\d+$")
_NUMBER = re.compile(r"-\d+$")

Pair = tuple[str, str]
"""Calling service and called service."""


class Span(NamedTuple):
    """A breaker was in one state; seconds of the run."""

    start_s: float
    end_s: float
    state: str


class Way(NamedTuple):
    """Whom a command calls."""

    pair: Pair
    edge: str | None
    """One edge, where the command is for one instance."""
    tries: bool
    """Whether it counts single tries, and not what came of them together."""


@dataclass(slots=True)
class Tally:
    """Calls that ended, and those of them that failed."""

    calls: int = 0
    errors: int = 0

    def add(self, calls: int, errors: int) -> None:
        """Count some more."""
        self.calls += calls
        self.errors += errors


@dataclass(slots=True)
class _Followed:
    """One command, and what was last heard of it."""

    way: Way | None
    state: str = CLOSED
    since_s: float = 0.0
    calls: int = 0
    errors: int = 0
    heard_s: float = -1.0


@dataclass(slots=True)
class Breakers:
    """Folds the states that each tick carries. ``calls`` is who may call whom, empty when it is not known."""

    calls: Mapping[str, tuple[str, ...]]
    spans: dict[tuple[str, str], list[Span]] = field(default_factory=dict)
    """(instance, command) -> when it was not closed."""
    by_way: dict[tuple[Pair, bool], Tally] = field(default_factory=dict)
    by_edge: dict[tuple[str, bool], Tally] = field(default_factory=dict)
    left_out: int = 0
    """Spans beyond ``SPANS_MAX``."""
    _followed: dict[tuple[str, str], _Followed] = field(default_factory=dict)
    _kept: int = 0
    _first: bool = True

    def take(self, t_s: float, states: Iterable[Breaker]) -> Iterator[tuple[tuple[Pair, bool], Tally]]:
        """Take in one second's states; yield for each way what was called in that second."""
        second: dict[tuple[Pair, bool], Tally] = {}
        for one in states:
            key = (one.instance, one.command)
            known = self._followed.get(key)
            if known is None:
                if len(self._followed) >= COMMANDS_MAX:
                    continue
                known = self._followed[key] = _Followed(way_of(one.instance, one.command, self.calls))
                if self._first:  # counted before the run: health checks, the run before it
                    known.calls, known.errors = one.calls, one.errors
            if one.state != known.state:
                self._close(key, known, t_s)
                known.state, known.since_s = one.state, t_s
            known.heard_s = t_s
            if (one.calls, one.errors) != (known.calls, known.errors):
                self._count(one, known, second)
        self._first = False
        for key, known in self._followed.items():
            if known.heard_s != t_s and known.state != CLOSED:  # its process is gone, or does not answer
                self._close(key, known, t_s)
                known.state = CLOSED
        for way in self.by_way:
            yield way, second.get(way) or Tally()

    def finish(self, t_s: float) -> None:
        """End what is still open at the end of the run."""
        for key, known in self._followed.items():
            self._close(key, known, t_s)
            known.state = CLOSED

    def _close(self, key: tuple[str, str], known: _Followed, t_s: float) -> None:
        if known.state == CLOSED or t_s <= known.since_s:
            return
        if self._kept >= SPANS_MAX:
            self.left_out += 1
            return
        self._kept += 1
        self.spans.setdefault(key, []).append(Span(known.since_s, t_s, known.state))

    def _count(self, one: Breaker, known: _Followed, second: dict[tuple[Pair, bool], Tally]) -> None:
        anew = one.calls < known.calls  # its process began anew, and counts from 0
        calls = one.calls - (0 if anew else known.calls)
        errors = max(0, one.errors - (0 if anew else known.errors))
        known.calls, known.errors = one.calls, one.errors
        way = known.way
        if way is None:
            return
        second.setdefault((way.pair, way.tries), Tally()).add(calls, errors)
        self.by_way.setdefault((way.pair, way.tries), Tally()).add(calls, errors)
        if way.edge is not None:
            self.by_edge.setdefault((way.edge, way.tries), Tally()).add(calls, errors)


def service_of(instance: str) -> str:
    """Return the service of an instance or one of its workers: ``gateway`` of ``gateway-2-w1``."""
    return _NUMBER.sub("", _WORKER.sub("", instance))


def way_of(instance: str, command: str, calls: Mapping[str, tuple[str, ...]]) -> Way | None:
    """Return whom the command calls; None when its name does not tell, or not a service that its caller calls."""
    caller = service_of(instance)
    made = _TRY.fullmatch(command)
    named = made["instance"] if made else command.partition(".")[0]
    called = service_of(named)
    if called not in calls.get(caller, ()) if calls else made is None:
        return None
    edge = f"{_WORKER.sub('', instance)}.{named}" if named != called else None
    return Way((caller, called), edge, made is not None)
