"""What a command promises beyond Hystrix's cases: cancellation, deadlines inside deadlines, fallbacks, decorators."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import traceback
import weakref

import pytest

from chaos.resilience import (
    BadRequest,
    BreakerSettings,
    CommandSettings,
    Deadline,
    DeadlineExceeded,
    DeadlineSpent,
    FallbackFailed,
    Force,
    Isolation,
    Overloaded,
    RequestContext,
    ShortCircuited,
    Switches,
)
from tests.unit.resilience.kit import (
    NEVER_OPENS,
    Broken,
    Dependency,
    Unlicensed,
    events,
    make_command,
    play,
    static,
)
from tests.unit.resilience.virtual import now_s, virtual


@virtual
async def test_a_command_takes_and_gives_what_its_function_takes_and_gives():
    async def join(first, *, second):
        return first + second

    assert await make_command(join)("a", second="b") == "ab"


# --- cancellation -----------------------------------------------------------------------------------------------------


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


# --- deadlines --------------------------------------------------------------------------------------------------------


@virtual
async def test_calls_are_cut_off_exactly_whatever_ends_before_them():
    command = make_command(timeout_s=0.5, max_concurrent=100, breaker=NEVER_OPENS)

    async def late(begin_s, after_s):
        await asyncio.sleep(begin_s)
        with pytest.raises(DeadlineExceeded):
            await command("ok", after_s)
        assert now_s() == pytest.approx(begin_s + 0.5)

    async def good(begin_s, after_s):
        await asyncio.sleep(begin_s)
        await command("ok", after_s)
        assert now_s() == pytest.approx(begin_s + after_s)

    rng = random.Random(5)
    calls = [
        good(rng.uniform(0.0, 9.0), rng.uniform(0.01, 0.49)) if rng.random() < 0.5 else late(rng.uniform(0.0, 9.0), 9.0)
        for _ in range(100)
    ]
    await asyncio.gather(*calls)
    assert command._expiry.waiting == 0


@virtual
async def test_a_call_with_less_time_than_those_before_it_is_cut_off_first():
    command = make_command(timeout_s=5.0, breaker=NEVER_OPENS)
    patient = asyncio.create_task(command("ok", 4.0))
    await asyncio.sleep(0)
    with Deadline.within(0.25), pytest.raises(DeadlineExceeded) as caught:
        await command("ok", 4.0)
    assert now_s() == pytest.approx(0.25)
    assert caught.value.allowed_s == pytest.approx(0.25)
    assert await patient == "ok"


@virtual
async def test_nothing_begins_when_the_deadline_is_spent():
    dependency = Dependency()
    command = make_command(dependency)
    with Deadline.within(0.1):
        await asyncio.sleep(0.1)
        with pytest.raises(DeadlineSpent):
            await command()
    assert dependency.calls == 0
    assert events(command) == {"refused": 1}
    assert command.breaker.window.counts(now_s()) == (0, 0)


@virtual
async def test_inside_a_command_the_deadline_is_its_own_and_outside_it_is_gone():
    seen = []

    async def look():
        seen.append(Deadline.current().remaining_s())

    command = make_command(look, timeout_s=0.5)
    await command()
    with Deadline.within(0.25):
        await command()
        assert Deadline.current().remaining_s() == pytest.approx(0.25)
    assert seen == pytest.approx([0.5, 0.25])
    assert Deadline.current() is None


@virtual
async def test_the_deadline_does_not_cover_the_fallback():
    def look(cause):
        return Deadline.current()

    async def broken():
        raise Broken

    assert await make_command(broken, fallback=look)() is None


@virtual
async def test_a_task_started_inside_a_command_has_its_deadline_while_the_command_runs():
    seen = []

    async def background():
        seen.append(Deadline.current().remaining_s())
        await asyncio.sleep(1.0)
        seen.append(Deadline.current())

    async def begin():
        task = asyncio.create_task(background())
        await asyncio.sleep(0.1)
        return task

    task = await make_command(begin, timeout_s=0.5)()
    await make_command(timeout_s=9.0)("ok", 2.0)
    await task
    assert seen == [pytest.approx(0.5), None]


@virtual
async def test_a_command_inside_a_command_counts_the_deadline_of_both_once():
    inner = make_command(timeout_s=9.0)
    outer = make_command(inner, timeout_s=0.5, fallback=static)
    assert await outer("ok", 20.0) == "fallback"
    assert now_s() == pytest.approx(0.5)
    assert events(inner) == {"timeout": 1}
    assert events(outer) == {"timeout": 1, "fallback_success": 1}
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_the_deadline_of_the_inner_command_leaves_the_outer_one_its_time():
    inner = make_command(timeout_s=0.2, fallback=static)
    outer = make_command(inner, timeout_s=0.5)
    assert await outer("ok", 20.0) == "fallback"
    assert events(outer) == {"success": 1}


# --- whose fault ------------------------------------------------------------------------------------------------------


@virtual
async def test_a_bad_request_comes_out_unchanged_and_without_a_fallback():
    command = make_command(fallback=static)
    with pytest.raises(Unlicensed):
        await command("bad")
    assert events(command) == {"bad_request": 1}
    assert command.breaker.state == "closed"


@pytest.mark.parametrize("refusal", [Overloaded("x", retry_after_s=1.0), ShortCircuited("inner")])
@virtual
async def test_a_refusal_from_below_falls_back_but_is_no_evidence(refusal):
    async def refusing():
        raise refusal

    command = make_command(refusing, fallback=lambda cause: cause)
    assert await command() is refusal
    assert events(command) == {"refused": 1, "fallback_success": 1}
    assert command.breaker.state == "closed"


@virtual
async def test_a_trial_that_is_refused_from_below_decides_nothing():
    outcomes = [Broken(), Overloaded("x", retry_after_s=1.0), None]

    async def scripted():
        error = outcomes.pop(0)
        if error:
            raise error
        return "ok"

    command = make_command(scripted, fallback=lambda cause: "fallback")
    await command()
    await asyncio.sleep(0.25)
    await command()
    assert command.breaker.state == "half-open"
    assert await command() == "ok"
    assert command.breaker.state == "closed"


@virtual
async def test_a_success_can_open_the_breaker_when_it_completes_the_volume():
    command = make_command(breaker=BreakerSettings(minimum_calls=4))
    await play(command, "xxx")
    assert command.breaker.state == "closed"
    await play(command, ".")
    assert command.breaker.state == "open"


# --- fallbacks --------------------------------------------------------------------------------------------------------


@virtual
async def test_fallbacks_are_tried_in_order_with_the_same_cause():
    causes = []

    async def cached(cause, outcome):
        causes.append(cause)
        raise LookupError

    def last(cause, outcome):
        causes.append(cause)
        return "static"

    command = make_command(fallback=[cached, last])
    assert await command("fail") == "static"
    assert causes[0] is causes[1]
    assert isinstance(causes[0], Broken)
    assert events(command) == {"failure": 1, "fallback_failure": 1, "fallback_success": 1}


@virtual
async def test_when_every_fallback_fails_all_errors_are_kept():
    def first(cause):
        raise LookupError

    def second(cause):
        raise ArithmeticError

    async def broken():
        raise Broken

    with pytest.raises(FallbackFailed) as caught:
        await make_command(broken, fallback=(first, second))()
    assert isinstance(caught.value.cause, Broken)
    assert [type(error) for error in caught.value.fallback_errors] == [LookupError, ArithmeticError]
    assert isinstance(caught.value.__cause__, ArithmeticError)
    assert "Broken" in str(caught.value)


@virtual
async def test_a_fallback_may_find_that_the_request_is_bad():
    def says_no(cause, outcome):
        raise Unlicensed

    with pytest.raises(BadRequest):
        await make_command(fallback=says_no)("fail")


@virtual
async def test_execute_tells_the_answer_of_the_dependency_from_a_fallback():
    command = make_command(fallback=static)
    own = await command.execute("ok", 0.1)
    assert (own.value, own.fallback, own.cause, own.execution_s) == ("ok", False, None, pytest.approx(0.1))
    other = await command.execute("ok", 9.0)
    assert (other.value, other.fallback, other.execution_s) == ("fallback", True, pytest.approx(0.5))
    assert isinstance(other.cause, DeadlineExceeded)


# --- light exceptions -------------------------------------------------------------------------------------------------


@virtual
async def test_rejections_do_not_grow_chains_of_exceptions():
    command = make_command(breaker=BreakerSettings(force=Force.OPEN))
    depths = set()
    for _ in range(50):
        with pytest.raises(ShortCircuited) as caught:
            await command()
        assert caught.value.__context__ is None
        depths.add(len(traceback.extract_tb(caught.tb)))
    assert len(depths) == 1


@pytest.mark.parametrize("call", [("fail", 0.0), ("ok", 9.0)])
@virtual
async def test_a_failed_call_leaves_nothing_to_the_garbage_collector(call):
    command = make_command(fallback=static, breaker=NEVER_OPENS)
    gc.collect()
    gc.disable()
    try:
        causes = []
        for _ in range(20):
            answer = await command.execute(*call)
            causes.append(weakref.ref(answer.cause))
            del answer
        await command()
        # Python 3.11 keeps the last one in a frame that it has not yet let go of.
        assert [cause() for cause in causes[:-1]] == [None] * 19
    finally:
        gc.enable()


@pytest.mark.parametrize("way", ["call", "execute"])
@pytest.mark.parametrize("fallback", [(), static])
@pytest.mark.parametrize("force", [None, Force.OPEN])
@virtual
async def test_a_failure_that_comes_out_makes_no_reference_cycle(way, fallback, force):
    command = make_command(fallback=fallback, breaker=BreakerSettings(minimum_calls=10_000, force=force))
    ways = {"call": command, "execute": command.execute}

    async def fail(times):
        for _ in range(times):
            with contextlib.suppress(Broken, ShortCircuited):
                await ways[way]("fail")

    await fail(10)
    gc.collect()
    gc.disable()
    try:
        await fail(100)
        assert gc.collect() < 100
    finally:
        gc.enable()


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


# --- making commands --------------------------------------------------------------------------------------------------


def make_isolation(**settings):
    return Isolation(rng=random.Random(3), **settings)


@virtual
async def test_a_decorated_function_is_a_command_of_the_isolation():
    isolation = make_isolation()

    @isolation.command("rank", fallback=lambda cause, title: [], settings=CommandSettings(timeout_s=0.1))
    async def rank(title):
        await asyncio.sleep(0 if title == "quick" else 1.0)
        return [title]

    assert await rank("quick") == ["quick"]
    assert await rank("slow") == []
    (shown,) = isolation.snapshot()
    assert (shown.command, shown.state, shown.calls, shown.errors, shown.timeouts) == ("rank", "closed", 2, 1, 1)
    assert (shown.fallbacks, shown.in_flight, shown.rejected, shown.short_circuited) == (1, 0, 0, 0)


def test_two_commands_of_one_name_are_refused():
    isolation = make_isolation()
    isolation.command("rank", Dependency())
    with pytest.raises(ValueError, match="'rank'"):
        isolation.command("rank", Dependency())


@virtual
async def test_without_isolation_a_command_is_the_bare_call():
    dependency = Dependency()
    isolation = make_isolation(enabled=False)
    command = isolation.command("rank", dependency, fallback=static, settings=CommandSettings(max_concurrent=1))
    with Deadline.within(0.1):
        assert await asyncio.gather(command("ok", 5.0), command("ok", 5.0)) == ["ok", "ok"]
    for _ in range(100):
        with pytest.raises(Broken):
            await command("fail")
    answer = await command.execute("ok", 2.0)
    assert (answer.value, answer.fallback, answer.execution_s) == ("ok", False, pytest.approx(2.0))
    assert dependency.calls == 103


@pytest.mark.parametrize(
    ("off", "still"),
    [
        ("deadline", "ok"),
        ("fallback", DeadlineExceeded),
    ],
)
@virtual
async def test_one_protection_can_be_switched_off(off, still):
    isolation = make_isolation(switches={"rank": Switches(**{off: False})})
    command = isolation.command("rank", Dependency(), fallback=static)
    with Deadline.within(0.5):
        (answer,) = await asyncio.gather(command("ok", 5.0), return_exceptions=True)
    assert answer == still or type(answer) is still


@virtual
async def test_the_bulkhead_can_be_switched_off():
    isolation = make_isolation(switches={"rank": Switches(bulkhead=False)})
    command = isolation.command("rank", Dependency(), settings=CommandSettings(max_concurrent=1))
    assert await asyncio.gather(*(command("ok", 0.1) for _ in range(50))) == ["ok"] * 50


@virtual
async def test_the_breaker_can_be_switched_off():
    isolation = make_isolation(switches={"rank": Switches(breaker=False)})
    command = isolation.command("rank", Dependency())
    await play(command, "x" * 50)
    assert await command() == "ok"


def test_a_command_works_on_one_event_loop_after_another():
    command = make_command(timeout_s=0.01, breaker=NEVER_OPENS)

    async def late():
        with pytest.raises(DeadlineExceeded):
            await command("ok", 30.0)

    for _ in range(2):
        asyncio.run(late())
    assert events(command) == {"timeout": 2}
