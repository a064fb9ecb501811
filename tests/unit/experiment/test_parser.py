"""Experiment files: what is read, and what is said about wrong ones, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import UsageError
from chaos.experiment.model import Comparison, Metastability, PhaseName, Selector, VerdictSettings
from chaos.experiment.parser import load_experiment
from chaos.faults.base import Stream
from chaos.faults.host import Kill
from chaos.faults.network import Latency
from tests.unit.experiment.building import Project


def test_a_whole_experiment_is_read(project: Project):
    experiment, topology = project.load(
        seed="seed: 7",
        tags="tags: [slow, nightly]",
        description="description: Why we ask",
        phases="phases: {warm_up: 0s, baseline: 500ms, fault: 2m, recovery: 8s}",
        load="load: {locustfile: load.py, rate: 12.5, workers: 2, max_start_lag: 50ms, settings: {basket: 3}}",
        settings="settings: {scale: 30}",
        faults="""\
faults:
  - {kind: kill, service: box, where: {isp: alpha}, pick: 2, at: 1s, for: 8s, restart_after_s: 0.5}
  - {kind: latency, service: orders, from: front, latency_ms: 200, stream: upstream, toxicity: 30%}""",
        steady_state='steady_state: ["availability >= 99.5%", "orders_per_s >= 95% of baseline"]',
        abort_when="abort_when: [availability < 20% for 3s]",
        recover_within="recover_within: 5s",
        control="control: {disable: [isolation]}",
    )
    assert experiment.title == "A box dies"
    assert experiment.seed == 7
    assert experiment.tags == ("slow", "nightly")
    assert experiment.topology_file == project.topology == topology.file
    assert dict(experiment.phases) == {
        PhaseName.WARM_UP: 0.0,
        PhaseName.BASELINE: 0.5,
        PhaseName.FAULT: 120.0,
        PhaseName.RECOVERY: 8.0,
    }
    assert list(experiment.phases) == list(PhaseName)
    assert experiment.load.locustfile == project.folder / "load.py"
    assert experiment.load.rate_per_s == 12.5
    assert experiment.load.workers == 2
    assert experiment.load.max_start_lag_s == 0.05
    assert experiment.load.settings == {"basket": 3}
    assert experiment.settings == {"scale": 30}
    kill, latency = experiment.faults
    assert kill.fault == Kill(restart_after_s=0.5)
    assert kill.selector == Selector(service="box", where={"isp": "alpha"}, pick=2)
    assert (kill.at_s, kill.for_s) == (1.0, 8.0)
    assert latency.fault == Latency(latency_ms=200, stream=Stream.UPSTREAM, toxicity=0.3)
    assert latency.selector == Selector(service="orders", caller="front")
    assert (latency.at_s, latency.for_s) == (0.0, None)
    first, second = experiment.steady_state
    assert (first.metric, first.comparison, first.limit) == ("availability", Comparison.AT_LEAST, 0.995)
    assert (second.limit, second.of_baseline, second.text) == (0.95, True, "orders_per_s >= 95% of baseline")
    assert experiment.abort_when[0].for_s == 3.0
    assert experiment.abort_when[0].rule.limit == 0.2
    assert experiment.recover_within_s == 5.0
    assert experiment.control is not None
    assert experiment.control.disable == ("isolation",)


def test_phases_have_defaults(project: Project):
    experiment, _ = project.load(phases="phases: {fault: 20s}")
    assert list(experiment.phases.values()) == [3.0, 8.0, 20.0, 8.0]


def test_the_target_may_be_the_file_itself(project: Project):
    experiment, _ = project.load(target="target: target/topology.yaml")
    assert experiment.topology_file == project.topology


WRONG = {
    "an unknown key": (
        {"sed": "sed: 3"},
        (
            "x.yaml:7: sed: unknown key, allowed here: title, description, target, seed, tags, phases, load, settings, "
            "replicas, workers, faults, control_group, steady_state, must_break, abort_when, verdict, recover_within, "
            "metastability, control, did you mean 'seed'?"
        ),
    ),
    "a missing key": (
        {"steady_state": ""},
        "x.yaml:1: steady_state: missing; what must be true while the faults are there, like 'availability >= 99.5%'",
    ),
    "a key without a value": (
        {"seed": "seed:"},
        f"x.yaml:7: seed: nothing is given; write a whole number from 0 to {2**53}",
    ),
    "a number as a title": (
        {"title": "title: 3"},
        "x.yaml:1: title: '3' is a number; write a text (in quotes, if it is meant so)",
    ),
    "a duration without a unit": (
        {"phases": "phases: {fault: 10}"},
        "x.yaml:3: phases.fault: '10' is a number; write a duration like 3s, 500ms or 2m, more than 0s and at most 1h",
    ),
    "a phase that is too long": (
        {"phases": "phases: {fault: 2h}"},
        (
            "x.yaml:3: phases.fault: 2h is out of range, allowed is a duration like 3s, 500ms or 2m, "
            "more than 0s and at most 1h"
        ),
    ),
    "a misspelt phase": (
        {"phases": "phases: {falt: 10s}"},
        "x.yaml:3: phases.falt: unknown key, allowed here: warm_up, baseline, fault, recovery, did you mean 'fault'?",
    ),
    "a rate a minute": (
        {"load": "load: {locustfile: load.py, rate: 30/m}"},
        "x.yaml:4: load.rate: '30/m' is not understood; write a rate like 30/s, more than 0/s and at most 10000/s",
    ),
    "a load of nothing": (
        {"load": "load: {locustfile: load.py, rate: 0}"},
        "x.yaml:4: load.rate: 0 is out of range, allowed is a rate like 30/s, more than 0/s and at most 10000/s",
    ),
    "users by a word": (
        {"load": "load: {locustfile: load.py, settings: {users: many}}"},
        "x.yaml:4: load.settings.users: 'many' is a text; write a whole number of users from 1 to 100000",
    ),
    "no users": (
        {"load": "load:\n  locustfile: load.py\n  settings: {users: 0}"},
        "x.yaml:6: load.settings.users: 0 is out of range, allowed is a whole number of users from 1 to 100000",
    ),
    "users who never come": (
        {"load": "load: {locustfile: load.py, settings: {spawn_rate: 0}}"},
        (
            "x.yaml:4: load.settings.spawn_rate: 0 is out of range, allowed is a number of users a second "
            "from 0.001 to 100000"
        ),
    ),
    "a locustfile that is not there": (
        {"load": "load: {locustfile: lod.py, rate: 1}"},
        "x.yaml:4: load.locustfile: there is no file lod.py",
    ),
    "a target that is not there": (
        {"target": "target: targt"},
        "x.yaml:2: target: there is no targt; write the path of a folder with a topology.yaml",
    ),
    "a folder without a topology": (
        {"target": "target: ."},
        "topology.yaml: no such file",
    ),
    "a setting that the target does not have": (
        {"settings": "settings: {scal: 3}"},
        (
            "x.yaml:7: settings.scal: no setting of the target 'scal', there are: scale, region, strict, "
            "did you mean 'scale'?"
        ),
    ),
    "a setting of another type": (
        {"settings": "settings: {strict: 1}"},
        "x.yaml:7: settings.strict: 1 is a number; in the target it is true or false",
    ),
    "an unknown protection": (
        {"control": "control: {disable: [isolaton]}"},
        (
            "x.yaml:7: control.disable: no protection of the target 'isolaton', there are: isolation, retry, "
            "did you mean 'isolation'?"
        ),
    ),
    "a recovery that cannot be seen": (
        {"recover_within": "recover_within: 9s"},
        (
            "x.yaml:7: recover_within: 9s is longer than the recovery phase (8s), so it could not be seen; "
            "make phases.recovery longer"
        ),
    ),
    "no fault at all": (
        {"faults": "faults: []"},
        "x.yaml:5: faults: has 0 items, allowed are 1 to 50",
    ),
    "a key given twice": (
        {"seed": "seed: 1\nseed: 2"},
        "x.yaml:8: the key 'seed' is given twice; it stands in line 7 already",
    ),
    "a tag": (
        {"seed": "seed: !!python/object:os.system 1"},
        "x.yaml:7: the tag tag:yaml.org,2002:python/object:os.system is not allowed; write the value without a tag",
    ),
    "bad YAML": (
        {"seed": "seed: [1"},
        "x.yaml:8: is not YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence",
    ),
    "an unknown metric": (
        {"steady_state": "steady_state:\n  - availabilty >= 99%"},
        (
            "x.yaml:7: steady_state.0: no metric 'availabilty', the target has: availability, orders_per_s, "
            "delay_p99_s, stalled, size_p50, did you mean 'availability'?"
        ),
    ),
    "a limit without a unit": (
        {"steady_state": "steady_state:\n  - availability >= 99%\n  - delay_p99_s <= 800"},
        (
            "x.yaml:8: steady_state.1: delay_p99_s is compared with a duration, like 800ms or 2s, "
            "or with a percentage 'of baseline' or 'of control_group', not with '800'"
        ),
    ),
    "an alpha of half": (
        {"verdict": "verdict: {alpha: 50%}"},
        (
            "x.yaml:7: verdict.alpha: 50% is out of range, allowed is a share like 30% or 0.3, "
            "at least 0.01% and at most 20%"
        ),
    ),
    "a margin in another unit": (
        {"verdict": "verdict: {margin: 3s}"},
        "x.yaml:7: verdict.margin: '3s' is not understood; write a share like 30% or 0.3, at least 0% and at most 50%",
    ),
    "an extension without a fault in it": (
        {"verdict": "verdict: {extend: 30s}", "faults": "faults: [{kind: kill, service: box, for: 3s}]"},
        (
            "x.yaml:7: verdict.extend: nothing lasts until the end of the fault phase, so that the time it adds would "
            "be without a fault; leave 'for' out of one of the faults"
        ),
    ),
    "a guard by the evidence of a quantile": (
        {"abort_when": "abort_when: [delay_p99_s > 3s with evidence 100]"},
        ("x.yaml:7: abort_when.0: delay_p99_s is no share, and only shares can be bet on; write 'for 3s' instead"),
    ),
    "a guard without a time": (
        {"abort_when": "abort_when: [availability < 20%]"},
        (
            "x.yaml:7: abort_when.0: has no time, so a single bad moment would end the run; "
            "write a metric, < or >, a limit and a time, like 'availability < 20% for 3s', "
            "or how much evidence, like 'availability < 95% with evidence 100'"
        ),
    ),
    "a quick rate of a load without a rate": (
        {"load": "load: {locustfile: load.py, quick_rate: 20/s}"},
        "x.yaml:4: load.quick_rate: it is the rate of an open schedule; write load.rate as well",
    ),
    "metastability of a load without a rate": (
        {"metastability": "metastability: true", "load": "load: {locustfile: load.py}"},
        "x.yaml:7: metastability: the load is raised and lowered by its rate; write load.rate as well",
    ),
    "metastability of a trigger that goes on": (
        {"metastability": "metastability: true", "verdict": "verdict: {extend: 30s}"},
        (
            "x.yaml:7: metastability: with verdict.extend the faults would last longer at one load than at another; "
            "leave it out"
        ),
    ),
    "metastability below the load": (
        {"metastability": "metastability: {up_to: 20/s}"},
        "x.yaml:7: metastability.up_to: less than the load's own rate of 30/s, which is tried first",
    ),
    "more asked for than is tried": (
        {"metastability": "metastability: {recovers_up_to: 150/s}"},
        "x.yaml:7: metastability.recovers_up_to: more than is tried, 120/s; raise metastability.up_to",
    ),
    "a hold in which nothing could be seen": (
        {"metastability": "metastability: {hold: 2s}"},
        (
            "x.yaml:7: metastability.hold: 2s is out of range, allowed is a duration like 3s, 500ms or 2m, "
            "at least 4s and at most 1h"
        ),
    ),
    "a hold that ends before the system may be back": (
        {"metastability": "recover_within: 5s\nmetastability: {hold: 4s}"},
        (
            "x.yaml:8: metastability.hold: 4s is shorter than recover_within (5s), so that a system would be given up "
            "before its time is over"
        ),
    ),
    "metastability by a word": (
        {"metastability": "metastability: yes please"},
        (
            "x.yaml:7: metastability: 'yes please' is a text; write keys and values here: up_to, hold, precision, "
            "trials, recovers_up_to"
        ),
    ),
    "a guard that is longer than the fault": (
        {"abort_when": "abort_when: [availability < 20% for 11s]"},
        "x.yaml:7: abort_when.0: never trips: the fault phase lasts 10s only",
    ),
}


def test_metastability_is_a_word_or_its_parts(project: Project):
    def read(text: str, **overrides: str) -> Metastability | None:
        return project.load(overrides, metastability=text)[0].metastability

    assert read("") is None
    assert read("metastability: false") is None
    assert read("metastability: true") == Metastability(up_to_per_s=120.0, hold_s=15.0)
    assert read("metastability: true", **{"phases.recovery": "20s"}).hold_s == 20.0
    assert read("metastability: {hold: 5s, precision: 25%, trials: 1, recovers_up_to: 40/s}") == Metastability(
        up_to_per_s=120.0, hold_s=5.0, precision=0.25, trials=1, recovers_up_to_per_s=40.0
    )
    assert read("metastability: {up_to: 90/s}").up_to_per_s == 90.0
    assert read("metastability: {up_to: 90/s}", metastability="false") is None


@pytest.mark.parametrize(("keys", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_gets_this_line(project: Project, keys: dict[str, str], line: str):
    assert project.problems(**keys) == [line]


def test_all_problems_of_both_files_are_told_at_once(project: Project):
    project.topology.write_text(project.topology.read_text().replace("measure: rate", "measure: rat"))
    lines = project.problems(
        title="titel: Hello",
        load="load: {rate: fast}",
        faults="faults:\n  - {kind: kil, service: box}\n  - nothing",
        overrides={"phases.falt": "3s"},
    )
    assert [line.split(": ")[:2] for line in lines] == [
        ["x.yaml:1", "titel"],
        ["x.yaml:1", "title"],
        ["x.yaml:4", "load.rate"],
        ["x.yaml:4", "load.locustfile"],
        ["x.yaml:6", "faults.0.kind"],
        ["x.yaml:7", "faults.1"],
        ["--set phases.falt", "unknown key, allowed here"],
        ["target/topology.yaml:17", "metrics.orders_per_s.measure"],
    ]


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such file"):
        load_experiment(tmp_path / "nowhere.yaml")


def test_a_control_may_change_anything_in_the_file(project: Project):
    experiment, _ = project.load(control='control: {set: {faults.0.pick: 2, load.rate: "60/s"}}')
    assert experiment.control is not None
    assert (experiment.control.disable, experiment.control.changes) == ((), {"faults.0.pick": 2, "load.rate": "60/s"})


def test_what_faults_must_break_is_read_like_the_steady_state(project: Project):
    experiment, _ = project.load(must_break='must_break: ["availability <= 1%"]')
    assert [rule.text for rule in experiment.must_break] == ["availability <= 1%"]
    assert project.problems(must_break='must_break: ["availbility <= 1%"]')[0].startswith("x.yaml:7: must_break.0: ")


@pytest.mark.parametrize(
    ("fault", "needs"),
    [
        ("{kind: latency, service: box, latency_ms: 5, jitter_ms: 1}", None),
        ("{kind: latency, service: box, latency_ms: 5, jitter_ms: 1, distribution: pareto}", "latency"),
        ("{kind: black_hole, service: box}", "black_hole"),
        ("{kind: http_status, service: box, status: 503}", "http_status"),
        ("{kind: kill, service: box}", None),
    ],
)
def test_an_experiment_says_whether_it_needs_the_embedded_proxy(project: Project, fault: str, needs: str | None):
    experiment, _ = project.load(faults=f"faults:\n  - {fault}")
    assert experiment.needs_embedded == needs


def test_a_verdict_is_as_sure_as_the_file_asks_and_as_by_default_without(project: Project):
    assert project.load()[0].verdict == VerdictSettings(alpha=0.05, margin=None, extend_s=0.0, max_taken=0.1)
    asked = project.load(verdict="verdict: {alpha: 1%, margin: 0.5%, extend: 30s}")[0].verdict
    assert asked == VerdictSettings(alpha=0.01, margin=0.005, extend_s=30.0)
    assert project.load({"verdict.margin": "0%"})[0].verdict.margin == 0.0
    assert project.load({"verdict.max_taken": "100%"})[0].verdict.max_taken == 1.0


def test_a_guard_by_evidence_is_read(project: Project):
    (guard,) = project.load(abort_when="abort_when: [availability < 95% with evidence 100]")[0].abort_when
    assert (guard.evidence, guard.for_s, guard.rule.limit) == (100.0, 0.0, 0.95)
    assert guard.rule.text == "availability < 95% with evidence 100"
