"""What a gate says, in every form: rows, JSON, JUnit XML, Markdown, the terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from chaos.errors import Outcome
from chaos.reports.gate import gate_document, rule_in_words, worst_rule
from chaos.reports.gate_markdown import gate_markdown
from chaos.reports.gate_table import GateTable, shown_names
from chaos.reports.junit import junit_xml
from chaos.searching import with_finding
from tests.unit.gate.building import report, row, rule, verdict
from tests.unit.metastability.building import O, R, V, finding, probe
from tests.unit.reports import markdown

HELD, VIOLATED, INCONCLUSIVE, ERROR = Outcome.HELD, Outcome.VIOLATED, Outcome.INCONCLUSIVE, Outcome.ERROR
MIXED = report(
    row(verdict()),
    row(
        verdict(
            VIOLATED,
            rule(0.9, outcome=VIOLATED),
            file="experiments/edge/kill.yaml",
            reasons=("10 % <failed> & more",),
        )
    ),
    row(
        verdict(INCONCLUSIVE, file="experiments/play/slow.yaml", reasons=("too few plays",)),
        verdict(INCONCLUSIVE, file="experiments/play/slow.yaml", reasons=("still too few plays",)),
    ),
    row(verdict(ERROR, file="experiments/play/taken.yaml", reasons=("a port is taken",), recovery_s=None)),
    outcome=ERROR,
    not_run=("experiments/play/rest.yaml",),
    notes=("no resilience baseline",),
)  # fmt: skip


# -- rows -------------------------------------------------------------------------------------------------------------


def test_the_worst_rule_is_a_broken_one_and_otherwise_the_narrowest_pass():
    wide, narrow = rule(1.0), rule(1.45, text="play_delay_p99_s <= 1500ms", limit=1.5, unit="s")
    assert worst_rule(verdict(HELD, wide, narrow)) == narrow
    broken = rule(0.99, outcome=VIOLATED)
    assert worst_rule(verdict(VIOLATED, narrow, broken)) == broken
    assert worst_rule(replace(verdict(), steady_state=())) is None


def test_a_share_has_the_room_above_its_limit():
    availability = rule(0.996)  # a fifth of the room that there is
    delay = rule(1.0, text="play_delay_p99_s <= 1500ms", limit=1.5, unit="s")  # a third
    assert worst_rule(verdict(HELD, delay, availability)) == availability
    assert rule_in_words(availability) == "playback availability 99.6 % (99.5 %)"


def test_a_row_says_what_the_baseline_and_the_first_run_have_to_do_with_it():
    worse = row(verdict(), outcome=VIOLATED, worse=("availability is worse",))
    assert worse.reasons[0] == "availability is worse"
    assert MIXED.rows[2].reasons == ("still too few plays", "run 1 was inconclusive: too few plays")


def test_a_control_that_did_not_fail_is_the_first_reason():
    control = replace(verdict(), disabled=("isolation",))
    assert "the control did not fail" in row(verdict(), control=control, outcome=INCONCLUSIVE).reasons[0]


def test_the_headline_counts():
    assert MIXED.headline == "ERROR: 1 held, 1 violated, 1 inconclusive, 1 error, in 4 min 12 s"


# -- JSON -------------------------------------------------------------------------------------------------------------


def test_the_document_holds_every_run_and_the_exit_code():
    document = gate_document(MIXED)
    assert (document["gate"], document["outcome"], document["exit_code"]) == (True, "error", 3)
    assert document["counts"] == {"held": 1, "violated": 1, "inconclusive": 1, "error": 1}
    retried = document["results"][2]
    assert [one["outcome"] for one in retried["runs"]] == ["inconclusive", "inconclusive"]
    assert retried["replay"] == "chaos gate experiments/play/slow.yaml --seed 7 --quick"
    assert document["not_run"] == ["experiments/play/rest.yaml"]


# -- JUnit ------------------------------------------------------------------------------------------------------------


def test_junit_has_a_suite_for_each_folder_and_a_case_for_each_experiment():
    root = ET.fromstring(junit_xml(MIXED))
    assert root.tag == "testsuites"
    assert [root.get(key) for key in ("tests", "failures", "errors")] == ["4", "1", "1"]
    assert root.get("time") == "252.400"
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["experiments/edge", "experiments/play"]
    for suite in suites.values():
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        for outcome, key in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert suite.get(key) == str(len(suite.findall(f"testcase/{outcome}")))
    case = suites["experiments/edge"].findall("testcase")[0]
    assert (case.get("classname"), case.get("name"), case.get("time")) == ("experiments.edge", "bad_release", "6.250")
    assert [child.tag for child in case] == ["system-out"]
    assert "replay: chaos gate experiments/edge/bad_release.yaml --seed 7 --quick" in case.findtext("system-out")


SCHEMA = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, ["testsuite"]),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time"}, ["properties", "testcase"]),
    "properties": (set(), ["property"]),
    "property": ({"name", "value"}, []),
    "testcase": ({"name", "classname", "time"}, ["failure", "skipped", "error", "system-out"]),
    "failure": ({"message", "type"}, []),
    "error": ({"message", "type"}, []),
    "skipped": ({"message"}, []),
    "system-out": (set(), []),
}
"""Attributes and children (in order) of each element, as Surefire's schema and Jenkins' junit-10 both accept them."""


@pytest.mark.parametrize("made", [MIXED, report(outcome=VIOLATED, worse=("worse",)), replace(MIXED, rows=())])
def test_junit_keeps_to_the_schemas_of_surefire_and_of_jenkins(made):
    for element in ET.fromstring(junit_xml(made)).iter():
        attributes, children = SCHEMA[element.tag]
        assert set(element.attrib) == attributes
        order = [children.index(child.tag) for child in element]
        assert order == sorted(order)
        assert re.fullmatch(r"[0-9]+\.[0-9]{3}", element.get("time", "0.000"))


def test_junit_tells_failures_errors_and_skips_with_their_reasons():
    root = ET.fromstring(junit_xml(MIXED))
    failure = root.find(".//testcase[@name='kill']/failure")
    assert failure.attrib == {"message": "10 % <failed> & more", "type": "violated"}
    skipped = root.find(".//testcase[@name='slow']/skipped")
    assert skipped.attrib == {"message": "still too few plays"}
    assert "run 1 was inconclusive: too few plays" in skipped.text
    assert root.find(".//testcase[@name='taken']/error").get("message") == "a port is taken"


def test_junit_fails_a_case_of_its_own_for_what_is_worse_over_all():
    root = ET.fromstring(junit_xml(report(outcome=VIOLATED, worse=("availability over 49 experiments is worse",))))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert root.find("testsuite[@name='resilience baseline']/testcase/failure").get("type") == "violated"


@given(st.text(max_size=60))
def test_junit_is_xml_whatever_the_sentences_say(words: str):
    made = verdict(VIOLATED, reasons=(words,))
    root = ET.fromstring(junit_xml(report(row(made), outcome=VIOLATED)))
    said = root.find(".//failure").get("message")
    if words and words.isascii() and words.isprintable():
        assert said == words


# -- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_begins_with_the_answer_and_shows_what_needs_a_look_with_its_replay():
    text = gate_markdown(MIXED)
    assert text.startswith("## ⚠️ Resilience: ERROR: 1 held, 1 violated")
    assert "### ❌ a bad release (`experiments/edge/kill.yaml`): violated\n\n- 10 % \\<failed> & more" in text
    assert "```sh\nchaos gate experiments/edge/kill.yaml --seed 7 --quick\n```" in text
    assert "(`experiments/edge/bad_release.yaml`)" not in text, "what held is in the table alone"
    assert "- not run any more: `experiments/play/rest.yaml`" in text


def test_markdown_has_a_row_for_each_experiment():
    rows = [line for line in gate_markdown(MIXED).splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    assert rows[0] == (
        "| `experiments/edge/bad_release.yaml` | ✅ held | playback availability 100 % (99.5 %) | at once | 6 s |"
    )
    assert "❔ inconclusive (first inconclusive)" in rows[2]


@given(markdown.TEXT, markdown.TEXT, markdown.TEXT)
def test_no_sentence_no_title_and_no_file_breaks_the_markdown(words: str, title: str, file: str):
    broken = rule(text=f"{words.strip() or 'm'} >= 99.5%", outcome=VIOLATED)
    made = verdict(VIOLATED, broken, reasons=(f"a{words}",), file=f"x/{file}.yaml")
    text = gate_markdown(report(row(replace(made, experiment=f"why {title}?")), not_run=(made.file,)))
    shown = " ".join(made.file.split())
    head, cells = markdown.rows(text)
    assert len(cells) == len(head) == 5
    assert (cells[0], cells[1]) == (shown, "❌ violated")
    assert markdown.all_of("h3", text) == [f"❌ {' '.join(f'why {title}?'.split())} ({shown}): violated"]
    assert markdown.all_of("li", text) == [f"not run any more: {shown}", " ".join(f"a{words}".split())]


# -- the terminal -----------------------------------------------------------------------------------------------------


def printed(**console: object) -> tuple[GateTable, io.StringIO]:
    output = io.StringIO()
    files = [one.verdict.file for one in MIXED.rows]
    return GateTable(Console(file=output, width=120, highlight=False, **console), files), output  # type: ignore[arg-type]


def test_what_a_search_for_metastability_found_is_told_also_of_an_experiment_that_held():
    found = finding(probe(20.0, R), probe(40.0, R), probe(80.0, O), probe(56.57, V))
    searched = report(row(with_finding(verdict(), found)), row(verdict()))
    lines = gate_markdown(searched).splitlines()
    assert "| `experiments/edge/bad_release.yaml` | 40 /s | 56.6 /s | 80 /s | 4 |" in lines
    assert sum(line.startswith("- the system recovered by itself up to 40/s") for line in lines) == 1
    console = Console(file=io.StringIO(), width=160, highlight=False)
    with GateTable(console, ["experiments/edge/bad_release.yaml"]) as table:
        table.end(searched)
    shown = console.file.getvalue()
    assert (
        "Metastability of bad_release: the system recovered by itself up to 40/s (recovered in 1 of 1 probe)" in shown
    )
    assert "no longer recovers" not in gate_markdown(report())


def test_the_table_prints_a_line_as_each_run_ends_and_nothing_else_in_a_log():
    table, output = printed()
    with table:
        table.begin(1, MIXED.rows[0].verdict.file)
        assert output.getvalue() == ""
        table.line(1, MIXED.rows[0].verdict.file, MIXED.rows[0].verdict, 6.2)
        words = " ".join(output.getvalue().split())
        assert words == "[1/4] edge/bad_release HELD playback availability 100 % (99.5 %) at once 6 s"


def test_the_end_names_what_needs_a_look_and_the_exit_code():
    table, output = printed()
    table.end(replace(MIXED, rows=(*MIXED.rows, row(verdict(), why_not_quick="its load has a surge"))))
    text = output.getvalue()
    assert "VIOLATED: a bad release (experiments/edge/kill.yaml)" in text
    assert "Replay: chaos gate experiments/edge/kill.yaml --seed 7 --quick" in text
    assert "1 not on the load that stands (its load has a surge): edge/bad_release" in text
    assert text.rstrip().endswith("(exit code 3, seed 7)")


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        (["experiments/a.yaml"], ["a"]),
        (["experiments/edge/a.yaml", "experiments/play/a.yaml"], ["edge/a", "play/a"]),
        (["/x/experiments/a.yaml", "/x/experiments/edge/b.yaml"], ["a", "edge/b"]),
        ([], []),
    ],
)
def test_names_are_shown_without_what_all_have_in_common(files, shown):
    assert list(shown_names(files).values()) == shown
