"""Which experiments are run at the same time, as which run, and what that says about each of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.errors import Outcome
from chaos.experiment.model import PhaseName
from chaos.experiment.plan import overlaps
from chaos.gate.forms import QUICK_TOGETHER, Entry, Quick, entries_of, groups_of
from chaos.gate.together import grouped, join, reach_of, told_apart
from chaos.jobs import Form, Job, start_of
from tests.unit.gate.building import shipped, verdict

ALL = [entry.job for entry in entries_of(shipped(), Quick())]
STANDING = [job for job in ALL if job.form is Form.STANDING]


def quick(*names: str) -> list[Job]:
    """The jobs of these experiments in the quick form, in this order."""
    made = {entry.job.experiment.file.stem: entry.job for entry in entries_of(shipped(*names), Quick())}
    return [made[name.rpartition("/")[2]] for name in names]


def test_a_fault_reaches_what_it_falls_on_those_who_call_it_and_what_its_experiment_is_about():
    cached, boxes, partition = map(reach_of, quick("cache_outage", "oca_outage", "cache_control_partition"))
    assert cached.struck == {"cache"}
    assert cached.bearers == {"discovery_api", "pipeline", "playback_apps"}
    assert (boxes.struck, boxes.bearers) == ({"oca"}, {"client"})
    assert (partition.struck, partition.bearers) == ({"cache_control"}, {"oca"}), "`from: oca` leaves steering alone"
    assert partition.about >= {"steering"}, "but it is about steering, as its tags say"
    assert not cached.meets(boxes)
    assert boxes.meets(partition), "a box would bear one and be struck by the other"
    assert partition.meets(partition)


def test_nobody_meets_the_faults_of_two():
    for group in groups_of([Entry(job=job, again=job) for job in ALL], Quick()):
        assert len(group) <= QUICK_TOGETHER
        for one, other in combinations(group, 2):
            assert not reach_of(one.job).meets(reach_of(other.job))
            assert one.job.load == other.job.load
            assert start_of(one.job) == start_of(other.job)
            assert one.job.form is Form.STANDING
        joined = join([entry.job for entry in group])
        assert overlaps(joined.plan, joined.experiment.file) == [], "each has drawn its victims for itself"


def test_the_shipped_experiments_take_half_as_many_runs():
    entries = entries_of(shipped(), Quick())
    alone, together = groups_of(entries, Quick(together=1)), groups_of(entries, Quick())
    assert [len(group) for group in alone] == [1] * len(entries)
    assert len(together) <= 0.6 * len(alone)
    for groups in (alone, together):
        assert sorted(entry.job.replay for group in groups for entry in group) == sorted(
            entry.job.replay for entry in entries
        )


def test_the_full_form_runs_everything_alone():
    entries = entries_of(shipped("gateway_kill", "oca_outage"), None)
    assert groups_of(entries, None) == [[entry] for entry in entries]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(STANDING), max_size=12), st.integers(1, 4))
def test_grouping_loses_nothing_and_never_brings_together_who_would_meet(jobs, most):
    groups = grouped(list(enumerate(jobs)), lambda thing: thing[1], most)
    assert sorted(number for group in groups for number, _ in group) == list(range(len(jobs)))
    assert all(1 <= len(group) <= most for group in groups)
    assert [group[0] for group in groups] == sorted((group[0] for group in groups), key=lambda thing: thing[0])
    for group in groups:
        for (_, one), (_, other) in combinations(group, 2):
            assert not reach_of(one).meets(reach_of(other))


def test_one_job_alone_is_that_job():
    (job,) = quick("gateway_kill")
    assert join([job]) is job


def test_a_joint_run_has_all_faults_on_the_victims_of_each_and_watches_every_rule():
    jobs = quick("oca_outage", "gateway_kill", "steering_latency")
    joint = join(jobs)
    own = [planned for job in jobs for planned in job.plan.faults]
    assert [planned.victims for planned in joint.plan.faults] == [planned.victims for planned in own]
    assert [planned.entry for planned in joint.plan.faults] == [planned.entry for planned in own]
    assert [planned.at_s for planned in joint.plan.faults] == [planned.at_s for planned in own]
    assert [planned.name for planned in joint.plan.faults] == ["1-kill", "2-pause", "3-kill", "4-latency"]
    rules = {rule for job in jobs for rule in job.experiment.steady_state}
    assert set(joint.experiment.steady_state) == rules
    assert len(joint.experiment.steady_state) == len(rules), "each once"
    assert joint.parts == tuple(jobs)
    assert joint.load == jobs[0].load
    assert start_of(joint) == start_of(jobs[0])
    assert joint.experiment.control is None


def test_a_joint_run_lasts_as_long_as_the_longest_of_its_parts_takes():
    creeping, drip = jobs = quick("edge/creeping_release", "cdn/boxes_drip")
    joint = join(jobs)
    assert joint.experiment.phases[PhaseName.FAULT] == creeping.experiment.phases[PhaseName.FAULT]
    assert joint.experiment.phases[PhaseName.FAULT] > drip.experiment.phases[PhaseName.FAULT]
    assert joint.warm_up_s == drip.warm_up_s == 16.0
    end_s = joint.plan.phases[PhaseName.FAULT][1]
    assert all(planned.until_s >= end_s for planned in joint.plan.faults), "a fault without an end lasts until healing"


def test_a_joint_run_is_repeated_by_one_command():
    joint = join(quick("oca_outage", "gateway_kill"))
    command, *words = joint.replay.split(" --")
    assert command.split()[:2] == ["chaos", "gate"]
    assert [word.rpartition("/")[2] for word in command.split()[2:]] == ["oca_outage.yaml", "gateway_kill.yaml"]
    assert words == ["seed 1", "quick"]


def test_what_held_beside_others_held_and_says_beside_whom():
    told = told_apart(verdict(reasons=("all well",)), ["experiments/oca_outage.yaml", "experiments/store_slow.yaml"])
    assert told.outcome is Outcome.HELD
    assert told.reasons == ("all well", "the faults of oca_outage and store_slow were there at the same time")
    assert told.together == ("experiments/oca_outage.yaml", "experiments/store_slow.yaml")


@pytest.mark.parametrize("outcome", [Outcome.VIOLATED, Outcome.INCONCLUSIVE, Outcome.ERROR])
def test_nobody_is_accused_of_what_another_fault_may_have_done(outcome):
    told = told_apart(verdict(outcome, reasons=("it broke",)), ["experiments/oca_outage.yaml"])
    assert told.outcome is Outcome.INCONCLUSIVE
    assert told.reasons == (
        f"with the faults of oca_outage at the same time it was {outcome}, and nobody knows whose doing that was",
        "it broke",
    )


def test_an_interruption_stays_one():
    assert told_apart(verdict(Outcome.INTERRUPTED), ["a.yaml"]).outcome is Outcome.INTERRUPTED


def test_a_time_to_recover_is_asked_of_all_where_one_of_them_asks():
    one, other = quick("oca_outage", "gateway_kill")
    patient = replace(other, experiment=replace(other.experiment, recover_within_s=9.0))
    assert join([one, patient]).experiment.recover_within_s == 9.0
    silent = [replace(job, experiment=replace(job.experiment, recover_within_s=None)) for job in (one, other)]
    assert join(silent).experiment.recover_within_s is None
