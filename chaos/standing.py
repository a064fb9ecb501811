"""Brief runs: recovery ends as soon as the steady state holds again, and on a load that stands the baseline is lent.

    ---- baseline (lent) ---- lead | fault | heal | back? back? back! | outcomes known? | verdict
                                                   every 0.2 s, a window of 0.7 s or more

What is judged and how is ``chaos.runner``'s and ``chaos.verdict``'s. A system that does not come back within the time
that its experiment allows is violated by that, and whoever owns the load is told not to lend it any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from chaos import clock
from chaos.errors import EnvironmentFailure
from chaos.events import Emit, Event, PhaseStarted, Tick
from chaos.experiment.model import Experiment, PhaseName, Rule
from chaos.load.lending import BASELINE_S, LEAD_S, SETTLE_S, LentLoad
from chaos.runner import DRAIN_LIMIT_S, Run
from chaos.topology.model import Measure, Topology
from chaos.verdict.pending import has_too_few, undecided
from chaos.verdict.recovery import steady_in
from chaos.verdict.rules import Baseline, RuleCheck, Span, checks_of
from chaos.verdict.windows import SampleStore

LOOK_EVERY_S = 0.2
"""How often a window is looked at after healing; also the resolution of the time to recover."""
WINDOW_S = 0.7
"""The steady state must hold again in a window this long..."""
WINDOW_S_MAX = 3.0
WINDOW_ATTEMPTS = 30
"""...or longer, up to ``WINDOW_S_MAX``, until so many arrivals are due in it."""

_SETTLE_S = (SETTLE_S, 2 * SETTLE_S, 4 * SETTLE_S)
"""A window is looked at when it is this old; an older one where answers of the youngest are still under way."""
_CHANCE_STANDARD_ERRORS = 3.0
_SPARE_ATTEMPTS = 2


class BriefRun(Run):
    """One experiment, once, on a load of its own; its recovery is over as soon as the steady state holds again."""

    returned = False
    """Whether the steady state was seen to hold again."""
    _back_s: float | None = None

    async def _recover(self) -> None:
        planned_start_s, planned_end_s = self._plan.phases[PhaseName.RECOVERY]
        limit_s = clock.monotonic_s() + planned_end_s - planned_start_s
        healed_at_s = self._progress.healed_at_s
        assert healed_at_s is not None, "recovery comes after healing"
        window_s = window_for(self._experiment.load.rate_per_s)
        checks = checks_of(self._experiment.steady_state, self._topology.metrics, self._store, self._baseline)
        while self._back_s is None and clock.monotonic_s() < limit_s:
            await clock.sleep_until(clock.monotonic_s() + LOOK_EVERY_S)
            self._store.add(self._load.read())
            # By what is known now of a window that has just passed: a healthy system's answers take their time, too.
            for settle_s in _SETTLE_S:
                end_s = self._now_s() - settle_s
                window = (end_s - window_s, end_s)
                if window[0] >= healed_at_s and self._known(window) and holds(checks, window):
                    self._back_s = math.floor((window[0] - healed_at_s) / LOOK_EVERY_S) * LOOK_EVERY_S
                    break
        self.returned = self._back_s is not None

    def _recovered_s(self, healed_at_s: float) -> float | None:  # noqa: ARG002 - it was seen while it happened
        return self._back_s

    def _known(self, span: Span) -> bool:
        kinds = kinds_of_attempts((*self._experiment.steady_state, *self._experiment.must_break), self._topology)
        return outcomes_known(self._store, kinds, baseline=self._progress.phases[PhaseName.BASELINE], span=span)


class StandingRun(BriefRun):
    """One experiment, once, on a target and a load that have been there before and will be there after."""

    def _go(self) -> float:
        assert isinstance(self._load, LentLoad)
        self._emit = _with_lent_seconds(self._emit)
        return self._load.origin_s

    async def _before_faults(self) -> None:
        self._progress.phase = PhaseName.BASELINE
        self._progress.phases[PhaseName.BASELINE] = (0.0, BASELINE_S)
        self._emit(PhaseStarted(t_s=0.0, phase=PhaseName.BASELINE))
        self._store.add(self._load.read())

    async def _extend(self, latest_s: float) -> None:
        """Let the fault phase go on while a rule has too few samples, and to ``latest_s`` when then one is undecided.

        So the verdict is looked at twice at the most, and not until it pleases.
        """
        while self._now_s() < latest_s and self._of_fault_phase(has_too_few, SETTLE_S):
            if await self._healing_before(min(latest_s, self._now_s() + LOOK_EVERY_S)):
                return
        if self._now_s() < latest_s and self._of_fault_phase(undecided, SETTLE_S):
            await self._healing_before(latest_s)

    async def _finish_load(self) -> None:
        """Wait for what was due in the fault phase; when that takes too long, end the load, and it has failed."""
        limit_s = clock.monotonic_s() + DRAIN_LIMIT_S
        while not self._known(self._progress.phases[PhaseName.FAULT]):
            if clock.monotonic_s() > limit_s:
                await self._load.finish(drain_s=0.0)
                self._store.add(self._load.read())
                return
            await clock.sleep_until(clock.monotonic_s() + LOOK_EVERY_S)
            self._store.add(self._load.read())
        if failure := self._load.failure():
            raise EnvironmentFailure(failure)


def _with_lent_seconds(emit: Emit) -> Emit:
    """Return an emit that puts the seconds before the fault into the baseline, though they are shown later."""

    def emit_it(event: Event) -> None:
        if isinstance(event, Tick) and event.t_s <= BASELINE_S + LEAD_S:
            event = replace(event, phase=PhaseName.BASELINE)
        emit(event)

    return emit_it


def window_for(rate_per_s: float) -> float:
    """Return how long a window must be in which the steady state is looked for, in seconds.

    ``rate_per_s`` are the arrivals of an open load; 0 (a closed load, of which nobody knows) takes the longest.
    """
    if rate_per_s <= 0.0:
        return WINDOW_S_MAX
    return min(WINDOW_S_MAX, max(WINDOW_S, WINDOW_ATTEMPTS / rate_per_s))


def holds(checks: Sequence[RuleCheck], window: Span) -> bool:
    """Return whether the steady state holds in a window: no rule is broken in it, and at least one was measured."""
    return steady_in(checks, window) is True


def is_well(load: LentLoad, experiment: Experiment, topology: Topology) -> bool:
    """Return whether the experiment's steady state held in the baseline that it would be lent."""
    return _held(load, experiment, topology, (0.0, BASELINE_S))


def is_steady(load: LentLoad, experiment: Experiment, topology: Topology) -> bool:
    """Return whether the experiment's steady state holds now, in the last 1.1 s whose outcomes are known."""
    fault_s = BASELINE_S + LEAD_S
    return _held(load, experiment, topology, (fault_s - LEAD_S, fault_s - SETTLE_S))


def _held(load: LentLoad, experiment: Experiment, topology: Topology, span: Span) -> bool:
    store = SampleStore(load.origin_s)
    store.add(load.read())
    baseline = Baseline.measure(store, topology.metrics, (0.0, BASELINE_S))
    return holds(checks_of(experiment.steady_state, topology.metrics, store, baseline), span)


def kinds_of_attempts(rules: Iterable[Rule], topology: Topology) -> tuple[str, ...]:
    """Return the kinds of samples that these rules are about and that are outcomes of attempts.

    A rate counts what ends, whenever it began; what a ratio is made of (seconds of video) comes as long as it lasts.
    """
    metrics = [topology.metrics[rule.metric] for rule in rules]
    return tuple(dict.fromkeys(one.of for one in metrics if one.measure not in (Measure.RATE, Measure.RATIO)))


def outcomes_known(store: SampleStore, kinds: Iterable[str], *, baseline: Span, span: Span) -> bool:
    """Return whether the outcomes of what was due in ``span`` are there.

    Each kind of attempt keeps its proportion to the arrivals that the generator offers; the baseline, long over, has
    shown it. So whoever is missing is still under way. A kind that comes with every arrival (a play) is counted
    exactly but for two; one that comes with some of them also but for what chance explains (three standard errors of a
    binomial count). True for a closed load, which is known to itself alone.
    """
    offered_before, offered = store.offered(*baseline), store.offered(*span)
    if not offered_before or offered is None:
        return True
    for kind in kinds:
        share = min(1.0, store.tally(kind, *baseline).total / offered_before)
        expected = share * offered
        spare = _SPARE_ATTEMPTS + _CHANCE_STANDARD_ERRORS * math.sqrt(expected * (1.0 - share))
        if store.tally(kind, *span).total < expected - spare:
            return False
    return True
