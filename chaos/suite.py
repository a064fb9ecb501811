"""Several runs in a row: experiments and their controls, on as few starts of the target as possible.

All experiments of one target at one scale run on one start, one after the other; then each control gets a start of
its own, because a protection is switched off when a service starts. The runs themselves are ``chaos.runner``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from chaos.environment import Backend, Environment
from chaos.errors import EnvironmentFailure, Outcome
from chaos.events import Emit, Event, Note, RunEnded
from chaos.experiment.model import Experiment
from chaos.experiment.plan import Plan
from chaos.load.driver import LoadDriver
from chaos.reports.document import verdict_document
from chaos.reports.views import View
from chaos.runner import DRAIN_LIMIT_S, HEAL_LIMIT_S, Run
from chaos.topology.model import Scalar, Topology
from chaos.verdict.model import Verdict

_SEVERITY = (Outcome.HELD, Outcome.INCONCLUSIVE, Outcome.VIOLATED, Outcome.ERROR, Outcome.INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to be made."""

    experiment: Experiment
    topology: Topology
    plan: Plan
    disabled: tuple[str, ...]
    """Protections switched off; empty for the experiment itself."""
    replay: str
    """The command that repeats it."""
    control_of: Job | None = None
    """The experiment whose control this is; None for an experiment."""
    changed: tuple[str, ...] = ()
    """What else is different in a control, each as ``key=value``."""

    @property
    def is_control(self) -> bool:
        """Whether it must fail."""
        return self.control_of is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An experiment's verdict, and its control's where one was run."""

    job: Job
    verdict: Verdict
    control: Verdict | None = None

    @property
    def outcome(self) -> Outcome:
        """The verdict's outcome, beside the control's where one was run."""
        return self.verdict.outcome if self.control is None else self.verdict.outcome.beside(self.control.outcome)


def backend_for(job: Job, asked: Backend) -> Backend:
    """Return the proxy server that a job needs: what was asked for, or the embedded one where nothing else will do."""
    return Backend.EMBEDDED if asked is Backend.AUTO and job.experiment.needs_embedded else asked


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the most severe outcome: interrupted, error, violated, inconclusive, held."""
    return max(outcomes, key=_SEVERITY.index, default=Outcome.HELD)


def pair_results(verdicts: Sequence[tuple[Job, Verdict]]) -> list[Result]:
    """Put each experiment's verdict and its control's together, in the order of the experiments."""
    controls = {id(job.control_of): verdict for job, verdict in verdicts if job.is_control}
    return [
        Result(job=job, verdict=verdict, control=controls.get(id(job)))
        for job, verdict in verdicts
        if not job.is_control
    ]


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
        self._environment: Environment | None = None
        self._backend = options.backend
        self._backend_name = "none"
        self._started_as: tuple[Topology, tuple[str, ...], tuple[tuple[str, Scalar], ...]] | None = None
        self._worn = False  # whether a fault has left something in the target that only its end takes away
        self._stack = contextlib.AsyncExitStack()
        self.verdicts: list[tuple[Job, Verdict]] = []

    async def run(self, jobs: Iterable[Job]) -> None:
        """Run every job; verdicts are in ``verdicts``, in order. The next job is asked for when one is done.

        An environment that cannot be started becomes a verdict ``error`` of its job, and the next job tries again.
        """
        try:
            for number, job in enumerate(jobs, start=1):
                with self._view_for(job) as view:
                    self._view = view
                    try:
                        verdict = await self._run_one(number, job)
                    finally:
                        self._view = None
                if verdict.outcome is Outcome.ERROR:
                    await self._close_environment()
        finally:
            await self._close_environment()

    async def _run_one(self, number: int, job: Job) -> Verdict:
        """Make one run; its verdict is kept even when it is cut off. Every way out has emitted ``RunEnded``."""
        run: Run | None = None
        try:
            environment = await self._environment_for(job)
            load = await self._ready(environment, number, job)
            try:
                run = Run(
                    environment=environment,
                    experiment=job.experiment,
                    topology=job.topology,
                    plan=job.plan,
                    load=load,
                    disabled=job.disabled,
                    changed=job.changed,
                    replay=job.replay,
                    emit=self._emit,
                )
                verdict = await run.execute()
            finally:
                self._worn = job.experiment.leaves_traces
                await load.stop()
        except EnvironmentFailure as failure:
            verdict = self._broken_off(job, Outcome.ERROR, (str(failure), *failure.details))
        except asyncio.CancelledError:
            cut_off = run.verdict if run is not None else None
            if cut_off is None:
                cut_off = self._broken_off(job, Outcome.INTERRUPTED, ("interrupted before the first phase began",))
            self.verdicts.append((job, cut_off))
            raise
        except Exception as mistake:
            said = f"a mistake in chaos itself: {type(mistake).__name__}: {mistake}"
            self.verdicts.append((job, self._broken_off(job, Outcome.ERROR, (said,))))
            raise
        self.verdicts.append((job, verdict))
        return verdict

    async def _environment_for(self, job: Job) -> Environment:
        backend = backend_for(job, self._options.backend)
        if self._environment is not None and self._started_as is not None:
            if (self._started_as[0], self._backend) == (job.topology, backend):
                return self._environment
            await self._close_environment()
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
        wanted = (job.topology, job.disabled, tuple(sorted(job.experiment.settings.items())))
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
            duration_s=job.plan.duration_s + HEAL_LIMIT_S + DRAIN_LIMIT_S,
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

    async def _close_environment(self) -> None:
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()
        self._environment = None
        self._started_as = None

    def _emit(self, event: Event) -> None:
        for sink in self._sinks:
            sink(event)
        if self._view is not None:
            self._view.handle(event)
