"""One run: carries out a plan against a running target, watches it, heals it, and asks for the verdict.

The plan decides what happens and when; the environment does it; the load says what its users saw. This module
only keeps the time, owns what must be undone, and makes sure that every way out of a run heals first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from chaos import clock
from chaos.beside import beside, cancel_all, in_turn
from chaos.environment import Environment
from chaos.errors import NOT_HEALED, ChaosError, EnvironmentFailure, Outcome
from chaos.events import (
    BreakerState,
    Emit,
    FaultApplied,
    FaultHealed,
    GuardTripped,
    Healed,
    Note,
    PhaseStarted,
    RunEnded,
    RunStarted,
    Tick,
)
from chaos.experiment.model import Experiment, PhaseName
from chaos.experiment.plan import SURGE, Plan, PlannedFault, PlannedSurge
from chaos.load.lending import RunLoad
from chaos.machine.watch import MachineWatch
from chaos.reports.document import verdict_document
from chaos.reports.files import shown_file
from chaos.topology.model import Topology
from chaos.topology.shape import target_shape
from chaos.verdict.guards import guard_value
from chaos.verdict.judge import judge
from chaos.verdict.model import ReceiptResult, Verdict
from chaos.verdict.pending import undecided
from chaos.verdict.recovery import recovery_s
from chaos.verdict.rules import Baseline
from chaos.verdict.surge import surge_receipt
from chaos.verdict.windows import SampleStore

T = TypeVar("T")

WATCH_INTERVAL_S = 0.25
"""How often samples are read and guards are looked at."""
TICK_DELAY_S = 0.4
"""A second is shown this long after its end: the recorders write every 0.2 s."""
HEAL_LIMIT_S = 10.0
"""How long the target may take, once every fault is taken back and it runs, until all of it is healthy."""
DRAIN_LIMIT_S = 6.0
"""How long plays that were due before the end may take to have an outcome."""
SURGE_RECEIPT_LIMIT_S = 1.0
"""Beyond the lag that the load is allowed, so long may the samples of a surge take to be here."""
LOOK_EVERY_S = 5.0
"""How often a fault phase that goes on looks whether every rule is decided: to look more often is to err more often
(the figures for this interval are in `docs/verdicts.md`)."""
SETTLE_S = 1.0
"""The last second is left out then: not all of its outcomes are known."""
HEAD_START_S = 0.1
"""From the decision to begin until the first arrival is due, so that nobody is late for it."""


@dataclass(slots=True)
class Progress:
    """What has happened so far in a run, as the verdict needs it."""

    phases: dict[PhaseName, tuple[float, float]] = field(default_factory=dict)
    receipts: list[ReceiptResult] = field(default_factory=list)
    phase: PhaseName = PhaseName.WARM_UP
    healed_at_s: float | None = None
    guard: tuple[str, float] | None = None
    breakers: tuple[BreakerState, ...] = ()


class Run:
    """One experiment, once, on a target that is already up."""

    def __init__(
        self,
        *,
        environment: Environment,
        experiment: Experiment,
        topology: Topology,
        plan: Plan,
        load: RunLoad,
        disabled: Sequence[str],
        changed: Sequence[str] = (),
        replay: str,
        emit: Emit,
    ) -> None:
        self._environment = environment
        self._experiment = experiment
        self._topology = topology
        self._plan = plan
        self._load = load
        self._disabled = tuple(disabled)
        self._changed = tuple(changed)
        self._replay = replay
        self._emit = emit
        self._progress = Progress()
        self._machine = MachineWatch(experiment.verdict.max_taken)
        self._heal_now = asyncio.Event()
        self._origin_s = 0.0
        self._store = SampleStore(0.0)
        self._baseline = Baseline()
        self.verdict: Verdict | None = None
        """The verdict, once there is one; also of a run that was cut off."""
        self.judge_as: Callable[..., Verdict] | None = None
        """Judges by what this run has measured, once it is over: a part of its experiment, on its own rules."""
        self._deaths_before = len(environment.deaths)

    async def execute(self) -> Verdict:
        """Run all phases and return the verdict.

        An ``EnvironmentFailure`` on the way becomes a verdict with the outcome ``error``; a cancellation heals,
        reports ``interrupted`` and goes on as a cancellation.
        """
        self._environment.t_s = self._now_s
        self._emit(self._started())
        try:
            await self._phases()
        except asyncio.CancelledError:
            self._end(Outcome.INTERRUPTED, "interrupted: everything was healed and stopped before the end")
            raise
        except ChaosError as failure:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # told to stop: that a fault could not be undone changes nothing
                self._end(Outcome.INTERRUPTED, f"interrupted, and healing failed on the way out: {failure}")
                raise asyncio.CancelledError from failure
            details = getattr(failure, "details", ())
            return self._end(Outcome.ERROR, "\n".join([str(failure), *details]))
        return self._end(None, None)

    async def _phases(self) -> None:
        self._origin_s = self._go()
        self._store = SampleStore(self._origin_s)
        # Whatever happens inside, every fault in the stack is undone on the way out.
        async with (
            contextlib.AsyncExitStack() as faults,
            beside(self._watch(), self._poll_breakers(), self._machine.canary.sing()),
        ):
            await self._before_faults()
            self._baseline = Baseline.measure(
                self._store, self._topology.metrics, self._progress.phases[PhaseName.BASELINE]
            )
            self._begin(PhaseName.FAULT)
            fault_end_s = self._plan.phases[PhaseName.FAULT][1]
            by_time = sorted(self._plan.faults, key=lambda planned: planned.at_s)
            carried = in_turn(by_time, partial(self._carry, stack=faults), PlannedFault.follows)
            surges = [asyncio.ensure_future(self._surge(planned)) for planned in self._plan.surges]
            faults.push_async_callback(cancel_all, surges)
            try:
                if not await self._healing_before(fault_end_s):
                    await self._extend(fault_end_s + self._plan.extend_s)
                self._heal_now.set()
                await asyncio.gather(*carried)
            finally:
                await cancel_all(carried)
            self._finish_phase(PhaseName.FAULT)
            await self._heal()
            self._begin(PhaseName.RECOVERY)
            await self._recover()
            self._finish_phase(PhaseName.RECOVERY)
            await asyncio.gather(*surges)  # their receipts come a moment after their end
            await self._finish_load()

    # -- what a brief run does otherwise (``chaos.standing``) ----------------------------------------------------------

    def _go(self) -> float:
        """Let the load begin; return the moment from which the run's seconds are counted."""
        origin_s = clock.monotonic_s() + HEAD_START_S
        self._load.go(origin_s)
        return origin_s

    async def _before_faults(self) -> None:
        for name in (PhaseName.WARM_UP, PhaseName.BASELINE):
            await self._phase(name)

    async def _recover(self) -> None:
        start_s, end_s = self._plan.phases[PhaseName.RECOVERY]
        await clock.sleep_until(clock.monotonic_s() + end_s - start_s)

    def _recovered_s(self, healed_at_s: float) -> float | None:
        """Return after how many seconds the steady state held again; None when it was not seen to."""
        rules, phases = self._experiment.steady_state, self._progress.phases
        return recovery_s(rules, topology=self._topology, store=self._store, phases=phases, healed_at_s=healed_at_s)

    async def _finish_load(self) -> None:
        await self._load.finish(drain_s=DRAIN_LIMIT_S)
        self._store.add(self._load.read())

    async def _phase(self, name: PhaseName) -> None:
        self._begin(name)
        await clock.sleep_until(self._origin_s + self._plan.phases[name][1])
        self._finish_phase(name)

    def _begin(self, name: PhaseName) -> None:
        start_s = max(0.0, self._now_s())  # the first phase is decided on a moment before its first arrival
        self._progress.phase = name
        self._progress.phases[name] = (start_s, start_s)
        self._machine.begin(str(name), start_s)
        self._emit(PhaseStarted(t_s=start_s, phase=name))

    def _finish_phase(self, name: PhaseName) -> None:
        start_s, _ = self._progress.phases[name]
        self._progress.phases[name] = (start_s, self._now_s())

    async def _extend(self, latest_s: float) -> None:
        """Let the fault phase go on until every rule is decided, a guard trips, or ``latest_s`` is reached."""
        told = False
        while (left_s := latest_s - self._now_s()) > 0.0:
            left = self._of_fault_phase(undecided, SETTLE_S)
            if not left:
                return
            if not told:
                said = f"not decided yet: {', '.join(left)}; the fault phase goes on for at most {left_s:.0f} s"
                self._emit(Note(t_s=self._now_s(), text=said))
                told = True
            if await self._healing_before(min(latest_s, self._now_s() + LOOK_EVERY_S)):
                return

    def _of_fault_phase(self, ask: Callable[..., T], settle_s: float) -> T:
        """Return what ``ask`` (one of ``chaos.verdict.pending``) says of what is at least ``settle_s`` old of it."""
        self._store.add(self._load.read())
        start_s, _ = self._progress.phases[PhaseName.FAULT]
        return ask(
            self._experiment,
            topology=self._topology,
            store=self._store,
            baseline=self._baseline,
            span=(start_s, max(start_s, self._now_s() - settle_s)),
        )

    # -- faults ---------------------------------------------------------------------------------------------------

    async def _carry(self, planned: PlannedFault, stack: contextlib.AsyncExitStack) -> None:
        """Apply one fault at its moment, take its receipt and undo it at its end or when healing begins."""
        if await self._healing_before(planned.at_s):
            self._emit(Note(t_s=self._now_s(), text=f"{planned.name} was due after healing began: not applied"))
            return
        fault = planned.entry.fault
        applied = await fault.apply(self._environment, planned.victims, planned.name)
        stack.push_async_callback(applied.undo)
        applied_at_s = self._now_s()
        self._emit(
            FaultApplied(
                t_s=applied_at_s,
                fault=planned.name,
                kind=fault.kind,
                description=planned.description,
                victims=planned.victims,
            )
        )
        await self._healing_before(planned.until_s)
        receipt = await applied.receipt()
        await applied.undo()
        self._keep(
            ReceiptResult(
                fault=planned.name,
                kind=fault.kind,
                victims=planned.victims,
                applied_at_s=applied_at_s,
                healed_at_s=self._now_s(),
                connections=receipt.connections,
                bytes=receipt.bytes,
                touched=receipt.touched,
                evidence=receipt.evidence,
            )
        )

    async def _surge(self, planned: PlannedSurge) -> None:
        """Tell of a surge while it lasts, end it when healing begins, and count what the generator sent."""
        if await self._healing_before(planned.at_s):
            self._load.calm()
            self._emit(Note(t_s=self._now_s(), text=f"{planned.name} was due after healing began: it did not come"))
            return
        said = planned.description
        self._emit(FaultApplied(t_s=self._now_s(), fault=planned.name, kind=SURGE, description=said, victims=()))
        if await self._healing_before(planned.until_s):
            self._load.calm()
        until_s = self._now_s()
        limit_s = clock.monotonic_s() + SURGE_RECEIPT_LIMIT_S + self._experiment.load.max_start_lag_s
        ordered = planned.ordered(until_s)
        sent = 0
        while sent < ordered and clock.monotonic_s() < limit_s:
            await clock.sleep_until(clock.monotonic_s() + WATCH_INTERVAL_S)
            sent = self._store.surged(planned.at_s, until_s)
        self._keep(surge_receipt(planned, sent=sent, until_s=until_s))

    def _keep(self, receipt: ReceiptResult) -> None:
        self._progress.receipts.append(receipt)
        self._emit(
            FaultHealed(
                t_s=self._now_s(),
                fault=receipt.fault,
                kind=receipt.kind,
                connections=receipt.connections,
                bytes=receipt.bytes,
                touched=receipt.touched,
                evidence=receipt.evidence,
            )
        )

    async def _healing_before(self, moment_s: float) -> bool:
        """Wait until ``moment_s`` of the run; return True when healing began earlier."""
        try:
            async with asyncio.timeout_at(self._loop_moment(moment_s)):
                await self._heal_now.wait()
        except TimeoutError:
            return False
        return True

    async def _heal(self) -> None:
        began_s = self._now_s()
        await self._environment.heal_everything()
        limit_s = clock.monotonic_s() + HEAL_LIMIT_S
        while left := await self._environment.unhealed():
            if clock.monotonic_s() > limit_s:
                raise EnvironmentFailure(
                    f"{NOT_HEALED} {HEAL_LIMIT_S:g} s after every fault was taken back", details=left
                )
            await asyncio.sleep(0.05)
        self._progress.healed_at_s = self._now_s()
        self._emit(Healed(t_s=self._now_s(), duration_s=self._now_s() - began_s))

    # -- watching -------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        next_tick_s = 1.0
        moment_s = self._origin_s
        while True:
            moment_s += WATCH_INTERVAL_S
            await clock.sleep_until(moment_s)
            self._store.add(self._load.read())
            if broken := self._environment.failure():  # asked first: when the launcher dies, the load dies of it
                raise broken
            if failure := self._load.failure():
                raise EnvironmentFailure(failure)
            now_s = self._now_s()
            if self._progress.phase is PhaseName.FAULT and not self._heal_now.is_set():
                self._look_at_guards(now_s)
            while now_s >= next_tick_s + TICK_DELAY_S:
                self._tick(next_tick_s)
                next_tick_s += 1.0

    def _look_at_guards(self, now_s: float) -> None:
        for guard in self._experiment.abort_when:
            measured = guard_value(
                guard,
                store=self._store,
                topology=self._topology,
                now_s=now_s,
                since_s=self._progress.phases[PhaseName.FAULT][0],
                baseline=self._baseline,
            )
            if measured is not None:
                self._progress.guard = (guard.rule.text, measured)
                self._emit(GuardTripped(t_s=now_s, guard=guard.rule.text, measured=measured))
                self._heal_now.set()
                return

    def _tick(self, second_s: float) -> None:
        self._emit(self._machine.second(second_s))
        self._emit(
            Tick(
                t_s=second_s,
                phase=self._progress.phase,
                values=self._store.live_values(self._topology.metrics, second_s),
                counts=self._store.counts(second_s - 1.0, second_s),
                breakers=self._progress.breakers,
                groups=self._store.live_groups(self._topology.metrics, self._experiment.metrics, second_s),
            )
        )

    async def _poll_breakers(self) -> None:
        moment_s = self._origin_s
        while True:
            moment_s = max(moment_s + 1.0, clock.monotonic_s())
            await clock.sleep_until(moment_s)
            self._progress.breakers = await self._environment.isolation_states()

    # -- the end --------------------------------------------------------------------------------------------------

    def _started(self) -> RunStarted:
        return RunStarted(
            t_s=0.0,
            experiment=self._experiment.title,
            file=shown_file(self._experiment.file),
            seed=self._plan.seed,
            backend=self._environment.backend_name,
            disabled=self._disabled,
            changed=self._changed,
            phases={str(name): span for name, span in self._plan.phases.items()},
            started_at=clock.wall_clock_iso(),
            rules=tuple(rule.text for rule in (*self._experiment.steady_state, *self._experiment.must_break)),
            replay=self._replay,
            target=target_shape(self._topology),
        )

    def _end(self, forced: Outcome | None, reason: str | None) -> Verdict:
        self._store.add(self._load.read())
        progress = self._progress
        for name, (start_s, end_s) in progress.phases.items():
            if end_s == start_s:  # cut off on the way
                progress.phases[name] = (start_s, self._now_s())
        order = [planned.name for planned in self._plan.events]
        receipts = sorted(progress.receipts, key=lambda receipt: order.index(receipt.fault))
        recovered = None
        if progress.healed_at_s is not None and forced is None:
            recovered = self._recovered_s(progress.healed_at_s)
        self.judge_as = partial(
            judge,
            topology=self._topology,
            seed=self._plan.seed,
            backend=self._environment.backend_name,
            disabled=self._disabled,
            changed=self._changed,
            phases=progress.phases,
            store=self._store,
            recovery_s=recovered,
            guard=progress.guard,
            deaths=self._environment.deaths[self._deaths_before :],
            machine=self._machine.phases,
            forced=forced,
            forced_reason=reason,
        )
        verdict = self.judge_as(
            experiment=self._experiment,
            receipts=receipts,
            replay=self._replay,
            file=shown_file(self._experiment.file),
        )
        self.verdict = verdict
        self._emit(RunEnded(t_s=self._now_s(), outcome=verdict.outcome, verdict=verdict_document(verdict)))
        return verdict

    def _now_s(self) -> float:
        return clock.monotonic_s() - self._origin_s if self._origin_s else 0.0

    def _loop_moment(self, moment_s: float) -> float:
        """Translate a moment of the run into the event loop's clock."""
        return asyncio.get_running_loop().time() + (self._origin_s + moment_s - clock.monotonic_s())
