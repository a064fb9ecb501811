"""Runs to be made, as data: which experiment in which form, and what experiment and control say together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from chaos.errors import Outcome
from chaos.experiment.model import Experiment, Load
from chaos.experiment.plan import Plan
from chaos.topology.model import Scalar, Topology
from chaos.verdict.model import Verdict

_SEVERITY = (Outcome.HELD, Outcome.INCONCLUSIVE, Outcome.VIOLATED, Outcome.ERROR, Outcome.INTERRUPTED)


class Form(StrEnum):
    """How a run is made."""

    FULL = "full"
    """In all its phases, on a load of its own."""
    BRIEF = "brief"
    """On a load of its own, but recovery ends as soon as the steady state holds again."""
    STANDING = "standing"
    """On a load that stands and a baseline that is lent: a fault, and the way back."""


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
    probe: bool = False
    """Whether it is a probe of a search: shown, but in no journal and among no verdicts (``chaos.searching``)."""
    form: Form = Form.FULL
    warm_up_s: float = 0.0
    """How old a load that stands must be before the baseline of this run is measured."""
    parts: tuple[Job, ...] = ()
    """The jobs that this one makes at the same time, each with its own verdict; empty as a rule."""

    @property
    def load(self) -> Load:
        """The load without what does not concern Locust: jobs with equal ones can share one that stands."""
        return replace(self.experiment.load, max_start_lag_s=0.0, surges=(), own_rate_per_s=None, quick_rate_per_s=None)

    @property
    def is_control(self) -> bool:
        """Whether it must fail."""
        return self.control_of is not None

    @property
    def searches(self) -> bool:
        """Whether a search for the load that the system no longer recovers from follows its run."""
        asked = self.experiment.metastability is not None
        return asked and self.form is Form.FULL and not self.is_control and not self.probe


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


class Start(NamedTuple):
    """What a start of the target is known by."""

    topology: Topology
    seed: int
    """Decides the target's data, and what the embedded proxy draws."""
    disabled: tuple[str, ...]
    settings: tuple[tuple[str, Scalar], ...]


def start_of(job: Job) -> Start:
    """Return how the target must have been started for a job."""
    return Start(job.topology, job.plan.seed, job.disabled, tuple(sorted(job.experiment.settings.items())))
