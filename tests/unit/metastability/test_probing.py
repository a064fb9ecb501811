"""A probe is the experiment at another rate; and what a run of it says, which is not what its verdict says."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from click.testing import CliRunner

from chaos.cli.main import cli
from chaos.cli.options import overrides_of
from chaos.errors import UNANSWERED, Outcome
from chaos.events import MachineMeasured
from chaos.experiment.model import PhaseName, Surge
from chaos.experiment.parser import load_experiment
from chaos.experiment.plan import plan
from chaos.jobs import Job
from chaos.metastability.model import Answer
from chaos.metastability.probing import at_rate, changes_of, counts_as_probe, probe_of
from chaos.searching import probe_job, probes_at_most
from chaos.verdict.machine import summary
from tests.unit.experiment.building import Project
from tests.unit.metastability.building import settings
from tests.unit.verdict.building import PHASES, every, experiment, receipt, store_of
from tests.unit.verdict.test_judge import verdict_of


def answer_of(verdict, *, max_start_lag_s=0.1):
    probe = probe_of(verdict, rate_per_s=40.0, max_start_lag_s=max_start_lag_s)
    assert (probe.reason == "") is (probe.answer is Answer.RECOVERED)
    assert (probe.recovery_s is None) is (probe.answer is not Answer.RECOVERED)
    return probe.answer


def fails_from(start_s, end_s=99.0):
    return store_of(fails=lambda moment_s: start_s <= moment_s < end_s)


def test_a_system_that_broke_in_the_fault_phase_and_came_back_has_recovered():
    verdict = verdict_of(fails_from(12.0, 33.0), recovered=1.0)
    assert verdict.outcome is Outcome.VIOLATED
    assert answer_of(verdict) is Answer.RECOVERED


def test_a_system_that_was_well_before_and_not_after_has_stayed_down():
    assert answer_of(verdict_of(fails_from(12.0), recovered=None)) is Answer.STAYED_DOWN


@pytest.mark.parametrize("from_s", [0.0, 5.0, 9.5])
def test_a_system_that_was_not_well_before_is_overloaded_whatever_came_after(from_s):
    """Also one that was well on the average, and not any more in the last seconds of the baseline."""
    assert answer_of(verdict_of(fails_from(from_s), recovered=None)) is Answer.OVERLOADED
    assert answer_of(verdict_of(fails_from(from_s, 33.0), recovered=1.0)) is Answer.OVERLOADED


def test_a_queue_that_grows_slowly_is_seen_at_the_end_of_the_baseline():
    store = store_of(fails=every(12, 9.0, 99.0))
    verdict = verdict_of(store, "availability >= 95%", recovered=None)
    assert verdict.outcome is not Outcome.INCONCLUSIVE, "over the whole baseline it held"
    assert answer_of(verdict) is Answer.OVERLOADED


def test_what_was_not_tested_says_nothing():
    untouched = verdict_of(fails_from(12.0), receipts=[receipt(touched=False)], recovered=None)
    assert answer_of(untouched) is Answer.UNKNOWN
    assert answer_of(verdict_of(fails_from(12.0), receipts=[], recovered=None)) is Answer.UNKNOWN
    unbroken = verdict_of(store_of(), must_break=("availability <= 1%",), recovered=0.0)
    assert answer_of(unbroken) is Answer.UNKNOWN
    broken_off = verdict_of(store_of(end_s=5.0), forced=Outcome.ERROR, forced_reason="Locust died", recovered=None)
    assert answer_of(broken_off) is Answer.UNKNOWN
    nobody = verdict_of(store_of(end_s=0.0), recovered=None)
    assert answer_of(nobody) is Answer.UNKNOWN


def test_a_system_that_does_not_even_answer_its_health_checks_after_healing_has_stayed_down():
    left = "not healed 10 s after every fault was taken back\n{}"
    phases = {name: span for name, span in PHASES.items() if name is not PhaseName.RECOVERY}

    def broken_off(store, complaint):
        reason = left.format(complaint)
        return verdict_of(store, phases=phases, forced=Outcome.ERROR, forced_reason=reason, receipts=[], recovered=None)

    silent = broken_off(fails_from(12.0), f"shop-1 {UNANSWERED}")
    assert answer_of(silent) is Answer.STAYED_DOWN
    assert answer_of(broken_off(fails_from(0.0), f"shop-1 {UNANSWERED}")) is Answer.OVERLOADED
    assert answer_of(broken_off(fails_from(12.0), "edge a.b-1 still has the toxic 1-latency")) is Answer.UNKNOWN
    assert answer_of(broken_off(fails_from(12.0), "shop-1 is dead")) is Answer.UNKNOWN


def test_a_load_that_was_not_really_offered_says_nothing():
    late = verdict_of(store_of(lag_s=3.0), recovered=0.0)
    assert answer_of(late) is Answer.UNKNOWN
    assert answer_of(late, max_start_lag_s=5.0) is Answer.RECOVERED


def test_on_a_starved_machine_only_a_recovery_counts():
    hungry = [MachineMeasured(t_s=1.0, left_share=0.0, foreign_share=0.5)] * 5
    machine = (summary("recovery", hungry, max_taken=0.1),)
    down = replace(verdict_of(fails_from(12.0), recovered=None), machine=machine)
    overloaded = replace(verdict_of(fails_from(0.0), recovered=None), machine=machine)
    assert answer_of(down) is answer_of(overloaded) is Answer.UNKNOWN
    assert answer_of(replace(verdict_of(store_of(), recovered=0.0), machine=machine)) is Answer.RECOVERED


def test_a_probe_holds_the_load_after_healing_and_keeps_its_trigger():
    base = experiment()
    base = replace(base, load=replace(base.load, surges=(Surge(rate_per_s=250.0, at_s=1.0, for_s=2.0),)))
    probe = at_rate(base, settings(hold_s=20.0), 80.0)
    assert probe.load.rate_per_s == 80.0
    assert probe.load.surges == (Surge(rate_per_s=280.0, at_s=1.0, for_s=2.0),), "200 a second more, as before"
    assert probe.phases == {**base.phases, PhaseName.RECOVERY: 20.0}
    assert (probe.faults, probe.abort_when) == (base.faults, base.abort_when)
    assert not counts_as_probe(base, settings(hold_s=20.0))
    assert counts_as_probe(base, settings(hold_s=PHASES[PhaseName.RECOVERY][1] - PHASES[PhaseName.RECOVERY][0]))


def test_the_replay_of_a_probe_is_the_probe(project: Project):
    surges = "[{at: 2s, rate: 90/s}, {rate: 60/s, for: 1s}]"
    load = f"load: {{locustfile: load.py, rate: 30/s, surges: {surges}}}"
    found, topology = project.load(load=load, metastability="metastability: {hold: 12500ms}")
    replay = f"chaos run {project.file} --seed 7 --set metastability.trials=3"
    job = Job(experiment=found, topology=topology, plan=plan(found, topology, 7), disabled=(), replay=replay)
    assert job.searches
    made = probe_job(job, found.metastability, 42.43, before=1)
    assert (made.probe, made.searches, made.plan.seed) == (True, False, 8)
    assert made.experiment.title.endswith("(probe at 42.43/s)")
    words = shlex.split(made.replay)
    overrides = overrides_of(words[at + 1] for at, word in enumerate(words) if word == "--set")
    again, _ = load_experiment(project.file, overrides)
    assert words[words.index("--seed") + 1] == "8"
    assert words.count("--seed") == 1
    assert again.metastability is None
    assert (again.load, again.phases) == (made.experiment.load, made.experiment.phases)
    assert f"load.rate={42.43}/s" in changes_of(made.experiment)


def test_the_most_that_a_search_may_take_is_known_beforehand(project: Project):
    found, _ = project.load(metastability="metastability: {up_to: 240/s, hold: 5s}")
    assert probes_at_most(found) == (10, 26.0), "the own run counts, two are spare for those that say nothing"
    longer, _ = project.load(metastability="metastability: {up_to: 240/s, hold: 20s}")
    assert probes_at_most(longer) == (11, 41.0)


def test_the_plan_says_how_many_probes_there_are_at_most_and_how_long_they_take():
    asked = ["plan", "experiments/play/retry_storm.yaml", "--seed", "7"]
    said = CliRunner().invoke(cli, asked, catch_exceptions=False).output.splitlines()[-1]
    assert said.startswith("then, to find the load from which it no longer recovers by itself: at most 9 probes")
    assert "at up to 90/s, each 36 s with 15 s of load after healing: at most 5 min 24 s" in said
    without = CliRunner().invoke(cli, [*asked, "--set", "metastability=false"], catch_exceptions=False).output
    assert "probes" not in without
