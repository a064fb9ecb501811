"""A call of a command that is cancelled, at whatever moment: no permit is lost, and nothing is tripped."""

from __future__ import annotations

import asyncio

import pytest

from chaos.resilience import (
    DeadlineExceeded,
    RequestContext,
)
from tests.unit.resilience.kit import (
    NEVER_OPENS,
    Broken,
    events,
    make_command,
    play,
    static,
)
from tests.unit.resilience.virtual import now_s, virtual


async def three_awaits(log):
    log.append("run")
    await asyncio.sleep(0.1)
    log.append("run again")
    await asyncio.sleep(0.1)
    raise Broken


async def two_awaits(cause, log):
    log.append("fallback")
    await asyncio.sleep(0.1)
    log.append("fallback again")
    await asyncio.sleep(0.1)
    return "fallback"


@pytest.mark.parametrize("cancel_at_s", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
@virtual
async def test_cancellation_at_any_await_leaks_no_permit_and_trips_nothing(cancel_at_s):
    command = make_command(three_awaits, fallback=two_awaits, breaker=NEVER_OPENS)
    log = []
    call = asyncio.create_task(command(log))
    await asyncio.sleep(cancel_at_s)
    cancelled = call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert call.cancelled() == cancelled
    assert (command.in_flight, command.fallbacks_in_flight) == (0, 0)
    assert command._expiry.waiting == 0
    if cancel_at_s < 0.2:
        assert command.breaker.window.counts(now_s()) == (0, 0)


@virtual
async def test_a_hundred_cancellations_do_not_open_the_breaker():
    command = make_command(max_concurrent=100)
    calls = [asyncio.create_task(command("ok", 0.2)) for _ in range(100)]
    await asyncio.sleep(0.1)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert events(command) == {"cancelled": 100}
    assert command.breaker.state == "closed"


@virtual
async def test_a_cancelled_trial_lets_the_next_one_try_at_once():
    command = make_command()
    await play(command, "x")
    await asyncio.sleep(0.25)
    trial = asyncio.create_task(command("ok", 0.2))
    await asyncio.sleep(0.1)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    assert await command() == "ok"


@virtual
async def test_a_trial_that_finds_the_bulkhead_full_lets_the_next_one_try():
    command = make_command(max_concurrent=2, timeout_s=10.0)
    stuck = [asyncio.create_task(command("ok", 1.0)) for _ in range(1)]
    await asyncio.sleep(0)
    await play(command, "x")
    stuck.append(asyncio.create_task(asyncio.sleep(0)))
    await asyncio.sleep(0.25)
    command._bulkhead.limit = 1
    await play(command, ".")
    assert events(command) == {"failure": 1, "rejected": 1}
    command._bulkhead.limit = 2
    assert await command() == "ok"
    assert command.breaker.state == "closed"
    await asyncio.gather(*stuck)


@virtual
async def test_a_caller_that_cancels_at_the_moment_of_the_deadline_is_cancelled():
    command = make_command(timeout_s=0.5, fallback=static)
    call = asyncio.create_task(command("ok", 9.0))
    asyncio.get_running_loop().call_at(0.5, call.cancel)
    await asyncio.gather(call, return_exceptions=True)
    assert call.cancelled()
    assert events(command) == {"timeout": 1}
    assert command.in_flight == 0


@virtual
async def test_a_command_in_the_clean_up_of_a_cancelled_task_is_still_cut_off_by_its_deadline():
    command = make_command(timeout_s=0.5)
    seen = []

    async def caller():
        try:
            await asyncio.sleep(9.0)
        finally:
            try:
                await command("ok", 9.0)
            except DeadlineExceeded:
                seen.append("deadline")

    call = asyncio.create_task(caller())
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert seen == ["deadline"]
    assert call.cancelled()
    assert now_s() == pytest.approx(0.6)


@virtual
async def test_after_a_deadline_the_task_is_not_marked_as_cancelled():
    command = make_command(fallback=static)
    assert await command("ok", 9.0) == "fallback"
    assert asyncio.current_task().cancelling() == 0
    async with asyncio.timeout(1.0):
        await asyncio.sleep(0.1)


@virtual
async def test_asyncio_timeout_around_a_command_works_as_ever():
    command = make_command(timeout_s=5.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await command("ok", 9.0)
    assert events(command) == {"cancelled": 1}


@virtual
async def test_an_answer_that_comes_after_the_deadline_is_dropped():
    async def stubborn():
        try:
            await asyncio.sleep(9.0)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
        return "late"

    command = make_command(stubborn, fallback=lambda cause: "fallback")
    assert await command() == "fallback"
    assert now_s() == pytest.approx(0.7)
    assert events(command) == {"timeout": 1, "fallback_success": 1}
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_what_a_dependency_makes_of_being_cut_off_is_kept_as_the_cause():
    async def translating():
        try:
            await asyncio.sleep(9.0)
        except asyncio.CancelledError:
            raise Broken from None

    with pytest.raises(DeadlineExceeded) as caught:
        await make_command(translating)()
    assert isinstance(caught.value.__cause__, Broken)


async def busy(outcome):
    for _ in range(4):
        await asyncio.sleep(0)
    if outcome == "fail":
        raise Broken
    return outcome


async def busy_fallback(cause, outcome):
    for _ in range(4):
        await asyncio.sleep(0)
    return "fallback"


async def call_it(command):
    return await command("ok")


async def fail_it(command):
    return await command.execute("fail")


async def guard_it(command):
    async with command.guard():
        return await busy("ok")


async def share_it(command):
    with RequestContext():
        return await asyncio.gather(command("ok"), command("ok"))


@pytest.mark.parametrize("way", [call_it, fail_it, guard_it, share_it])
@pytest.mark.parametrize("moment", range(14))
@virtual
async def test_a_call_that_is_cancelled_at_any_await_point_leaves_nothing(way, moment):
    key = (lambda outcome: outcome) if way is share_it else None
    command = make_command(
        busy, fallback=busy_fallback, max_concurrent=1, queue_max=2, cache_key=key, breaker=NEVER_OPENS
    )
    others = [asyncio.create_task(command("ok")) for _ in range(2)]
    await asyncio.sleep(0)
    task = asyncio.create_task(way(command))
    for _ in range(moment):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, *others, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert (command.in_flight, command.fallbacks_in_flight, command.bulkhead.waiting) == (0, 0, 0)
    assert command._expiry.waiting == 0
    assert [other.result() for other in others] == ["ok", "ok"]
    assert await command("ok") == "ok"
