"""``chaos run`` up to the moment at which something would be started: which runs it makes of its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli.run import jobs_of, run
from chaos.environment import Backend
from chaos.errors import UsageError
from chaos.jobs import Job, start_of
from chaos.suite import backend_for

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


def jobs(*names: str, control: bool = False, proxy: Backend = Backend.AUTO, seed: int | None = 1) -> list[Job]:
    paths = tuple(EXPERIMENTS / f"{name}.yaml" for name in names)
    return jobs_of(paths, seed=seed, control=control, settings=(), how=[], proxy=proxy)


def test_experiments_that_need_the_embedded_proxy_get_it_and_run_together():
    made = jobs("account_scoped_fault", "store_slow", "black_hole_store", "oca_outage")
    assert [job.experiment.file.stem for job in made] == [
        "store_slow", "oca_outage", "account_scoped_fault", "black_hole_store",
    ]  # fmt: skip
    assert [backend_for(job, Backend.AUTO) for job in made] == [Backend.AUTO] * 2 + [Backend.EMBEDDED] * 2
    assert {backend_for(job, Backend.TOXIPROXY) for job in made} == {Backend.TOXIPROXY}


def test_toxiproxy_is_refused_for_them_before_anything_starts():
    with pytest.raises(UsageError, match="the fault black_hole needs the embedded proxy"):
        jobs("black_hole_store", proxy=Backend.TOXIPROXY)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json", "nowhere/verdict.json"], "there is no folder nowhere"),
        (["--html", "nowhere/report.html"], "there is no folder nowhere"),
        (["--toxiproxy", "https://127.0.0.1"], "not a URL of a Toxiproxy"),
        (["--toxiproxy", "127.0.0.1", "--proxy", "embedded"], "--proxy embedded starts a server"),
    ],
)
def test_what_could_not_be_done_after_the_runs_or_in_them_is_refused_before_them(options: list[str], said: str):
    asked = [str(EXPERIMENTS / "oca_outage.yaml"), *options]
    with pytest.raises(UsageError, match=said):
        CliRunner().invoke(run, asked, catch_exceptions=False)


def test_without_a_seed_one_is_drawn_for_all_experiments_so_that_each_replay_has_the_target_they_shared():
    made = jobs("oca_outage", "cache_outage", "store_slow", seed=None)
    assert len({start_of(job).seed for job in made}) == 1
    assert all(f"--seed {job.plan.seed}" in job.replay for job in made)


def test_an_experiment_with_a_seed_of_its_own_keeps_it_and_comes_behind_the_others_on_another_start(tmp_path: Path):
    text = (EXPERIMENTS / "oca_outage.yaml").read_text().replace("../", f"{EXPERIMENTS.parent}/")
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text(text + "seed: 7\n" * (name == "a"))
    made = jobs_of((tmp_path,), seed=None, control=False, settings=(), how=[], proxy=Backend.AUTO)
    assert [job.experiment.file.stem for job in made] == ["b", "c", "a"]
    assert start_of(made[0]) == start_of(made[1]) != start_of(made[2])
    assert made[2].plan.seed == 7
    given = jobs_of((tmp_path,), seed=3, control=False, settings=(), how=[], proxy=Backend.AUTO)
    assert {job.plan.seed for job in given} == {3}


def test_a_control_without_the_scope_is_the_same_experiment_with_another_setting():
    experiment, control = jobs("account_scoped_fault", control=True)
    assert control.control_of is experiment
    assert control.changed == ('faults.0.header_value="*"',)
    assert control.disabled == ()
    assert control.experiment.faults[0].fault.header_value == "*"
    assert control.plan.seed == experiment.plan.seed
    assert control.replay.endswith("--seed 1 --control")


def test_experiments_share_a_start_of_the_target_unless_they_scale_it_otherwise(tmp_path: Path):
    text = (EXPERIMENTS / "playback_apps_kill.yaml").read_text().replace("../", f"{EXPERIMENTS.parent}/")
    larger, usual, other = (tmp_path / f"{name}.yaml" for name in ("a_larger", "b_usual", "c_other"))
    larger.write_text(f"{text}\nreplicas: {{playback_apps: 4}}\n")
    usual.write_text(text)
    other.write_text(text)
    made = jobs_of((tmp_path,), seed=1, control=False, settings=(), how=[], proxy=Backend.AUTO)
    # Those on the same topology come together, and are equal in it: that is what a start is known by.
    assert [job.experiment.file for job in made] == [usual, other, larger]
    assert made[0].topology == made[1].topology != made[2].topology
    assert made[2].plan.scaled == ("playback_apps: 4 instances instead of 2",)
    assert len({job.plan.faults[0].instances for job in made[:2]}) == 1


def test_a_control_may_be_the_same_experiment_on_fewer_instances(tmp_path: Path):
    text = (EXPERIMENTS / "playback_apps_kill.yaml").read_text().replace("../", f"{EXPERIMENTS.parent}/")
    control_line = "control: {disable: [isolation, client_retry]}"
    assert control_line in text
    file = tmp_path / "alone.yaml"
    file.write_text(text.replace(control_line, "control: {set: {replicas.playback_apps: 1}}"))
    experiment, control = jobs_of((file,), seed=1, control=True, settings=(), how=[], proxy=Backend.AUTO)
    assert experiment.topology.scaled == ()
    assert control.topology.scaled == ("playback_apps: 1 instance instead of 2",)
    assert control.changed == ("replicas.playback_apps=1",)
    assert control.plan.faults[0].instances == ("playback_apps-1",)


def test_a_control_that_changes_what_is_not_there_is_refused(tmp_path: Path):
    text = (EXPERIMENTS / "account_scoped_fault.yaml").read_text()
    wrong = tmp_path / "wrong.yaml"
    text = text.replace("faults.0.header_value", "faults.7.header_value")
    wrong.write_text(text.replace("../", f"{EXPERIMENTS.parent}/"))
    with pytest.raises(UsageError, match="'7' is no item of this list"):
        jobs_of((wrong,), seed=1, control=True, settings=(), how=[], proxy=Backend.AUTO)
