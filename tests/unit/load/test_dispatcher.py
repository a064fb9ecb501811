"""The dispatcher, alone and beside others, in real time of some tens of milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field

import gevent
import pytest

from chaos import clock
from chaos.load.arrivals import Arrival
from chaos.load.dispatcher import Dispatcher
from chaos.samples import LAG_KIND, SampleOutcome


@dataclass(eq=False)
class Waiting:
    """A session that waits for ``length_s`` before its outcome is known."""

    number: int
    begun_s: float
    length_s: float
    settled: bool = False
    ended_for: str | None = None

    def run(self) -> None:
        gevent.sleep(self.length_s)
        self.settled = True

    def tick(self, now_s: float) -> None:
        pass

    def end(self, now_s: float, reason: str | None) -> None:
        if not self.settled:
            self.ended_for = reason


@dataclass
class Load:
    """A dispatcher of waiting sessions, and what it recorded."""

    length_s: float = 0.0
    sessions: list[Waiting] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def dispatcher(self, **options) -> Dispatcher:
        def begin(arrival, due_s, lag_s):
            self.sessions.append(Waiting(arrival.number, due_s + lag_s, self.length_s))
            return self.sessions[-1]

        def record(kind, scheduled_s, ended_s, outcome, values=None):
            assert outcome is SampleOutcome.OK
            self.kinds.append(kind)

        return Dispatcher(begin, record, **options)


def every(interval_s: float, count: int) -> list[Arrival]:
    return [Arrival(number, number * interval_s) for number in range(count)]


def test_the_arrivals_of_the_offered_load_are_recorded_and_those_of_others_are_not():
    for options, recorded in (({}, [LAG_KIND] * 3), ({"offered": False}, [])):
        load = Load()
        dispatcher = load.dispatcher(**options)
        dispatcher.run(every(0.0, 3), clock.monotonic_s())
        dispatcher.settle(clock.monotonic_s() + 1.0)
        gevent.sleep(0.01)
        dispatcher.end(None)
        assert len(load.sessions) == 3
        assert load.kinds == recorded


def test_those_who_wait_for_a_dead_service_are_bounded_and_hold_up_nobody_of_another_dispatcher():
    stuck, quick = Load(length_s=30.0), Load()  # the first of them so late that all are due at once
    crowd = stuck.dispatcher(offered=False, sessions_max=4)
    plays = quick.dispatcher()
    start_s = clock.monotonic_s()
    waiting = gevent.spawn(crowd.run, every(0.002, 50), start_s - 1.0)
    plays.run(every(0.002, 50), start_s)
    gevent.sleep(0.01)

    assert len(stuck.sessions) == 4
    assert [session.number for session in quick.sessions] == list(range(50))
    late_s = [session.begun_s - start_s - session.number * 0.002 for session in quick.sessions]
    assert sorted(late_s)[25] < 1.0, "those who wait would have held them up for 30 s"
    assert crowd.pending == 4

    crowd.end("no outcome")
    plays.end(None)
    waiting.join(timeout=1.0)
    assert {session.ended_for for session in stuck.sessions} == {"no outcome"}


@pytest.mark.parametrize("reason", ["no outcome by the end of the run", None])
def test_a_stopped_dispatcher_begins_nothing_more(reason):
    load = Load()
    dispatcher = load.dispatcher()
    running = gevent.spawn(dispatcher.run, every(10.0, 2), clock.monotonic_s())
    gevent.sleep(0.01)
    dispatcher.stop()
    running.join(timeout=1.0)
    assert running.dead
    assert len(load.sessions) == 1
    dispatcher.end(reason)
