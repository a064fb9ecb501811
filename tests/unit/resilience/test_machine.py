"""A command against a naive model of breaker and bulkhead: random calls, outcomes, cancellations and time steps.

The model keeps every outcome with its moment and counts them anew each time; it knows no buckets but by arithmetic.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chaos.resilience import BreakerSettings, BulkheadFull, DeadlineExceeded, ShortCircuited
from tests.unit.resilience.kit import Broken, Unlicensed, make_command
from tests.unit.resilience.virtual import VirtualTimeLoop

PERMITS = 3
TIMEOUT_S = 0.5
SETTINGS = BreakerSettings(
    window_s=1.0, buckets=4, minimum_calls=4, error_threshold_percent=50, open_s=0.75, open_jitter=0.0
)
BUCKET_S = 0.25
OUTCOMES = {"ok": None, "fail": Broken, "bad": Unlicensed}


class Model:
    """Says what must happen, in the plainest way."""

    def __init__(self):
        self.state = "closed"
        self.generation = 0
        self.opened_s = 0.0
        self.trial = False
        self.log = []  # (moment, failed) since the breaker last closed

    def counts(self, now_s):
        first_bucket = int(now_s // BUCKET_S) - 3
        held = [failed for moment, failed in self.log if int(moment // BUCKET_S) >= first_bucket]
        return held.count(False), held.count(True)

    def admit(self, now_s):
        if self.state == "open" and now_s > self.opened_s + 0.75:
            self.enter("half-open")
        if self.state == "open" or (self.state == "half-open" and self.trial):
            return None
        self.trial = self.state == "half-open"
        return self.generation

    def enter(self, state):
        self.state, self.trial = state, False
        self.generation += 1
        if state == "closed":
            self.log = []

    def settle(self, generation, outcome, now_s):
        if generation != self.generation:
            return
        if self.state == "half-open":
            if outcome == "cancelled":
                self.trial = False
            elif outcome in ("fail", "late"):
                self.opened_s = now_s
                self.enter("open")
            else:
                self.enter("closed")
        elif outcome in ("ok", "fail", "late"):
            self.log.append((now_s, outcome != "ok"))
            good, failed = self.counts(now_s)
            if good + failed >= 4 and failed / (good + failed) >= 0.5:
                self.opened_s = now_s
                self.enter("open")


class Running:
    """A call in progress: the future that its dependency waits for, and what the model expects."""

    def __init__(self, task, until, generation, at_s):
        self.task, self.until, self.generation, self.at_s = task, until, generation, at_s


class CommandMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.model = Model()
        self.running = []
        self.asked = []
        self.command = make_command(self.dependency, breaker=SETTINGS, timeout_s=TIMEOUT_S, max_concurrent=PERMITS)

    async def dependency(self):
        until = self.loop.create_future()
        self.asked.append(until)
        return await until

    def step(self, duration_s=0.0):
        self.loop.run_until_complete(asyncio.sleep(duration_s))
        for _ in range(3):  # a cancelled task ends an iteration or two after the timer
            self.loop.run_until_complete(asyncio.sleep(0))

    def now_s(self):
        return self.loop.time()

    @rule()
    def call(self):
        admitted = self.model.admit(self.now_s())
        task = self.loop.create_task(self.command())
        self.step()
        if admitted is None:
            assert isinstance(task.exception(), ShortCircuited)
        elif len(self.running) >= PERMITS:
            assert isinstance(task.exception(), BulkheadFull)
            self.model.settle(admitted, "cancelled", self.now_s())
        else:
            assert not task.done()
            self.running.append(Running(task, self.asked.pop(), admitted, self.now_s() + TIMEOUT_S))
        assert not self.asked

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(sorted(OUTCOMES)))
    def end(self, data, outcome):
        one = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        error = OUTCOMES[outcome]
        if error is None:
            one.until.set_result("answer")
        else:
            one.until.set_exception(error())
        self.step()
        if error is None:
            assert one.task.result() == "answer"
        else:
            assert isinstance(one.task.exception(), error)
        self.model.settle(one.generation, outcome, self.now_s())

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cancel(self, data):
        one = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        one.task.cancel()
        self.step()
        assert one.task.cancelled()
        self.model.settle(one.generation, "cancelled", self.now_s())

    @rule(duration_s=st.sampled_from([0.03125, 0.125, 0.25, 0.375, 0.78125, 3.0]))
    def wait(self, duration_s):
        end_s = self.now_s() + duration_s
        for moment_s in sorted({one.at_s for one in self.running if one.at_s <= end_s}):
            self.step(moment_s - self.now_s())
            for one in [one for one in self.running if one.at_s == moment_s]:
                self.running.remove(one)
                assert isinstance(one.task.exception(), DeadlineExceeded)
                self.model.settle(one.generation, "late", moment_s)
        self.step(end_s - self.now_s())

    @invariant()
    def permits_are_those_of_the_calls_in_progress(self):
        assert self.command.in_flight == len(self.running)

    @invariant()
    def state_and_window_are_those_of_the_model(self):
        assert self.command.breaker.state == self.model.state
        if self.model.state == "closed":
            assert self.command.breaker.window.counts(self.now_s()) == self.model.counts(self.now_s())

    @invariant()
    def at_most_one_trial(self):
        trials = [one for one in self.running if one.generation == self.model.generation]
        assert self.model.state != "half-open" or len(trials) <= 1

    def teardown(self):
        for one in self.running:
            one.task.cancel()
        self.step()
        assert self.command.in_flight == 0
        assert self.command._expiry.waiting == 0
        self.loop.close()


TestCommandMachine = CommandMachine.TestCase
TestCommandMachine.settings = settings(max_examples=60, stateful_step_count=40)
