"""What a search says it has found: never more than was measured, and a demand that makes a verdict worse."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from chaos.errors import Outcome
from chaos.events import MetastabilitySearched, RunEnded, RunStarted
from chaos.reports.compare import conclusion
from chaos.reports.document import verdict_document
from chaos.reports.html.page import make_page
from chaos.reports.html.record import RunReader
from chaos.reports.metastability import finding_document, finding_table, probe_in_words
from chaos.reports.text import print_verdict
from chaos.searching import with_finding
from tests.unit.gate.building import verdict
from tests.unit.metastability.building import O, R, U, V, finding, probe

THREE = finding(probe(20.0, R, own=True), probe(40.0, R), probe(80.0, O), probe(56.57, V), probe(40.0, R))


def test_the_three_loads_and_how_often_each_was_seen():
    assert (THREE.recovers_up_to_per_s, THREE.stays_down_from_per_s, THREE.overloaded_from_per_s) == (40.0, 56.57, 80.0)
    assert THREE.outcome is None
    assert THREE.sentences() == (
        "the system recovered by itself up to 40/s (recovered in 2 of 2 probes)",
        (
            "at 56.57/s it was steady before the trigger and stayed down after it, for all of the 15s that the load "
            "was held (stayed down in 1 of 1 probe): it carries this load, and is vulnerable at it"
        ),
        "at 80/s it was overloaded, not steady even before the trigger: it was overloaded",
    )


def test_what_was_not_reached_is_not_claimed():
    everywhere = finding(probe(20.0, R), probe(40.0, R))
    assert everywhere.sentences() == (
        "the system recovered by itself up to 40/s, the most that was tried (recovered in 1 of 1 probe)",
    )
    assert everywhere.stays_down_from_per_s is everywhere.overloaded_from_per_s is None
    nowhere = finding(probe(20.0, V), probe(10.0, V), unfinished="it was interrupted")
    assert nowhere.recovers_up_to_per_s is None
    assert nowhere.sentences()[0] == "the system did not recover reliably at any load that was tried, down to 10/s"
    assert nowhere.sentences()[-1] == "the search is not complete: it was interrupted"
    assert finding().sentences() == ("nothing could be said about recovery at any load",)


def test_a_load_below_one_that_was_steady_is_not_called_overloaded():
    odd = finding(probe(20.0, R), probe(40.0, O), probe(60.0, V), probe(80.0, O))
    assert odd.overloaded_from_per_s == 80.0


@pytest.mark.parametrize(
    ("probes", "outcome"),
    [
        ((probe(30.0, R), probe(60.0, V)), Outcome.HELD),
        ((probe(30.0, V), probe(15.0, R)), Outcome.VIOLATED),
        ((probe(30.0, O), probe(15.0, R)), Outcome.VIOLATED),
        ((probe(15.0, V), probe(7.5, R)), Outcome.VIOLATED),
        ((probe(30.0, R), probe(30.0, V), probe(60.0, V)), Outcome.INCONCLUSIVE),
        ((probe(15.0, R), probe(30.0, U), probe(30.0, U)), Outcome.INCONCLUSIVE),
        ((), Outcome.INCONCLUSIVE),
    ],
)
def test_a_demand_is_met_missed_or_open(probes, outcome):
    asked = finding(*probes, recovers_up_to_per_s=30.0)
    assert asked.outcome is outcome
    assert asked.sentences()[0].startswith("the system must recover by itself up to 30/s")


@pytest.mark.parametrize(
    ("own", "demand", "whole"),
    [
        (Outcome.HELD, V, Outcome.VIOLATED),
        (Outcome.INCONCLUSIVE, V, Outcome.VIOLATED),
        (Outcome.VIOLATED, R, Outcome.VIOLATED),
        (Outcome.HELD, R, Outcome.HELD),
        (Outcome.HELD, U, Outcome.INCONCLUSIVE),
    ],
)
def test_a_demand_can_make_a_verdict_worse_and_never_better(own, demand, whole):
    asked = finding(probe(30.0, demand), recovers_up_to_per_s=30.0)
    amended = with_finding(verdict(own), asked)
    assert (amended.outcome, amended.of_run) == (whole, own)
    assert verdict_document(amended)["run_outcome"] == own.value
    first = "the system must recover by itself" if whole is not own else "the steady state held"
    assert amended.reasons[0].startswith(first)
    assert set(asked.sentences()) <= set(amended.reasons)


def test_the_headline_does_not_blame_the_steady_state_for_what_the_search_has_found():
    asked = finding(probe(30.0, V), recovers_up_to_per_s=30.0)
    console = Console(width=120, file=io.StringIO(), highlight=False)
    print_verdict(console, with_finding(verdict(), asked), {})
    print_verdict(console, with_finding(verdict(Outcome.VIOLATED), asked), {})
    headlines = [line for line in console.file.getvalue().splitlines() if line.startswith("VIOLATED")]
    assert headlines == [
        "VIOLATED: the system does not recover by itself up to the load that it must recover up to",
        "VIOLATED: the steady state did not hold",
    ]
    control = verdict(Outcome.VIOLATED)
    (said,) = conclusion(with_finding(verdict(), asked), control)
    assert said == conclusion(verdict(), control)[0], "experiment and control are compared by their runs"


def test_without_a_demand_it_is_for_information():
    assert with_finding(verdict(), finding(probe(30.0, V))).outcome is Outcome.HELD


def test_the_document_and_the_table_say_the_same():
    amended = with_finding(verdict(), THREE)
    document = verdict_document(amended)["metastability"]
    assert document == json.loads(json.dumps(finding_document(THREE)))
    assert [(one["rate_per_s"], one["answer"]) for one in document["probes"]][:2] == [
        (20, "recovered"),
        (40, "recovered"),
    ]
    assert (document["recovers_up_to_per_s"], document["hold_s"], document["unfinished"]) == (40.0, 15.0, "")
    assert verdict_document(verdict())["metastability"] is None
    console = Console(width=100, file=io.StringIO(), highlight=False)
    console.print(finding_table(THREE))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert [line[0] for line in lines[1:]] == ["20", "40", "56.57", "80"]
    assert "recovered, recovered" in console.file.getvalue()
    assert "not within 15 s" in console.file.getvalue()


def test_a_probe_in_a_line():
    assert probe_in_words(probe(40.0, R)) == "at 40/s recovered, steady again 1.5 s after healing"
    assert (
        probe_in_words(probe(40.0, R, recovery_s=0.0))
        == "at 40/s recovered, steady again as soon as the trigger was gone"
    )
    assert probe_in_words(probe(40.0, V)) == "at 40/s stayed down: it was stayed down"


def test_a_report_shows_the_verdict_that_the_search_made_of_the_runs_own():
    own = verdict(recovery_s=0.0)
    asked = finding(*THREE.probes, recovers_up_to_per_s=50.0)
    amended = with_finding(own, asked)
    reader = RunReader()
    started = RunStarted(
        t_s=0.0, experiment=own.experiment, file=own.file, seed=own.seed, backend="embedded", disabled=(), phases={},
        started_at="2026-01-01T00:00:00",
    )  # fmt: skip
    reader.handle(started)
    reader.handle(RunEnded(t_s=10.0, outcome=own.outcome, verdict=verdict_document(own)))
    reader.handle(MetastabilitySearched(t_s=10.0, outcome=amended.outcome, verdict=verdict_document(amended)))
    other = MetastabilitySearched(t_s=10.0, outcome=Outcome.ERROR, verdict={"file": "another.yaml", "seed": own.seed})
    reader.handle(other)
    reader.finish()
    (run,) = reader.runs
    assert run.outcome is amended.outcome is Outcome.INCONCLUSIVE, "56/s stays down, and of 50/s nobody knows"
    page = make_page(reader)
    assert "The system must recover by itself up to 50/s; the probes do not tell whether it does." in page
    assert "Metastability: from which load on it no longer recovers by itself" in page
    assert "56.6 /s" in page
    assert "stayed down" in page
