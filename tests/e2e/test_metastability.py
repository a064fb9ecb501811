"""The search for metastability on an application that really stays down, under real Locust."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.running import chaos, read_json
from tests.e2e.stalling_shop import EXPERIMENT, LOCUSTFILE, SOURCE, TOPOLOGY

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


def project(folder: Path) -> None:
    (folder / "target").mkdir(parents=True)
    (folder / "target" / "shop_service.py").write_text(SOURCE)
    (folder / "target" / "topology.yaml").write_text(TOPOLOGY)
    (folder / "locustfile.py").write_text(LOCUSTFILE)
    (folder / "a.yaml").write_text(EXPERIMENT)
    protected = EXPERIMENT.replace("rate: 5/s", "rate: 20/s").replace("recovers_up_to: 20/s", "recovers_up_to: 100/s")
    (folder / "b.yaml").write_text(protected + "settings: {protected: true}\n")


def test_a_system_that_stays_down_is_found_and_told_from_an_overloaded_one_and_from_a_protected_one(tmp_path):
    """The bare one in a gate, the protected one as a run of its own: both ways search."""
    folder, document, journals = tmp_path / "project", tmp_path / "gate.json", tmp_path / "journals"
    project(folder)
    code, output = chaos(
        tmp_path / "tmp", "gate", str(folder / "a.yaml"), "--seed", "3", "--proxy", "embedded", "--no-retry",
        "--json", str(document), "--journal", str(journals), timeout_s=200,
    )  # fmt: skip
    assert code == 1, output
    (bare,) = read_json(document)["results"]
    found = bare["metastability"]
    assert (found["recovers_up_to_per_s"], found["stays_down_from_per_s"]) == (5.0, 20.0), output
    assert found["overloaded_from_per_s"] is None, "it carried 20/s until it stalled"
    assert found["outcome"] == bare["outcome"] == "violated"
    assert [(one["rate_per_s"], one["answer"], one["own"]) for one in found["probes"]] == [
        (5.0, "recovered", True),
        (20.0, "stayed_down", False),
    ]
    assert "--seed 3 --proxy embedded --set metastability=false --set load.rate=20/s" in found["probes"][1]["replay"]
    assert "the system must recover by itself up to 20/s, and it did not" in bare["reasons"]
    assert any(one.startswith("at 20/s it was steady before the trigger and stayed down") for one in bare["reasons"])
    assert "its search for metastability" in output
    (journal,) = journals.iterdir()
    assert events_of(journal)[-2:] == ["probe_ended", "metastability_searched"]

    document, journal, page = tmp_path / "verdict.json", tmp_path / "run.jsonl", tmp_path / "report.html"
    code, output = chaos(
        tmp_path / "tmp", "run", str(folder / "b.yaml"), "--seed", "3", "--proxy", "embedded",
        "--json", str(document), "--journal", str(journal), "--html", str(page), timeout_s=200,
    )  # fmt: skip
    assert code == 1, output
    protected = read_json(document)
    better = protected["metastability"]
    assert better["recovers_up_to_per_s"] == 20.0 > found["recovers_up_to_per_s"], output
    assert better["stays_down_from_per_s"] is None, "the same stall, the same load, and it recovers"
    assert better["overloaded_from_per_s"] == 100.0, "a till of 60 orders a second does not carry this"
    assert better["outcome"] == protected["outcome"] == "violated"
    assert "the system must recover by itself up to 100/s, and it did not" in protected["reasons"]
    assert any(one.startswith("at 100/s it was overloaded, not steady even before") for one in protected["reasons"])
    assert "probe 2 (of at most" in output
    names = events_of(journal)
    assert names.count("run_started") == 1, "the probes' own events are in no journal"
    assert names[-2:] == ["probe_ended", "metastability_searched"]
    assert "overloaded" in page.read_text()


def events_of(journal: Path) -> list[str]:
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return [line["event"] for line in lines if "event" in line]
