"""A starved machine makes what broke inconclusive, and leaves what held alone."""

from __future__ import annotations

import pytest

from chaos.errors import Outcome
from chaos.events import MachineMeasured
from chaos.reports.document import verdict_document
from chaos.verdict.machine import MachinePhase, starved, summary
from tests.unit.verdict.building import every, store_of
from tests.unit.verdict.test_judge import verdict_of


def phase(name="fault", *, left=0.02, steal=0.0, foreign=0.33, exhausted=4, max_taken=0.1) -> MachinePhase:
    """Ten seconds, in so many of which nothing was left over."""
    seconds = [
        MachineMeasured(
            t_s=number,
            left_share=left if number < exhausted else 0.4,
            steal_share=steal,
            foreign_share=foreign,
            waiting_share=0.4,
            canary_s=0.012,
        )
        for number in range(10)
    ]
    return summary(name, seconds, max_taken=max_taken)


BROKEN = every(10, 12.0, 32.0)


def test_what_broke_on_a_starved_machine_is_inconclusive_and_says_what_to_do():
    verdict = verdict_of(store_of(fails=BROKEN), machine=[phase("baseline", foreign=0.01, exhausted=0), phase()])
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reasons[0] == (
        "the machine was starved in the fault phase, so that what broke may be its doing: in 4 of 10 seconds nothing "
        "was left over while others took more than 10 % of its processors (33 % over the whole phase); the slowest "
        "answer of an edge without a fault took 12 ms; end what else runs here and run it again, or use a machine of "
        "its own"
    )
    assert "playback availability was 90 %" in verdict.reasons[1], "what was measured is told all the same"


def test_what_held_on_a_starved_machine_held():
    verdict = verdict_of(store_of(), machine=[phase()])
    assert verdict.outcome is Outcome.HELD
    assert not any("starved" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    "one",
    [
        phase(foreign=0.0),  # all of it was used by the run itself: by the system under test, that is
        phase(exhausted=1),
        phase(foreign=None, steal=None),
        phase("warm_up"),
        phase(max_taken=0.5),
    ],
    ids=["its own doing", "a second of ten", "a system that does not tell", "while it warmed up", "as was allowed"],
)
def test_what_broke_on_any_other_machine_is_violated(one):
    assert verdict_of(store_of(fails=BROKEN), machine=[one]).outcome is Outcome.VIOLATED


def test_what_the_hypervisor_took_counts_as_well():
    assert phase(foreign=0.02, steal=0.2).starved
    assert "(22 % over the whole phase, 20 % by the hypervisor)" in starved([phase(foreign=0.02, steal=0.2)])


def busy_in(*moments: int, left: float = 0.0, seconds: int = 20) -> MachinePhase:
    """A phase with nothing left over, in which somebody else is busy in these seconds."""
    shares = [0.4 if number in moments else 0.01 for number in range(seconds)]
    measured = [MachineMeasured(t_s=at, left_share=left, foreign_share=share) for at, share in enumerate(shares)]
    return summary("fault", measured, max_taken=0.1)


def test_a_burst_of_others_counts_though_it_is_little_of_the_phase():
    burst = busy_in(4, 5, 6)
    assert burst.taken_share < 0.1
    assert burst.starved
    assert not busy_in(4, 5).starved, "one second in ten"
    assert busy_in(4, seconds=8).starved, "one second of a short phase is more"


def test_others_may_take_what_is_left_over():
    assert not busy_in(4, 5, 6, left=0.3).starved
    quiet = [MachineMeasured(t_s=at, left_share=0.0, foreign_share=0.02) for at in range(10)]
    busy = [MachineMeasured(t_s=at, left_share=0.3, foreign_share=0.5) for at in range(10)]
    apart = summary("fault", [*quiet, *busy], max_taken=0.1)
    assert apart.taken_share > 0.1
    assert apart.exhausted_seconds == 10
    assert not apart.starved, "nobody else was there when nothing was left over"


def test_of_several_starved_phases_the_worst_is_named():
    assert "in the recovery phase" in starved([phase(), phase("recovery", exhausted=6)])


def test_the_document_has_the_machine_phase_by_phase():
    document = verdict_document(verdict_of(store_of(), machine=[phase()]))
    assert document["machine"]["fault"] == {
        "left_share": pytest.approx(0.248),
        "steal_share": 0.0,
        "foreign_share": pytest.approx(0.33),
        "waiting_share": pytest.approx(0.4),
        "queue_delay_share": None,
        "canary_s": 0.012,
        "seconds": 10,
        "exhausted_seconds": 4,
        "starved_seconds": 4,
        "starved": True,
    }


def broken_at(rate_per_s: float, own_rate_per_s: float | None, *, exhausted: int = 4):
    machine = [phase(foreign=0.01, exhausted=exhausted)]
    store = store_of(fails=BROKEN)
    return verdict_of(store, machine=machine, rate_per_s=rate_per_s, own_rate_per_s=own_rate_per_s)


def test_what_broke_at_a_rate_that_wore_the_machine_out_is_not_the_systems_doing():
    verdict = broken_at(45.0, 30.0)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reasons[0] == (
        "in 4 of 10 seconds of the fault phase nothing was left over of the machine, at 45 /s where the experiment "
        "asks for 30 /s: what broke may be that load's doing; its own rate tells"
    )


@pytest.mark.parametrize(
    ("rates", "exhausted"),
    [((45.0, 30.0), 1), ((30.0, 30.0), 4), ((20.0, 30.0), 4), ((45.0, None), 4)],
    ids=["something was left over", "at its own rate", "at a lower rate", "at a rate of its own choice"],
)
def test_at_any_other_rate_it_is(rates, exhausted):
    assert broken_at(*rates, exhausted=exhausted).outcome is Outcome.VIOLATED
