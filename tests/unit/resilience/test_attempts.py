"""Replicas: who gets a call, when another one is asked, and what that may cost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from chaos.resilience import (
    BreakerSettings,
    BudgetSettings,
    Deadline,
    DeadlineExceeded,
    DeadlineShare,
    DeadlineSpent,
    Force,
    Isolation,
    Overloaded,
    ReplicaChoice,
    Replicas,
    ReplicaSettings,
    RetryBudget,
    ShortCircuited,
    Switches,
)
from tests.unit.resilience.kit import BREAKER, NEVER_OPENS, Broken, Unlicensed, make_command
from tests.unit.resilience.virtual import now_s, virtual


class Servers:
    """Servers that do as they are told: each is a list of what to do, its last entry for ever."""

    def __init__(self, **behaviour):
        self.behaviour = behaviour
        self.asked = []

    async def __call__(self, address):
        self.asked.append(address)
        todo = self.behaviour.get(address, ["ok"])
        what = todo.pop(0) if len(todo) > 1 else todo[0]
        if isinstance(what, float):
            await asyncio.sleep(what)
        elif isinstance(what, Exception):
            raise what
        return address


def make_replicas(addresses="ab", *, enabled=True, switches=None, seed=1, **settings):
    isolation = Isolation(rng=random.Random(seed), enabled=enabled, switches=switches)
    settings = {"breaker": NEVER_OPENS, **settings}
    return Replicas("play_api", list(addresses), isolation=isolation, settings=ReplicaSettings(**settings)), isolation


@virtual
async def test_in_turn_each_replica_gets_a_call_and_one_that_is_left_out_costs_nobody_a_turn():
    sick = set()
    isolation = Isolation(rng=random.Random(1))
    replicas = Replicas(
        "play_api",
        list("abc"),
        isolation=isolation,
        settings=ReplicaSettings(choice=ReplicaChoice.ROUND_ROBIN),
        healthy=lambda address: address not in sick,
    )
    servers = Servers()
    for _ in range(6):
        await replicas.call(servers)
    sick.add("b")
    for _ in range(4):
        await replicas.call(servers)
    assert servers.asked == list("abcabc" + "acac")


@virtual
async def test_the_least_busy_replica_gets_the_call_and_equally_busy_ones_share():
    replicas, _ = make_replicas("abc", choice=ReplicaChoice.LEAST_BUSY)
    servers = Servers(a=[0.9], b=[0.9], c=[0.9])
    calls = [asyncio.create_task(replicas.call(servers)) for _ in range(6)]
    await asyncio.sleep(0.5)
    assert sorted(servers.asked[:3]) == sorted(servers.asked[3:]) == list("abc")
    await asyncio.gather(*calls)
    servers = Servers()
    for _ in range(300):
        await replicas.call(servers)
    assert min(Counter(servers.asked)[address] for address in "abc") > 70


@virtual
async def test_calls_are_spread_over_the_replicas():
    replicas, _ = make_replicas("abc")
    servers = Servers()
    for _ in range(300):
        await replicas.call(servers)
    assert all(70 < count < 130 for count in Counter(servers.asked).values())


@virtual
async def test_the_less_busy_of_two_is_taken():
    replicas, isolation = make_replicas()
    servers = Servers(a=[0.1], b=[0.1])
    await asyncio.gather(*(replicas.call(servers) for _ in range(20)))
    assert Counter(servers.asked) == {"a": 10, "b": 10}
    assert [one.command for one in isolation.snapshot()] == ["play_api[a]", "play_api[b]"]


@pytest.mark.parametrize("seed", range(10))
@virtual
async def test_a_failure_goes_to_another_replica(seed):
    replicas, isolation = make_replicas(seed=seed)
    servers = Servers(a=[Broken()])
    assert await replicas.call(servers) == "b"
    assert servers.asked in (["a", "b"], ["b"])
    assert isolation.snapshot()[0].errors == servers.asked.count("a")


@virtual
async def test_when_all_fail_the_last_failure_comes_out_and_nobody_is_asked_twice():
    replicas, _ = make_replicas("abc", attempts=9)
    servers = Servers(a=[Broken()], b=[Broken()], c=[Broken()])
    with pytest.raises(Broken):
        await replicas.call(servers)
    assert sorted(servers.asked) == ["a", "b", "c"]


@virtual
async def test_the_number_of_attempts_is_kept():
    replicas, _ = make_replicas("abcd", attempts=2)
    servers = Servers(**{name: [Broken()] for name in "abcd"})
    with pytest.raises(Broken):
        await replicas.call(servers)
    assert len(servers.asked) == 2


@virtual
async def test_a_bad_request_is_never_asked_again():
    replicas, _ = make_replicas()
    servers = Servers(a=[Unlicensed()], b=[Unlicensed()])
    with pytest.raises(Unlicensed):
        await replicas.call(servers)
    assert len(servers.asked) == 1


@virtual
async def test_a_cancelled_call_is_not_made_again():
    replicas, isolation = make_replicas()
    servers = Servers(a=[0.5], b=[0.5])
    call = asyncio.create_task(replicas.call(servers))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert call.cancelled()
    assert len(servers.asked) == 1
    assert [one.in_flight for one in isolation.snapshot()] == [0, 0]


@pytest.mark.parametrize("seed", range(6))
@virtual
async def test_a_replica_that_hangs_leaves_time_for_another(seed):
    replicas, _ = make_replicas(seed=seed, attempt_timeout_s=None)
    servers = Servers(a=[99.0], b=[0.1])
    with Deadline.within(0.5):
        assert await replicas.call(servers) == "b"
    assert now_s() == pytest.approx(0.35 if servers.asked[0] == "a" else 0.1)


@virtual
async def test_a_single_replica_has_all_the_time_there_is():
    replicas, _ = make_replicas("a", attempt_timeout_s=None)
    with Deadline.within(0.5), pytest.raises(DeadlineExceeded):
        await replicas.call(Servers(a=[99.0]))
    assert now_s() == pytest.approx(0.5)


@virtual
async def test_no_attempt_begins_after_the_deadline():
    replicas, _ = make_replicas()
    servers = Servers(a=[99.0], b=[99.0])
    with Deadline.within(0.5):
        with pytest.raises(DeadlineExceeded):
            await replicas.call(servers)
        assert now_s() == pytest.approx(0.5)
        with pytest.raises(DeadlineSpent):
            await replicas.call(servers)
    assert len(servers.asked) == 2


@virtual
async def test_a_replica_whose_breaker_is_open_is_left_out_and_comes_back():
    replicas, isolation = make_replicas(breaker=BREAKER)
    servers = Servers(a=[Broken(), "ok"])
    while "a" not in servers.asked:
        assert await replicas.call(servers) == "b"
    assert [one.state for one in isolation.snapshot()] == ["open", "closed"]
    del servers.asked[:]
    for _ in range(20):
        await replicas.call(servers)
    assert servers.asked == ["b"] * 20
    await asyncio.sleep(0.25)
    for _ in range(20):
        await replicas.call(servers)
    assert set(servers.asked) == {"a", "b"}
    assert [one.state for one in isolation.snapshot()] == ["closed", "closed"]


@virtual
async def test_when_every_breaker_is_open_the_call_is_short_circuited():
    replicas, _ = make_replicas(breaker=BREAKER)
    servers = Servers(a=[Broken()], b=[Broken()])
    with pytest.raises(Broken):
        await replicas.call(servers)
    with pytest.raises(ShortCircuited):
        await replicas.call(servers)
    assert len(servers.asked) == 2


@virtual
async def test_an_overloaded_replica_is_passed_over_for_a_while_but_is_no_failure():
    replicas, isolation = make_replicas(breaker=BREAKER, overload_pause_max_s=2.0)
    servers = Servers(a=[Overloaded("a", retry_after_s=60.0), "ok"])
    while "a" not in servers.asked:
        assert await replicas.call(servers) == "b"
    assert [one.state for one in isolation.snapshot()] == ["closed", "closed"]
    assert sum(one.errors for one in isolation.snapshot()) == 0
    del servers.asked[:]
    for _ in range(20):
        await replicas.call(servers)
    assert set(servers.asked) == {"b"}
    await asyncio.sleep(2.0)
    for _ in range(20):
        await replicas.call(servers)
    assert set(servers.asked) == {"a", "b"}


@virtual
async def test_where_all_are_overloaded_they_are_asked_all_the_same():
    replicas, _ = make_replicas()
    servers = Servers(a=[Overloaded("a", retry_after_s=1.0), "ok"], b=[Overloaded("b", retry_after_s=1.0), "ok"])
    with pytest.raises(Overloaded):
        await replicas.call(servers)
    assert await replicas.call(servers) in "ab"


@virtual
async def test_second_attempts_stop_when_the_budget_is_spent():
    replicas, _ = make_replicas(budget=BudgetSettings(floor_per_s=0.5, percent=20.0, window_s=10.0))
    servers = Servers(a=[Broken()], b=[Broken()])
    for _ in range(100):
        with pytest.raises(Broken):
            await replicas.call(servers)
    assert len(servers.asked) == 100 + 5 + 20


def test_the_budget_comes_back_as_the_window_rolls():
    budget = RetryBudget(BudgetSettings(percent=20.0, floor_per_s=0.1, window_s=10.0))
    assert [budget.try_spend(0.0) for _ in range(2)] == [True, False]
    for _ in range(5):
        budget.first_attempt(1.0)
    assert [budget.try_spend(2.0) for _ in range(2)] == [True, False]
    assert [budget.try_spend(30.0) for _ in range(2)] == [True, False]


@virtual
async def test_without_isolation_it_is_plain_round_robin_and_one_attempt():
    replicas, _ = make_replicas("abc", enabled=False)
    servers = Servers(b=[Broken()])
    ended = [await asyncio.gather(replicas.call(servers), return_exceptions=True) for _ in range(6)]
    assert servers.asked == list("abcabc")
    assert [type(one[0]) for one in ended] == [str, Broken, str] * 2


@virtual
async def test_the_budget_can_be_switched_off():
    budget = BudgetSettings(floor_per_s=0.0, percent=0.0)
    replicas, _ = make_replicas(switches={"play_api": Switches(budget=False)}, budget=budget)
    servers = Servers(a=[Broken()], b=[Broken()])
    for _ in range(100):
        with pytest.raises(Broken):
            await replicas.call(servers)
    assert len(servers.asked) == 200


@pytest.mark.parametrize("choice", list(ReplicaChoice))
@virtual
async def test_the_choice_can_be_switched_off(choice):
    replicas, _ = make_replicas(switches={"play_api": Switches(choice=False)}, choice=choice)
    servers = Servers(a=[0.3])
    answers = await asyncio.gather(*(replicas.call(servers) for _ in range(10)))
    assert answers == list("ab" * 5)  # a is asked in its turn although it is busy


@virtual
async def test_failover_alone_can_be_switched_off():
    replicas, _ = make_replicas(switches={"play_api": Switches(failover=False)})
    servers = Servers(a=[Broken()], b=[Broken()])
    with pytest.raises(Broken):
        await replicas.call(servers)
    assert len(servers.asked) == 1


@virtual
async def test_without_deadlines_no_attempt_is_cut_off_to_leave_time_for_another():
    replicas, _ = make_replicas(switches={"play_api": Switches(deadline=False)}, attempt_timeout_s=0.75)
    servers = Servers(a=[2.0], b=[2.0])
    with Deadline.within(5.0):
        await replicas.call(servers)
    assert (now_s(), len(servers.asked)) == (2.0, 1)


@virtual
async def test_a_replica_that_always_fails_costs_the_callers_nothing_and_few_calls():
    replicas, _ = make_replicas(breaker=BreakerSettings(open_jitter=0.0))
    servers = Servers(a=[Broken()])
    for _ in range(1000):
        assert await replicas.call(servers) == "b"
        await asyncio.sleep(0.01)
    assert Counter(servers.asked)["a"] <= 20 + 2


@virtual
async def test_calls_that_nobody_could_take_save_up_no_second_attempts():
    replicas, _ = make_replicas(
        breaker=BREAKER, attempts=2, budget=BudgetSettings(floor_per_s=0.2, percent=20.0, window_s=10.0)
    )
    servers = Servers(a=[Broken()], b=[Broken()])
    with pytest.raises(Broken):
        await replicas.call(servers)
    for _ in range(500):
        with pytest.raises(ShortCircuited):
            await replicas.call(servers)
    for one in replicas.replicas:
        one.command.breaker.force(Force.CLOSED)
    del servers.asked[:]
    for _ in range(20):
        with pytest.raises(Broken):
            await replicas.call(servers)
    assert len(servers.asked) <= 20 + 2 + 0.2 * 21


@virtual
async def test_what_was_cancelled_goes_to_no_other_replica_whatever_it_says():
    replicas, isolation = make_replicas("abc", attempts=3, attempt_timeout_s=2.0, share=DeadlineShare.ALL)
    asked = []

    async def stubborn(address):
        asked.append(address)
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            raise Broken from None

    call = asyncio.create_task(replicas.call(stubborn))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.wait([call])
    assert isinstance(call.exception(), Broken)
    assert (now_s(), len(asked)) == (0.1, 1)

    del asked[:]
    with pytest.raises(DeadlineExceeded):
        await make_command(lambda: replicas.call(stubborn))()
    assert (now_s(), len(asked)) == (0.6, 1)
    assert [one.in_flight for one in isolation.snapshot()] == [0, 0, 0]


@pytest.mark.parametrize(("share", "expected_s"), [(DeadlineShare.EVEN, 0.5), (DeadlineShare.ALL, 0.9)])
@virtual
async def test_attempts_share_the_deadline_evenly_or_may_use_all_of_it(share, expected_s):
    replicas, _ = make_replicas("abc", share=share, attempt_timeout_s=0.9)
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
    servers = Servers()
    assert {await replicas.call(servers) for _ in range(20)} == {"b"}
    sick.add("b")
    assert {await replicas.call(servers) for _ in range(20)} == {"a", "b"}


@virtual
async def test_an_overloaded_replica_is_passed_over_for_as_long_as_it_asks():
    replicas, _ = make_replicas("abc")
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
