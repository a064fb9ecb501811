"""Hedging: when a second request is made, who wins, what it costs, and that nothing is left running."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.resilience import (
    BadRequest,
    BudgetSettings,
    HedgeSettings,
    Isolation,
    Replicas,
    ReplicaSettings,
    Switches,
)
from chaos.resilience.hedge import Hedge
from tests.unit.resilience.kit import NEVER_OPENS, Broken
from tests.unit.resilience.virtual import now_s, run, virtual


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


async def durations_at_a_rate(replicas, service, calls):
    """The same for calls that come a hundred a second, whether those before have ended or not."""
    taken = []

    async def call():
        begun_s = now_s()
        await replicas.call(service)
        taken.append(now_s() - begun_s)

    made = []
    for _ in range(calls):
        made.append(asyncio.create_task(call()))
        await asyncio.sleep(0.01)
    await asyncio.gather(*made)
    assert service.running == 0
    return taken


@pytest.mark.parametrize("slow_share", [0.02, 0.04, 0.05])
@pytest.mark.parametrize("seed", range(3))
@virtual
async def test_hedging_takes_the_tail_off_for_a_few_percent_more_requests(slow_share, seed):
    plain, hedged = Service(slow_share, seed), Service(slow_share, seed)
    without = await durations_at_a_rate(make(hedge=None), plain, 3000)
    with_hedge = await durations_at_a_rate(make(), hedged, 3000)
    learned = 1000
    p99 = [statistics.quantiles(one[learned:], n=100)[98] for one in (without, with_hedge)]
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


@pytest.mark.parametrize(("budget", "requests"), [(True, 31), (False, 34)])
@virtual
async def test_the_budget_of_hedges_can_be_switched_off(budget, requests):
    service = Service(slow_share=0.0)
    hedge = HedgeSettings(budget=BudgetSettings(percent=0.0, floor_per_s=0.0))
    replicas = make(hedge=hedge, switches=Switches(budget=budget))
    await durations(replicas, service, 30)
    service.next = [1.0]
    await replicas.call(service)
    assert service.requests == requests


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


OUTCOMES = {"ok": None, "fail": Broken(), "bad": BadRequest()}


def expected_race(first, second, delay_ms, cancel_ms):
    """What a race comes to, by a naive model: (who, outcome, when); each attempt is (duration_ms, outcome)."""
    ends = [("first", first[1], first[0])]
    if first[0] > delay_ms:
        ends.append(("second", second[1], delay_ms + second[0]))
    answers = [one for one in ends if one[1] != "fail"]
    last_ms = max(at_ms for _, _, at_ms in ends)
    result = min(answers, key=lambda one: one[2]) if answers else ("first", "fail", last_ms)
    return ("caller", "cancelled", cancel_ms) if cancel_ms < result[2] else result


@given(
    st.tuples(st.integers(0, 9), st.sampled_from(sorted(OUTCOMES))),
    st.tuples(st.integers(0, 9), st.sampled_from(sorted(OUTCOMES))),
    st.integers(1, 6),
    st.integers(0, 20),
)
def test_a_race_ends_as_a_naive_model_says(first, second, delay, cancel):
    # All four moments differ, for each leaves another remainder by four.
    first, second = (4 * first[0] + 1, first[1]), (4 * second[0] + 2, second[1])
    delay_ms, cancel_ms = 4 * delay, 4 * cancel + 3
    running, ended = set(), []

    async def attempt(who, duration_ms, outcome):
        running.add(who)
        try:
            await asyncio.sleep(duration_ms / 1000)
            if OUTCOMES[outcome] is not None:
                raise type(OUTCOMES[outcome])(who)
        finally:
            running.discard(who)
        return who

    async def race():
        hedge = Hedge(HedgeSettings(minimum_calls=1, delay_min_s=delay_ms / 1000))
        hedge.record(0.0, 0.0)

        async def caller():
            try:
                return await hedge.race(lambda: attempt("first", *first), lambda: lambda: attempt("second", *second))
            finally:
                ended.append((now_s(), set(running)))

        call = asyncio.create_task(caller())
        asyncio.get_running_loop().call_later(cancel_ms / 1000, call.cancel)
        await asyncio.wait([call])
        if call.cancelled():
            return "caller", "cancelled"
        error = call.exception()
        if error is None:
            return call.result(), "ok"
        return error.args[0], "bad" if isinstance(error, BadRequest) else "fail"

    who, outcome, at_ms = expected_race(first, second, delay_ms, cancel_ms)
    assert run(race()) == (who, outcome)
    assert ended == [(pytest.approx(at_ms / 1000), set())]


@virtual
async def test_slow_calls_stay_in_what_is_learned_though_their_hedges_win():
    """Else the delay would sink among the calls that are not slow, and the budget go to those."""
    hedge = Hedge(HedgeSettings(quantile=0.9, budget=BudgetSettings(percent=10.0, floor_per_s=0.0)))
    rng, slow = random.Random(1), 0

    async def first():
        nonlocal slow
        is_slow = rng.random() < 0.08
        slow += is_slow
        await asyncio.sleep(1.0 if is_slow else rng.uniform(0.008, 0.012))

    async def second():
        await asyncio.sleep(0.01)

    for _ in range(3000):
        await hedge.race(first, lambda: second)
    assert hedge.won >= 0.85 * slow


@virtual
async def test_a_bad_request_is_an_answer_whichever_replica_gives_it():
    replicas = make()
    await durations(replicas, Service(slow_share=0.0), 30)
    asked = []

    async def hangs_or_says_no(address):
        asked.append(address)
        if len(asked) == 1:
            await asyncio.sleep(99.0)
        raise BadRequest

    begun_s = now_s()
    with pytest.raises(BadRequest):
        await replicas.call(hangs_or_says_no)
    assert now_s() - begun_s < 0.05
    assert len(asked) == 2


@virtual
async def test_only_the_first_attempt_of_a_call_is_hedged():
    isolation = Isolation(rng=random.Random(1))
    settings = ReplicaSettings(attempts=3, attempt_timeout_s=1.0, breaker=NEVER_OPENS, hedge=HEDGE)
    replicas = Replicas("s", list("abcdef"), isolation=isolation, settings=settings)
    await durations(replicas, Service(slow_share=0.0), 40)
    asked = []

    async def hang(address):
        asked.append(address)
        await asyncio.sleep(99.0)

    with pytest.raises(TimeoutError):
        await replicas.call(hang)
    assert len(asked) == len(set(asked)) == 3 + 1


@virtual
async def test_when_nobody_answers_hedges_and_second_attempts_stay_within_their_budgets():
    hedge = HedgeSettings(minimum_calls=1, budget=BudgetSettings(percent=5.0, floor_per_s=0.5))
    replicas = make(hedge=hedge, attempt_timeout_s=0.5, budget=BudgetSettings(percent=20.0, floor_per_s=1.0))
    await durations(replicas, Service(slow_share=0.0), 30)
    await asyncio.sleep(11.0)  # what those calls earned is gone, what was learned from them is not
    asked = 0

    async def hang(address):
        nonlocal asked
        asked += 1
        await asyncio.sleep(99.0)

    calls = []
    for _ in range(500):
        calls.append(asyncio.create_task(replicas.call(hang)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*calls, return_exceptions=True)
    assert 500 * 1.2 <= asked <= 500 * (1 + 0.2 + 0.05) + 10 + 5


@pytest.mark.parametrize("seed", range(30))
@virtual
async def test_a_caller_cancelled_again_and_again_leaves_no_attempt_that_still_cleans_up(seed):
    rng = random.Random(seed)
    replicas = make()
    await durations(replicas, Service(slow_share=0.0), 30)
    running = 0

    async def cleans_up(address):
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(rng.choice([0.005, 0.02, 1.0]))
        finally:
            try:
                await asyncio.sleep(rng.choice([0.0, 0.05]))
            finally:
                running -= 1

    moments_s = [0.0, 0.005, 0.012, 0.02, 0.03, 0.05, 0.07]
    for _ in range(30):
        call = asyncio.create_task(replicas.call(cleans_up))
        for _ in range(rng.randint(1, 3)):
            await asyncio.sleep(rng.choice(moments_s))
            call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        assert running == 0
        assert [one.command.in_flight for one in replicas.replicas] == [0, 0, 0]


@pytest.mark.parametrize("after_s", [0.0, 0.05], ids=["before the hedge", "after it"])
@virtual
async def test_a_race_that_fails_makes_no_reference_cycle(after_s):
    hedge = Hedge(HedgeSettings(minimum_calls=1))
    hedge.record(0.0, 0.0)

    async def fail():
        await asyncio.sleep(after_s)
        raise Broken

    async def races(count):
        for _ in range(count):
            with contextlib.suppress(Broken):
                await hedge.race(fail, lambda: fail)

    await races(5)
    gc.collect()
    gc.disable()
    try:
        await races(50)
        assert gc.collect() < 50
    finally:
        gc.enable()
