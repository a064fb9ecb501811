"""The quick form runs experiments at the same time: one run, a verdict for each, and nobody is blamed for another."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.running import ROOT, Chaos, chaos, read_json

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

HELLO = ROOT / "targets/hello"
FRONT = """
  front_{one}:
    command: ["{{python}}", "{app}", front, "{{port}}", "{{calls[word_{one}]}}", "{{disabled}}"]
    calls: [word_{one}]
    health: {{http: /}}
  word_{one}:
    command: ["{{python}}", "{app}", greetings, "{{port}}"]
    health: {{tcp: true}}
"""
TOPOLOGY = f"""
name: two pages that have nothing to do with each other
clients: {{browser: {{calls: [front_a, front_b]}}}}
services:{FRONT.format(one="a", app=HELLO / "app.py")}{FRONT.format(one="b", app=HELLO / "app.py")}
protections: {{isolation: A page waits at most 0.2 s for its word.}}
"""
EXPERIMENT = f"""
title: {{name}}
target: {{target}}
phases: {{{{warm_up: 1s, baseline: 2s, fault: 5s, recovery: 7s}}}}
load: {{{{locustfile: {ROOT}/tests/e2e/open_visits.py, rate: 30/s, max_start_lag: 2s}}}}
faults: [{{{{kind: kill, service: {{service}}}}}}]
steady_state: [availability >= 90%]
verdict: {{{{max_taken: 100%}}}}
recover_within: 3s
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "target"
    target.mkdir()
    (target / "topology.yaml").write_text(TOPOLOGY)
    made = tmp_path / "experiments"
    made.mkdir()
    return made


def write(folder: Path, *services: str) -> None:
    for service in services:
        text = EXPERIMENT.format(name=f"{service} dies", target=folder.parent / "target", service=service)
        (folder / f"{service}.yaml").write_text(text)


def gate(folder: Path, *services: str) -> tuple[int, str, dict[str, dict]]:
    write(folder, *services)
    code, output = chaos(
        folder.parent / "tmp", "gate", str(folder), "--quick", "--quick-rate", "40/s", "--proxy", "embedded",
        "--seed", "3", "--json", str(folder.parent / "gate.json"), "--journal", str(folder.parent / "journals"),
        "--html", str(folder.parent / "gate.html"),
    )  # fmt: skip
    results = read_json(folder.parent / "gate.json")["results"]
    return code, output, {result["experiment"].removesuffix(" dies"): result for result in results}


def test_two_that_do_not_meet_take_one_run_and_each_has_its_own_receipts(folder: Path):
    code, output, results = gate(folder, "word_a", "word_b")
    assert code == 0, output
    for service, result in results.items():
        assert result["outcome"] == "held"
        assert [run["outcome"] for run in result["runs"]] == ["held"]
        (receipt,) = result["receipts"]
        assert (receipt["fault"], receipt["touched"]) == ("1-kill", True), "as in a run of its own"
        assert receipt["victims"] == [f"{service}-1"]
        (other,) = set(results) - {service}
        assert [Path(file).stem for file in result["together"]] == [other]
        assert f"the faults of {other} were there at the same time" in result["reasons"]
    assert [file.name for file in (folder.parent / "journals").iterdir()] == ["001-word_a-word_b.jsonl"]
    assert f"{folder.parent / 'gate.html'}: 1 run," in output, "the journal that they share is one run"
    assert "2 experiments at the same time" in (folder.parent / "gate.html").read_text()
    assert "with word_a" in output
    assert "with word_b" in output


def test_what_did_not_hold_beside_others_is_asked_alone_and_only_one_is_accused(folder: Path):
    code, output, results = gate(folder, "front_a", "word_b")
    assert code == 1, output
    runs = {service: [run["outcome"] for run in result["runs"]] for service, result in results.items()}
    assert runs == {"front_a": ["inconclusive", "violated"], "word_b": ["inconclusive", "held"]}, output
    for result in results.values():
        assert "nobody knows whose doing that was" in result["runs"][0]["reasons"][0], "the first run is told as well"
        assert result["together"] == [], "the last run was its own"
    assert "VIOLATED: front_a dies" in output
    assert "VIOLATED: word_b dies" not in output
    page = (folder.parent / "gate.html").read_text()
    assert "2 experiments: 1 violated, 1 held" in page, "what did not tell and was asked again is none"
    assert "2 of them did not tell at first, and were asked again." in page


def test_an_interruption_in_the_middle_is_told_of_each_of_them(folder: Path):
    write(folder, "word_a", "word_b")
    journals, document = folder.parent / "journals", folder.parent / "gate.json"
    (folder.parent / "tmp").mkdir()
    with Chaos.start(
        folder.parent / "tmp", "gate", str(folder), "--quick", "--quick-rate", "40/s", "--proxy", "embedded",
        "--json", str(document), "--journal", str(journals),
    ) as running:  # fmt: skip
        running.wait_for_event("fault_applied", journals)
        running.process.send_signal(signal.SIGTERM)
        code, output = running.wait(20)
        assert code == 130, output
        running.wait_until_nothing_is_left(within_s=2.0)
    told = read_json(document)
    assert {result["experiment"]: result["outcome"] for result in told["results"]} == {
        "word_a dies": "interrupted",
        "word_b dies": "interrupted",
    }
    assert told["not_run"] == []
