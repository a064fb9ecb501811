"""``chaos gate`` and ``pytest experiments/`` for real, on the smallest target."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest

from chaos.cli.main import cli, main
from tests.e2e.running import ROOT, Chaos, chaos, read_json

pytestmark = pytest.mark.e2e

HELLO = ROOT / "targets/hello"
EXPERIMENT = f"""
title: {{title}}
target: {HELLO}
tags: [{{tag}}]
phases: {{{{warm_up: 1s, baseline: 2s, fault: 5s, recovery: 7s}}}}
load:
  locustfile: {HELLO}/locustfile.py
  max_start_lag: 2s
  settings: {{{{users: 12, spawn_rate: 50}}}}
faults:
  - {{fault}}
steady_state:
  - availability >= 90%
verdict: {{{{max_taken: 100%}}}}
recover_within: 3s
control: {{{{disable: [isolation]}}}}
"""
"""The limit leaves room for a busy machine: what is broken here is broken for everybody."""
FAULTS = {
    "greetings_dead": "{kind: kill, service: greetings}",
    "greetings_frozen": "{kind: pause, service: greetings}",
    "greetings_slow": "{kind: latency, service: greetings, from: front, latency_ms: 2000}",
    "deaf": "{kind: latency, service: greetings, from: front, latency_ms: 2000, toxicity: 0.0001}",
    "front_dead": "{kind: kill, service: front}",
}
HAS_REPORT = cli.get_command(click.Context(cli), "report") is not None
QUICK = ("--quick", "--seed", "3", "--proxy", "embedded")


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back the handlers that a test replaces, and have children obey SIGINT.

    Whoever starts us in the background of a script has us ignore it, and that is inherited; a handler is not.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "experiments"
    made.mkdir()
    return made


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.yaml").write_text(EXPERIMENT.format(title=name, tag=name, fault=FAULTS[name]))


def with_open_load(folder: Path) -> None:
    """Let the experiments of a folder have an open schedule, at the rate of the quick form.

    Where theirs is lower, what breaks on a machine with nothing left over may be the gate's doing, and is asked again.
    """
    for file in folder.glob("*.yaml"):
        text = file.read_text().replace(f"{HELLO}/locustfile.py", f"{ROOT}/tests/e2e/open_visits.py")
        file.write_text(text.replace("  settings: {users: 12, spawn_rate: 50}\n", "  rate: 40/s\n"))


def starts_in(journals: Path) -> int:
    lines = [line for file in journals.glob("*.jsonl") for line in file.read_text().splitlines()]
    return sum(json.loads(line).get("event") == "target_starting" for line in lines)


def test_experiments_share_a_start_and_every_output_says_which_one_is_violated(tmp_path: Path, folder: Path):
    write(folder, "front_dead", "greetings_dead", "greetings_slow")
    with_open_load(folder)
    (tmp_path / "summary.md").write_text("before\n")
    code, output = chaos(
        tmp_path / "tmp", "gate", str(folder), *QUICK, "--control",
        "--junit", str(tmp_path / "gate.xml"), "--json", str(tmp_path / "gate.json"),
        "--markdown", str(tmp_path / "gate.md"), "--journal", str(tmp_path / "journals"),
        *(("--html", str(tmp_path / "gate.html")) if HAS_REPORT else ()),
        env={"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")},
    )  # fmt: skip
    assert code == 1, output
    document = read_json(tmp_path / "gate.json")
    outcomes = {result["experiment"]: result["outcome"] for result in document["results"]}
    assert outcomes == {"front_dead": "violated", "greetings_dead": "held", "greetings_slow": "held"}, output
    assert (document["outcome"], document["exit_code"], document["seed"]) == ("violated", 1, 3)
    for result in document["results"]:
        assert all(receipt["touched"] for receipt in result["receipts"])
        assert result["recovery_s"] is not None, "a verified return to the steady state"
        assert result["form"] == "quick"
        phases = {phase["name"]: phase for phase in result["phases"]}
        assert set(phases) == {"baseline", "fault", "recovery"}
        assert phases["baseline"]["attempts"]["request"] > 100, "lent, at the rate of the quick form"
    controls = {result["experiment"]: result["control"] for result in document["results"]}
    assert controls["front_dead"] is None, "what is violated has shown that it can fail"
    assert controls["greetings_dead"]["outcome"] == controls["greetings_slow"]["outcome"] == "violated"
    assert starts_in(tmp_path / "journals") == 2, "one for the experiments, one without isolation for the controls"
    told = sorted(journal for result in document["results"] for journal in result["journals"])
    assert told == sorted(str(file) for file in (tmp_path / "journals").iterdir())
    assert len(told) >= 5, "one for each run: three experiments, two controls, and what chance left open once more"
    root = ET.parse(tmp_path / "gate.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    markdown = (tmp_path / "gate.md").read_text()
    assert "violated" in markdown.splitlines()[0].lower()
    assert (tmp_path / "summary.md").read_text() == f"before\n{markdown}"
    assert "No resilience baseline" in output
    assert (tmp_path / "gate.html").exists() is HAS_REPORT


def test_an_inconclusive_one_is_run_once_more_and_a_violated_one_stops_a_fast_gate(tmp_path: Path, folder: Path):
    write(folder, "deaf")
    code, output = chaos(tmp_path / "tmp", "gate", str(folder), *QUICK, "--json", str(tmp_path / "gate.json"))
    (deaf,) = read_json(tmp_path / "gate.json")["results"]
    assert (code, deaf["outcome"]) == (4, "inconclusive"), output
    assert [run["outcome"] for run in deaf["runs"]] == ["inconclusive", "inconclusive"]
    assert "touched nothing" in deaf["reasons"][0]
    write(folder, "front_dead", "greetings_slow")
    (folder / "deaf.yaml").unlink()
    code, output = chaos(
        tmp_path / "tmp", "gate", str(folder), *QUICK, "--fail-fast", "--json", str(tmp_path / "gate.json")
    )
    document = read_json(tmp_path / "gate.json")
    (front_dead,) = document["results"]
    assert front_dead["outcome"] == "violated", output
    assert document["not_run"] == [str(folder / "greetings_slow.yaml")]
    assert code == 1


def test_a_baseline_is_written_and_what_became_worse_than_it_fails(tmp_path: Path, folder: Path):
    write(folder, "greetings_slow")
    file = folder / "resilience-baseline.json"
    code, output = chaos(tmp_path / "tmp", "gate", str(folder), *QUICK, "--update-baseline", "--repeat", "1")
    assert code == 0, output
    before = json.loads(file.read_text())
    rules = before["experiments"]["greetings_slow.yaml"]["quick"]["rules"]
    (attempts,) = rules["availability >= 90%"]["attempts"]
    assert attempts > 50
    # The same system, but its page now has an error for one viewer in 25: within the rule, and worse.
    before["experiments"]["greetings_slow.yaml"]["quick"]["rules"]["availability >= 90%"] |= {
        "attempts": [200_000],
        "measured": [1.0],
    }
    file.write_text(json.dumps(before))
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("app.py", "topology.yaml", "locustfile.py"):
        (broken / name).write_text((HELLO / name).read_text())
    (broken / "locustfile.py").write_text(
        (HELLO / "locustfile.py").read_text().replace('self.client.get("/", timeout=0.5)', BREAKING_NOW_AND_THEN)
    )
    experiment = folder / "greetings_slow.yaml"
    experiment.write_text(experiment.read_text().replace(str(HELLO), str(broken)))
    code, output = chaos(tmp_path / "tmp", "gate", str(folder), *QUICK, "--json", str(tmp_path / "gate.json"))
    (result,) = read_json(tmp_path / "gate.json")["results"]
    assert result["runs"][-1]["outcome"] == "held", output
    assert result["outcome"] == "violated"
    assert "is worse than the resilience baseline's" in result["worse"][0]
    assert code == 1


BREAKING_NOW_AND_THEN = """Browser.opened = getattr(Browser, "opened", 0) + 1
        self.client.get("/none" if Browser.opened % 25 == 0 else "/", timeout=0.5)"""


@pytest.mark.usefixtures("signals")
def test_what_is_wrong_is_said_before_anything_starts(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write(folder, "greetings_slow")
    wrong = {
        ("--tag", "greetings_slo"): "did you mean 'greetings_slow'?",
        ("--not-tag", "greetings_slow"): "no experiment is left",
        ("--baseline", str(tmp_path / "none.json")): "the resilience baseline cannot be read",
        ("--junit", str(tmp_path / "none/gate.xml")): "there is no folder",
        ("--html", str(tmp_path / "none/gate.html")): "--html: " if not HAS_REPORT else "there is no folder",
        ("--repeat", "3"): "add --update-baseline",
        ("--quick-rate", "fast"): "is not a rate",
    }
    for options, said in wrong.items():
        monkeypatch.setattr(sys, "argv", ["chaos", "gate", str(folder), "--quick", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, said in capsys.readouterr().err) == (2, True), options


def test_nothing_is_left_after_an_interruption_and_what_was_measured_is_told(tmp_path: Path, folder: Path):
    write(folder, "greetings_dead", "greetings_slow", "front_dead")
    (tmp_path / "tmp").mkdir()
    journals = tmp_path / "journals"
    options = ("--json", str(tmp_path / "gate.json"), "--journal", str(journals))
    with Chaos.start(tmp_path / "tmp", "gate", str(folder), *QUICK, *options) as running:
        running.wait_for_event("fault_applied", journals)
        running.process.send_signal(signal.SIGINT)
        code, output = running.wait(20)
        assert code == 130, output
        running.wait_until_nothing_is_left(within_s=2.0)
    document = read_json(tmp_path / "gate.json")
    assert document["outcome"] == "interrupted"
    assert [result["outcome"] for result in document["results"]] == ["interrupted"]
    assert len(document["not_run"]) == 2


# -- pytest -----------------------------------------------------------------------------------------------------------


def run_pytest(folder: Path, temporary: Path, *arguments: str) -> Chaos:
    temporary.mkdir()
    marker = uuid.uuid4().hex
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "chaos.pytest_plugin", "-p", "no:cacheprovider", "-v"),
            *("-c", str(folder / "pytest.ini"), "--rootdir", str(folder), str(folder), *arguments),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CHAOS_TEST_MARKER": marker, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return Chaos(process=process, marker=marker, folder=temporary)


@pytest.fixture
def pytest_folder(folder: Path) -> Path:
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return folder


def test_pytest_runs_experiments_and_says_what_the_verdict_says(tmp_path: Path, pytest_folder: Path):
    write(pytest_folder, "greetings_slow", "front_dead")
    with run_pytest(pytest_folder, tmp_path / "tmp", "--chaos-quick", "--chaos-seed", "3") as running:
        code, output = running.wait(120)
        running.wait_until_nothing_is_left(within_s=2.0)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "greetings_slow.yaml::greetings_slow PASSED" in output
    assert "front_dead.yaml::front_dead FAILED" in output
    assert "availability was" in output
    assert "where >= 90 % was asked" in output
    assert "Replay: chaos gate" in output
    assert "Traceback" not in output
    assert "1 failed, 1 passed" in output


def test_pytest_passes_a_control_that_is_violated_and_fails_one_that_is_not(tmp_path: Path, pytest_folder: Path):
    write(pytest_folder, "greetings_slow")
    text = (pytest_folder / "greetings_slow.yaml").read_text()
    for_nothing = text.replace("control: {disable: [isolation]}", "control: {set: {load.max_start_lag: 3s}}")
    (pytest_folder / "for_nothing.yaml").write_text(for_nothing)
    options = ("--chaos-quick", "--chaos-control", "--chaos-seed", "3", "-k", "control")
    with run_pytest(pytest_folder, tmp_path / "tmp", *options) as running:
        code, output = running.wait(120)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "greetings_slow.yaml::greetings_slow-control PASSED" in output
    assert "for_nothing.yaml::for_nothing-control FAILED" in output
    assert "the control did not fail: with load.max_start_lag" in output, output
    assert "Traceback" not in output
    assert "1 failed, 1 passed, 2 deselected" in output


@pytest.mark.usefixtures("signals")
def test_ctrl_c_in_pytest_heals_and_stops_everything(tmp_path: Path, pytest_folder: Path):
    write(pytest_folder, "greetings_frozen", "greetings_slow")
    with run_pytest(pytest_folder, tmp_path / "tmp", "--chaos-quick") as running:
        # There is no journal here, but everybody can see what this fault does to its victim.
        running.wait_until(lambda: any(is_frozen(pid) for pid in running.pids_left()))
        running.process.send_signal(signal.SIGINT)
        code, output = running.wait(20)
        assert code == pytest.ExitCode.INTERRUPTED, output
        running.wait_until_nothing_is_left(within_s=2.0)  # what was frozen is one of these


def is_frozen(pid: int) -> bool:
    """Whether the process is stopped, as by SIGSTOP."""
    try:
        return "\nState:\tT " in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
