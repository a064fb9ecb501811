"""``--set key=value``: what it changes, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.experiment.model import PhaseName
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


WRONG = {
    "an unknown key": (
        {"load.rat": "3"},
        (
            "--set load.rat: unknown key, allowed here: locustfile, rate, workers, max_start_lag, settings, surges, "
            "did you mean 'rate'?"
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
