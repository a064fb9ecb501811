"""Which form each experiment gets in a gate, and in which order: few starts, few loads, neighbours kept apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.environment import Backend
from chaos.experiment.model import PhaseName
from chaos.gate.forms import (
    APART,
    QUICK_START_LAG_S,
    STORY_S,
    Quick,
    entries_of,
    fault_phase_s,
    judged_quickly,
    keep_apart,
    one_by_one,
    quick_backend,
    starts_of,
)
from chaos.jobs import Form, start_of
from chaos.load.lending import BASELINE_S, LEAD_S
from chaos.verdict.recovery import WINDOW_S
from tests.unit.gate.building import shipped

SERVICES = st.frozensets(st.sampled_from(["gateway", "store", "cache", "oca", "steering"]), min_size=1, max_size=2)


(JOB,) = shipped("gateway_kill")


def entry_of(name: str, **quick: float):
    (entry,) = entries_of(shipped(name), Quick(**quick))
    return entry


def test_an_experiment_becomes_a_short_fault_on_a_load_that_stands():
    entry = entry_of("gateway_kill", rate_per_s=70.0, fault_s=3.0)
    experiment, plan = entry.job.experiment, entry.job.plan
    assert entry.job.form is Form.STANDING
    assert entry.why_not_quick == ""
    assert experiment.load.rate_per_s == 70.0
    assert experiment.phases[PhaseName.FAULT] == 3.0
    # The lent baseline and what really went before the fault: the run's seconds begin with them.
    assert plan.phases[PhaseName.FAULT][0] == BASELINE_S + LEAD_S
    # Long enough to see that it did not recover in time.
    assert experiment.phases[PhaseName.RECOVERY] >= experiment.recover_within_s + WINDOW_S


def test_an_experiment_may_ask_for_fewer_arrivals_than_the_gate_has_for_the_others():
    (job,) = shipped("gateway_kill")
    dear = replace(job, experiment=replace(job.experiment, load=replace(job.experiment.load, quick_rate_per_s=20.0)))
    for gates_per_s, expected_per_s in ((40.0, 20.0), (15.0, 15.0)):
        (entry,) = entries_of([dear], Quick(rate_per_s=gates_per_s))
        assert entry.job.experiment.load.rate_per_s == expected_per_s
        assert entry.job.experiment.load.own_rate_per_s == job.experiment.load.rate_per_s
        assert entry.again.experiment.load.rate_per_s == job.experiment.load.rate_per_s, "and its own when asked again"


def test_a_load_that_makes_its_own_arrivals_has_no_rate_in_the_quick_form_either():
    (job,) = shipped("gateway_kill")
    closed = replace(job, experiment=replace(job.experiment, load=replace(job.experiment.load, rate_per_s=0.0)))
    (entry,) = entries_of([closed], Quick())
    assert entry.job.experiment.load.rate_per_s == 0.0


def test_a_rate_is_left_to_the_full_form_where_a_share_of_the_same_attempts_is_judged():
    entry = entry_of("gateway_kill")
    (job,) = shipped("gateway_kill")
    assert entry.left_out == ("sps >= 95% of baseline",)
    assert entry.job.experiment.steady_state == tuple(
        rule for rule in job.experiment.steady_state if rule.metric != "sps"
    )
    assert entry.again.experiment.steady_state == entry.job.experiment.steady_state, "and in the second attempt"
    rate_alone = tuple(rule for rule in job.experiment.steady_state if rule.metric == "sps")
    assert judged_quickly(rate_alone, entry.job.topology) == rate_alone


def test_the_same_victims_are_chosen_in_every_form():
    (job,) = shipped("gateway_kill")
    entry = entry_of("gateway_kill")
    assert entry.job.plan.faults[0].victims == entry.again.plan.faults[0].victims == job.plan.faults[0].victims


def test_a_second_attempt_has_all_of_the_fault_phase_at_the_experiments_own_rate():
    (job,) = shipped("gateway_kill")
    again = entry_of("gateway_kill").again
    assert again.form is Form.BRIEF
    assert again.experiment.phases == job.experiment.phases
    assert again.experiment.load == replace(job.experiment.load, max_start_lag_s=QUICK_START_LAG_S)
    assert again.replay == f"{job.replay} --set load.max_start_lag=500ms"


def test_a_load_that_may_be_later_than_that_stays_as_it_is():
    (job,) = shipped("gateway_kill")
    patient = replace(job.experiment, load=replace(job.experiment.load, max_start_lag_s=2.0))
    (entry,) = entries_of([replace(job, experiment=patient)], Quick())
    assert entry.again.experiment.load == patient.load
    assert entry.again.replay == job.replay


def test_a_replay_of_the_quick_form_says_so():
    (entry,) = entries_of(shipped("gateway_kill"), Quick(options=("--quick", "--quick-rate", "70/s")))
    assert entry.job.replay.startswith("chaos gate ")
    assert entry.job.replay.endswith("gateway_kill.yaml --seed 1 --quick --quick-rate 70/s")


def test_a_surge_needs_a_load_of_its_own_and_is_told_so():
    entry = entry_of("play/thundering_herd")
    (job,) = shipped("play/thundering_herd")
    assert entry.job.form is Form.BRIEF
    assert entry.why_not_quick == "its load has a surge"
    assert entry.job.experiment.load == replace(job.experiment.load, max_start_lag_s=QUICK_START_LAG_S)
    assert entry.job.plan.surges[0].rate_per_s == 30.0
    assert entry.job.experiment.phases[PhaseName.FAULT] == 3.0 + 4.0 + STORY_S, "until its story is told"


def test_a_control_group_needs_the_whole_fault_phase_and_is_told_so():
    entry = entry_of("play/one_fifth_unranked")
    (job,) = shipped("play/one_fifth_unranked")
    assert entry.job.form is Form.BRIEF
    assert entry.why_not_quick == "a group of its accounts has too few attempts in a few seconds"
    assert entry.job.load.control_group == 0.2
    assert entry.job.experiment.phases[PhaseName.FAULT] == job.experiment.phases[PhaseName.FAULT]
    assert entry.job.experiment.steady_state == job.experiment.steady_state[:-1], "but for the rate"


def test_a_fault_that_creeps_in_is_told_to_its_end():
    (job,) = shipped("edge/creeping_release")
    assert [fault.at_s for fault in job.experiment.faults] == [0.0, 2.0, 4.0]
    assert fault_phase_s(job.experiment, 3.0) == 6.0
    assert fault_phase_s(job.experiment, 60.0) == job.experiment.phases[PhaseName.FAULT]


def test_a_load_that_warms_up_slowly_is_given_the_time():
    assert entry_of("cdn/boxes_drip").job.warm_up_s == 16.0
    assert entry_of("gateway_kill").job.warm_up_s == 0.0


def test_the_full_form_is_the_jobs_as_they_are_in_their_order():
    jobs = shipped("gateway_kill", "oca_outage", control=True)
    entries = entries_of(jobs, None)
    assert [entry.job for entry in entries] == [job for job in jobs if not job.is_control]
    assert [entry.control for entry in entries] == [job for job in jobs if job.is_control]
    assert all(entry.job.form is Form.FULL for entry in entries)


def test_controls_get_the_quick_form_too_on_starts_of_their_own():
    (entry,) = entries_of(shipped("gateway_kill", control=True), Quick())
    assert entry.control.form is Form.STANDING
    assert entry.control.disabled == ("isolation", "client_retry")
    assert start_of(entry.control) != start_of(entry.job)
    assert entry.control_again.form is Form.BRIEF


def test_all_shipped_experiments_take_few_starts_and_few_loads():
    jobs = shipped()
    entries = entries_of(jobs, Quick())
    assert sorted(str(entry.job.experiment.file) for entry in entries) == sorted(
        str(one.experiment.file) for one in jobs
    )
    starts, loads = starts_of([entry.job for entry in entries])
    # One for each set of settings, and one more behind each experiment that leaves something in the target.
    settings = {tuple(sorted(job.experiment.settings.items())) for job in jobs}
    traces = sum(job.experiment.leaves_traces for job in jobs)
    assert starts <= len(settings) + traces
    own = sum(entry.job.form is Form.BRIEF for entry in entries)
    kinds_of_load = {tuple(sorted(job.load.settings.items())) for job in jobs}
    assert loads <= starts + own + len(kinds_of_load)
    assert starts_of([entry.job for entry in reversed(entries)])[0] >= starts


def test_what_leaves_traces_comes_last_of_its_load():
    entries = entries_of(shipped("cdn/disk_full", "gateway_kill", "oca_outage"), Quick())
    assert entries[-1].job.experiment.leaves_traces
    assert starts_of([entry.job for entry in entries]) == (1, 1)


def test_one_proxy_serves_all_where_one_experiment_needs_the_embedded_one():
    some = shipped("gateway_kill", "black_hole_store")
    assert quick_backend(some, Backend.AUTO) is Backend.EMBEDDED
    assert quick_backend(some, Backend.TOXIPROXY) is Backend.TOXIPROXY
    assert quick_backend(shipped("gateway_kill"), Backend.AUTO) is Backend.AUTO


@given(st.lists(SERVICES, max_size=30))
def test_keeping_apart_loses_nothing_and_is_decided_by_the_list_alone(services):
    things = list(enumerate(services))
    ordered = keep_apart(things, lambda thing: thing[1])
    assert sorted(ordered) == sorted(things)
    assert ordered == keep_apart(things, lambda thing: thing[1])


@given(st.permutations(["gateway", "store", "cache", "oca", "steering"] * 3))
def test_experiments_on_one_service_are_kept_apart_where_there_are_others(services):
    ordered = keep_apart(services, lambda service: frozenset({service}))
    for place, service in enumerate(ordered):
        assert service not in ordered[max(0, place - APART) : place]


@settings(max_examples=40)
@given(st.permutations(range(12)), st.data())
def test_arranging_keeps_everything_and_every_start_and_load_together(order, data):
    jobs = [
        replace(
            JOB,
            form=data.draw(st.sampled_from([Form.STANDING, Form.BRIEF])),
            disabled=data.draw(st.sampled_from([(), ("isolation",)])),
            experiment=replace(
                JOB.experiment, load=replace(JOB.experiment.load, rate_per_s=data.draw(st.sampled_from([30.0, 60.0])))
            ),
            replay=str(number),
        )
        for number in order
    ]
    ordered = one_by_one(jobs, lambda one: one)
    assert sorted(one.replay for one in ordered) == sorted(one.replay for one in jobs)
    starts_in_a_row = [disabled for disabled, _ in groupby(one.disabled for one in ordered)]
    assert len(starts_in_a_row) == len(set(starts_in_a_row))
    starts, loads = starts_of(ordered)
    assert starts == len({one.disabled for one in jobs})
    standing = {(one.disabled, one.load.rate_per_s) for one in jobs if one.form is Form.STANDING}
    assert loads == len(standing) + sum(one.form is Form.BRIEF for one in jobs)


@pytest.mark.parametrize("rate", [0.0, 30.0])
def test_a_closed_load_stays_a_closed_load(rate):
    (job,) = shipped("gateway_kill")
    changed = replace(job, experiment=replace(job.experiment, load=replace(job.experiment.load, rate_per_s=rate)))
    (entry,) = entries_of([changed], Quick(rate_per_s=60.0))
    assert entry.job.experiment.load.rate_per_s == (60.0 if rate else 0.0)
