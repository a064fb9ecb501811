"""The Markdown table of many results: made of real verdict documents, and put between its two marks."""

from __future__ import annotations

import copy
from pathlib import PurePosixPath
from urllib.parse import unquote

import pytest
from hypothesis import given

from chaos.reports.markdown import BEGIN, END, put_into, results_table
from tests.unit.reports import markdown


def rule(metric, measured, unit="%"):
    return {"metric": metric, "measured": measured, "unit": unit}


def result(**changes):
    document = {
        "version": 1,
        "experiment": "A box dies. Do people notice?",
        "file": "experiments/box.yaml",
        "outcome": "held",
        "steady_state": [rule("plays", 1.0), rule("delay_p99_s", 0.05, "s")],
        "receipts": [{"kind": "kill", "victims": ["oca-1", "oca-2"]}],
        "recovery_s": 0.0,
        "control": {"steady_state": [rule("plays", 0.84051), rule("delay_p99_s", 4.891, "s")]},
    }
    return {**document, **changes}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_says_what_was_hit_and_what_users_saw_with_and_without_protections():
    heading, _, row = results_table(result()).splitlines()

    assert cells(heading) == [
        "part",
        "what happens to it",
        "faults",
        "outcome",
        "plays",
        "without protections",
        "delay p99",
        "without protections",
        "normal again after",
    ]
    assert cells(row) == [
        "`oca`",
        "[A box dies. Do people notice?](experiments/box.yaml)",
        "kill",
        "held",
        "100 %",
        "84.05 %",
        "50 ms",
        "4.89 s",
        "at once",
    ]


def test_the_part_of_a_fault_on_the_wire_is_who_is_called():
    receipts = [
        {"kind": "http_status", "victims": ["gateway-1.play_api-1", "gateway-2.play_api-1"]},
        {"kind": "kill", "victims": ["cache_control-12"]},
    ]

    row = cells(results_table(result(receipts=receipts)).splitlines()[2])

    assert row[0] == "`play_api`, `cache_control`"
    assert row[2] == "http status, kill"


def test_rows_of_one_part_stand_together_and_name_it_once():
    cache = [{"kind": "kill", "victims": ["cache-1"]}]
    again = result(experiment="Another box dies.", file="experiments/again.yaml")
    document = {"version": 1, "results": [result(), result(receipts=cache, file="experiments/cache.yaml"), again]}

    rows = [cells(line) for line in results_table(document).splitlines()[2:]]

    assert [row[0] for row in rows] == ["`oca`", "", "`cache`"]
    assert rows[1][1].startswith("[Another box dies.]")


def test_only_metrics_that_all_experiments_have_a_rule_about_are_shown_unless_some_are_named():
    other = result(steady_state=[rule("plays", 0.999)], file="experiments/other.yaml")
    document = {"version": 1, "results": [result(), other]}

    shared, named = results_table(document), results_table(document, metrics=["delay_p99_s"])

    assert cells(shared.splitlines()[0])[4:6] == ["plays", "without protections"]
    assert "delay" not in shared
    assert [cells(line)[4:6] for line in named.splitlines()[2:]] == [["50 ms", "4.89 s"], ["-", "-"]]


def test_of_an_experiment_in_several_documents_the_last_one_counts():
    other = result(file="experiments/other.yaml")
    table = results_table({"version": 1, "results": [result(outcome="violated"), other]}, result(recovery_s=2.0))

    rows = [cells(line) for line in table.splitlines()[2:]]

    assert [(row[3], row[-1]) for row in rows] == [("held", "2 s"), ("held", "at once")]


def test_what_was_not_measured_is_a_dash():
    bare = result(control=None, recovery_s=None, receipts=[], steady_state=[rule("plays", None)])

    assert cells(results_table(bare).splitlines()[2]) == [
        "-",
        "[A box dies. Do people notice?](experiments/box.yaml)",
        "-",
        "held",
        "-",
        "-",
        "-",
    ]


@given(markdown.TEXT, markdown.TEXT)
def test_no_title_and_no_file_breaks_a_row_or_its_link(title, file):
    document = result(experiment=f"why {title}?\n", file=f"x/{file}.yaml")
    table = results_table(document, file_prefix="../")
    head, row = markdown.rows(table)
    assert len(head) == len(row) == 9
    assert row[1] == " ".join(f"why {title}?".split())
    assert [unquote(target) for target in markdown.links(table)] == [f"../{PurePosixPath(document['file'])}"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "no document of `chaos run --json`"),
        ({"version": 2}, "its version is 2; this chaos reads version 1"),
        ({"version": 1}, "no document"),
        ({"version": 1, "results": []}, "no document"),
        ({"version": 1, "results": [7]}, "one of its results is no verdict"),
        (result(receipts=[{"kind": "kill"}]), "one of its receipts names no victims"),
        (result(steady_state=[{"metric": "plays"}]), "one of its rules"),
        (result(steady_state=[rule("plays", 1.0, "parsec")]), "parsec"),
    ],
)
def test_another_document_is_refused(document, problem):
    with pytest.raises(ValueError, match=problem):
        results_table(document)


def test_a_metric_that_no_rule_is_about_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no rule is about 'sps'; there are rules about plays, delay_p99_s"):
        results_table(result(), metrics=["sps"])


def test_the_document_is_not_changed():
    document = result()
    before = copy.deepcopy(document)

    results_table(document)

    assert document == before


def test_the_table_replaces_what_stood_between_its_marks_and_nothing_else():
    text = f"# Title\n\n{BEGIN}\n\nold\n\n{END}\n\nThe end.\n"

    once = put_into(text, "| new |")

    assert once == f"# Title\n\n{BEGIN}\n\n| new |\n\n{END}\n\nThe end.\n"
    assert put_into(once, "| new |") == once


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}"])
def test_without_both_marks_there_is_no_place_for_the_table(text):
    with pytest.raises(ValueError, match="put these two lines"):
        put_into(text, "| new |")
