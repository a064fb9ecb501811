"""Several runs in a row: experiments and their controls, on as few starts of the target as possible.

All experiments of one target at one scale and seed run on one start, one after the other; then each control gets a
start of its own, because a protection is switched off when a service starts. The runs themselves are
``chaos.runner``'s, and those on a load that stands ``chaos.standing``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from chaos import clock
from chaos.environment import Backend, Environment
from chaos.errors import UNANSWERED, ChaosError, EnvironmentFailure, Outcome
from chaos.events import Emit, Event, Note, RunEnded
from chaos.experiment.model import Experiment, Load
from chaos.experiment.plan import Plan
from chaos.jobs import Form, Job, Start, start_of
from chaos.load.driver import LoadDriver
from chaos.load.lending import StandingLoad
from chaos.reports.document import verdict_document
from chaos.reports.files import shown_file
from chaos.reports.views import View
from chaos.runner import Run
from chaos.standing import LOOK_EVERY_S, BriefRun, StandingRun, is_steady, is_well
from chaos.topology.model import Topology
from chaos.verdict.model import Verdict

STANDING_MOST_S = 3600.0
"""How long a load may stand; a suite that takes longer gets another one."""

LOAD_SPARE_S = 3600.0
"""So much longer than planned a load would go on: a service may take minutes to start again, and recovery is judged
under load. The run ends its load, not the schedule, which is made second by second and costs nothing beforehand."""

BASELINES_MORE = 2
"""So often the baseline of a load that stands is measured again when the steady state did not hold in it."""

ANSWERS_WITHIN_S = 3.0
"""So long is waited for an instance that lives and does not answer just when a run is to begin."""

STEADY_WITHIN_S = 3.0
"""So long is waited on a load that stands until the steady state of the next run holds."""


def backend_for(job: Job, asked: Backend) -> Backend:
    """Return the proxy server that a job needs: what was asked for, or the embedded one where nothing else will do."""
    return Backend.EMBEDDED if asked is Backend.AUTO and job.experiment.needs_embedded else asked


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """How to run a suite."""

    backend: Backend = Backend.AUTO
    toxiproxy_url: str | None = None


class Suite:
    """Runs jobs in order, keeps the target up between them where it can, and collects the verdicts.

    ``sinks`` see every event (the journal); ``view_for`` gives the view of one job. After a cancellation ``verdicts``
    holds what was finished, and what was cut off.
    """

    def __init__(
        self,
        options: SuiteOptions,
        *,
        view_for: Callable[[Job], View],
        sinks: Sequence[Emit] = (),
    ) -> None:
        self._options = options
        self._view_for = view_for
        self._sinks = tuple(sinks)
        self._view: View | None = None
        self._probing = False  # whether the run under way is a probe, of which no sink hears
        self._environment: Environment | None = None
        self._backend = options.backend
        self._backend_name = "none"
        self._started_as: Start | None = None
        self._worn = False  # whether a fault has left something in the target that only its end takes away
        self._standing: tuple[Load, LoadDriver, StandingLoad] | None = None
        self._runs = 0
        self._stack = contextlib.AsyncExitStack()
        self.verdicts: list[tuple[Job, Verdict]] = []

    async def run(self, jobs: Iterable[Job]) -> None:
        """Run every job; verdicts are in ``verdicts``, in order. The next job is asked for when one is done.

        What cannot be started or carried out becomes a verdict ``error`` of its job, and the next job tries again.
        """
        try:
            for job in jobs:
                await self.run_one(job)
        finally:
            await self.close()

    async def run_one(self, job: Job) -> Verdict:
        """Make one run and return its verdict; call ``close`` when there are no more."""
        self._runs += 1
        self._probing = job.probe
        with self._view_for(job) as view:
            self._view = view
            try:
                verdict = await self._run_one(self._runs, job)
            finally:
                self._view = None
        if verdict.outcome is Outcome.ERROR:
            await self.close()
        return verdict

    async def _run_one(self, number: int, job: Job) -> Verdict:
        """Make one run; its verdict is kept even when it is cut off. Every way out has emitted ``RunEnded``."""
        run: Run | None = None
        try:
            environment = await self._environment_for(job)
            if job.form is Form.STANDING:
                standing = await self._stand(environment, number, job)
                run = brief = StandingRun(load=standing.lend(), **_what(environment, job, self._emit))
                verdict = await run.execute()
                self._worn = job.experiment.leaves_traces or not brief.returned
            else:
                await self._end_standing()
                load = await self._ready(environment, number, job)
                try:
                    await _check_well(environment)
                    run = (BriefRun if job.form is Form.BRIEF else Run)(
                        load=load, **_what(environment, job, self._emit)
                    )
                    verdict = await run.execute()
                finally:
                    lost = isinstance(run, BriefRun) and not run.returned
                    self._worn = job.experiment.leaves_traces or lost
                    await load.stop()
        except ChaosError as failure:
            verdict = self._broken_off(job, Outcome.ERROR, (str(failure), *getattr(failure, "details", ())))
        except asyncio.CancelledError:
            cut_off = run.verdict if run is not None else None
            if cut_off is None:
                cut_off = self._broken_off(job, Outcome.INTERRUPTED, ("interrupted before the first phase began",))
            self._keep(job, cut_off, run)
            raise
        except Exception as mistake:
            said = f"a mistake in chaos itself: {type(mistake).__name__}: {mistake}"
            self._keep(job, self._broken_off(job, Outcome.ERROR, (said,)), None)
            raise
        return self._keep(job, verdict, run)

    def _keep(self, job: Job, verdict: Verdict, run: Run | None) -> Verdict:
        """Keep a verdict with what the run says about each part of its job, and return it."""
        verdict = _with_parts(job, verdict, run)
        if not job.probe:
            self.verdicts.append((job, verdict))
        return verdict

    def amend(self, verdict: Verdict) -> None:
        """Put ``verdict`` in the place of the last one."""
        job, _ = self.verdicts[-1]
        self.verdicts[-1] = (job, verdict)

    def renew(self) -> None:
        """Start the target anew for the next run: it may not be what it was."""
        self._worn = True

    async def _environment_for(self, job: Job) -> Environment:
        backend = backend_for(job, self._options.backend)
        if self._environment is not None and self._started_as is not None:
            started = self._started_as
            if (started.topology, started.seed, self._backend) == (job.topology, job.plan.seed, backend):
                return self._environment
            await self.close()
        environment = Environment(
            job.topology,
            emit=self._emit,
            backend=backend,
            toxiproxy_url=self._options.toxiproxy_url,
        )
        self._environment = await self._stack.enter_async_context(environment)
        self._backend = backend
        self._backend_name = environment.backend_name
        kind = job.experiment.needs_embedded
        if kind is not None and self._options.backend is Backend.AUTO and self._options.toxiproxy_url is None:
            said = f"{kind} is a fault that Toxiproxy does not have: the embedded proxy is used"
            self._emit(Note(t_s=environment.t_s(), text=said))
        if kind is not None and not environment.has_embedded_proxy:
            raise EnvironmentFailure(
                f"the fault {kind} needs the embedded proxy, and what runs at {self._options.toxiproxy_url} is "
                f"{environment.backend_name}; leave --toxiproxy out, or start `chaos proxy` there"
            )
        return environment

    async def _ready(self, environment: Environment, number: int, job: Job) -> LoadDriver:
        """Have the target up as the job wants it, and Locust waiting for the signal to begin."""
        wanted = start_of(job)
        fresh = self._worn or self._started_as != wanted or bool(await environment.unhealed())
        if fresh:
            if self._started_as is not None:
                await environment.stop_target()
            self._started_as = None
            environment.prepare(seed=job.plan.seed, disabled=job.disabled, settings=job.experiment.settings)
        load = LoadDriver(
            launcher=environment.launcher,
            load=job.experiment.load,
            client=environment.client_config(next(iter(job.topology.clients))),
            seed=job.plan.seed,
            duration_s=(STANDING_MOST_S if job.form is Form.STANDING else job.plan.duration_s) + LOAD_SPARE_S,
            folder=environment.run_dir / f"load-{number}",
            surges=job.plan.surges,
        )
        # Locust takes as long to import as the target to start: both at once.
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(load.start())
                if fresh:
                    group.create_task(
                        environment.start_target(
                            seed=job.plan.seed, disabled=job.disabled, settings=job.experiment.settings
                        )
                    )
        except BaseException as failure:
            await load.stop()
            if isinstance(failure, BaseExceptionGroup):
                raise failure.exceptions[0] from None
            raise
        self._started_as = wanted
        self._worn = False
        return load

    def _broken_off(self, job: Job, outcome: Outcome, reasons: tuple[str, ...]) -> Verdict:
        """Return (and emit) the verdict of a run that never came to its first phase."""
        verdict = Verdict(
            outcome=outcome,
            experiment=job.experiment.title,
            file=str(job.experiment.file),
            seed=job.plan.seed,
            backend=self._backend_name,
            disabled=job.disabled,
            changed=job.changed,
            scaled=job.topology.scaled,
            phases=(),
            steady_state=(),
            receipts=(),
            recovery_s=None,
            start_lag_p99_s=None,
            reasons=reasons,
            replay=job.replay,
        )
        self._emit(RunEnded(t_s=0.0, outcome=outcome, verdict=verdict_document(verdict)))
        return verdict

    async def _stand(self, environment: Environment, number: int, job: Job) -> StandingLoad:
        """Return a load that stands on the target as the job wants it: the one that does already, or another one.

        The steady state must have held in its baseline, which is measured again otherwise, and hold now; where it does
        not in time, something of an earlier run is left, and the target is started anew.
        """
        standing = self._standing_for(job)
        if standing is not None:
            await standing.warm_for(job.warm_up_s)
            if await self._is_steady(standing, job) and not await environment.unhealed():
                return standing
            self._worn = True
        await self._end_standing()
        driver = await self._ready(environment, number, job)
        standing = StandingLoad(driver, broken=environment.failure)
        self._standing = (job.load, driver, standing)
        await standing.begin(warm_up_s=job.warm_up_s)
        await self._is_steady(standing, job)  # where it is not, the run will say so
        await _check_well(environment)
        return standing

    async def _is_steady(self, standing: StandingLoad, job: Job) -> bool:
        """Return True once the steady state of the job holds; False when it does not in time."""
        for _ in range(BASELINES_MORE):
            if is_well(standing.lend(), job.experiment, job.topology):
                break
            await standing.measure()
        limit_s = clock.monotonic_s() + STEADY_WITHIN_S
        while not is_steady(standing.lend(), job.experiment, job.topology):
            if clock.monotonic_s() > limit_s:
                return False
            await clock.sleep_until(clock.monotonic_s() + LOOK_EVERY_S)
        return True

    def _standing_for(self, job: Job) -> StandingLoad | None:
        """Return the load that stands, if it is what the job wants and will stand for as long as it takes."""
        if self._standing is None or self._worn or self._started_as != start_of(job):
            return None
        load, _, standing = self._standing
        ends_s = standing.age_s + job.plan.duration_s
        if load != job.load or standing.over or ends_s > STANDING_MOST_S:
            return None
        return standing

    async def _end_standing(self) -> None:
        if self._standing is not None:
            _, driver, _ = self._standing
            self._standing = None
            await driver.stop()

    async def close(self) -> None:
        """End the load and the target, whatever runs of them. Harmless twice."""
        try:
            await self._end_standing()
        finally:
            await self._close_environment()

    async def _close_environment(self) -> None:
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()
        self._environment = None
        self._started_as = None

    def _emit(self, event: Event) -> None:
        for sink in () if self._probing else self._sinks:
            sink(event)
        if self._view is not None:
            self._view.handle(event)


async def _check_well(environment: Environment) -> None:
    """Raise EnvironmentFailure when the target is not well although no run has done anything to it since it was.

    An instance that lives and is silent for a moment is asked again.
    """
    limit_s = clock.monotonic_s() + ANSWERS_WITHIN_S
    while left := await environment.unhealed():
        if clock.monotonic_s() > limit_s or not all(one.endswith(UNANSWERED) for one in left):
            died = [death for death in environment.deaths if any(one.startswith(f"{death.instance} ") for one in left)]
            last = [line for death in died[-1:] for line in (f"{death.instance}: {death.status}", *death.last_lines)]
            raise EnvironmentFailure(
                f"the target was healthy, and is not any more now that the run is to begin: {', '.join(left)}",
                details=last,
            )
        await clock.sleep_until(clock.monotonic_s() + LOOK_EVERY_S)


def _with_parts(job: Job, verdict: Verdict, run: Run | None) -> Verdict:
    """Return the verdict with what the run says about each part of its job, judged on that part's own rules."""
    parts = []
    for part, names in zip(job.parts, _names_of_parts(job), strict=True):
        experiment, file = part.experiment, shown_file(part.experiment.file)
        if run is None or run.judge_as is None:
            parts.append(replace(verdict, experiment=experiment.title, file=file, replay=part.replay))
            continue
        receipts = [replace(one, fault=names[one.fault]) for one in verdict.receipts if one.fault in names]
        parts.append(run.judge_as(experiment=experiment, receipts=receipts, replay=part.replay, file=file))
    return replace(verdict, parts=tuple(parts))


def _names_of_parts(job: Job) -> list[dict[str, str]]:
    """Return for each part what its faults are called in the whole run, and what in a run of its own."""
    whole = iter(job.plan.faults)
    return [{next(whole).name: own.name for own in part.plan.faults} for part in job.parts]


def _what(environment: Environment, job: Job, emit: Emit) -> _What:
    return {
        "environment": environment,
        "experiment": job.experiment,
        "topology": job.topology,
        "plan": job.plan,
        "disabled": job.disabled,
        "changed": job.changed,
        "replay": job.replay,
        "emit": emit,
    }


class _What(TypedDict):
    """What every kind of run is told."""

    environment: Environment
    experiment: Experiment
    topology: Topology
    plan: Plan
    disabled: tuple[str, ...]
    changed: tuple[str, ...]
    replay: str
    emit: Emit
