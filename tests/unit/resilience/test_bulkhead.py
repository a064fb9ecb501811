"""The bulkhead alone: permits, the queue, cancellation at every moment, and limits that find themselves."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chaos.resilience import AimdSettings, BulkheadFull, Deadline, Gradient2Settings
from chaos.resilience.bulkhead import Bulkhead
from chaos.resilience.limits import AimdLimit, Gradient2Limit, make_limit
from tests.unit.resilience.kit import NEVER_OPENS, Dependency, events, make_command
from tests.unit.resilience.virtual import VirtualTimeLoop, now_s, virtual


class TestQueue:
    @virtual
    async def test_calls_wait_their_turn_first_come_first_served(self):
        command = make_command(Dependency(), max_concurrent=1, queue_max=5, breaker=NEVER_OPENS)
        ended = []

        async def one(number):
            await command("ok", 0.05)
            ended.append(number)

        await asyncio.gather(*map(one, range(5)))
        assert ended == [0, 1, 2, 3, 4]
        assert now_s() == pytest.approx(0.25)

    @virtual
    async def test_a_full_queue_refuses(self):
        command = make_command(Dependency(), max_concurrent=1, queue_max=2, breaker=NEVER_OPENS)
        ended = await asyncio.gather(*(command("ok", 0.05) for _ in range(5)), return_exceptions=True)
        assert [isinstance(one, BulkheadFull) for one in ended] == [False] * 3 + [True] * 2
        assert events(command) == {"success": 3, "rejected": 2}

    @virtual
    async def test_waiting_is_part_of_the_deadline_and_no_evidence_against_the_dependency(self):
        dependency = Dependency()
        command = make_command(dependency, max_concurrent=1, queue_max=5, timeout_s=0.5)
        first = asyncio.create_task(command("ok", 0.4))
        await asyncio.sleep(0)
        with pytest.raises(BulkheadFull), Deadline.within(0.1):
            await command()
        assert now_s() == pytest.approx(0.1)
        await first
        assert events(command) == {"success": 1, "rejected": 1}
        assert dependency.calls == 1
        assert command.breaker.state == "closed"

    @virtual
    async def test_a_waiter_that_is_cancelled_leaves_the_queue(self):
        command = make_command(Dependency(), max_concurrent=1, queue_max=5, breaker=NEVER_OPENS)
        calls = [asyncio.create_task(command("ok", 0.1)) for _ in range(3)]
        await asyncio.sleep(0.05)
        calls[1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert now_s() == pytest.approx(0.2)
        assert events(command) == {"success": 2, "cancelled": 1}
        assert (command.in_flight, command.bulkhead.waiting) == (0, 0)

    @virtual
    async def test_a_permit_given_to_one_that_is_cancelled_at_that_moment_goes_to_the_next(self):
        bulkhead = Bulkhead(1, queue_max=5)
        assert bulkhead.try_acquire()
        waiters = [asyncio.create_task(bulkhead.wait("b")) for _ in range(2)]
        await asyncio.sleep(0)
        bulkhead.release()
        waiters[0].cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert waiters[0].cancelled()
        assert not waiters[1].cancelled()
        assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)

    @virtual
    async def test_a_breaker_that_opened_meanwhile_lets_none_of_those_who_waited_through(self):
        dependency = Dependency()
        command = make_command(dependency, max_concurrent=1, queue_max=5)
        ended = await asyncio.gather(*(command("fail", 0.05) for _ in range(4)), return_exceptions=True)
        assert [type(one).__name__ for one in ended] == ["Broken", *["ShortCircuited"] * 3]
        assert dependency.calls == 1
        assert command.in_flight == 0


class BulkheadMachine(RuleBasedStateMachine):
    """A bulkhead against lists: who has a permit, who waits."""

    def __init__(self):
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.bulkhead = Bulkhead(2, queue_max=3)
        self.limit, self.held, self.queue = 2, 0, []

    def settle(self):
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))
        while self.queue and self.held < self.limit:
            assert self.queue.pop(0).done(), "first come first served"
            self.held += 1

    @rule()
    def acquire(self):
        expected = self.held < self.limit and not self.queue
        assert self.bulkhead.try_acquire() is expected
        self.held += expected

    @rule()
    def wait(self):
        if self.held < self.limit and not self.queue:
            return
        task = self.loop.create_task(self.bulkhead.wait("b"))
        if len(self.queue) == 3:
            self.loop.run_until_complete(asyncio.wait([task]))
            assert isinstance(task.exception(), BulkheadFull)
        else:
            self.queue.append(task)
        self.settle()

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), permit_first=st.booleans())
    def cancel(self, data, permit_first):
        if permit_first and self.held:
            self.bulkhead.release()
            self.held -= 1
            first = self.queue.pop(0) if self.held < self.limit else None
            if first is not None:
                first.cancel()  # in the moment in which it got the permit
        else:
            self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1))).cancel()
        self.settle()

    @precondition(lambda self: self.held)
    @rule()
    def release(self):
        self.bulkhead.release()
        self.held -= 1
        self.settle()

    @rule(limit=st.integers(1, 5))
    def change(self, limit):
        self.bulkhead.set_limit(limit)
        self.limit = limit
        self.settle()

    @rule()
    def look(self):
        assert self.bulkhead.take_peak() >= self.held

    @invariant()
    def permits_and_places_are_those_of_the_model(self):
        assert (self.bulkhead.in_use, self.bulkhead.waiting) == (self.held, len(self.queue))
        assert self.bulkhead.calm_limit <= self.bulkhead.limit

    def teardown(self):
        for task in self.queue:
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


TestBulkheadMachine = BulkheadMachine.TestCase
TestBulkheadMachine.settings = settings(max_examples=60, stateful_step_count=40)


class Server:
    """A server of ``capacity`` workers, each call 10 ms of work: beyond its capacity calls queue up inside it."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.now_s = 0.0

    def run(self, limit, *, load, seconds):
        """Let ``load`` callers try all the time; return the mean of the limit over the last half."""
        seen = []
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            in_flight = min(load, limit.value)
            duration_s = 0.01 * max(1.0, in_flight / self.capacity)
            self.now_s += duration_s
            for _ in range(in_flight):
                limit.observe(self.now_s, duration_s, in_flight, failed=duration_s > 0.1)
            if self.now_s > end_s - seconds / 2:
                seen.append(limit.value)
        return sum(seen) / len(seen)


class TestLimits:
    def test_gradient2_finds_the_capacity_and_follows_it_down_and_up(self):
        limit = Gradient2Limit(Gradient2Settings(initial=20, minimum=5, maximum=500))
        server = Server(50)
        found = server.run(limit, load=1_000, seconds=10)
        assert 50 <= found <= 100
        server.capacity = 25
        lower = server.run(limit, load=1_000, seconds=5)
        assert lower < 0.8 * found
        server.capacity = 100
        assert server.run(limit, load=1_000, seconds=10) > 1.5 * lower

    def test_gradient2_does_not_grow_while_it_is_not_used(self):
        limit = Gradient2Limit(Gradient2Settings())
        assert Server(50).run(limit, load=5, seconds=20) == 20

    def test_gradient2_does_not_grow_on_fast_failures(self):
        limit = Gradient2Limit(Gradient2Settings())
        for number in range(10_000):
            limit.observe(number * 0.001, 0.001, 20, failed=True)
        assert limit.value <= 20

    def test_aimd_settles_where_calls_begin_to_be_slow(self):
        limit = AimdLimit(AimdSettings(initial=20, minimum=1, maximum=500, slow_s=0.02))
        assert 70 <= Server(50).run(limit, load=1_000, seconds=20) <= 160  # they take 20 ms with 100 in flight

    def test_aimd_stays_within_its_bounds(self):
        limit = AimdLimit(AimdSettings(initial=20, minimum=10, maximum=30))
        for _ in range(100):
            limit.observe(0.0, 0.01, 30, failed=False)
        assert limit.value == 30
        for number in range(100):
            limit.observe(number, 0.01, 30, failed=True)
        assert limit.value == 10

    @virtual
    async def test_a_command_s_bulkhead_follows_its_limit(self):
        settings = AimdSettings(initial=4, minimum=2, maximum=8)
        command = make_command(Dependency(), adaptive=settings, breaker=NEVER_OPENS)
        assert command.bulkhead.limit == make_limit(settings).value == 4
        for _ in range(10):
            await asyncio.gather(*(command("ok", 0.01) for _ in range(8)), return_exceptions=True)
        assert command.bulkhead.limit == 8
        await asyncio.gather(*(command("fail", 0.01) for _ in range(8)), return_exceptions=True)
        assert command.bulkhead.limit < 8
        assert command.in_flight == 0
