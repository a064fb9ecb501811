"""The deadlines of commands: when a call is cut off, and what a deadline inside another one covers."""

from __future__ import annotations

import asyncio
import random

import pytest

from chaos.resilience import (
    Deadline,
    DeadlineExceeded,
    DeadlineSpent,
)
from tests.unit.resilience.kit import (
    NEVER_OPENS,
    Broken,
    Dependency,
    events,
    make_command,
    static,
)
from tests.unit.resilience.virtual import now_s, virtual


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
