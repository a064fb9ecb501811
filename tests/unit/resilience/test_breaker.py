"""The breaker alone: slow calls, trials, how long it stays open, who is told, and Hystrix's own ways."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.resilience import BreakerSettings, Force, RollingWindow
from chaos.resilience.strict import HystrixBreaker, make_breaker
from tests.unit.resilience.kit import Broken, Dependency, Unlicensed, make_command, play
from tests.unit.resilience.virtual import now_s, virtual


def make(seed=7, **settings):
    settings = {"minimum_calls": 4, "open_s": 1.0, "open_jitter": 0.0, **settings}
    return make_breaker("b", settings=BreakerSettings(**settings), rng=random.Random(seed))


def end(breaker, at_s, outcome, duration_s=0.0):
    token = breaker.admit(at_s)
    assert token is not None
    if outcome == "ok":
        breaker.succeeded(token, at_s, duration_s)
    else:
        breaker.failed(token, at_s, duration_s)


def opened(**settings):
    breaker = make(**settings)
    for _ in range(4):
        end(breaker, 0.0, "fail")
    assert breaker.state == "open"
    return breaker


class TestSlowCalls:
    def test_slow_successes_open_it(self):
        breaker = make(slow_call_s=0.5, slow_call_threshold_percent=50)
        for duration_s in (0.1, 0.6, 0.1):
            end(breaker, 0.0, "ok", duration_s)
        assert breaker.state == "closed"
        end(breaker, 0.0, "ok", 0.6)
        assert breaker.state == "open"

    def test_a_slow_failure_counts_as_both(self):
        breaker = make(slow_call_s=0.5, slow_call_threshold_percent=75, error_threshold_percent=100)
        for outcome, duration_s in (("fail", 0.6), ("ok", 0.6), ("ok", 0.1), ("fail", 0.6)):
            end(breaker, 0.0, outcome, duration_s)
        assert breaker.state == "open"

    def test_slow_calls_leave_the_window(self):
        breaker = make(slow_call_s=0.5, slow_call_threshold_percent=50, window_s=1.0, buckets=2)
        for at_s in (0.0, 0.0, 2.0, 2.0, 2.0, 2.0):
            end(breaker, at_s, "ok", 0.6 if at_s == 0.0 else 0.1)
        assert breaker.state == "closed"

    def test_a_slow_trial_opens_it_again(self):
        breaker = opened(slow_call_s=0.5)
        end(breaker, 1.1, "ok", 0.6)
        assert breaker.state == "open"
        end(breaker, 2.2, "ok", 0.4)
        assert breaker.state == "closed"

    @virtual
    async def test_a_command_measures_them(self):
        command = make_command(
            Dependency(), breaker=BreakerSettings(minimum_calls=4, slow_call_s=0.1, slow_call_threshold_percent=75)
        )
        for after_s in (0.05, 0.2, 0.2, 0.2):
            assert command.breaker.state == "closed"
            await command("ok", after_s)
        assert command.breaker.state == "open"


class TestTrials:
    def test_exactly_so_many_are_let_through_of_a_hundred(self):
        for trials in (1, 3):
            breaker = opened(trials=trials)
            assert sum(breaker.admit(1.1) is not None for _ in range(100)) == trials

    def test_it_closes_when_all_of_them_succeeded(self):
        breaker = opened(trials=3)
        tokens = [breaker.admit(1.1) for _ in range(3)]
        for token in tokens:
            assert breaker.state == "half-open"
            breaker.succeeded(token, 1.2)
        assert breaker.state == "closed"

    def test_one_failure_opens_it_and_the_others_are_late(self):
        breaker = opened(trials=3)
        tokens = [breaker.admit(1.1) for _ in range(3)]
        breaker.succeeded(tokens[0], 1.2)
        breaker.failed(tokens[1], 1.2)
        assert breaker.state == "open"
        breaker.succeeded(tokens[2], 1.2)
        assert breaker.state == "open"

    @pytest.mark.parametrize("settle", ["released", "cancelled", "rejected"])
    def test_one_that_tells_nothing_gives_its_place_back(self, settle):
        breaker = opened(trials=2)
        token, _ = breaker.admit(1.1), breaker.admit(1.1)
        assert breaker.admit(1.1) is None
        getattr(breaker, settle)(*([token] if settle == "released" else [token, 1.2]))
        assert breaker.state == "half-open"
        assert breaker.admit(1.2) is not None
        assert breaker.admit(1.2) is None

    def test_a_bad_request_is_proof_of_life(self):
        breaker = opened()
        breaker.answered(breaker.admit(1.1), 1.1)
        assert breaker.state == "closed"


class TestOpenTime:
    def test_it_grows_to_a_cap_and_a_success_takes_it_back(self):
        breaker = opened(open_growth=2.0, open_max_s=5.0)
        at_s, waited = 0.0, []
        for _ in range(5):
            step_s = 0.0
            while not breaker.admits(at_s + step_s):
                step_s += 0.25
            waited.append(step_s - 0.25)
            at_s += step_s
            end(breaker, at_s, "fail")
        assert waited == [1.0, 2.0, 4.0, 5.0, 5.0]
        end(breaker, at_s + 5.25, "ok")
        for _ in range(4):
            end(breaker, at_s + 6.0, "fail")
        assert not breaker.admits(at_s + 7.0)
        assert breaker.admits(at_s + 7.01)

    def test_jitter_spreads_it_within_its_bounds(self):
        times = sorted(opened(seed=seed, open_jitter=0.1).refuses_until_s for seed in range(300))
        assert 0.9 <= times[0] < 0.91
        assert 1.09 < times[-1] <= 1.1

    def test_it_never_overflows(self):
        breaker = opened(open_growth=10.0, open_max_s=3.0)
        for number in range(1, 500):
            end(breaker, number * 4.0, "fail")
        assert breaker.refuses_until_s == 499 * 4.0 + 3.0


def test_listeners_are_told_of_every_transition_once():
    breaker = make()
    told = []
    breaker.listeners.append(lambda *what: told.append(what))
    for _ in range(4):
        end(breaker, 0.0, "fail")
    end(breaker, 1.1, "fail")
    end(breaker, 2.2, "ok")
    assert told == [
        (breaker, "closed", "open"),
        (breaker, "open", "half-open"),
        (breaker, "half-open", "open"),
        (breaker, "open", "half-open"),
        (breaker, "half-open", "closed"),
    ]


def test_a_forced_breaker_that_is_let_go_tries_at_once():
    breaker = make(force=Force.OPEN)
    assert not breaker.admits(1e9)
    breaker.force(None)
    assert breaker.admits(0.0)
    end(breaker, 0.0, "ok")
    assert breaker.state == "closed"


@given(st.lists(st.tuples(st.floats(0.0, 0.4), st.sampled_from(["ok", "fail"]), st.booleans()), max_size=60))
def test_the_window_counts_as_a_naive_one_does(steps):
    window, log, at_s = RollingWindow(1.0, buckets=4), [], 0.0
    for wait_s, outcome, slow in steps:
        at_s += wait_s
        (window.succeeded if outcome == "ok" else window.failed)(at_s)
        if slow:
            window.was_slow(at_s)
        log.append((at_s, outcome, slow))
        first = int(at_s // 0.25) - 3
        held = [(one, late) for moment_s, one, late in log if int(moment_s // 0.25) >= first]
        assert window.counts(at_s) == (
            sum(one == "ok" for one, _ in held),
            sum(one == "fail" for one, _ in held),
        )
        assert window.slow_calls(at_s) == sum(late for _, late in held)
        finished = [one for moment_s, one, _ in log if first <= int(moment_s // 0.25) < int(at_s // 0.25)]
        assert window.finished_counts(at_s) == (finished.count("ok"), finished.count("fail"))


class TestStrict:
    """What Hystrix's master branch does, where it differs."""

    def test_the_settings_ask_for_it(self):
        assert isinstance(make(strict=True), HystrixBreaker)
        assert not isinstance(make(), HystrixBreaker)

    @virtual
    async def test_hundreds_of_calls_run_before_a_dependency_that_fails_in_1_ms_is_cut_off(self):
        command = make_command(breaker=BreakerSettings(strict=True))
        while now_s() < 2.0:
            await play(command, "x")
            await asyncio.sleep(0.00122)  # a call every 1.22 ms makes 410 of them in half a second
        assert 350 <= command.counts.failure <= 450

    @virtual
    async def test_a_full_bulkhead_opens_it(self):
        command = make_command(breaker=BreakerSettings(strict=True), max_concurrent=10)
        await asyncio.gather(*(command("ok", 0.1) for _ in range(60)), return_exceptions=True)
        await asyncio.sleep(0.5)
        await play(command, ".")
        assert command.breaker.state == "open"

    def test_a_late_success_closes_it_and_the_trial_s_failure_is_lost(self):
        breaker = make(strict=True, buckets=20)
        late = breaker.admit(0.0)
        for _ in range(4):
            end(breaker, 0.1, "fail")
        assert breaker.admit(0.6) is None
        trial = breaker.admit(1.7)
        breaker.succeeded(late, 1.8)
        assert breaker.state == "closed"
        breaker.failed(trial, 1.9)
        assert breaker.state == "closed"

    def test_a_late_failure_opens_it_and_the_trial_s_success_is_lost(self):
        breaker = make(strict=True)
        late = breaker.admit(0.0)
        for _ in range(4):
            end(breaker, 0.1, "fail")
        assert breaker.admit(0.6) is None
        trial = breaker.admit(1.7)
        breaker.failed(late, 1.8)
        breaker.succeeded(trial, 1.9)
        assert breaker.state == "open"

    @pytest.mark.parametrize("settle", ["answered", "cancelled"])
    def test_a_bad_request_or_a_cancellation_as_the_trial_opens_it_again(self, settle):
        breaker = make(strict=True)
        for _ in range(4):
            end(breaker, 0.1, "fail")
        assert breaker.admit(0.6) is None
        getattr(breaker, settle)(breaker.admit(1.7), 1.8)
        assert breaker.state == "open"
        assert not breaker.admits(2.7)
        assert breaker.admits(2.9)

    def test_the_percentage_is_truncated(self):
        for strict, state in ((True, "closed"), (False, "open")):
            breaker = make(strict=strict, minimum_calls=8, error_threshold_percent=37.5)
            for outcome in ["ok"] * 5 + ["fail"] * 3:
                end(breaker, 0.1, outcome)
            breaker.admits(0.6)
            assert breaker.state == state

    @virtual
    async def test_a_bad_request_comes_out_and_forced_states_hold(self):
        command = make_command(breaker=BreakerSettings(strict=True, minimum_calls=1, force=Force.CLOSED))
        with pytest.raises(Unlicensed):
            await command("bad")
        for _ in range(5):
            with pytest.raises(Broken):
                await command("fail")
            await asyncio.sleep(0.5)
        assert command.breaker.state == "closed"
        command.breaker.force(Force.OPEN)
        assert not command.breaker.admits(1e9)
