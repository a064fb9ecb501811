"""``--set key=value``: what it changes, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import UsageError
from chaos.experiment.model import PhaseName
from chaos.experiment.plan import plan
from chaos.experiment.target import load_target
from chaos.topology.parser import load_topology
from tests.unit.experiment.building import Project


def test_anything_in_the_file_can_be_set(project: Project):
    experiment, _ = project.load(
        {
            "title": "Another",
            "phases.fault": "20s",
            "load.rate": "50",
            "faults.0.pick": "1",
            "faults.0.where": "{isp: alpha}",
            "settings.scale": "30",
            "tags": "[a, b]",
            "control.disable": "[retry]",
            "steady_state.0": "availability >= 90%",
        }
    )
    assert experiment.title == "Another"
    assert experiment.phases[PhaseName.FAULT] == 20.0
    assert experiment.load.rate_per_s == 50.0
    assert experiment.faults[0].selector.pick == 1
    assert experiment.faults[0].selector.where == {"isp": "alpha"}
    assert experiment.settings == {"scale": 30}
    assert experiment.tags == ("a", "b")
    assert experiment.control is not None
    assert experiment.control.disable == ("retry",)
    assert experiment.steady_state[0].limit == 0.9


def test_a_path_on_the_command_line_is_relative_to_the_current_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.py").write_text("")
    monkeypatch.chdir(elsewhere)
    experiment, _ = project.load({"load.locustfile": "mine.py"})
    assert experiment.load.locustfile == Path("mine.py")


def test_the_target_is_scaled_and_faults_fall_on_the_new_instances(project: Project):
    experiment, topology = project.load(
        {"replicas.box": "7", "replicas.orders": "1", "workers.front": "2"},
        faults="faults: [{kind: kill, service: box, where: {isp: alpha}, pick: 6}, {kind: kill, service: orders}]",
    )
    assert [len(topology.services[name].instances) for name in ("box", "orders")] == [7, 1]
    assert topology.services["front"].workers == 2
    made = plan(experiment, topology, seed=1)
    # Five sets of labels repeat in turn: the sixth and the seventh box are of alpha again.
    assert made.faults[0].instances == ("box-1", "box-2", "box-3", "box-4", "box-6", "box-7")
    assert made.faults[1].instances == ("orders-1",)
    assert made.describe()[:3] == (
        "scaled: box: 7 instances instead of 5",
        "scaled: orders: 1 instance instead of 2",
        "scaled: front: 2 workers instead of 1",
    )


def test_an_experiment_says_how_its_target_is_scaled_and_set_has_the_last_word(project: Project):
    keys = {"replicas": "replicas: {orders: 4}", "workers": "workers: {front: 3}"}
    _, topology = project.load({"replicas.orders": "3"}, **keys)
    assert len(topology.services["orders"].instances) == 3
    assert topology.services["front"].workers == 3


def test_a_target_alone_is_scaled_and_set_in_the_same_words(project: Project):
    topology, settings = load_target(project.topology, {"replicas.box": "2", "settings.scale": "30"})
    assert topology.scaled == ("box: 2 instances instead of 5",)
    assert settings == {"scale": 30}
    assert load_target(project.topology, {}) == (load_topology(project.topology), {})
    with pytest.raises(UsageError) as caught:
        load_target(project.topology, {"replica.box": "2", "settings.scal": "30"})
    assert [str(problem) for problem in caught.value.problems] == [
        "--set replica.box: replica: unknown key, allowed here: settings, replicas, workers, did you mean 'replicas'?",
        "--set settings.scal: no setting of the target 'scal', there are: scale, region, strict, did you mean 'scale'?",
    ]


WRONG = {
    "a number of instances for a service that is not there": (
        {"replicas.bx": "3"},
        "--set replicas.bx: no service of the target 'bx', there are: front, orders, box, lonely, did you mean 'box'?",
    ),
    "more workers than the topology allows": (
        {"workers.orders": "2"},
        "--set workers.orders: orders cannot have 2: its topology allows 1 worker, and no other number (scaling)",
    ),
    "no instances": (
        {"replicas.orders": "0"},
        "--set replicas.orders: 0 is out of range, allowed is a whole number of instances from 1 to 200",
    ),
    "more to pick than there are left": (
        {"replicas.box": "1", "faults.0.pick": "2"},
        "--set faults.0.pick: 2 is more than there are: 1 to choose from",
    ),
    "more edges than a target may have": (
        {"replicas.orders": "60"},
        "--set replicas.orders: replicas: 3666 edges (caller to instance called) in all, allowed are 2000",
    ),
    "an unknown key": (
        {"load.rat": "3"},
        (
            "--set load.rat: unknown key, allowed here: locustfile, rate, quick_rate, workers, max_start_lag, "
            "settings, surges, did you mean 'rate'?"
        ),
    ),
    "a wrong value": (
        {"load.rate": "fast"},
        "--set load.rate: 'fast' is not understood; write a rate like 30/s, more than 0/s and at most 10000/s",
    ),
    "no value": (
        {"load.rate": ""},
        "--set load.rate: '' is not understood; write a rate like 30/s, more than 0/s and at most 10000/s",
    ),
    "a value that is not YAML": (
        {"load.rate": "[3"},
        "--set load.rate: is not YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence",
    ),
    "an item that is not there": (
        {"faults.1.pick": "3"},
        "--set faults.1.pick: '1' is no item of this list; allowed is 0 to 0",
    ),
    "a name for an item": ({"faults.x": "3"}, "--set faults.x: 'x' is no item of this list; allowed is 0 to 0"),
    "a key below a value": ({"title.x": "3"}, "--set title.x: there is nothing below a single value, so no 'x'"),
    "a key that is none": (
        {"load..rate": "3"},
        "--set load..rate: not a key; write a dotted path like phases.fault or faults.0.pick",
    ),
    "a problem further down": (
        {"control": "{disable: [x]}"},
        "--set control: control.disable: no protection of the target 'x', there are: isolation, retry",
    ),
    "a phase that gets too short": (
        {"phases.fault": "500ms"},
        "x.yaml:5: faults.0.at: 1s is not before the end of the fault phase (500ms)",
    ),
}


@pytest.mark.parametrize(("overrides", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_override_gets_this_line(project: Project, overrides: dict[str, str], line: str):
    assert project.problems(overrides, faults="faults: [{kind: kill, service: box, at: 1s}]") == [line]
