"""The page as a text: what it says, that it says it safely, and that it keeps to its size."""

from __future__ import annotations

import dataclasses
import html
import json
import re

import pytest
from click.testing import CliRunner

from chaos.cli.main import cli
from chaos.errors import EnvironmentFailure, Outcome, UsageError
from chaos.events import Note, RunEnded, Tick
from chaos.reports.html import page as page_module
from chaos.reports.html.data import DETAILS, Detail, embed
from chaos.reports.html.groups import pair
from chaos.reports.html.page import make_page, read_runs, write_page
from chaos.reports.html.record import RunReader
from tests.unit.reports.html import journals

ATTACK = "</script><script>alert(1)</script><!-- <b>&amp;\u2028 ' \" {{data}}"


def made(*streams) -> str:
    reader = RunReader()
    for stream in streams:
        for event in stream:
            reader.handle(event)
    reader.finish()
    return make_page(reader)


def control(**more):
    return journals.run(outcome=Outcome.VIOLATED, disabled=journals.PROTECTIONS, **more)


def data_of(page: str) -> dict:
    return json.loads(page.split('id="data">')[1].split("</script>", maxsplit=1)[0])


def words_of(page: str) -> str:
    body = page.split("<main", 1)[1].split("</main>", maxsplit=1)[0]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body)))


def test_experiment_and_control_are_one_section_with_both_in_every_plot():
    page = made(journals.run(), control())
    (group,) = data_of(page)["groups"]
    assert [run["short"] for run in group["runs"]] == ["experiment", "control"]
    titles = [plot["title"] for plot in group["plots"]]
    assert titles[:3] == ["Playback availability", "Play delay p99", "Stream starts per second"]
    assert "Failed calls between services" in titles
    availability = group["plots"][0]
    assert [line["run"] for line in availability["lines"]] == [0, 1]
    assert availability["limits"] == [[0.995, ">= 99.5%"]]
    assert availability["lines"][0]["mean"][13:18] == [0.8, 0.8, 0.8, 0.8, 1]
    failed = next(plot for plot in group["plots"] if plot["title"].startswith("Failed"))
    assert [(line["title"], max(value or 0 for value in line["mean"])) for line in failed["lines"]] == [
        ("playback_apps → store (control)", 2)
    ]
    assert [plot["more"] for plot in group["plots"] if plot["title"] == "Answered by a fallback"] == [True]


def test_with_a_control_group_both_groups_are_drawn_and_its_value_stands_beside_the_rule():
    def grouped(stream):
        for event in stream:
            match event:
                case Tick(phase=phase):
                    fallen = 0.5 if phase == "fault" else 1.0
                    groups = {"experiment": {"availability": fallen, "sps": None}, "control": {"availability": 0.99}}
                    yield dataclasses.replace(event, groups=groups)
                case _:
                    yield event

    (rule,) = journals.document(outcome=Outcome.HELD)["steady_state"]
    rule = {**rule, "rule": "availability >= 99% of control_group", "control_group": 0.9975}
    page = made(grouped(journals.run(steady_state=[rule])))
    (group,) = data_of(page)["groups"]
    plots = {plot["title"]: plot for plot in group["plots"]}
    lines = plots["Playback availability"]["lines"]
    assert [(line["title"], line["mean"][13]) for line in lines] == [("experiment group", 0.5), ("control group", 0.99)]
    assert len({line["colour"] for line in lines}) == 2
    assert plots["Playback availability"]["limits"] == [[0.995, ">= 99% of control_group (99.5 %)"]]
    assert [line["title"] for line in plots["Stream starts per second"]["lines"]] == ["Stream starts per second"]
    assert "99.9 % control group 99.75 %" in words_of(page)


def test_the_verdict_is_a_sentence_that_names_the_reason():
    words = words_of(made(journals.run(), control()))
    assert "It held" in words
    assert "The protections are the reason: without client_failover the same faults broke the steady state" in words


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ([journals.run()], "The steady state held through the faults."),
        ([journals.run(outcome=Outcome.VIOLATED)], "The steady state did not hold: It fell to 80 %."),
        ([journals.run(outcome=Outcome.INCONCLUSIVE)], "The run does not tell whether the steady state holds: "),
        ([journals.run(outcome=Outcome.ERROR)], "The environment failed, and nothing can be said about the system"),
        ([journals.run(outcome=Outcome.INTERRUPTED)], "it says nothing about the steady state"),
        (
            [journals.run(), journals.run(outcome=Outcome.HELD, disabled=("x",))],
            "It held, and proves nothing yet The steady state held through the faults. The control did not fail: ",
        ),
        ([control()], "The steady state did not hold, without client_failover: It fell to 80 %."),
    ],
)
def test_the_sentence_claims_no_more_than_was_measured(streams, said):
    assert said in words_of(made(*streams))


def test_each_rule_has_its_value_interval_limit_and_what_would_decide_it():
    words = words_of(made(journals.run(), control()))
    assert "availability >= 99.5%" in words
    assert "99.9 % 99.5 % 99.61 % to 99.97 %" in words
    assert "Each end of an interval is wrong in 5 % of runs." in words
    assert "✓ held 12 s more would tell 99.9 %" in words
    assert "control, without client_failover" in words


def test_a_verdict_without_intervals_or_machine_is_shown_as_well():
    bare = {"interval": None, "needs_s": None}
    rules = [{**rule, **bare} for rule in journals.document(outcome=Outcome.HELD)["steady_state"]]
    words = words_of(made(journals.run(steady_state=rules, machine=None)))
    assert "99.9 % 99.5 % -" in words
    assert "would tell" not in words
    assert "hypervisor" not in words


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ([0.9, None], "99.9 % 99.5 % >= 90 %"),
        ([None, 0.98], "99.9 % 99.5 % <= 98 %"),
        ([None, None], "99.9 % 99.5 % -"),
        (None, "99.9 % 99.5 % -"),
        ("none", "99.9 % 99.5 % -"),
    ],
)
def test_an_interval_may_be_open_or_not_known(interval, said):
    rules = [{**rule, "interval": interval} for rule in journals.document(outcome=Outcome.HELD)["steady_state"]]
    assert said in words_of(made(journals.run(steady_state=rules)))


def test_receipts_replay_machine_and_happenings_are_there():
    words = words_of(made(journals.run()))
    assert "2-pause pause: oca-5 oca-1 14.0 to 28.0 nothing: 214 connections cut" in words
    assert "chaos run experiments/oca_outage.yaml --seed 421337" in words
    assert "taken by the hypervisor 1.3 %" in words
    assert "slowest answer of an edge without a fault 4.2 ms" in words
    assert "starved no" in words
    assert "play: full 90 90 90 90 play: refused 7 7 7 7 Playback availability" in words
    assert "store-1 ended by itself (exit status 1): no space left" in words
    assert "the guard “availability < 20%” tripped" in words


def test_the_replay_of_a_pair_makes_the_control_too():
    assert "--seed 421337 --control" in words_of(made(journals.run(), control()))


def test_nothing_in_a_journal_becomes_a_part_of_the_page():
    page = made(journals.run(title=ATTACK), control(title=ATTACK))
    assert page.count("<script") == 2
    assert "<b>" not in page
    assert "alert(1)</script>" not in page
    assert ATTACK.replace("\u2028", " ").split(" ")[0] in html.unescape(page.split("<main")[1].split("</main>")[0])
    assert data_of(page)["groups"]
    assert json.loads(embed({"x": ATTACK})) == {"x": ATTACK}
    assert not set("<>&\u2028") & set(embed({"x": ATTACK}))


def test_a_page_asks_for_nothing_from_anywhere():
    page = made(journals.run())
    assert "default-src 'none'" in page
    assert re.findall(r"(?:src|href)=\"(?!#|data:,)[^\"]*", page) == []
    assert "url(" not in page.replace("url(#", "")
    assert "http:" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in page


def test_several_experiments_have_a_list_with_links_in_front():
    streams = [journals.run(title=f"experiment {number}", file=f"{number}.yaml") for number in range(3)]
    page = made(*streams, journals.run(outcome=Outcome.VIOLATED, title="the last"))
    words = words_of(page)
    assert "4 experiments: 3 held, 1 violated" in words
    for number in range(1, 5):
        assert f'href="#run-{number}"' in page
        assert f'id="run-{number}"' in page
    assert page.count('class="spark"') == 4
    assert len(data_of(page)["groups"]) == 4


def test_a_control_goes_with_the_last_experiment_before_it():
    reader = RunReader()
    for stream in (journals.run(), control(), journals.run(), control(), control()):
        for event in stream:
            reader.handle(event)
    groups = pair(reader.runs)
    assert [(group.run.is_control, group.control is not None) for group in groups] == [
        (False, True),
        (False, True),
        (True, False),
    ]


def test_what_is_told_while_the_target_starts_belongs_to_the_run_that_follows():
    reader = RunReader()
    for number in (1, 2):
        reader.handle(Note(t_s=99.0, text=f"told before run {number}"))  # of the clock of the run before
        for event in journals.run():
            reader.handle(event)
    reader.handle(Note(t_s=0.0, text="told behind all runs"))
    reader.finish()
    assert [run.happenings[0].text for run in reader.runs] == ["told before run 1", "told before run 2"]
    assert [run.happenings[0].t_s for run in reader.runs] == [0.0, 0.0]
    assert [run.end_s for run in reader.runs] == [44.2, 44.2]
    assert all(run.outcome is Outcome.HELD for run in reader.runs)


def test_an_environment_that_never_started_is_a_section_of_its_own():
    reader = RunReader()
    verdict = {
        "outcome": "error",
        "experiment": "a title",
        "reasons": ["the port 8474 is taken"],
        "replay": "chaos run x",
    }
    reader.handle(RunEnded(t_s=0.0, outcome=Outcome.ERROR, verdict=verdict))
    words = words_of(make_page(reader))
    assert "a title" in words
    assert "nothing can be said about the system: the port 8474 is taken." in words
    assert "No fault was applied." in words


def test_series_are_thinned_until_the_page_keeps_to_its_size(monkeypatch):
    whole = made(journals.run(), control())
    monkeypatch.setattr(page_module, "PAGE_BYTES_MAX", len(whole.encode()) - 100)
    monkeypatch.setattr(page_module, "DETAILS", (Detail(buckets_least=4),))
    thinned = made(journals.run(), control())
    assert len(thinned.encode()) < len(whole.encode())
    (group,) = data_of(thinned)["groups"]
    line = group["plots"][0]["lines"][0]
    assert line["width"] > 1
    assert min(value for value in line["low"] if value is not None) == 0.8
    assert "least and greatest second" in thinned


def test_a_page_of_many_runs_shows_less_of_each_and_says_so():
    reader = RunReader()
    for number in range(80):
        for stream in (journals.run(title=f"experiment {number}"), control(title=f"experiment {number}")):
            for event in stream:
                reader.handle(event)
    assert len(reader.runs) == 160
    page = make_page(reader)
    assert len(page.encode()) < 1_500_000
    assert "For want of room left out: figures that no rule is near" in page
    assert len(data_of(page)["groups"]) == 80


@pytest.mark.parametrize("detail", DETAILS)
def test_a_page_of_any_detail_has_verdict_rules_plots_and_receipts(detail, monkeypatch):
    monkeypatch.setattr(page_module, "DETAILS", (detail,))
    page = made(journals.run(), control())
    words = words_of(page)
    assert "It held" in words
    assert "99.5 %" in words
    assert "214 connections cut" in words
    assert data_of(page)["groups"][0]["plots"]
    assert ("Who calls whom" in words) == detail.graph
    assert ("Every metric in every phase" in words) == detail.phases


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "report.html"
    assert write_page(target, "ä") == 2
    assert target.read_bytes() == "ä".encode()
    for cannot in (tmp_path / "none" / "report.html", target / "report.html", tmp_path / ("long" * 63)):
        with pytest.raises(EnvironmentFailure, match="name another file with --html"):
            write_page(cannot, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_command_writes_beside_the_journal_and_says_so(tmp_path):
    path = journals.pair(tmp_path / "run.jsonl")
    done = CliRunner().invoke(cli, ["report", str(path)])
    assert done.exit_code == 0, done.output
    written = tmp_path / "run.html"
    assert f"{written}: 2 runs, " in done.output
    assert written.read_text().startswith("<!doctype html>")
    other = tmp_path / "other.html"
    done = CliRunner().invoke(cli, ["report", str(path), str(path), "--html", str(other)])
    assert "4 runs" in done.output
    assert len(data_of(other.read_text())["groups"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run.jsonl", "--html", "run.jsonl"], "is a journal itself"),
        (["run.jsonl", "--html", "."], "is a folder; name a file"),
        (["run.jsonl", "--html", "none/x.html"], "there is no folder none; make it"),
        (["none.jsonl"], "no such file"),
        (["."], r"is a folder; name the journals in it, for example \*\.jsonl"),
    ],
)
def test_the_command_says_what_to_do_instead(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    journals.write(tmp_path / "run.jsonl", journals.run())
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(cli, ["report", *arguments], catch_exceptions=False, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]


def test_a_run_reads_the_same_as_it_happens_and_from_its_journal(tmp_path):
    read = make_page(read_runs([journals.write(tmp_path / "run.jsonl", journals.run())]))
    assert read == made(journals.run())
