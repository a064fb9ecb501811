"""The dispatcher: one greenlet for a Locust process starts every arrival of the open schedule at its moment.

    schedule --> dispatcher --> one greenlet an arrival: waiting for its outcome --> going on (streaming) --> over
                     |                                        |                           |
                     '-- how late each one was started        '-- at the end: failed      '-- at the end: cut

Arrivals do not wait for the answers of those before them: a system that stands still is seen as many late answers, not
as few requests. When the generator itself cannot keep up, its lag says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import gevent
from gevent.event import Event

from chaos import clock
from chaos.groups import Group
from chaos.load.arrivals import Arrival
from chaos.samples import LAG_KIND, SURGE_FIELD, SampleOutcome

SESSIONS_MAX = 20_000
"""No more sessions than this at a time; further arrivals are started late, and the lag shows it."""

_TICK_S = 0.25
_KILL_WITHIN_S = 1.0

logger = logging.getLogger(__name__)


class Session(Protocol):
    """What one arrival does. All moments are on the monotonic clock."""

    @property
    def settled(self) -> bool:
        """Whether the outcome of the arrival is known and recorded."""

    def run(self) -> None:
        """Do it; runs in a greenlet of its own, and is killed at the end of the load."""

    def tick(self, now_s: float) -> None:
        """Report what has been going on; called several times a second."""

    def end(self, now_s: float, reason: str | None) -> None:
        """Record the last word: failed with ``reason`` when not settled (None: drop it). Nothing is recorded after."""


class Record(Protocol):
    """``chaos.load.recorder.Recorder.record``, or something that does nothing with it."""

    def __call__(
        self,
        kind: str,
        scheduled_s: float,
        ended_s: float,
        outcome: SampleOutcome,
        values: Mapping[str, float] | None = None,
        group: Group | None = None,
    ) -> None:
        """Take one sample."""


class Dispatcher:
    """Starts a session for each arrival.

    ``begin(arrival, due_s, lag_s)`` makes the session that was due at ``due_s`` and is started ``lag_s`` late.

    A load of several kinds of arrivals has a dispatcher for each, so that none of them waits for another. Only one has
    ``offered``: its arrivals are the offered load, by which rates of different phases are compared. Sessions of the
    others put ``lag_s`` into samples of their own.
    """

    def __init__(
        self,
        begin: Callable[[Arrival, float, float], Session],
        record: Record,
        *,
        offered: bool = True,
        sessions_max: int = SESSIONS_MAX,
    ) -> None:
        self._begin = begin
        self._record = record
        self._offered = offered
        self._sessions_max = sessions_max
        self._sessions: dict[Session, Any] = {}  # each with its greenlet
        self._under_way = 0  # these, and those whose greenlets have not had their first turn
        self._stopping = Event()
        self._exhausted = False
        self._ticker = gevent.spawn(self._keep_ticking)

    @property
    def pending(self) -> int:
        """How many sessions do not know their outcome yet."""
        return sum(not session.settled for session in self._sessions)

    def run(self, schedule: Iterable[Arrival], start_s: float) -> None:
        """Start every arrival at ``start_s`` plus its own moment; return after the last one, or after `stop`."""
        for arrival in schedule:
            due_s = start_s + arrival.at_s
            while (early_s := due_s - clock.monotonic_s()) > 0.0 or self._under_way >= self._sessions_max:
                if self._stopping.wait(max(early_s, 0.001)):
                    return
            if self._stopping.is_set():
                return
            self._under_way += 1
            gevent.spawn(self._play, arrival, due_s)

    def stop(self) -> None:
        """Start no more arrivals."""
        self._stopping.set()

    def settle(self, until_s: float) -> None:
        """Wait until every session knows its outcome, but not longer than ``until_s``."""
        while self.pending and clock.monotonic_s() < until_s:
            gevent.sleep(0.02)

    def end(self, reason: str | None) -> None:
        """End all sessions; those that are not settled are recorded as failed with ``reason`` (None: not at all)."""
        self._stopping.set()
        self._ticker.kill()
        now_s = clock.monotonic_s()
        greenlets = list(self._sessions.values())
        for session in list(self._sessions):
            session.end(now_s, reason)
        self._sessions.clear()
        gevent.killall(greenlets, block=True, timeout=_KILL_WITHIN_S)

    def _play(self, arrival: Arrival, due_s: float) -> None:
        try:
            self._begin_and_run(arrival, due_s)
        finally:
            self._under_way -= 1

    def _begin_and_run(self, arrival: Arrival, due_s: float) -> None:
        now_s = clock.monotonic_s()
        lag_s = now_s - due_s
        if self._offered:
            values = {"lag_s": lag_s, SURGE_FIELD: 1.0} if arrival.surge else {"lag_s": lag_s}
            self._record(LAG_KIND, due_s, now_s, SampleOutcome.OK, values)
        session = self._begin(arrival, due_s, lag_s)
        self._sessions[session] = gevent.getcurrent()
        try:
            session.run()
        except Exception as error:
            logger.exception("The session of arrival %d broke: this is an error of the locustfile", arrival.number)
            session.end(clock.monotonic_s(), f"error in the load: {error!r}")
        finally:
            self._sessions.pop(session, None)

    def _keep_ticking(self) -> None:
        while True:
            gevent.sleep(_TICK_S)
            now_s = clock.monotonic_s()
            for session in list(self._sessions):
                session.tick(now_s)
