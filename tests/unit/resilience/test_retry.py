"""Retry: what is made again, after which pause, and when it is enough."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random

import pytest

from chaos.resilience import (
    BadRequest,
    BudgetSettings,
    BulkheadFull,
    Deadline,
    DeadlineExceeded,
    DeadlineSpent,
    Overloaded,
    RetryBudget,
    RetrySettings,
    ShortCircuited,
    Switches,
)
from chaos.resilience.retry import Retry
from tests.unit.resilience.kit import Broken, make_command, static
from tests.unit.resilience.virtual import now_s, virtual

GENEROUS = BudgetSettings(floor_per_s=1_000.0)


class Flaky:
    """Raises what it is told to, one after the other, then answers."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.moments = []

    async def __call__(self, *args):
        self.moments.append(now_s())
        if self.errors:
            raise self.errors.pop(0)
        return "ok"


def make(run, seed=5, **settings):
    return Retry(run, settings=RetrySettings(**{"budget": GENEROUS, **settings}), rng=random.Random(seed))


@virtual
async def test_it_is_made_again_until_it_succeeds():
    flaky = Flaky(Broken(), Broken())
    assert await make(flaky)() == "ok"
    assert len(flaky.moments) == 3


@virtual
async def test_after_the_last_attempt_its_failure_comes_out():
    flaky = Flaky(Broken("1"), Broken("2"), Broken("3"), Broken("4"))
    with pytest.raises(Broken, match="3"):
        await make(flaky, attempts=3)()


@pytest.mark.parametrize(
    "error",
    [
        BadRequest(),
        Overloaded("callee", retry_after_s=0.1),
        BulkheadFull("c", 1),
        ShortCircuited("c"),
        DeadlineSpent("c"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@virtual
async def test_what_more_calls_would_not_help_is_not_made_again(error):
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        await make(flaky)()
    assert len(flaky.moments) == 1


@virtual
async def test_pauses_are_spread_evenly_from_nothing_to_a_bound_that_doubles():
    pauses = [[], [], []]
    for seed in range(400):
        flaky = Flaky(*[Broken()] * 3)
        await make(flaky, seed=seed, attempts=4, backoff_s=0.1, backoff_max_s=0.3)()
        for number, one in enumerate(pauses):
            one.append(flaky.moments[number + 1] - flaky.moments[number])
    for one, longest_s in zip(pauses, (0.1, 0.2, 0.3), strict=True):
        assert max(one) <= longest_s
        assert max(one) > 0.95 * longest_s
        assert min(one) < 0.05 * longest_s
        assert sum(one) / len(one) == pytest.approx(longest_s / 2, rel=0.1)
        # Kolmogorov's distance from an even spread; 1.63 / sqrt(n) is exceeded once in a hundred samples.
        ranks = enumerate(sorted(one), start=1)
        assert max(abs(rank / len(one) - pause_s / longest_s) for rank, pause_s in ranks) < 1.63 / len(one) ** 0.5


@virtual
async def test_no_pause_goes_past_the_deadline():
    flaky = Flaky(*[Broken()] * 50)
    with pytest.raises(Broken), Deadline.within(0.5):
        await make(flaky, attempts=50, backoff_s=0.2)()
    assert 1 < len(flaky.moments) < 50
    assert now_s() < 0.5


@virtual
async def test_when_everything_fails_retries_stay_within_the_budget():
    flaky = Flaky(*[Broken()] * 10_000)
    retry = make(flaky, attempts=3, backoff_s=0.0, budget=BudgetSettings(percent=20.0, floor_per_s=1.0, window_s=10.0))
    for _ in range(500):
        with pytest.raises(Broken):
            await retry()
    assert len(flaky.moments) <= 500 * 1.2 + 10
    assert retry.retries == len(flaky.moments) - 500 >= 100


@virtual
async def test_inside_a_command_all_attempts_are_one_call_with_one_deadline():
    flaky = Flaky(Broken(), Broken())
    command = make_command(flaky, retry=RetrySettings(attempts=3, backoff_s=0.01, budget=GENEROUS))
    assert await command() == "ok"
    assert (command.counts.success, command.counts.failure, len(flaky.moments)) == (1, 0, 3)

    async def hangs():
        flaky.moments.append(now_s())
        await asyncio.sleep(10.0)

    command = make_command(hangs, retry=RetrySettings(attempts=3, budget=GENEROUS))
    begun_s = now_s()
    with pytest.raises(DeadlineExceeded):
        await command()
    assert now_s() - begun_s == pytest.approx(0.5)


@virtual
async def test_retries_of_one_command_can_be_switched_off():
    flaky = Flaky(Broken(), Broken())
    command = make_command(flaky, fallback=static, retry=RetrySettings(budget=GENEROUS), switches=Switches(retry=False))
    assert await command() == "fallback"
    assert len(flaky.moments) == 1


@virtual
async def test_the_budget_of_one_commands_retries_can_be_switched_off():
    flaky = Flaky(*[Broken()] * 20)
    nothing = BudgetSettings(percent=0.0, floor_per_s=0.0)
    retry = RetrySettings(attempts=4, backoff_s=0.01, budget=nothing)
    command = make_command(flaky, fallback=static, retry=retry, switches=Switches(budget=False))
    assert await command() == "fallback"
    assert len(flaky.moments) == 4


class Stubborn:
    """Hangs, and makes an error of its own of a cancellation."""

    def __init__(self):
        self.calls = 0

    async def __call__(self):
        self.calls += 1
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            raise Broken from None


@virtual
async def test_what_a_deadline_cut_off_is_not_made_again_whatever_it_says():
    stubborn = Stubborn()
    command = make_command(stubborn, retry=RetrySettings(attempts=3, budget=GENEROUS))
    with pytest.raises(DeadlineExceeded):
        await command()
    assert (now_s(), stubborn.calls) == (0.5, 1)


@virtual
async def test_what_its_caller_cancelled_is_not_made_again_whatever_it_says():
    stubborn = Stubborn()
    call = asyncio.create_task(make(stubborn)())
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.wait([call])
    assert isinstance(call.exception(), Broken)
    assert (now_s(), stubborn.calls) == (0.1, 1)


@virtual
async def test_a_cancellation_is_not_made_again_in_an_attempt_or_in_a_pause():
    flaky = Flaky(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await make(flaky)()
    assert len(flaky.moments) == 1

    flaky = Flaky(*[Broken()] * 3)
    call = asyncio.create_task(make(flaky, backoff_s=1.0)())
    await asyncio.sleep(0.001)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert len(flaky.moments) == 1


@virtual
async def test_several_may_share_one_budget():
    budget = RetryBudget(BudgetSettings(percent=0.0, floor_per_s=0.3, window_s=10.0))
    flaky = Flaky(*[Broken()] * 100)
    both = [Retry(flaky, settings=RetrySettings(backoff_s=0.0), rng=random.Random(1), budget=budget) for _ in range(2)]
    for retry in both * 5:
        with pytest.raises(Broken):
            await retry()
    assert sum(retry.retries for retry in both) == 3
    assert len(flaky.moments) == 10 + 3


@pytest.mark.parametrize("own_task", [False, True], ids=["awaited", "a task of its own"])
@virtual
async def test_a_failure_makes_no_reference_cycle(own_task):
    async def fail():
        raise Broken

    async def calls(retry, count):
        for _ in range(count):
            call = asyncio.create_task(retry()) if own_task else retry()
            with contextlib.suppress(Broken):
                await call
            del call

    retry = make(fail, attempts=2, backoff_s=0.0)
    await calls(retry, 5)
    gc.collect()
    gc.disable()
    try:
        await calls(retry, 100)
        assert gc.collect() < 100
    finally:
        gc.enable()
