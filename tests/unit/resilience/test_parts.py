"""The small parts alone: settings, window, deadlines, the breaker's jitter and forced states, the expiry queue."""

from __future__ import annotations

import asyncio
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.resilience import (
    AimdSettings,
    BreakerSettings,
    BudgetSettings,
    BulkheadFull,
    CommandSettings,
    Deadline,
    DeadlineExceeded,
    Force,
    Gradient2Settings,
    HedgeSettings,
    Isolation,
    IsolationError,
    Overloaded,
    Replicas,
    ReplicaSettings,
    RetrySettings,
    RollingWindow,
)
from tests.unit.resilience.kit import BREAKER, NEVER_OPENS, make_breaker, make_command
from tests.unit.resilience.virtual import now_s, virtual


@pytest.mark.parametrize(
    ("settings", "wrong", "name"),
    [
        (CommandSettings, {"timeout_s": 0}, "timeout_s"),
        (CommandSettings, {"timeout_s": float("nan")}, "timeout_s"),
        (CommandSettings, {"timeout_s": float("inf")}, "timeout_s"),
        (CommandSettings, {"max_concurrent": 0}, "max_concurrent"),
        (CommandSettings, {"max_concurrent": 2.5}, "max_concurrent"),
        (CommandSettings, {"fallback_max_concurrent": -1}, "fallback_max_concurrent"),
        (BreakerSettings, {"window_s": -1}, "window_s"),
        (BreakerSettings, {"buckets": 0}, "buckets"),
        (BreakerSettings, {"minimum_calls": True}, "minimum_calls"),
        (BreakerSettings, {"error_threshold_percent": 0}, "error_threshold_percent"),
        (BreakerSettings, {"error_threshold_percent": 101}, "error_threshold_percent"),
        (BreakerSettings, {"open_s": 0}, "open_s"),
        (BreakerSettings, {"open_jitter": 1.0}, "open_jitter"),
        (ReplicaSettings, {"attempts": 0}, "attempts"),
        (ReplicaSettings, {"attempt_timeout_s": -1}, "attempt_timeout_s"),
        (BudgetSettings, {"percent": -1}, "percent"),
        (BudgetSettings, {"floor_per_s": -1}, "floor_per_s"),
        (BudgetSettings, {"window_s": 0}, "window_s"),
        (BreakerSettings, {"slow_call_s": 0}, "slow_call_s"),
        (BreakerSettings, {"slow_call_threshold_percent": 101}, "slow_call_threshold_percent"),
        (BreakerSettings, {"open_growth": 0.5}, "open_growth"),
        (BreakerSettings, {"open_max_s": 0}, "open_max_s"),
        (BreakerSettings, {"trials": 0}, "trials"),
        (AimdSettings, {"initial": 5, "minimum": 10}, "initial"),
        (AimdSettings, {"backoff": 1.0}, "backoff"),
        (AimdSettings, {"slow_s": 0}, "slow_s"),
        (Gradient2Settings, {"maximum": 19}, "initial"),
        (Gradient2Settings, {"tolerance": 0.9}, "tolerance"),
        (Gradient2Settings, {"smoothing": 0}, "smoothing"),
        (RetrySettings, {"attempts": 0}, "attempts"),
        (RetrySettings, {"backoff_s": -1}, "backoff_s"),
        (HedgeSettings, {"quantile": 95}, "quantile"),
        (CommandSettings, {"minimum_s": 2.0}, "minimum_s"),
        (CommandSettings, {"queue_max": -1}, "queue_max"),
    ],
)
def test_a_wrong_setting_is_named(settings, wrong, name):
    with pytest.raises(ValueError, match=f"^{name} is "):
        settings(**wrong)


def test_the_defaults_are_those_of_hystrix():
    command, breaker = CommandSettings(), BreakerSettings()
    assert (command.timeout_s, command.max_concurrent, command.fallback_max_concurrent) == (1.0, 10, 10)
    assert (breaker.window_s, breaker.buckets, breaker.minimum_calls) == (10.0, 20, 20)
    assert (breaker.error_threshold_percent, breaker.open_s) == (50.0, 5.0)


@given(
    st.lists(st.tuples(st.floats(0, 0.7), st.sampled_from(["ok", "fail", "clear", "look"])), max_size=60),
    st.sampled_from([(1.0, 10), (0.2, 10), (10.0, 20), (0.3, 1)]),
)
def test_the_window_counts_what_a_list_of_moments_counts(steps, shape):
    window_s, buckets = shape
    window, log, now = RollingWindow(window_s, buckets), [], 0.0
    for wait_s, what in steps:
        now += wait_s * window_s
        if what == "ok":
            window.succeeded(now)
            log.append((now, True))
        elif what == "fail":
            window.failed(now)
            log.append((now, False))
        elif what == "clear":
            window.clear()
            log = []
        first = int(now // (window_s / buckets)) - buckets + 1
        held = [good for moment, good in log if int(moment // (window_s / buckets)) >= first]
        assert window.counts(now) == (held.count(True), held.count(False))
        assert window.has_failures == (False in held)


def test_an_empty_window_has_no_errors():
    assert RollingWindow(10.0, 10).error_percent(5.0) == 0.0


def test_the_open_time_is_spread_by_the_random_source_that_was_passed_in():
    def first_trial_s(seed):
        breaker = make_breaker(BreakerSettings(minimum_calls=1, open_s=5.0, open_jitter=0.1), seed)
        breaker.failed(breaker.closed, 0.0)
        return next(ms / 1000 for ms in range(10_000) if breaker.admits(ms / 1000))

    moments = [first_trial_s(seed) for seed in range(50)]
    assert min(moments) >= 4.5
    assert max(moments) <= 5.501
    assert max(moments) - min(moments) > 0.5
    assert first_trial_s(3) == moments[3]


def test_asking_whether_a_breaker_admits_changes_nothing():
    breaker = make_breaker()
    breaker.failed(breaker.closed, 0.0)
    assert [breaker.admits(0.25) for _ in range(3)] == [True] * 3
    assert breaker.state == "open"
    assert breaker.admit(0.25) is not None
    assert breaker.admits(0.25) is False


def test_a_breaker_let_go_after_being_forced_open_tries_at_once():
    breaker = make_breaker()
    breaker.force(Force.OPEN)
    assert breaker.admit(1e9) is None
    breaker.force(None)
    trial = breaker.admit(0.0)
    breaker.succeeded(trial, 0.1)
    assert breaker.state == "closed"


def test_forcing_a_breaker_makes_results_of_calls_in_progress_late():
    breaker = make_breaker(BREAKER)
    token = breaker.admit(0.0)
    breaker.force(Force.CLOSED)
    breaker.failed(token, 0.1)
    assert breaker.window.counts(0.1) == (0, 0)


@virtual
async def test_a_deadline_inside_another_never_lasts_longer():
    with Deadline.within(0.5):
        with Deadline.within(9.0):
            assert Deadline.current().remaining_s() == pytest.approx(0.5)
        with Deadline.within(0.1):
            assert Deadline.current().remaining_s() == pytest.approx(0.1)
        assert Deadline.current().remaining_s() == pytest.approx(0.5)
        with Deadline.none():
            assert Deadline.current() is None
    assert Deadline.current() is None


@virtual
async def test_a_deadline_travels_as_the_whole_milliseconds_left():
    deadline = Deadline.within(0.2509)
    assert deadline.to_header() == "250"
    assert Deadline.from_header(" 250 ").remaining_s() == pytest.approx(0.25)
    assert not deadline.spent
    await asyncio.sleep(0.3)
    assert deadline.spent
    assert deadline.to_header() == "0"
    assert deadline.remaining_s() == 0.0
    assert Deadline.from_header("-5").spent
    assert Deadline.from_header("999999999999").remaining_s() == pytest.approx(3600.0)


@pytest.mark.parametrize("value", ["", "soon", "1.5", "1e3", "--1", "٣", "9" * 16])
@virtual
async def test_a_header_that_is_no_number_is_an_error(value):
    with pytest.raises(ValueError, match="milliseconds"):
        Deadline.from_header(value)


@virtual
async def test_a_million_calls_would_leave_nothing_behind():
    command = make_command(timeout_s=0.5, max_concurrent=100, breaker=NEVER_OPENS)
    loop = asyncio.get_running_loop()
    slow = asyncio.create_task(command("ok", 0.45))
    most = 0
    for _ in range(2000):
        await command("ok", 0.001 if now_s() < 0.4 else 0.0)
        most = max(most, len(loop._scheduled))
    await slow
    assert most < 10, "one timer for all calls of a command"
    assert command._expiry.waiting == 0


@virtual
async def test_a_call_that_may_last_for_ever_keeps_nothing_of_those_that_end_while_it_runs():
    command = make_command(timeout_s=None, max_concurrent=100, breaker=NEVER_OPENS)
    endless = asyncio.create_task(command("ok", 9.0))
    await asyncio.sleep(0)
    for _ in range(100):
        await command("ok", 0.001)
    assert command._expiry.waiting == 0
    with Deadline.within(0.5):
        late = asyncio.create_task(command("ok", 4.0))
        await asyncio.sleep(0)
        assert not command._expiry.timers, "it can wait in the queue, where nothing without a deadline is before it"
        with pytest.raises(DeadlineExceeded):
            await late
    assert await endless == "ok"


def test_every_error_says_which_command_and_why():
    errors = [BulkheadFull("rank", 10), DeadlineExceeded("rank", 0.3), Overloaded("rank", retry_after_s=2.0)]
    for error in errors:
        assert isinstance(error, IsolationError)
        assert str(error).startswith("rank: ")


def test_an_idle_command_is_small():
    command = make_command()
    seen, todo, size = set(), [command], 0
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type) or (callable(one) and one is not command):
            continue
        seen.add(id(one))
        size += sys.getsizeof(one)
        for cls in type(one).__mro__:
            todo += [
                getattr(one, name)
                for name in getattr(cls, "__slots__", ())
                if hasattr(one, name) and name != "__weakref__"
            ]
        if isinstance(one, dict):
            todo += list(one.values())
        elif isinstance(one, (list, tuple, set)) or type(one).__name__ == "deque":
            todo += list(one)
        elif hasattr(one, "__dict__") and type(one).__name__ != "Random":
            todo.append(vars(one))
    assert size <= 8 * 1024 + sys.getsizeof(random.Random(1)), size


def test_replicas_need_an_address():
    with pytest.raises(ValueError, match="at least one"):
        Replicas("play_api", [], isolation=Isolation(rng=random.Random(1)))


@pytest.mark.parametrize("settle", ["succeeded", "failed"])
def test_a_result_from_before_the_breaker_opened_is_not_counted_after_it_closed_again(settle):
    breaker = make_breaker(BREAKER)
    early = breaker.admit(0.0)
    breaker.failed(breaker.admit(0.0), 0.1)
    breaker.succeeded(breaker.admit(0.5), 0.6)
    assert breaker.state == "closed"
    getattr(breaker, settle)(early, 0.7)
    assert breaker.state == "closed"
    assert breaker.window.counts(0.7) == (0, 0)


def test_the_trial_comes_after_the_open_time_and_not_at_its_end():
    breaker = make_breaker(BreakerSettings(minimum_calls=1, open_s=0.25, open_jitter=0.0))
    breaker.failed(breaker.closed, 1.0)
    assert not breaker.admits(1.25)
    assert breaker.admits(1.2500001)
