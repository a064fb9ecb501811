"""Billing: one charge for each account and period, with any number of workers and any trouble in between."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.playback import billing
from targets.playback.accounts_client import DueCharge
from targets.playback.billing import Ask, Biller, Charge, Wait, period_at
from targets.playback.ledger import Ledger
from targets.playback.validation import Plan


def biller(*, name="one", period_s=30.0, rate_per_s=20.0, seed=1):
    return Biller(name=name, period_s=period_s, rate_per_s=rate_per_s, rng=random.Random(seed))


def due(count, period=1):
    return [DueCharge(account=f"account-{number}", plan=Plan.STANDARD, period=period) for number in range(count)]


def result(charge, **changes):
    return {"index": 7, **charge.to_command(), **changes}


def test_periods_follow_each_other_without_a_gap():
    assert [period_at(now_s, 30.0) for now_s in (0.0, 29.9, 30.0, 3000.0)] == [0, 0, 1, 100]


def test_every_plan_has_a_price_and_a_better_one_costs_more():
    assert sorted(billing.PRICES_CENTS[plan] for plan in Plan) == [billing.PRICES_CENTS[plan] for plan in Plan]
    assert all(cents > 0 for cents in billing.PRICES_CENTS.values())


def test_first_of_all_a_worker_asks_who_is_due():
    assert biller().next(95.0) == Ask(period=3, limit=billing.BATCH_MAX)


def test_a_charge_has_an_id_that_all_workers_give_it():
    commands = []
    for name in ("one", "two"):
        one = biller(name=name)
        one.told_due(95.0, due(1, period=3), 1)
        commands.append(one.next(95.0).to_command())

    assert commands[0] == {
        "kind": "charge",
        "id": "charge/account-0/3",
        "account": "account-0",
        "period": 3,
        "amount_cents": 1549,
        "at_s": 95.0,
        "charged_by": "one",
    }
    assert commands[1] == {**commands[0], "charged_by": "two"}


def test_charges_keep_to_the_rate_and_a_late_loop_makes_up_for_one_tick_only():
    one = biller(rate_per_s=10.0)
    one.told_due(0.0, due(50), 50)
    charges = 0
    for step in range(1000):  # one second in milliseconds
        if isinstance(one.next(step / 1000), Charge):
            charges += 1
    assert 10 <= charges <= 10 + 10 * billing.TICK_S + 1

    late = 0
    while isinstance(one.next(60.0), Charge):
        late += 1
    assert 1 <= late <= 10 * billing.TICK_S + 1


def test_a_full_list_is_followed_by_the_next_question_at_once_and_any_other_after_a_while():
    full, short = biller(rate_per_s=1e6), biller(rate_per_s=1e6)
    full.told_due(0.0, due(billing.BATCH_MAX), 80)
    short.told_due(0.0, due(3), 3)
    while isinstance(full.next(0.1), Charge):
        pass
    while isinstance(short.next(0.1), Charge):
        pass

    assert isinstance(full.next(0.1), Ask)
    assert short.next(0.1) == Wait(until_s=billing.ASK_EVERY_S)
    assert isinstance(short.next(billing.ASK_EVERY_S), Ask)


def test_after_failures_it_pauses_longer_each_time_then_asks_anew_and_forgets_them_when_it_is_answered():
    one = biller()
    one.told_due(0.0, due(5), 5)
    now_s, pauses = 0.0, []
    for _ in range(8):
        one.failed(now_s)
        waiting = one.next(now_s)
        assert isinstance(waiting, Wait)
        pauses.append(waiting.until_s - now_s)
        now_s = waiting.until_s
        assert isinstance(one.next(now_s), Ask)

    assert pauses[0] <= 0.5 * 1.25
    assert pauses[1] > pauses[0]
    assert all(pause <= 5.0 * 1.25 for pause in pauses)
    assert pauses[-1] >= 5.0 * 0.75
    one.told_due(now_s, due(1), 1)
    one.failed(now_s)
    assert one.next(now_s).until_s - now_s <= 0.5 * 1.25


def test_it_counts_what_is_its_own_what_was_there_already_and_what_was_refused():
    one = biller(rate_per_s=1e6)
    one.told_due(0.0, due(4), 4)
    charges = [one.next(1.0) for _ in range(4)]

    one.answered(charges[0], result(charges[0]))
    one.answered(charges[1], result(charges[1], charged_by="two"))
    one.answered(charges[2], {"index": 10, "refused": "cancelled"})
    one.answered(charges[3], result(charges[3], at_s=0.5))  # its own, of an attempt that it gave up

    counts = one.counts
    assert (counts.charged, counts.already, counts.refused, counts.failed) == (1, 2, 1, 0)


def test_who_finds_that_another_worker_is_at_the_same_list_asks_for_a_new_one():
    one = biller(rate_per_s=1e6)
    one.told_due(0.0, due(9), 9)
    first, second = one.next(0.5), one.next(0.5)

    one.answered(first, result(first))
    assert isinstance(one.next(0.5), Charge)
    one.answered(second, result(second, charged_by="two"))
    assert isinstance(one.next(0.5), Ask)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"settings\.billing_period_s is"):
        biller(period_s=wrong)
    with pytest.raises(ValueError, match=r"settings\.billing_rate_per_s is"):
        biller(rate_per_s=wrong)


class World:
    """Some workers and a real ledger, on a clock that a test turns. Each call may be lost on the way there or back."""

    def __init__(self, workers, *, period_s=10.0):
        self.ledger = Ledger(Path(":memory:"))
        self.now_s = 0.0
        self.period_s = period_s
        self.workers = [
            biller(name=f"worker-{number}", period_s=period_s, rate_per_s=100.0, seed=number)
            for number in range(workers)
        ]

    def apply(self, command):
        return self.ledger.apply(self.ledger.applied + 1, command)

    def sign_up(self, number):
        return self.apply(
            {
                "kind": "sign_up",
                "id": f"sign_up/{number}",
                "account": f"account-{number}",
                "email": f"{number}@example.com",
                "password_hash": "hash",
                "plan": "basic",
                "country": "country-01",
                "at_s": self.now_s,
                "period": period_at(self.now_s, self.period_s),
            }
        )

    def step(self, worker, way):
        """Let a worker do one thing, if there is one to do; ``way`` is what becomes of it."""
        one = self.workers[worker]
        to_do = one.next(self.now_s)
        if isinstance(to_do, Wait):
            return False
        if way == "lost":
            one.failed(self.now_s)
            return True
        if isinstance(to_do, Ask):
            listed = [
                DueCharge(account=due.account, plan=due.plan, period=due.period)
                for due in self.ledger.due(to_do.period, to_do.limit)
            ]
            one.told_due(self.now_s, listed, len(listed))
            return True
        answer = self.apply(to_do.to_command())
        if way == "answer lost":
            one.failed(self.now_s)
        else:
            one.answered(to_do, answer)
        return True


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["fine", "fine", "lost", "answer lost"]),
        st.sampled_from([0.0, 0.05, 1.0, 25.0]),
        st.sampled_from([None, None, "sign up", "restart"]),
    ),
    max_size=80,
)


@settings(max_examples=80)
@given(steps=STEPS)
def test_any_number_of_workers_and_faults_leave_exactly_one_charge_for_each_period(steps):
    world = World(3)
    first_periods = {}
    for worker, way, passes_s, event in steps:
        world.now_s += passes_s
        if event == "sign up":
            number = len(first_periods)
            first_periods[world.sign_up(number)["account"]] = period_at(world.now_s, world.period_s)
        if event == "restart":
            world.workers[worker] = biller(name=f"again-{world.now_s}", period_s=10.0, rate_per_s=100.0)
        world.step(worker, way)

    # Everything is well again, and a worker that knows nothing of all this works off what is due from every period.
    final = period_at(world.now_s, world.period_s)
    for _ in range(200):
        if not world.ledger.due(final, 1):
            break
        world.workers = [biller(name="last", period_s=world.period_s, rate_per_s=1e6)]
        while world.step(0, "fine"):
            pass
    for account, first in first_periods.items():
        assert [invoice.period for invoice in world.ledger.invoices(account)] == list(range(first, final + 1))
    world.ledger.close()
