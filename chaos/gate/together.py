"""Experiments that the quick form runs at the same time on one load: which ones, and as which run. Pure.

    disk_corrupt      oca            borne by client                 |
    steering_dead     steering       borne by playback_apps          |  one fault phase, three verdicts
    bad_release       play_api       borne by gateway                |

A system that keeps its steady state under all of these faults keeps it under each, so each of their experiments holds,
on the rules that are its own. One that does not keep it is asked again, experiment by experiment, and nobody is accused
of what another's fault may have done.

Faults come together only where nobody has to bear two of them, and nobody bears one while another strikes itself: a
caller with two broken dependencies is another experiment than either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePath
from typing import TypeVar

from chaos.errors import Outcome
from chaos.experiment.model import Experiment, PhaseName
from chaos.experiment.plan import Plan
from chaos.experiment.plan import plan as make_plan
from chaos.experiment.selection import candidates, edges_to
from chaos.jobs import Job
from chaos.verdict.model import Verdict

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where a run's faults fall."""

    struck: frozenset[str]
    """The services that they fall on."""
    bearers: frozenset[str]
    """The services and clients that call these, and have to do without them."""
    about: frozenset[str] = frozenset()
    """Services and clients that the experiment names among its tags: what is wrong with them is in its figures."""

    def meets(self, other: Reach) -> bool:
        """Return whether somebody would have to do with the faults of both."""
        return bool((self.struck | self.bearers | self.about) & (other.struck | other.bearers | other.about))


def reach_of(job: Job) -> Reach:
    """Return where a job's faults fall. Surges fall on everybody, and are no part of it."""
    topology, selectors = job.topology, [entry.selector for entry in job.experiment.faults]
    edges = chain.from_iterable(edges_to(one, topology, candidates(one, topology)) for one in selectors)
    return Reach(
        struck=frozenset(one.service for one in selectors),
        bearers=frozenset(edge.caller_service for edge in edges),
        about=frozenset({*topology.services, *topology.clients} & set(job.experiment.tags)),
    )


def grouped(things: Sequence[T], job_of: Callable[[T], Job], most: int) -> list[list[T]]:
    """Return the things in groups of at most ``most`` that can be run at the same time, in the order of their first.

    Greedy: whoever can go with the fewest others chooses first, and of those that it can go with takes the one with
    the fewest others; of equals the first one. All are of one load.
    """
    reaches = [reach_of(job_of(thing)) for thing in things]
    left = set(range(len(things)))
    groups: list[list[int]] = []

    def friends(of: int) -> int:
        return sum(1 for other in left if other != of and not reaches[of].meets(reaches[other]))

    while left:
        first = min(left, key=lambda one: (friends(one), one))
        group = [first]
        left.remove(first)
        while len(group) < most:
            fitting = [one for one in left if not any(reaches[one].meets(reaches[other]) for other in group)]
            if not fitting:
                break
            taken = min(fitting, key=lambda one: (friends(one), one))
            group.append(taken)
            left.remove(taken)
        groups.append(sorted(group))
    return [[things[one] for one in group] for group in sorted(groups)]


def join(jobs: Sequence[Job]) -> Job:
    """Return the one run that makes all of these jobs at the same time; a single job is returned as it is.

    All faults come at their moments, on the victims that they have in a run of their own, and every rule is watched.
    """
    if len(jobs) == 1:
        return jobs[0]
    first = jobs[0]
    parts = tuple(jobs)
    experiments = [job.experiment for job in jobs]
    experiment = replace(
        first.experiment,
        file=first.experiment.file.with_name("+".join(one.file.stem for one in experiments)),
        title=" + ".join(one.title for one in experiments),
        phases={name: max(one.phases[name] for one in experiments) for name in PhaseName},
        load=replace(first.experiment.load, max_start_lag_s=max(one.load.max_start_lag_s for one in experiments)),
        faults=tuple(chain.from_iterable(one.faults for one in experiments)),
        steady_state=_once(chain.from_iterable(one.steady_state for one in experiments)),
        must_break=_once(chain.from_iterable(one.must_break for one in experiments)),
        abort_when=_once(chain.from_iterable(one.abort_when for one in experiments)),
        verdict=replace(
            first.experiment.verdict,
            extend_s=max(one.verdict.extend_s for one in experiments),
            max_taken=min(one.verdict.max_taken for one in experiments),
        ),
        recover_within_s=max(one.recover_within_s or 0.0 for one in experiments) or None,
        metastability=None,
        control=None,
        tags=_once(chain.from_iterable(one.tags for one in experiments)),
    )
    return replace(
        first,
        experiment=experiment,
        plan=_joint_plan(experiment, first, jobs),
        replay=_joint_replay(jobs),
        warm_up_s=max(job.warm_up_s for job in jobs),
        parts=parts,
    )


def _joint_plan(experiment: Experiment, first: Job, jobs: Iterable[Job]) -> Plan:
    """Return the plan of all faults, each with the victims that its own plan has drawn."""
    whole = make_plan(experiment, first.topology, first.plan.seed)
    own = chain.from_iterable(job.plan.faults for job in jobs)
    faults = tuple(
        replace(planned, instances=one.instances, victims=one.victims)
        for planned, one in zip(whole.faults, own, strict=True)
    )
    return replace(whole, faults=faults)


def _joint_replay(jobs: Sequence[Job]) -> str:
    """Return the command that repeats them together: the first one's, with the other files behind its own."""
    head, _, options = jobs[0].replay.partition(" --")
    files = [job.replay.partition(" --")[0].removeprefix("chaos gate ") for job in jobs[1:]]
    return f"{' '.join([head, *files])} --{options}"


def told_apart(part: Verdict, others: Sequence[str]) -> Verdict:
    """Return what a run together with ``others`` (their files) says about one experiment.

    What held under more faults than its own, held. Of everything else nobody knows whose doing it was.
    """
    names = " and ".join(PurePath(other).stem for other in others)
    if part.outcome is Outcome.INTERRUPTED:
        return replace(part, together=tuple(others))
    if part.outcome is Outcome.HELD:
        said = f"the faults of {names} were there at the same time"
        return replace(part, together=tuple(others), reasons=(*part.reasons, said))
    said = f"with the faults of {names} at the same time it was {part.outcome}, and nobody knows whose doing that was"
    return replace(part, outcome=Outcome.INCONCLUSIVE, together=tuple(others), reasons=(said, *part.reasons))


def _once(things: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(things))
