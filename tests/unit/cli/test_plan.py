"""What ``chaos plan`` says about an experiment before anything is started."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from chaos.cli.main import cli

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
