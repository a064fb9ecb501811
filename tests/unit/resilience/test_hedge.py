"""Hedging and retries: when a second request is made, who wins, what it costs, and that nothing is left running."""

from __future__ import annotations

import asyncio
import random
import statistics

import pytest

from chaos.resilience import (
    BudgetSettings,
    Deadline,
    DeadlineShare,
    HedgeSettings,
    Isolation,
    Overloaded,
    Replicas,
    ReplicaSettings,
    Switches,
)
from tests.unit.resilience.kit import NEVER_OPENS, Broken
from tests.unit.resilience.virtual import now_s, virtual


class Service:
    """An answer takes 10 ms or so, and now and then 1 s. Counts requests, and those in progress."""

    def __init__(self, slow_share=0.02, seed=3):
        self.rng = random.Random(seed)
        self.slow_share = slow_share
        self.requests = 0
        self.running = 0
        self.next = []

    async def __call__(self, address):
        self.requests += 1
        self.running += 1
        try:
            usual_s = 1.0 if self.rng.random() < self.slow_share else self.rng.uniform(0.008, 0.012)
            what = self.next.pop(0) if self.next else usual_s
            if isinstance(what, Exception):
                raise what
            await asyncio.sleep(what)
        finally:
            self.running -= 1
        return address


HEDGE = HedgeSettings()


def make(hedge=HEDGE, switches=None, **settings):
    isolation = Isolation(rng=random.Random(1), switches={"s": switches} if switches else None)
    settings = {"attempt_timeout_s": 5.0, "breaker": NEVER_OPENS, "hedge": hedge, **settings}
    return Replicas("s", ["a", "b", "c"], isolation=isolation, settings=ReplicaSettings(**settings))


async def durations(replicas, service, calls):
    taken = []
    for _ in range(calls):
        begun_s = now_s()
        await replicas.call(service)
        taken.append(now_s() - begun_s)
        assert service.running == 0, "the loser has ended before the winner's answer is there"
    return taken


@virtual
async def test_hedging_takes_the_tail_off_for_a_few_percent_more_requests():
    plain, hedged = Service(), Service()
    without = await durations(make(hedge=None), plain, 2000)
    with_hedge = await durations(make(), hedged, 2000)
    p99 = [statistics.quantiles(one, n=100)[98] for one in (without, with_hedge)]
    assert p99[0] == pytest.approx(1.0)
    assert p99[1] < 0.1
    assert hedged.requests <= 1.08 * plain.requests


@virtual
async def test_until_it_has_learned_enough_it_does_not_hedge():
    service = Service(slow_share=0.0)
    replicas = make(hedge=HedgeSettings(minimum_calls=20))
    await durations(replicas, service, 19)
    service.next = [0.02]
    await replicas.call(service)
    assert service.requests == 20
    service.next = [1.0]
    await replicas.call(service)
    assert service.requests == 22


@virtual
async def test_the_budget_keeps_a_slow_service_from_getting_its_load_doubled():
    service = Service(slow_share=0.0)
    replicas = make(hedge=HedgeSettings(budget=BudgetSettings(percent=5.0, floor_per_s=0.0)))
    await durations(replicas, service, 100)
    service.slow_share = 1.0
    service.requests = 0
    await durations(replicas, service, 40)
    assert service.requests <= 40 + 0.05 * 140


@virtual
async def test_a_first_that_fails_after_the_second_began_waits_for_the_second():
    service = Service(slow_share=0.0)
    replicas = make(attempts=1)
    await durations(replicas, service, 30)

    async def fail_late(address):
        if service.requests == 30:
            service.requests += 1
            await asyncio.sleep(0.05)
            raise Broken
        await asyncio.sleep(0.3)
        return "second"

    assert await replicas.call(fail_late) == "second"


@virtual
async def test_when_both_fail_the_first_one_s_failure_is_told():
    service = Service(slow_share=0.0)
    replicas = make(attempts=1)
    await durations(replicas, service, 30)
    asked = []

    async def both_fail(address):
        asked.append(address)
        number = len(asked)
        await asyncio.sleep(0.1)
        raise LookupError(number)

    with pytest.raises(LookupError, match="1"):
        await replicas.call(both_fail)
    assert len(set(asked)) == 2


@pytest.mark.parametrize("seed", range(30))
@virtual
async def test_a_caller_that_goes_away_at_any_moment_leaves_nothing(seed):
    rng = random.Random(seed)
    service = Service(slow_share=0.5, seed=seed)
    replicas = make()
    await durations(replicas, Service(slow_share=0.0), 30)
    for _ in range(20):
        call = asyncio.create_task(replicas.call(service))
        await asyncio.sleep(rng.choice([0.0, 0.005, 0.01, 0.0100001, 0.02, 0.5, 1.0]))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert service.running == 0
        assert [one.command.in_flight for one in replicas.replicas] == [0, 0, 0]


@virtual
async def test_hedging_can_be_switched_off():
    service = Service(slow_share=0.0)
    replicas = make(switches=Switches(hedge=False))
    await durations(replicas, service, 30)
    service.next = [1.0]
    await replicas.call(service)
    assert service.requests == 31


@virtual
async def test_a_cancelled_loser_is_no_evidence_against_its_replica():
    service = Service(slow_share=0.0)
    replicas = make()
    await durations(replicas, service, 30)
    before = sum(one.command.counts.cancelled for one in replicas.replicas)
    service.next = [1.0]
    await replicas.call(service)
    counts = [one.command.counts for one in replicas.replicas]
    assert sum(one.cancelled for one in counts) == before + 1
    assert sum(one.failure + one.timeout for one in counts) == 0


@pytest.mark.parametrize(("share", "expected_s"), [(DeadlineShare.EVEN, 0.5), (DeadlineShare.ALL, 0.9)])
@virtual
async def test_attempts_share_the_deadline_evenly_or_may_use_all_of_it(share, expected_s):
    replicas = make(hedge=None, share=share, attempt_timeout_s=0.9)
    ends = []

    async def hang(address):
        try:
            await asyncio.sleep(100.0)
        finally:
            ends.append(now_s())

    with pytest.raises(TimeoutError), Deadline.within(1.0):
        await replicas.call(hang)
    assert ends[0] == pytest.approx(expected_s)
    assert ends[-1] <= 1.0 + 1e-9


@virtual
async def test_an_unhealthy_replica_is_left_out_unless_all_are():
    sick = {"a"}
    isolation = Isolation(rng=random.Random(1))
    replicas = Replicas("s", ["a", "b"], isolation=isolation, healthy=lambda address: address not in sick)
    service = Service(slow_share=0.0)
    assert {await replicas.call(service) for _ in range(20)} == {"b"}
    sick.add("b")
    assert {await replicas.call(service) for _ in range(20)} == {"a", "b"}


@virtual
async def test_an_overloaded_replica_is_passed_over_for_as_long_as_it_asks():
    replicas = make(hedge=None)
    asked = []

    async def overloaded_once(address):
        asked.append(address)
        if len(asked) == 1:
            raise Overloaded("s", retry_after_s=1.0)
        return address

    await replicas.call(overloaded_once)
    asked[1:] = []
    for _ in range(20):
        assert await replicas.call(overloaded_once) != asked[0]
