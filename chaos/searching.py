"""The search for metastability, carried out: probes one after the other on a suite, until it is known or enough.

A probe is a run of its own, with its own load. It may use the target of the one before only when that one has
recovered, which its last seconds showed; after every other answer the target is started anew, so that a state that
stays down does not leak into the next probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from chaos.errors import Outcome
from chaos.events import Emit, MetastabilitySearched, ProbeEnded
from chaos.experiment.model import Experiment, Metastability
from chaos.experiment.plan import plan as make_plan
from chaos.jobs import Job, worst
from chaos.metastability.finding import Finding
from chaos.metastability.model import Answer
from chaos.metastability.probing import at_rate, changes_of, counts_as_probe, not_healthy_again, probe_of
from chaos.metastability.search import ThresholdSearch
from chaos.reports.document import verdict_document
from chaos.reports.metastability import probe_in_words
from chaos.suite import Suite
from chaos.verdict.model import Verdict

Tell = Callable[[str], None]
"""Where a line goes about each probe, as it ends."""


async def run_all(suite: Suite, jobs: Iterable[Job], *, emit: Emit, tell: Tell) -> None:
    """Run every job, and behind each one that asks for it the search; then end the target and the load."""
    try:
        for job in jobs:
            verdict = await suite.run_one(job)
            if job.searches:
                await search(suite, job, verdict, emit=emit, tell=tell)
    finally:
        await suite.close()


async def search(suite: Suite, job: Job, first: Verdict, *, emit: Emit, tell: Tell) -> None:
    """Search, and put what was found into the last verdict of the suite, which is ``first``.

    Nothing is searched for after a run that broke off, unless it did so because the system stayed down. When the search
    is cut off itself, what was found until then is in the verdict.
    """
    settings = job.experiment.metastability
    if settings is None or (first.outcome in (Outcome.ERROR, Outcome.INTERRUPTED) and not not_healthy_again(first)):
        return
    load = job.experiment.load
    threshold = ThresholdSearch(settings, start_per_s=load.rate_per_s)
    t_s = max((phase.end_s for phase in first.phases), default=0.0)
    if counts_as_probe(job.experiment, settings):
        own = probe_of(first, rate_per_s=load.rate_per_s, max_start_lag_s=load.max_start_lag_s, own=True)
        threshold.take(own)
    if first.recovery_s is None:
        suite.renew()
    unfinished = "it was interrupted"
    try:
        while (rate_per_s := threshold.next_rate()) is not None:
            verdict = await suite.run_one(probe_job(job, settings, rate_per_s, before=threshold.tries(rate_per_s)))
            probe = probe_of(verdict, rate_per_s=rate_per_s, max_start_lag_s=load.max_start_lag_s)
            threshold.take(probe)
            if probe.answer is not Answer.RECOVERED:
                suite.renew()
            emit(
                ProbeEnded(
                    t_s=t_s,
                    rate_per_s=rate_per_s,
                    answer=probe.answer.value,
                    recovery_s=probe.recovery_s,
                    reason=probe.reason,
                    replay=probe.replay,
                )
            )
            tell(f"probe {len(threshold.probes)} (of at most {threshold.most}): {probe_in_words(probe)}")
        unfinished = f"it had made the {threshold.most} probes that it may make" if threshold.exhausted else ""
    finally:
        amended = with_finding(first, Finding(settings=settings, probes=tuple(threshold.probes), unfinished=unfinished))
        suite.amend(amended)
        emit(MetastabilitySearched(t_s=t_s, outcome=amended.outcome, verdict=verdict_document(amended)))


def probe_job(job: Job, settings: Metastability, rate_per_s: float, *, before: int) -> Job:
    """Return the probe of a job at a rate. ``before`` is how often that rate was tried; each has a seed of its own."""
    experiment = at_rate(job.experiment, settings, rate_per_s)
    seed = job.plan.seed + before
    replay = job.replay.replace(f"--seed {job.plan.seed}", f"--seed {seed}", 1)
    return replace(
        job,
        experiment=replace(experiment, title=f"{experiment.title} (probe at {experiment.load.rate_per_s:g}/s)"),
        plan=make_plan(experiment, job.topology, seed),
        replay=" ".join([replay, *(f"--set {change}" for change in changes_of(experiment))]),
        probe=True,
    )


def with_finding(verdict: Verdict, finding: Finding) -> Verdict:
    """Return the verdict with what was found; a demand that is not met makes it worse."""
    outcome, said = finding.outcome, finding.sentences()
    if outcome is None or outcome is Outcome.HELD:
        return replace(verdict, metastability=finding, reasons=(*verdict.reasons, *said))
    whole = worst([verdict.outcome, outcome])
    demand, rest = said[:1], said[1:]
    if whole is verdict.outcome:
        return replace(verdict, metastability=finding, reasons=(*verdict.reasons, *said))
    return replace(
        verdict,
        outcome=whole,
        run_outcome=verdict.outcome,
        metastability=finding,
        reasons=(*demand, *verdict.reasons, *rest),
    )


def probes_at_most(experiment: Experiment) -> tuple[int, float]:
    """Return how many further runs an experiment's search makes at most, and for how many seconds each lasts.

    To that come what it takes to start the load, and after some of them the target, and the last answers.
    """
    settings = experiment.metastability
    assert settings is not None, "asked of an experiment that does not search"
    threshold = ThresholdSearch(settings, start_per_s=experiment.load.rate_per_s)
    own = counts_as_probe(experiment, settings)
    held = at_rate(experiment, settings, experiment.load.rate_per_s)
    return threshold.most - own, sum(held.phases.values())
