"""What a command promises beyond Hystrix's cases: whose fault a failure is, fallbacks, light exceptions, decorators."""

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
    FallbackFailed,
    Force,
    Isolation,
    Overloaded,
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
from tests.unit.resilience.virtual import virtual


@virtual
async def test_a_command_takes_and_gives_what_its_function_takes_and_gives():
    async def join(first, *, second):
        return first + second

    assert await make_command(join)("a", second="b") == "ab"


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
