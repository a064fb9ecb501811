"""The forty cases from Hystrix's own tests, by their numbers in the reference. Each states what Hystrix promises.

A breaker of ours is evaluated at every completion and Hystrix's at snapshots, so ours may open some calls earlier in a
script; the state that a case asks for at its end is the same. Each case is run through
a command made as an object, as a decorator, and as the client middleware of an aiohttp session.
"""

from __future__ import annotations

import asyncio
import functools

import pytest

from chaos.resilience import (
    BreakerSettings,
    BulkheadFull,
    Collapser,
    DeadlineExceeded,
    FallbackFailed,
    Force,
    RequestContext,
    RollingWindow,
    ShortCircuited,
)
from chaos.resilience.latency import LatencyWindow
from tests.unit.resilience.kit import (
    BREAKER,
    NEVER_OPENS,
    Broken,
    Dependency,
    Form,
    Unlicensed,
    events,
    form,
    make_command,
    play,
    static,
)
from tests.unit.resilience.virtual import now_s, run, virtual

ALONE = {
    15: "a client middleware has no cache key",
    20: "a request is made anew for each call",
    27: "each host has a breaker of its own",
    37: "a client middleware has no cache key",
    38: "there is no command in it",
    39: "there is no command in it",
    40: "there is no command in it",
}
"""Cases that say nothing about requests through the client middleware, and why."""

CASES = {}


def case(number):
    def register(function):
        assert number not in CASES
        CASES[number] = function
        return function

    return register


BREAKER_ROWS = {
    1: [("....", "closed"), ("....xxxx", "open")],
    2: [("....xxxx", "open")],
    3: [(".....xxx", "closed")],
    4: [("tttt", "open")],
    5: [("....ttttt", "open")],
}
"""What is called, and the state in which the breaker ends."""


async def breaker_ends_as_the_row_says(number):
    for script, state in BREAKER_ROWS[number]:
        command = make_command()
        await play(command, script)
        assert command.breaker.state == state, script


for _number in BREAKER_ROWS:
    CASES[_number] = functools.partial(breaker_ends_as_the_row_says, _number)


async def opened(**settings):
    """A command whose breaker one failure has just opened, and its dependency."""
    dependency = Dependency()
    command = make_command(dependency, **settings)
    await play(command, "x")
    assert command.breaker.state == "open"
    return command, dependency


@case(6)
async def one_attempt_after_the_sleep():
    command, dependency = await opened()
    await asyncio.sleep(0.25)
    trial = asyncio.create_task(command("ok", 0.1))
    await asyncio.sleep(0)
    assert command.breaker.is_open
    with pytest.raises(ShortCircuited):
        await command()
    assert await trial == "ok"
    assert dependency.calls == 2


@case(7)
async def success_of_the_trial_closes_and_clears():
    breaker = BreakerSettings(minimum_calls=1, error_threshold_percent=40, open_s=0.1, open_jitter=0.0)
    command, _ = await opened(breaker=breaker)
    await asyncio.sleep(0.11)
    trial = asyncio.create_task(command("ok", 0.05))
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(ShortCircuited):
            await command()
    await trial
    assert command.breaker.state == "closed"
    assert command.breaker.window.counts(now_s()) == (0, 0)


@case(8)
async def three_trials_in_three_sleep_windows():
    command, dependency = await opened()
    states = []
    for script in "xx.":
        await asyncio.sleep(0.25)
        await play(command, script)
        states.append(command.breaker.state)
    assert states == ["open", "open", "closed"]
    assert dependency.calls == 4


@case(9)
async def below_the_minimum_volume_it_stays_closed():
    command = make_command(breaker=BreakerSettings(minimum_calls=5, error_threshold_percent=40))
    await play(command, "xxxx")
    assert command.breaker.state == "closed"


@case(10)
async def a_cancelled_trial_does_not_shut_the_breaker_for_ever():
    command, _ = await opened()
    await asyncio.sleep(0.25)
    trial = asyncio.create_task(command("ok", 0.1))
    await asyncio.sleep(0.05)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert command.breaker.is_open
    await asyncio.sleep(2.0)
    assert await command() == "ok"
    assert command.breaker.state == "closed"


def error_percent(command):
    return int(command.breaker.window.error_percent(now_s()))


def errors_and_total(command):
    successes, failures = command.breaker.window.counts(now_s())
    return failures, successes + failures


@case(11)
async def error_percentage_follows_the_calls():
    command = make_command(breaker=NEVER_OPENS)
    seen = []
    for script in (".", "x", "..", "tt", "...."):
        await play(command, script)
        seen.append(error_percent(command))
    assert seen == [0, 50, 25, 50, 30]


@case(12)
async def bad_requests_leave_the_error_percentage_alone():
    command = make_command(breaker=NEVER_OPENS)
    seen = []
    for script in (".x", "bb", "xx"):
        await play(command, script)
        seen.append(error_percent(command))
    assert seen == [50, 50, 75]


@case(13)
async def a_timeout_is_one_error_of_one():
    command = make_command()
    await play(command, "t")
    assert errors_and_total(command) == (1, 1)


@case(14)
async def a_bad_request_is_not_counted():
    command = make_command()
    await play(command, "b")
    assert errors_and_total(command) == (0, 0)


@case(16)
async def short_circuits_are_not_counted():
    command = make_command(breaker=BreakerSettings(minimum_calls=3, error_threshold_percent=40))
    await play(command, "xxx..")
    assert errors_and_total(command) == (3, 3)
    assert events(command) == {"failure": 3, "short_circuited": 2}


@case(17)
async def ten_busy_and_two_rejected():
    # Hystrix counts the two rejected as errors, 2 of 12: its breaker then opens when a healthy dependency is merely
    # popular. Ours are counted as rejected, and are no evidence: 0 of 10.
    command = make_command(breaker=NEVER_OPENS, max_concurrent=10)
    busy = [asyncio.create_task(command("ok", 0.1)) for _ in range(10)]
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(BulkheadFull):
            await command()
    await asyncio.gather(*busy)
    assert events(command) == {"success": 10, "rejected": 2}
    assert errors_and_total(command) == (0, 10)


@case(18)
async def five_slow_fallbacks_and_two_more():
    async def slow(cause, *args):
        await asyncio.sleep(0.1)
        return "slow"

    command = make_command(fallback=slow, breaker=NEVER_OPENS, fallback_max_concurrent=5)
    calls = await asyncio.gather(*(command("fail") for _ in range(7)), return_exceptions=True)
    assert [type(one) for one in calls] == [str] * 5 + [FallbackFailed] * 2
    assert errors_and_total(command) == (7, 7)
    assert events(command) == {"failure": 7, "fallback_success": 5, "fallback_rejected": 2}


@case(19)
async def the_window_rolls_on():
    command = make_command(breaker=BreakerSettings(window_s=1.0, buckets=10))
    await play(command, ".x")
    assert errors_and_total(command) == (1, 2)
    for _ in range(30):
        await asyncio.sleep(0.1)
    assert errors_and_total(command) == (0, 0)


@case(20)
async def one_call_runs_once():
    # A command of ours is made once and called often; what may not run twice is one call of it.
    command = make_command()
    call = command()
    assert await call == "ok"
    with pytest.raises(RuntimeError):
        await call
    assert events(command) == {"success": 1}


@case(21)
async def failure_with_a_fallback():
    command = make_command(fallback=static)
    answer = await command.execute("fail")
    assert (answer.value, answer.fallback, type(answer.cause)) == ("fallback", True, Broken)
    assert events(command) == {"failure": 1, "fallback_success": 1}


@case(22)
async def failure_and_the_fallback_fails():
    def broken_too(cause, *args):
        raise LookupError

    command = make_command(fallback=broken_too)
    with pytest.raises(FallbackFailed) as caught:
        await command("fail")
    assert isinstance(caught.value.cause, Broken)
    assert [type(one) for one in caught.value.fallback_errors] == [LookupError]
    assert events(command) == {"failure": 1, "fallback_failure": 1}


@case(23)
async def a_call_over_its_limit_falls_back():
    command = make_command(fallback=static, timeout_s=0.05)
    assert await command("ok", 0.2) == "fallback"
    assert now_s() == pytest.approx(0.05)
    assert events(command) == {"timeout": 1, "fallback_success": 1}


@case(24)
async def nothing_happens_after_a_timeout():
    command = make_command(fallback=static, timeout_s=0.05)
    await command("ok", 0.2)
    before = events(command)
    await asyncio.sleep(0.2)
    assert events(command) == before
    assert command.in_flight == 0


@case(25)
async def a_command_without_timeout_runs_on():
    command = make_command(timeout_s=None)
    assert await command("ok", 0.9) == "ok"
    assert now_s() == pytest.approx(0.9)
    assert events(command) == {"success": 1}


@case(26)
async def a_short_circuited_call_has_no_execution_time():
    dependency = Dependency()
    command = make_command(dependency, fallback=static, breaker=BreakerSettings(force=Force.OPEN))
    answer = await command.execute()
    assert (answer.value, answer.execution_s) == ("fallback", None)
    assert isinstance(answer.cause, ShortCircuited)
    assert dependency.calls == 0
    assert events(command) == {"short_circuited": 1, "fallback_success": 1}


@case(27)
async def two_commands_share_a_breaker():
    breaker = BreakerSettings(minimum_calls=3, error_threshold_percent=40)
    first = make_command(breaker=breaker)
    second = make_command(shared=first.breaker)
    await play(first, "x")
    await play(second, "x")
    await play(first, "x")
    with pytest.raises(ShortCircuited):
        await second()


@case(28)
async def forced_open():
    command = make_command(fallback=static, breaker=BreakerSettings(force=Force.OPEN))
    await asyncio.sleep(100.0)
    assert await command() == "fallback"
    assert command.breaker.is_open


@case(29)
async def forced_closed():
    command = make_command(breaker=BreakerSettings(minimum_calls=1, force=Force.CLOSED))
    await play(command, "xxxx")
    assert await command() == "ok"
    assert command.breaker.state == "closed"


@case(30)
async def a_busy_fallback_refuses_the_next():
    async def slow(cause, *args):
        await asyncio.sleep(0.8)
        return "slow"

    command = make_command(fallback=slow, breaker=NEVER_OPENS, fallback_max_concurrent=1)
    first = asyncio.create_task(command("fail"))
    await asyncio.sleep(0.1)
    before = events(command)
    with pytest.raises(FallbackFailed) as caught:
        await command("fail")
    assert isinstance(caught.value.fallback_errors[0], BulkheadFull)
    assert before == {"failure": 1}
    assert events(command) == {"failure": 2, "fallback_rejected": 1}
    assert await first == "slow"


@case(31)
async def two_callers_of_one_permit():
    command = make_command(fallback=static, max_concurrent=1)
    answers = await asyncio.gather(command("ok", 0.2), command("ok", 0.2))
    assert answers == ["ok", "fallback"]
    assert events(command) == {"success": 1, "rejected": 1, "fallback_success": 1}


@case(32)
async def six_callers_of_three_permits():
    dependency = Dependency()
    command = make_command(dependency, max_concurrent=3)
    calls = [asyncio.create_task(command("ok", 0.2)) for _ in range(6)]
    await asyncio.sleep(0.1)
    assert (command.in_flight, dependency.running) == (3, 3)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, BulkheadFull) for one in ended] == [False] * 3 + [True] * 3
    assert command.in_flight == 0


@case(33)
async def a_disabled_fallback_is_not_called():
    command = make_command(fallback=static, fallback_enabled=False)
    with pytest.raises(Broken):
        await command("fail")
    assert events(command) == {"failure": 1}


@case(34)
async def an_unrecoverable_error_is_not_covered_up():
    async def exhausted():
        raise MemoryError

    called = []
    command = make_command(exhausted, fallback=called.append)
    with pytest.raises(MemoryError):
        await command()
    assert called == []
    assert events(command) == {"failure": 1}


@case(35)
async def a_slow_fallback_still_answers():
    async def slow(cause, *args):
        await asyncio.sleep(1.5)
        return "slow"

    command = make_command(fallback=slow)
    assert await command("fail") == "slow"
    assert now_s() == pytest.approx(1.5)


@case(36)
async def cancelled_during_execution():
    command = make_command(fallback=static)
    call = asyncio.create_task(command("ok", 0.2))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert events(command) == {"cancelled": 1}
    assert (command.in_flight, command.fallbacks_in_flight) == (0, 0)


@case(15)
async def cache_hits_are_not_counted():
    command = make_command(cache_key=lambda *args: args)
    with RequestContext():
        await play(command, "...")
    assert errors_and_total(command) == (0, 1)
    assert events(command) == {"success": 1, "from_cache": 2}


@case(37)
async def four_callers_of_one_key_are_one_execution():
    dependency = Dependency()
    command = make_command(dependency, cache_key=lambda *args: args)
    with RequestContext():
        assert await asyncio.gather(*(command("ok", 0.2) for _ in range(4))) == ["ok"] * 4
    assert dependency.calls == 1
    assert events(command) == {"success": 1, "from_cache": 3}


@case(38)
async def the_rolling_number():
    window = RollingWindow(0.2, buckets=10)
    for tick in range(11):
        window.succeeded(tick * 0.02 + 0.001)
    assert window.counts(10 * 0.02 + 0.001) == (10, 0)
    assert window.counts(0.2 + 10 * 0.02 + 0.001) == (0, 0)
    command = make_command(max_concurrent=3, breaker=NEVER_OPENS)
    await asyncio.gather(*(command("ok", 0.1) for _ in range(8)), return_exceptions=True)
    assert command.snapshot().peak_in_flight == 3


@case(39)
async def the_rolling_percentile():
    window = LatencyWindow(60.0, buckets=6, samples_max=100)
    for duration_s in (10.0, 30.0, 20.0, 40.0):
        window.record(now_s(), duration_s)
    asked = {0.30: 22.0, 0.25: 20.0, 0.50: 30.0, 0.75: 40.0, -0.01: 10.0, 1.01: 40.0}
    assert {fraction: window.quantile(now_s(), fraction) for fraction in asked} == asked


@case(40)
async def the_collapser():
    asked = []

    async def batch(arguments):
        asked.append(list(arguments))
        return arguments

    async def at(collapser, moment_ms):
        await asyncio.sleep(moment_ms / 1000)
        return await collapser(moment_ms)

    full = Collapser("full", batch, batch_max=2)
    assert await asyncio.gather(*(full(one) for one in (1, 2, 3))) == [1, 2, 3]
    timed = Collapser("timed", batch)
    await asyncio.gather(*(at(timed, one) for one in (0, 5, 13, 19, 27)))
    assert asked == [[1, 2], [3], [0, 5], [13, 19], [27]]


def test_every_case_has_a_row():
    assert sorted(CASES) == list(range(1, 41))


@pytest.mark.parametrize("way", Form)
@pytest.mark.parametrize("number", sorted(CASES))
def test_hystrix_case(number, way):
    if way is Form.MIDDLEWARE and number in ALONE:
        pytest.skip(ALONE[number])
    set_before = form.set(way)
    try:
        run(CASES[number]())
    finally:
        form.reset(set_before)


STRICT = {
    17: (2, 12),
}
"""What Hystrix itself counts (errors, total) where ours differs."""


@virtual
async def test_in_strict_mode_a_rejected_call_is_an_error_as_in_hystrix():
    command = make_command(breaker=BreakerSettings(minimum_calls=1_000, strict=True), max_concurrent=10)
    busy = [asyncio.create_task(command("ok", 0.1)) for _ in range(10)]
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(BulkheadFull):
            await command()
    await asyncio.gather(*busy)
    assert errors_and_total(command) == STRICT[17]


async def failed_within(command, duration_s):
    """Call one after the other for so long, and return how many calls were really made."""
    end_s = now_s() + duration_s
    while now_s() < end_s:
        with pytest.raises((Broken, ShortCircuited)):
            await command("fail", 0.001)
        await asyncio.sleep(0.0001)
    return command.counts.failure


@virtual
async def test_a_dependency_that_fails_in_1_ms_is_cut_off_at_the_20th_call():
    """Hystrix lets 410 calls through: it looks at a snapshot every 500 ms."""
    assert await failed_within(make_command(breaker=BreakerSettings()), 2.0) == 20


@virtual
async def test_bad_request_as_the_trial_closes_the_breaker():
    """In Hystrix it opens again; but a dependency that finds fault with the caller is alive."""
    command, _ = await opened()
    await asyncio.sleep(0.25)
    with pytest.raises(Unlicensed):
        await command("bad")
    assert command.breaker.state == "closed"


@virtual
async def test_a_full_bulkhead_is_no_evidence_against_the_dependency():
    """In Hystrix 60 callers of 10 permits open the breaker of a healthy dependency."""
    command = make_command(breaker=BreakerSettings(), max_concurrent=10)
    await asyncio.gather(*(command("ok", 0.1) for _ in range(60)), return_exceptions=True)
    assert events(command) == {"success": 10, "rejected": 50}
    assert command.breaker.state == "closed"


@pytest.mark.parametrize("late", ["ok", "fail"])
@pytest.mark.parametrize("trial", ["ok", "fail"])
@virtual
async def test_a_late_result_is_ignored(late, trial):
    """In Hystrix a late success closes the breaker for good, and a late failure takes the trial's success away."""
    command = make_command()
    slow = asyncio.create_task(command(late, 0.4))
    await asyncio.sleep(0)
    await play(command, "x")
    await asyncio.sleep(0.25)
    under_trial = asyncio.create_task(command(trial, 0.2))
    await asyncio.gather(slow, return_exceptions=True)
    assert command.breaker.state == "half-open"
    await asyncio.gather(under_trial, return_exceptions=True)
    assert command.breaker.state == ("closed" if trial == "ok" else "open")
    assert command.breaker.settings == BREAKER


@virtual
async def test_of_100_concurrent_callers_at_half_open_exactly_one_is_let_through():
    command, dependency = await opened(max_concurrent=1000)
    await asyncio.sleep(0.25)
    ended = await asyncio.gather(*(command("ok", 0.1) for _ in range(100)), return_exceptions=True)
    assert dependency.calls == 1 + 1
    assert sum(one == "ok" for one in ended) == 1
    assert sum(isinstance(one, ShortCircuited) for one in ended) == 99


@virtual
async def test_a_trial_that_times_out_opens_the_breaker_again():
    command, _ = await opened()
    await asyncio.sleep(0.25)
    with pytest.raises(DeadlineExceeded):
        await command("ok", 0.9)
    assert command.breaker.state == "open"
