"""The collapser: what goes together, when it goes, and who is told what."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from chaos.resilience import Deadline, DeadlineExceeded, DeadlineSpent
from chaos.resilience.collapser import Collapser
from chaos.resilience.request import RequestContext
from tests.unit.resilience.kit import Broken
from tests.unit.resilience.virtual import now_s, virtual


class Batches:
    """A batch call that doubles numbers, and remembers what it was asked."""

    def __init__(self, after_s=0.0):
        self.after_s = after_s
        self.asked = []
        self.cancelled = 0

    async def __call__(self, arguments):
        self.asked.append(list(arguments))
        try:
            await asyncio.sleep(self.after_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [one * 2 for one in arguments]


@virtual
async def test_requests_at_0_5_13_19_and_27_ms_are_batches_of_2_2_and_1():
    batches = Batches()
    double = Collapser("double", batches)

    async def at(moment_ms):
        await asyncio.sleep(moment_ms / 1000)
        return await double(moment_ms)

    assert await asyncio.gather(*map(at, [0, 5, 13, 19, 27])) == [0, 10, 26, 38, 54]
    assert batches.asked == [[0, 5], [13, 19], [27]]
    assert (double.collapsed, double.batches) == (5, 3)


@virtual
async def test_a_full_batch_goes_at_once():
    batches = Batches()
    double = Collapser("double", batches, batch_max=2)
    assert await asyncio.gather(double(1), double(2), double(3)) == [2, 4, 6]
    assert batches.asked == [[1, 2], [3]]
    assert now_s() == pytest.approx(0.01)


@virtual
async def test_each_request_has_batches_of_its_own_unless_told_otherwise():
    async def request(collapser, number):
        with RequestContext():
            return await asyncio.gather(collapser(number), collapser(number + 1))

    for across, expected in ((False, [[1, 2], [3, 4]]), (True, [[1, 2, 3, 4]])):
        batches = Batches()
        double = Collapser("double", batches, across_requests=across)
        assert await asyncio.gather(request(double, 1), request(double, 3)) == [[2, 4], [6, 8]]
        assert batches.asked == expected


@virtual
async def test_a_failing_batch_fails_all_and_a_failed_result_only_its_caller():
    async def one_is_bad(arguments):
        if "all" in arguments:
            raise Broken
        return [LookupError(one) if one == "bad" else one for one in arguments]

    collapser = Collapser("c", one_is_bad)
    good, bad = await asyncio.gather(collapser("good"), collapser("bad"), return_exceptions=True)
    assert good == "good"
    assert isinstance(bad, LookupError)
    both = await asyncio.gather(collapser("all"), collapser("x"), return_exceptions=True)
    assert [type(one) for one in both] == [Broken, Broken]
    assert len(traceback.extract_tb(both[1].__traceback__)) <= 2


@virtual
async def test_a_wrong_number_of_results_is_a_clear_error():
    async def forgets(arguments):
        return arguments[1:]

    collapser = Collapser("prices", forgets)
    with pytest.raises(ValueError, match=r"prices: the batch gave 0 results for 1 arguments"):
        await collapser(1)


@virtual
async def test_who_goes_before_the_batch_does_is_left_out():
    batches = Batches()
    double = Collapser("double", batches)
    first, second = asyncio.create_task(double(1)), asyncio.create_task(double(2))
    await asyncio.sleep(0.005)
    first.cancel()
    assert await second == 4
    assert batches.asked == [[2]]
    lonely = asyncio.create_task(double(3))
    await asyncio.sleep(0.005)
    lonely.cancel()
    await asyncio.sleep(0.1)
    assert batches.asked == [[2]]


@virtual
async def test_a_batch_that_nobody_waits_for_is_cancelled():
    batches = Batches(after_s=1.0)
    double = Collapser("double", batches)
    both = [asyncio.create_task(double(one)) for one in (1, 2)]
    await asyncio.sleep(0.1)
    both[0].cancel()
    await asyncio.sleep(0.1)
    assert batches.cancelled == 0
    both[1].cancel()
    await asyncio.sleep(0.1)
    assert batches.cancelled == 1


@virtual
async def test_each_caller_gives_up_at_its_own_deadline_and_the_batch_at_the_latest():
    batches = Batches(after_s=0.5)
    double = Collapser("double", batches)
    seen = []

    async def within(duration_s, number):
        with Deadline.within(duration_s):
            try:
                return await double(number)
            except DeadlineExceeded as exceeded:
                seen.append((number, now_s(), exceeded.allowed_s))

    assert await asyncio.gather(within(0.2, 1), within(2.0, 2)) == [None, 4]
    assert seen == [(1, pytest.approx(0.2), pytest.approx(0.2))]
    with pytest.raises(DeadlineSpent), Deadline(now_s()):
        await double(3)


@pytest.mark.parametrize("wrong", [{"window_s": 0}, {"batch_max": 0}])
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Collapser("c", Batches(), **wrong)
