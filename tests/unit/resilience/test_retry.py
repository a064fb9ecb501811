"""Retry: what is made again, after which pause, and when it is enough."""

from __future__ import annotations

import asyncio
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
