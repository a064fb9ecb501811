"""Who took how much of the machine, and whether the canary answers."""

from __future__ import annotations

import asyncio

import pytest

from chaos import clock
from chaos.events import MachineMeasured
from chaos.machine.canary import Canary
from chaos.machine.kernel import Processors, ProcessUse
from chaos.machine.watch import MachineWatch, Reading, between
from chaos.proxy.proxies import ProxyCollection
from chaos.verdict.machine import summary


def reading(at_s: float, *, idle=0.5, stolen=0.0, waited=0.0, own=0.0, foreign=0.0, polite=0.0) -> Reading:
    """Two processors, ``at_s`` seconds after their start; shares of both."""
    capacity_s = 2 * at_s
    processors = Processors(
        number=2,
        idle_s=idle * capacity_s,
        stolen_s=stolen * capacity_s,
        busy_s=(1 - idle - stolen) * capacity_s,
        waited_s=waited * at_s,
    )
    processes = {
        1: ProcessUse(parent=0, used_s=0.0, polite=False),
        10: ProcessUse(parent=1, used_s=own * capacity_s, polite=False),
        11: ProcessUse(parent=10, used_s=own * capacity_s, polite=False),
        20: ProcessUse(parent=1, used_s=foreign * capacity_s, polite=False),
        30: ProcessUse(parent=1, used_s=polite * capacity_s, polite=True),
    }
    return Reading(processors=processors, processes=processes)


def second(**shares) -> MachineMeasured:
    return between(reading(5.0, **shares), reading(6.0, **shares), root=10, t_s=6.0, answers_s=[0.001, 0.02, 0.003])


def test_a_second_is_divided_among_idle_hypervisor_and_others():
    found = second(idle=0.3, stolen=0.1, own=0.1, foreign=0.4, waited=0.7)
    assert found.left_share == pytest.approx(0.3)
    assert found.steal_share == pytest.approx(0.1)
    assert found.foreign_share == pytest.approx(0.4)
    assert found.waiting_share == pytest.approx(0.7)
    assert (found.queue_delay_share, found.canary_s) == (None, 0.02)


def test_what_polite_processes_use_is_left_over():
    found = second(idle=0.0, polite=0.9, foreign=0.05)
    assert found.left_share == pytest.approx(0.9)
    assert found.foreign_share == pytest.approx(0.05)


def test_a_process_that_was_not_there_before_does_not_bring_its_past():
    now = reading(6.0, foreign=0.4)
    before = reading(5.0, foreign=0.4)
    without = Reading(
        processors=before.processors, processes={pid: one for pid, one in before.processes.items() if pid != 20}
    )
    assert between(without, now, root=10, t_s=6.0).foreign_share == 0.0


def test_where_the_system_does_not_tell_only_the_canary_speaks():
    found = between(Reading(), Reading(), root=10, t_s=1.0, answers_s=[0.5])
    assert found == MachineMeasured(t_s=1.0, canary_s=0.5)


def test_two_readings_at_once_say_nothing():
    assert between(reading(5.0), reading(5.01), root=10, t_s=5.0).left_share is None


def test_a_phase_is_the_mean_of_its_seconds_and_the_slowest_canary():
    seconds = [
        MachineMeasured(t_s=1.0, left_share=0.8, foreign_share=0.1, canary_s=0.002),
        MachineMeasured(t_s=2.0, left_share=0.02, foreign_share=0.5, canary_s=0.004),
        MachineMeasured(t_s=3.0, left_share=0.5, canary_s=0.3),
        MachineMeasured(t_s=4.0),
    ]
    found = summary("fault", seconds, max_taken=0.1)
    assert (found.left_share, found.foreign_share) == (pytest.approx(0.44), pytest.approx(0.3))
    assert (found.steal_share, found.canary_s, found.seconds, found.exhausted_seconds) == (None, 0.3, 4, 2)


def test_a_watch_on_this_machine_keeps_its_phases_apart():
    watch = MachineWatch(0.1)
    watch.begin("baseline", 0.0)
    watch.second(1.0)
    watch.begin("fault", 2.1)
    for t_s in (2.0, 3.0, 4.0, 5.0):  # told a moment late: the second before it was the baseline's
        watch.second(t_s)
    assert [(phase.name, phase.seconds) for phase in watch.phases] == [("baseline", 2), ("fault", 3)]


async def test_the_canary_answers_ten_times_a_second_through_its_own_proxy(monkeypatch):
    made = []

    class Watched(ProxyCollection):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("chaos.machine.canary.ProxyCollection", Watched)
    canary = Canary()
    began_s = clock.monotonic_s()
    singing = asyncio.ensure_future(canary.sing())
    answers = []
    async with asyncio.timeout(10):
        while len(answers) < 5:
            await asyncio.sleep(0.02)
            answers += canary.take()
    assert 5 * 0.1 <= clock.monotonic_s() - began_s < 5.0
    (counters,) = made[0].counters().values()
    assert counters.downstream.sent_bytes >= 5 * len("are you there?")
    assert canary.take() == []
    singing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await singing
    assert all(0.0 < answer < 5.0 for answer in answers)


async def test_a_canary_counts_from_the_moment_it_was_due():
    """While this process is held up, nobody asks: the answer after it tells how long that was."""
    canary = Canary()
    singing = asyncio.ensure_future(canary.sing())
    async with asyncio.timeout(10):
        while not canary.take():
            await asyncio.sleep(0.02)
        clock.sleep_blocking(0.4)
        answers = []
        while not answers:
            await asyncio.sleep(0.02)
            answers = canary.take()
    singing.cancel()
    await asyncio.gather(singing, return_exceptions=True)
    assert max(answers) > 0.25


async def test_a_canary_that_is_ended_leaves_no_words_behind(caplog):
    canary = Canary()
    for _ in range(3):
        singing = asyncio.ensure_future(canary.sing())
        async with asyncio.timeout(10):
            while not canary.take():
                await asyncio.sleep(0.02)
        singing.cancel()
        await asyncio.gather(singing, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert caplog.records == []
