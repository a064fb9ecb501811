"""The request context: one call for equal questions, and what happens to it when those who asked go away."""

from __future__ import annotations

import asyncio
import gc
import traceback

import pytest

from chaos.resilience import BadRequest, Deadline, DeadlineExceeded, DeadlineSpent
from chaos.resilience.request import ENTRIES_MAX, RequestContext
from tests.unit.resilience.kit import Broken, Dependency, Unlicensed, events, make_command, static
from tests.unit.resilience.virtual import now_s, virtual


def key(outcome="ok", after_s=0.0):
    return outcome


def make(dependency, **settings):
    return make_command(dependency, cache_key=key, **settings)


@virtual
async def test_equal_calls_of_one_request_are_one_call():
    dependency = Dependency()
    command = make(dependency)
    with RequestContext():
        assert await asyncio.gather(*(command("ok", 0.1) for _ in range(4))) == ["ok"] * 4
        assert await command("ok", 0.1) == "ok"
    assert dependency.calls == 1
    assert events(command) == {"success": 1, "from_cache": 4}
    assert command.snapshot().calls == 5


@virtual
async def test_other_keys_and_other_requests_are_other_calls():
    dependency = Dependency()
    command = make(dependency)
    for _ in range(2):
        with RequestContext():
            await command("ok")
            await command("fine")
    await command("ok")
    assert dependency.calls == 5


@virtual
async def test_a_failure_is_shared_too_and_its_traceback_does_not_grow():
    dependency = Dependency()
    command = make(dependency)
    lengths = []
    with RequestContext():
        for _ in range(20):
            with pytest.raises(Broken) as caught:
                await command("fail")
            lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert dependency.calls == 1
    assert max(lengths[1:]) == min(lengths[1:])
    assert command.counts.failure == 1


@virtual
async def test_a_bad_request_comes_out_unchanged():
    command = make(Dependency())
    with RequestContext():
        for _ in range(2):
            with pytest.raises(Unlicensed):
                await command("bad")
    assert issubclass(Unlicensed, BadRequest)


@virtual
async def test_a_fallback_s_answer_is_shared_and_known_as_one():
    dependency = Dependency()
    command = make(dependency, fallback=static)
    with RequestContext():
        first, second = await asyncio.gather(command.execute("fail"), command.execute("fail"))
    assert (first.value, first.fallback, type(first.cause)) == ("fallback", True, Broken)
    assert second == first
    assert dependency.calls == 1


@virtual
async def test_the_first_to_ask_may_go_away():
    dependency = Dependency()
    command = make(dependency)
    with RequestContext():
        first = asyncio.create_task(command("ok", 0.2))
        second = asyncio.create_task(command("ok", 0.2))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await second == "ok"
        assert first.cancelled()
    assert dependency.calls == 1
    assert command.in_flight == 0


@virtual
async def test_when_all_have_gone_the_call_is_cancelled_and_forgotten():
    dependency = Dependency()
    command = make(dependency)
    with RequestContext():
        both = [asyncio.create_task(command("ok", 0.2)) for _ in range(2)]
        await asyncio.sleep(0.1)
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        await asyncio.sleep(0)
        assert dependency.running == 0
        assert await command("ok", 0.1) == "ok"
    assert dependency.calls == 2
    assert events(command) == {"success": 1, "cancelled": 1, "from_cache": 1}


async def within(duration_s, command, *args):
    with Deadline.within(duration_s):
        return await command(*args)


@virtual
async def test_each_who_waits_for_a_shared_call_gives_up_at_their_own_deadline_and_leaves_it_to_the_others():
    dependency = Dependency()
    command = make(dependency)
    with RequestContext():
        hurried_first = asyncio.create_task(within(0.1, command, "ok", 0.3))
        await asyncio.sleep(0)
        patient = asyncio.create_task(within(0.4, command, "ok", 0.3))
        hurried_last = asyncio.create_task(within(0.2, command, "ok", 0.3))
        for hurried, moment_s in ((hurried_first, 0.1), (hurried_last, 0.2)):
            with pytest.raises(DeadlineExceeded) as caught:
                await hurried
            assert (caught.value.allowed_s, now_s()) == pytest.approx((moment_s, moment_s))
        assert await patient == "ok"
        assert now_s() == pytest.approx(0.3)
        assert await within(-1.0, command, "ok", 0.3) == "ok", "it is there already"
    assert dependency.calls == 1
    assert events(command) == {"success": 1, "from_cache": 3}


@virtual
async def test_the_deadline_of_one_who_asked_first_does_not_reach_the_dependency():
    async def look(outcome):
        seen.append(Deadline.current().remaining_s())

    seen = []
    command = make_command(look, cache_key=key)
    with RequestContext():
        await within(0.1, command, "ok")
    assert seen == [pytest.approx(0.5)]


@pytest.mark.parametrize("around", [False, True])
@virtual
async def test_a_shared_call_whose_last_caller_had_no_more_time_counts_as_late(around):
    dependency = Dependency()
    command = make(dependency)
    asking = make_command(command, timeout_s=0.1) if around else command
    with RequestContext():
        with pytest.raises(DeadlineExceeded):
            await within(9.0 if around else 0.1, asking, "ok", 0.4)
        await asyncio.sleep(0)
        assert (dependency.running, now_s()) == (0, pytest.approx(0.1))
    assert events(command) == {"timeout": 1}
    assert command.breaker.state == "open", "a dependency that answers no caller in time is found out"


@virtual
async def test_what_a_shared_call_waited_for_counts_as_late_with_it():
    dependency = make_command(Dependency(), timeout_s=9.0)
    command = make(dependency, timeout_s=9.0)
    with RequestContext():
        with pytest.raises(DeadlineExceeded):
            await within(0.1, command, "ok", 0.4)
        await asyncio.sleep(0)
    assert (events(command), events(dependency)) == ({"timeout": 1}, {"timeout": 1})


@pytest.mark.parametrize("shared", [False, True])
@virtual
async def test_whoever_gives_up_gets_the_fallback_s_answer(shared):
    command = make(Dependency(), fallback=static)
    with RequestContext():
        others = [asyncio.create_task(command("ok", 0.3))] if shared else []
        await asyncio.sleep(0)
        with Deadline.within(0.1):
            answer = await command.execute("ok", 0.3)
        assert (answer.value, type(answer.cause), answer.execution_s) == ("fallback", DeadlineExceeded, 0.1)
        assert now_s() == pytest.approx(0.1)
        assert await asyncio.gather(*others) == ["ok"] * shared
        await asyncio.sleep(0)


@virtual
async def test_without_time_nothing_is_asked_and_those_who_have_some_are_not_told_so():
    dependency = Dependency()
    command = make(dependency, minimum_s=0.05)
    with RequestContext():
        with pytest.raises(DeadlineSpent):
            await within(0.04, command, "ok")
        assert dependency.calls == 0
        assert await within(0.4, command, "ok") == "ok"
    assert events(command) == {"refused": 1, "success": 1}


@virtual
async def test_leaving_the_context_ends_what_runs_for_it():
    dependency = Dependency()
    command = make(dependency)
    with RequestContext():
        call = asyncio.create_task(command("ok", 0.2))
        await asyncio.sleep(0.1)
        assert dependency.running == 1
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (dependency.running, now_s()) == (0, pytest.approx(0.1))


@virtual
async def test_a_task_that_outlives_its_request_has_no_context():
    contexts = []

    async def outlives():
        contexts.append(RequestContext.current())
        await asyncio.sleep(0.1)
        contexts.append(RequestContext.current())

    with RequestContext() as context:
        task = asyncio.create_task(outlives())
        await asyncio.sleep(0.01)
        with RequestContext() as inner:
            assert RequestContext.current() is inner
        assert RequestContext.current() is context
    await task
    assert contexts == [context, None]


@virtual
async def test_a_context_does_not_grow_without_bound():
    command = make(Dependency())
    with RequestContext() as context:
        for number in range(ENTRIES_MAX + 50):
            await command(str(number))
        assert len(context._shared) == ENTRIES_MAX


@virtual
async def test_ten_thousand_requests_leave_nothing_behind():
    command = make(Dependency())

    async def requests(count):
        for _ in range(count):
            with RequestContext():
                await command("ok")

    await requests(200)
    gc.collect()
    before = len(gc.get_objects())
    await requests(10_000)
    gc.collect()
    assert len(gc.get_objects()) < before + 200
