"""How the gate runs each experiment, and in which order: the quick form, its own phases, or all of it. Pure.

Quick: experiments whose target, settings and load are the same share a start, a load and a baseline. They follow each
other on the load that stands; each has a short fault phase and a verified return to the steady state.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from chaos.environment import Backend
from chaos.experiment.model import Experiment, Load, PhaseName, Rule
from chaos.experiment.plan import plan as make_plan
from chaos.gate.together import grouped
from chaos.jobs import Form, Job, start_of
from chaos.load.lending import BASELINE_S, LEAD_S, WARM_UP_S
from chaos.topology.model import Measure, Topology
from chaos.verdict.recovery import WINDOW_S

T = TypeVar("T")

QUICK_RATE_PER_S = 40.0
"""Of plays, two cores carry twice as many with everything on them; faults need room, three at a time more than one."""
QUICK_FAULT_S = 4.0
"""160 arrivals at that rate, of which some are refused as they should be; what lacks samples goes on."""
QUICK_MORE_S = 4.0
"""So much longer a fault phase may last, until every rule has the samples that it takes."""
QUICK_SAMPLES = 150
"""So many samples are enough for any rule: among them at least one fails in 95 of 100 runs of a system in which 2 % do
(1 - 0.98^150). The rules keep their limits; a rule of 99.5 % takes 200 in a run of its own."""
QUICK_TOGETHER = 3
"""So many experiments at most are run at the same time."""
QUICK_START_LAG_S = 0.5
"""How late one arrival in a hundred may begin. An attempt is timed from when it was due, so that the lag
makes figures worse and never better, but for the few that were due at the very end and began after the healing."""
STORY_S = 2.0
"""A fault phase goes on for so long after the last of its faults has begun or ended."""
RETURN_LIMIT_S = 10.0
"""How long a system may take to return to the steady state where its experiment does not say."""
APART = 3
"""Experiments on the same service are kept so many others apart, where there are others: breakers that one of them
opened are closed again by then."""

_SLACK_S = 0.5
_NEAR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """What the quick form is made of."""

    rate_per_s: float = QUICK_RATE_PER_S
    """Arrivals a second of every open load, but of those that ask for fewer (``load.quick_rate``)."""
    fault_s: float = QUICK_FAULT_S
    """How long a fault phase lasts at least."""
    together: int = QUICK_TOGETHER
    """How many experiments at most are run at the same time (``chaos.gate.together``); 1: none are."""
    options: tuple[str, ...] = ("--quick",)
    """What a command that repeats a run needs, to be like it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the gate does about one experiment."""

    job: Job
    again: Job
    """What is run when that was inconclusive."""
    control: Job | None = None
    control_again: Job | None = None
    why_not_quick: str = ""
    """In the quick form: why this one has a load of its own, in words; empty when it has not."""

    left_out: tuple[str, ...] = ()
    """The rules that the quick form leaves to the full one."""

    @property
    def leaves_search_out(self) -> bool:
        """Whether the search for metastability is left to the full form."""
        return self.job.experiment.metastability is not None and not self.job.searches


def entries_of(jobs: Sequence[Job], quick: Quick | None) -> list[Entry]:
    """Return what is to be done about each experiment among ``jobs``, in the order in which it is to be done.

    Without ``quick`` every job is run as it is, in the order of the jobs.
    """
    controls = {id(job.control_of): job for job in jobs if job.control_of is not None}
    entries = []
    for job in jobs:
        if job.is_control:
            continue
        control = controls.get(id(job))
        if quick is None:
            entries.append(Entry(job=job, again=job, control=control, control_again=control))
            continue
        entries.append(
            Entry(
                job=shorten(job, quick),
                again=_again(job, quick),
                control=None if control is None else shorten(control, quick),
                control_again=None if control is None else _again(control, quick),
                why_not_quick=why_not_quick(job.experiment),
                left_out=_left_out(job),
            )
        )
    return entries if quick is None else one_by_one(entries, _job_of)


def groups_of(entries: Sequence[Entry], quick: Quick | None) -> list[list[Entry]]:
    """Return the entries in the groups that are run at the same time, in the order in which they are to be run."""
    if quick is None:
        return [[entry] for entry in entries]
    return arrange(entries, _job_of, together=quick.together)


def _job_of(entry: Entry) -> Job:
    return entry.job


def why_not_quick(experiment: Experiment) -> str:
    """Return in words why an experiment cannot be judged on a load that stands; empty when it can."""
    if experiment.load.surges:
        return "its load has a surge"
    if experiment.load.control_group:
        return "a group of its accounts has too few attempts in a few seconds"
    return ""


def shorten(job: Job, quick: Quick) -> Job:
    """Return the job in the quick form: on a load that stands, or, where that will not do, on its own and brief."""
    experiment = job.experiment
    own = experiment.phases
    recovery_s = (experiment.recover_within_s or RETURN_LIMIT_S) + WINDOW_S + _SLACK_S
    if why_not_quick(experiment):
        all_of_it = experiment.load.control_group > 0.0
        phases = {
            PhaseName.WARM_UP: min(own[PhaseName.WARM_UP], WARM_UP_S),
            PhaseName.BASELINE: min(own[PhaseName.BASELINE], BASELINE_S),
            PhaseName.FAULT: own[PhaseName.FAULT] if all_of_it else fault_phase_s(experiment, quick.fault_s),
            PhaseName.RECOVERY: recovery_s,
        }
        rules = judged_quickly(experiment.steady_state, job.topology)
        brief = replace(experiment, phases=phases, steady_state=rules, load=_patient(experiment.load))
        return _changed(job, brief, quick, form=Form.BRIEF)
    phases = {
        PhaseName.WARM_UP: 0.0,
        PhaseName.BASELINE: BASELINE_S + LEAD_S,
        PhaseName.FAULT: fault_phase_s(experiment, quick.fault_s),
        PhaseName.RECOVERY: recovery_s,
    }
    short = replace(
        experiment,
        phases=phases,
        load=_at_the_gates_rate(_patient(experiment.load), quick.rate_per_s),
        steady_state=judged_quickly(experiment.steady_state, job.topology),
        verdict=replace(experiment.verdict, samples_most=QUICK_SAMPLES, extend_s=QUICK_MORE_S),
    )
    warm_up_s = own[PhaseName.WARM_UP] if own[PhaseName.WARM_UP] > _USUAL_WARM_UP_S else 0.0
    return replace(_changed(job, short, quick, form=Form.STANDING), warm_up_s=warm_up_s)


def _at_the_gates_rate(load: Load, rate_per_s: float) -> Load:
    """Return the load at the gate's rate, or at the one that it asks for where that is less; a closed one has none."""
    if load.rate_per_s == 0.0:
        return replace(load, own_rate_per_s=0.0)
    most_per_s = rate_per_s if load.quick_rate_per_s is None else load.quick_rate_per_s
    return replace(load, rate_per_s=min(rate_per_s, most_per_s), own_rate_per_s=load.rate_per_s)


_USUAL_WARM_UP_S = 5.0
"""An experiment that asks for more has a reason, and gets it."""


def judged_quickly(rules: Sequence[Rule], topology: Topology) -> tuple[Rule, ...]:
    """Return the rules that a baseline and a fault phase of a few seconds can decide.

    A rate counts what ends in the phase. When every answer takes 0.3 s longer, 0.3 s worth of them end after it: 3 % of
    ten seconds and 8 % of four, with nothing lost. Where a share of the same attempts is asked for as well, which
    counts each of them whenever it ends, the rate is left to the full form.
    """
    metrics = topology.metrics
    shares = {metrics[rule.metric].of for rule in rules if metrics[rule.metric].measure is Measure.SHARE}
    return tuple(
        rule
        for rule in rules
        if metrics[rule.metric].measure is not Measure.RATE or metrics[rule.metric].of not in shares
    )


def fault_phase_s(experiment: Experiment, least_s: float) -> float:
    """Return how long the quick form's fault phase lasts, in seconds.

    At least ``least_s``, and until ``STORY_S`` after the last fault or surge has begun or ended: one that creeps in
    over four seconds is not told in three. Never longer than the experiment's own.
    """
    moments = [entry.at_s + (entry.for_s or 0.0) for entry in experiment.faults]
    moments += [surge.at_s + (surge.for_s or 0.0) for surge in experiment.load.surges]
    return min(experiment.phases[PhaseName.FAULT], max(least_s, max(moments, default=0.0) + STORY_S))


def _again(job: Job, quick: Quick) -> Job:
    """Return the second attempt: all of the fault phase, at the experiment's own rate, on a load of its own."""
    load = _patient(job.experiment.load)
    rules = judged_quickly(job.experiment.steady_state, job.topology)
    replay = job.replay
    if load != job.experiment.load:
        replay += f" --set load.max_start_lag={load.max_start_lag_s * 1000:g}ms"
    return _changed(job, replace(job.experiment, steady_state=rules, load=load), quick, form=Form.BRIEF, replay=replay)


def _patient(load: Load) -> Load:
    return replace(load, max_start_lag_s=max(load.max_start_lag_s, QUICK_START_LAG_S))


def _left_out(job: Job) -> tuple[str, ...]:
    judged = judged_quickly(job.experiment.steady_state, job.topology)
    return tuple(rule.text for rule in job.experiment.steady_state if rule not in judged)


def _changed(job: Job, experiment: Experiment, quick: Quick, *, form: Form, replay: str | None = None) -> Job:
    said = " ".join([job.replay.replace("chaos run", "chaos gate", 1), *quick.options])
    return replace(
        job,
        experiment=experiment,
        plan=make_plan(experiment, job.topology, job.plan.seed),
        form=form,
        replay=said if replay is None else replay,
    )


def quick_backend(jobs: Iterable[Job], asked: Backend) -> Backend:
    """Return the proxy server for the quick form: one for all, so that the target need not be started for another."""
    return Backend.EMBEDDED if asked is Backend.AUTO and any(job.experiment.needs_embedded for job in jobs) else asked


# -- the order --------------------------------------------------------------------------------------------------------


def arrange(things: Sequence[T], job_of: Callable[[T], Job], *, together: int = 1) -> list[list[T]]:
    """Return the things so that starts of the target and of loads are few, in groups of at most ``together``.

    Those of one start come together, and of these: first those with a load of their own, then load by load those on one
    that stands, which may be run at the same time. Late in a load comes what needs it to have been there for long, and
    last what leaves traces in the target, because the target is started anew after it.
    """
    ordered: list[list[T]] = []
    for start in _together(things, lambda thing: _start_key(job_of(thing))):
        ordered += [[thing] for thing in start if job_of(thing).form is not Form.STANDING]
        standing = [thing for thing in start if job_of(thing).form is Form.STANDING]
        for load in _together(standing, lambda thing: _load_key(job_of(thing))):
            groups = grouped(load, job_of, together)
            for wanted in ((False, False), (False, True), (True, False), (True, True)):
                alike = [group for group in groups if _traces_and_late(group, job_of) == wanted]
                ordered += keep_apart(alike, lambda group: _services(group, job_of))
    return ordered


def one_by_one(things: Sequence[T], job_of: Callable[[T], Job]) -> list[T]:
    """Return the things in that order, each on its own."""
    return list(chain.from_iterable(arrange(things, job_of)))


def _traces_and_late(group: Sequence[T], job_of: Callable[[T], Job]) -> tuple[bool, bool]:
    jobs = [job_of(thing) for thing in group]
    return any(job.experiment.leaves_traces for job in jobs), any(job.warm_up_s > 0.0 for job in jobs)


def starts_of(jobs: Iterable[Job]) -> tuple[int, int]:
    """Return how many starts of the target, and how many loads, these jobs take in this order when all goes well."""
    starts = loads = 0
    before: Job | None = None
    for job in jobs:
        worn = before is not None and before.experiment.leaves_traces
        same_start = before is not None and not worn and start_of(before) == start_of(job)
        starts += not same_start
        both_stand = before is not None and before.form is job.form is Form.STANDING
        loads += not (same_start and both_stand and before is not None and before.load == job.load)
        before = job
    return starts, loads


def keep_apart(things: Sequence[T], services_of: Callable[[T], frozenset[str]]) -> list[T]:
    """Return the things so that those on the same services do not follow each other closely, as far as that goes.

    Greedy: of those whose services were hit the longest ago, the one whose service has the most left; of equals the
    first one.
    """
    left, ordered = list(things), []
    recent: deque[frozenset[str]] = deque(maxlen=APART)
    while left:
        still = Counter(service for thing in left for service in services_of(thing))

        def cost(thing: T, still: Counter[str] = still) -> tuple[int, int]:
            services = services_of(thing)
            near = sum(_NEAR**place for place, one in enumerate(recent) if services & one)  # the last one counts most
            return near, -max((still[service] for service in services), default=0)

        best = min(left, key=cost)
        left.remove(best)
        ordered.append(best)
        recent.append(services_of(best))
    return ordered


def _services(group: Sequence[T], job_of: Callable[[T], Job]) -> frozenset[str]:
    return frozenset(entry.selector.service for thing in group for entry in job_of(thing).experiment.faults)


def _start_key(job: Job) -> Hashable:
    start = start_of(job)
    return (str(job.topology.file), job.topology.scaled, *start[1:])


def _load_key(job: Job) -> Hashable:
    load = job.load
    return (load.locustfile, load.rate_per_s, load.workers, tuple(sorted(load.settings.items())))


def _together(things: Iterable[T], key_of: Callable[[T], Hashable]) -> list[list[T]]:
    """Return the things group by group, groups in the order of their first one."""
    groups: dict[Hashable, list[T]] = {}
    for thing in things:
        groups.setdefault(key_of(thing), []).append(thing)
    return list(groups.values())
