"""Journals as they are found: cut anywhere, of other versions, of other tools, or not there at all."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.errors import Outcome, UsageError
from chaos.events import FaultApplied, FaultHealed, Healed, PhaseStarted, RunEnded, RunStarted, TargetStarting, Tick
from chaos.reports.eventjson import event_to_json
from chaos.reports.html.page import make_page, read_runs
from chaos.reports.html.reading import Second, read_entries, second_of
from chaos.reports.html.record import RunReader
from tests.unit.reports.html import journals

HEAD = '{"journal": "chaos", "version": 1}\n'


def small(path):
    """A whole run in few bytes."""
    kept = [event for event in journals.run() if not isinstance(event, Tick) or event.t_s in {1.0, 14.0, 44.0}]
    return journals.write(path, iter(kept))


def tiny(path):
    """A run of every kind of line in some thousand bytes."""
    events = {type(event): event for event in journals.run() if not isinstance(event, Tick) or event.t_s == 14.0}
    events[Tick] = dataclasses.replace(events[Tick], breakers=events[Tick].breakers[:1])
    events[RunEnded] = dataclasses.replace(events[RunEnded], verdict={"outcome": "held", "reasons": ["it did"]})
    order = [TargetStarting, RunStarted, PhaseStarted, FaultApplied, Tick, FaultHealed, Healed, RunEnded]
    return journals.write(path, (events[kind] for kind in order))


def test_a_journal_cut_at_any_byte_is_shown_as_cut_off_or_refused_with_what_to_do(tmp_path):
    whole = tiny(tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "cut.jsonl"
    refused, cut_off = 0, 0
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        try:
            runs = read_runs([path]).runs
        except UsageError as problem:
            refused += "run it again" in str(problem)
            continue
        assert len(runs) == 1
        assert runs[0].cut_off
        assert runs[0].troubles == []
        cut_off += 1
        if length % 97 == 0:
            page = make_page(read_runs([path]))
            assert "Cut off" in page
            assert "ends before its run does" in page
    assert refused + cut_off == len(whole) - 1
    assert cut_off > 800
    path.write_bytes(whole[:-1])  # without its last newline it is whole
    assert read_runs([path]).runs[0].outcome is Outcome.HELD


def test_what_was_seen_before_the_cut_is_there(tmp_path):
    path = small(tmp_path / "run.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rfind(b'{"event": "run_ended"') + 40])
    (run,) = read_runs([path]).runs
    assert [name for name, *_ in run.spans()] == ["warm_up", "baseline", "fault", "recovery"]
    assert list(run.faults) == ["1-kill", "2-pause", "3-latency"]
    assert run.timeline.series["value", "sps"].span() == (20.0, 50.0)
    assert run.started.rules == ("availability >= 99.5%",)
    page = make_page(read_runs([path]))
    assert "Asked was: availability &gt;= 99.5%." in page
    assert "chaos run x" in page  # the replay command is known without a verdict


def test_a_run_appended_to_one_that_was_cut_off_is_another_run(tmp_path):
    path = small(tmp_path / "run.jsonl")
    whole = path.read_bytes()
    for cut in (len(whole) // 2, whole.rfind(b"\n", 0, -1) + 1, len(whole) - 9):
        path.write_bytes(whole[:cut])
        small(path)
        runs = read_runs([path]).runs
        assert [run.outcome for run in runs] == [None, Outcome.HELD]
        assert all(run.troubles == [] for run in runs)


def test_a_head_that_was_cut_off_in_front_of_another_run_is_survived(tmp_path):
    path = small(tmp_path / "run.jsonl")
    path.write_bytes(path.read_bytes() + b'{"journal": "cha')
    small(path)
    assert [run.outcome for run in read_runs([path]).runs] == [Outcome.HELD, Outcome.HELD]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: .* run it again with --journal it.jsonl"),
        (b"\n", "is empty"),
        (HEAD[:20].encode(), "cut off in its first line"),
        (HEAD.encode(), "no run in it: .* run it again"),
        (bytes(range(256)) * 9, "it.jsonl:1: is not a journal of chaos: .*name a file that"),
        (b"\x1f\x8b\x08\x00\x00", "is not a journal of chaos"),
        (b'{"type":"Metric","data":{"name":"http_reqs"}}\n', "is not a journal of chaos"),
        (b'{"version": 1, "outcome": "held"}\n', "is not a journal of chaos"),
        (b"[" * 100_000, "is not a journal of chaos"),
        (b'{"journal": "chaos", "version": 2}\n', "version 2, and this chaos reads up to 1: use a newer chaos"),
        (b'{"journal": "chaos", "version": "1"}\n', "version '1'"),
        (b'{"journal": "chaos", "version": 0}\n', "version 0"),
    ],
)
def test_what_is_no_journal_is_refused_with_what_to_do(tmp_path, content, message):
    path = tmp_path / "it.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_runs([path])


def test_a_file_that_is_missing_or_a_folder_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"no such file; a journal is made by `chaos run"):
        read_runs([tmp_path / "none.jsonl"])
    with pytest.raises(UsageError, match=r"is a folder; name the journals in it"):
        read_runs([tmp_path])


def test_a_journal_of_before_there_was_a_target_in_it_is_read(tmp_path):
    path = tmp_path / "old.jsonl"
    lines = [HEAD]
    for event in journals.run():
        document = event_to_json(event)
        if isinstance(event, RunStarted):
            for name in ("target", "rules", "replay", "changed"):
                del document[name]
        lines.append(json.dumps(document) + "\n")
    path.write_text("".join(lines))
    reader = read_runs([path])
    assert reader.runs[0].troubles == []
    page = make_page(reader)
    assert "Stream starts" not in page  # its metrics have no titles
    assert '"Sps"' in page
    assert 'aria-label="playback_apps to store' in page  # what callers counted tells some of the graph


def test_the_machine_is_plotted_from_what_numbers_its_events_have(tmp_path):
    path = small(tmp_path / "run.jsonl")
    head, *lines = path.read_text().splitlines(keepends=True)
    told = [
        f'{{"event": "machine_measured", "t_s": {t_s}.0, "steal_share": 0.{t_s}, "canary_s": null, "what": "x"}}\n'
        for t_s in (2, 3)
    ]
    path.write_text("".join([head, *lines[:4], *told, *lines[4:]]))
    reader = read_runs([path])
    assert reader.runs[0].troubles == []
    assert list(reader.runs[0].timeline.series["machine", "steal_share"].means())[1:3] == [0.2, 0.3]
    assert "The machine: processor time" in make_page(reader)


def test_events_and_lines_that_are_not_known_are_left_out_and_told_of(tmp_path):
    path = small(tmp_path / "run.jsonl")
    head, *lines = path.read_text().splitlines(keepends=True)
    odd = [
        '{"event": "planets_aligned", "t_s": 3.0, "steal": 0.5}\n',
        "oops\n",
        '{"event": "tick", "t_s": 4.0, "phase": "fault", "values": {"sps": "many"}, "counts": {}, "breakers": []}\n',
        '{"event": "tick", "t_s": 1e300, "phase": "fault", "values": {}, "counts": {}, "breakers": []}\n',
        '{"event": "tick", "t_s": NaN, "phase": "fault", "values": {}, "counts": {}, "breakers": []}\n',
        '{"event": "tick", "t_s": 5, "phase": "fault", "values": {}, "counts": {"x": {"ok": 1e999}}, "breakers": 7}\n',
        '{"event": "note", "t_s": Infinity, "text": "x"}\n',
        "[]\n",
        "7\n",
    ]
    path.write_text("".join([head, *lines[:5], *odd, *lines[5:]]))
    reader = read_runs([path])
    (run,) = reader.runs
    assert run.outcome is Outcome.HELD
    assert run.troubles_count == len(odd)
    assert run.troubles[0].line == 7
    page = make_page(reader)
    assert "has 9 lines that could not be used" in page
    assert "planets_aligned" in page
    assert "Infinity" not in page.split('id="data"')[1].split("</script>")[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": st.sampled_from(["tick", "note", "run_started", "run_ended", "fault_applied", "what"])},
            optional={
                name: st.one_of(json_values, st.floats(0, 100))
                for name in ("t_s", "phase", "values", "counts", "breakers", "text", "outcome", "verdict", "fault")
            },
        ),
        max_size=6,
    )
)
def test_whatever_a_journal_says_it_makes_a_page_or_a_usage_error(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("any") / "it.jsonl"
    path.write_text(HEAD + "".join(json.dumps(one) + "\n" for one in documents))
    try:
        page = make_page(read_runs([path]))
    except UsageError:
        return
    json.loads(page.split('id="data">')[1].split("</script>")[0])


@settings(max_examples=50)
@given(json_values.filter(lambda value: isinstance(value, dict)) | st.dictionaries(
    st.sampled_from(sorted(journals.document(outcome=Outcome.HELD))), json_values
))  # fmt: skip
def test_whatever_a_verdict_says_it_is_shown_or_left_out(verdict):
    reader = RunReader()
    for event in journals.run():
        reader.handle(event)
    reader.runs[0].verdict = {**journals.document(outcome=Outcome.HELD), **verdict}
    assert "<main" in make_page(reader)


def test_a_tick_reads_the_same_from_a_journal_and_as_it_happens(tmp_path):
    path = journals.write(tmp_path / "run.jsonl", journals.run())
    read = [entry for entry in read_entries(path) if isinstance(entry, Second)]
    assert read == [second_of(event) for event in journals.run() if isinstance(event, Tick)]
    assert len(read) == 44
