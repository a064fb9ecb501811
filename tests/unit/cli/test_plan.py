"""What ``chaos plan`` says about an experiment before anything is started, and what is refused as it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli.main import cli
from chaos.errors import UsageError

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


def planned(name: str) -> str:
    answer = CliRunner().invoke(cli, ["plan", str(EXPERIMENTS / f"{name}.yaml"), "--seed", "7"])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_with_a_control_group_it_says_on_whom_the_faults_fall():
    said = planned("play/one_fifth_unranked")
    assert "control group: 20% of the accounts; the faults fall on 20% others, in the same seconds" in said
    assert "header X-Chaos-Group, header_value experiment): 4 edges from playback_apps" in said


def test_without_one_it_does_not_speak_of_it():
    assert "control group" not in planned("steering_latency")


@pytest.mark.parametrize("command", ["plan", "validate", "run", "gate"])
def test_two_faults_that_would_end_each_other_are_refused_before_anything_is_started(command: str):
    """The boxes that are to be frozen are some of those that were killed."""
    file = EXPERIMENTS / "oca_outage.yaml"
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(
            cli, [command, str(file), "--set", "faults.1.where={isp: alpha}"], catch_exceptions=False,
            standalone_mode=False,
        )  # fmt: skip
    (problem,) = caught.value.problems
    assert str(problem).startswith(
        f"{file}:21: faults.1: 2-pause (1s to the end) and 1-kill (500ms to the end) both hold"
    )
