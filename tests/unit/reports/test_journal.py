"""The journal: written line by line, read back as typed events, whatever happened to the last line."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import events
from chaos.errors import EnvironmentFailure, Outcome, UsageError
from chaos.events import BreakerState, Event, MetricLabel, Note, RunEnded, RunStarted, TargetShape, Tick
from chaos.reports.eventjson import event_from_json, event_to_json
from chaos.reports.journal import JournalWriter, read_journal
from tests.unit.reports import streaming

KINDS = [
    kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]
words = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
breaker = st.builds(
    BreakerState,
    instance=words,
    command=words,
    state=st.sampled_from(["closed", "open", "half-open"]),
    calls=st.integers(0),
    errors=st.integers(0),
    fallbacks=st.integers(0),
)
FIELDS = {
    ("RunStarted", "target"): st.none()
    | st.builds(
        TargetShape,
        name=words,
        services=st.dictionaries(words, st.integers(), max_size=3),
        calls=st.dictionaries(words, st.lists(words, max_size=3).map(tuple), max_size=3),
        metrics=st.dictionaries(
            words, st.builds(MetricLabel, title=words, unit=words, of=words, detail=st.booleans()), max_size=3
        ),
    ),
    ("RunStarted", "phases"): st.dictionaries(words, st.tuples(numbers, numbers), max_size=4),
    ("Tick", "values"): st.dictionaries(words, st.none() | numbers, max_size=4),
    ("Tick", "counts"): st.dictionaries(words, st.dictionaries(words, st.integers(), max_size=3), max_size=3),
    ("Tick", "breakers"): st.lists(breaker, max_size=3).map(tuple),
    ("Tick", "groups"): st.none()
    | st.dictionaries(words, st.dictionaries(words, st.none() | numbers, max_size=4), max_size=2),
    ("RunEnded", "verdict"): st.dictionaries(words, plain_json, max_size=3),
    ("RunEnded", "outcome"): st.sampled_from(Outcome),
    ("MetastabilitySearched", "verdict"): st.dictionaries(words, plain_json, max_size=3),
    ("MetastabilitySearched", "outcome"): st.sampled_from(Outcome),
    ("ToldApart", "verdicts"): st.lists(st.dictionaries(words, plain_json, max_size=3), max_size=3).map(tuple),
}
BY_TYPE = {
    str: words,
    float: numbers,
    int: st.integers(),
    bool: st.booleans(),
    float | None: st.none() | numbers,
    tuple[str, ...]: st.lists(words, max_size=3).map(tuple),
}


def any_event(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = typing.get_type_hints(kind)
    fields = {
        one.name: FIELDS[kind.__name__, one.name] if (kind.__name__, one.name) in FIELDS else BY_TYPE[hints[one.name]]
        for one in dataclasses.fields(kind)
    }
    return st.builds(kind, **fields)


@given(st.one_of([any_event(kind) for kind in KINDS]))
def test_every_event_comes_back_as_it_went(event):
    line = json.dumps(event_to_json(event))
    assert event_from_json(json.loads(line)) == event


def test_every_kind_of_event_has_a_name_of_its_own():
    stream = [*streaming.events(), *streaming.afterwards()]
    assert {type(event) for event in stream} == set(KINDS)
    assert {event_to_json(event)["event"] for event in stream} >= {"run_started", "tick", "instance_died", "run_ended"}


def test_a_journal_gives_the_events_of_a_run_back(tmp_path):
    stream = [*streaming.events(), *streaming.afterwards()]
    with JournalWriter(tmp_path / "run.jsonl") as journal:
        for event in stream:
            journal.handle(event)
    assert list(read_journal(tmp_path / "run.jsonl")) == stream
    head, first, *_ = (tmp_path / "run.jsonl").read_text().splitlines()
    assert json.loads(head) == {"journal": "chaos", "version": 1}
    assert json.loads(first)["event"] == "target_starting"


def test_fields_that_an_earlier_version_did_not_write_are_their_defaults():
    started = next(event for event in streaming.events() if isinstance(event, RunStarted))
    document = event_to_json(started)
    for name in ("changed", "rules", "replay", "target"):
        del document[name]
    assert event_from_json(document) == dataclasses.replace(started, rules=(), replay="", target=None)


def test_each_line_is_there_the_moment_the_event_happens(tmp_path):
    with JournalWriter(tmp_path / "run.jsonl") as journal:
        journal.handle(Note(t_s=1.0, text="ä\n"))
        assert read_journal(tmp_path / "run.jsonl") == (Note(t_s=1.0, text="ä\n"),)


def test_a_torn_last_line_is_survived_wherever_it_is_torn(tmp_path):
    path = tmp_path / "run.jsonl"
    with JournalWriter(path) as journal:
        journal.handle(Note(t_s=1.0, text="one"))
        journal.handle(Note(t_s=2.0, text="zwölf"))
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert read_journal(path) == (Note(t_s=1.0, text="one"),)
    path.write_bytes(whole[:-1])
    assert len(read_journal(path)) == 2


def test_another_run_is_appended_even_after_a_torn_line(tmp_path):
    path = tmp_path / "run.jsonl"
    with JournalWriter(path) as journal:
        journal.handle(Note(t_s=1.0, text="one"))
    path.write_bytes(path.read_bytes() + b'{"event": "no')
    with JournalWriter(path) as journal:
        journal.handle(Note(t_s=2.0, text="two"))
    assert [event.text for event in read_journal(path)] == ["one", "two"]


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "run.jsonl"
    with JournalWriter(path) as journal:
        journal.handle(Note(t_s=1.0, text="one"))
    path.write_bytes(path.read_bytes() + b'oops\n{"event": "note", "t_s": 2.0, "text": "two"}\n')
    with pytest.raises(UsageError, match=r"run\.jsonl:3: is not a line of JSON"):
        read_journal(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", None),
        ("hello\n", "is not a journal of chaos"),
        ('{"a": 1}\n', "is not a journal of chaos"),
        ('{"journal": "chaos", "version": 99}\n', "version 99.*use a newer chaos"),
        ('{"journal": "chaos", "version": 1}\n{"event": "notes"}\n', "unknown event 'notes', did you mean 'note'"),
        ('{"journal": "chaos", "version": 1}\n{"event": "note", "t_s": 1.0}\n', "note lacks the key 'text'"),
        ('{"journal": "chaos", "version": 1}\n{"event": "note", "t_s": "x", "text": "y"}\n', "t_s: 'x' is not a float"),
        ('{"journal": "chaos", "version": 1}\n[1]\n', 'expected an object with the key "event"'),
    ],
)
def test_a_file_that_is_no_journal_is_a_usage_error(tmp_path, content, message):
    path = tmp_path / "run.jsonl"
    path.write_text(content)
    if message is None:
        assert read_journal(path) == ()
        return
    with pytest.raises(UsageError, match=message):
        read_journal(path)


def test_a_file_that_is_no_journal_is_not_written_to(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(UsageError, match="is not a journal of chaos"):
        JournalWriter(path)
    assert path.read_text() == "my notes\n"


def test_two_runs_do_not_write_one_journal_at_once(tmp_path):
    with JournalWriter(tmp_path / "run.jsonl"), pytest.raises(UsageError, match="another run is writing"):
        JournalWriter(tmp_path / "run.jsonl")
    JournalWriter(tmp_path / "run.jsonl").close()


def test_a_journal_that_cannot_be_opened_or_read_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be written as a journal"):
        JournalWriter(tmp_path / "missing" / "run.jsonl")
    with pytest.raises(UsageError, match="cannot be read"):
        read_journal(tmp_path / "missing.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_environment_failure():
    with pytest.raises(EnvironmentFailure, match="the journal cannot be written"):
        JournalWriter(Path("/dev/full"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_fills_up_silences_the_journal_after_one_error(tmp_path):
    journal = JournalWriter(tmp_path / "run.jsonl")
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), journal._file.fileno())
    with pytest.raises(EnvironmentFailure, match="No space left"):
        journal.handle(Note(t_s=1.0, text="x"))
    journal.handle(RunEnded(t_s=2.0, outcome=Outcome.ERROR, verdict={}))
    journal.close()


def test_numbers_that_json_does_not_know_become_null():
    tick = Tick(t_s=1.0, phase="fault", values={"x": math.nan}, counts={}, breakers=())
    assert event_to_json(tick)["values"] == {"x": None}


def test_fields_of_a_later_version_are_ignored():
    assert event_from_json({"event": "note", "t_s": 1, "text": "a", "more": 2}) == Note(t_s=1.0, text="a")
