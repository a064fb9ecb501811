"""A page keeps to its size whatever the journals say, and says what it has no room for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.events import Event, FaultApplied, Note, RunEnded
from chaos.reports.html import page as page_module
from chaos.reports.html.data import DETAILS
from chaos.reports.html.record import FAULT_LETTERS_MAX, NOTES_MAX
from tests.unit.reports.html import journals
from tests.unit.reports.html.test_page import data_of, made, words_of

_OTHERS = 4
"""What happens in the run besides."""


def eventful(*, faults: int = 0, notes: int = 0, title: str | None = None) -> Iterator[Event]:
    """A run in which much happens, all of it at length."""
    for event in journals.run(title=title):
        if isinstance(event, RunEnded):
            for number in range(faults):
                what = f"the {number}th of them: " + "&" * 2000
                yield FaultApplied(t_s=13.0, fault=f"{number}-latency", kind="latency", description=what, victims=())
            for number in range(notes):
                yield Note(t_s=20.0, text=f"note {number}: " + "&" * 2000)
        yield event


@pytest.mark.parametrize("detail", DETAILS)
def test_what_else_happened_is_told_as_far_as_there_is_room_and_the_rest_is_counted(detail, monkeypatch):
    monkeypatch.setattr(page_module, "DETAILS", (detail,))
    page = made(eventful(notes=2 * NOTES_MAX))
    words = words_of(page)
    told = data_of(page)["groups"][0]["runs"][0]["happenings"]
    assert len(told) == detail.happenings
    assert all(what in words for _, what in told)
    left_out = _OTHERS + 2 * NOTES_MAX - detail.happenings
    assert (f"and {left_out} more, in the journal" if detail.happenings else f"{left_out}, in the journal") in words


def test_a_fault_that_is_described_at_length_is_cut_short():
    page = made(eventful(faults=1))
    (long,) = [fault for fault in data_of(page)["groups"][0]["runs"][0]["faults"] if fault[0] == "0-latency"]
    assert len(long[1]) == FAULT_LETTERS_MAX
    assert long[1].endswith("&…")
    assert "&" * FAULT_LETTERS_MAX not in words_of(page)


def test_where_the_least_of_each_is_too_much_some_have_their_verdict_alone(monkeypatch):
    monkeypatch.setattr(page_module, "PAGE_BYTES_MAX", 150_000)
    streams = [eventful(faults=20, notes=NOTES_MAX, title=f"experiment {number}") for number in range(8)]
    page = made(*streams)
    assert len(page.encode()) < 150_000
    whole = [group["id"] for group in data_of(page)["groups"]]
    assert 0 < len(whole) < 8
    assert f"all but the verdict of {8 - len(whole)} experiments" in page
    for number in range(8):
        section = page.split(f'id="run-{number + 1}"', 1)[1].split("</section>", maxsplit=1)[0]
        assert f"experiment {number}" in section
        assert "The steady state held through the faults." in section
        assert ("What the faults touched" in section) == (f"run-{number + 1}" in whole)
        assert ("This page has no room for the rest" in section) == (f"run-{number + 1}" not in whole)
