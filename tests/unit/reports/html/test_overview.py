"""The list in front of several runs: experiments that shared one, and experiments that were asked about twice."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.errors import Outcome
from chaos.events import Event, ToldApart
from tests.unit.reports.html import journals
from tests.unit.reports.html.test_page import made, words_of


def part(name: str, outcome: Outcome = Outcome.HELD) -> dict[str, object]:
    return journals.document(outcome=outcome, experiment=f"What if {name} dies?", file=f"{name}.yaml")


def shared(*parts: dict[str, object], outcome: Outcome = Outcome.HELD) -> Iterator[Event]:
    """One run of several experiments at the same time, as a gate writes it."""
    names = "+".join(str(one["file"]).removesuffix(".yaml") for one in parts)
    yield from journals.run(outcome=outcome, title="a long one", file=names)
    yield ToldApart(t_s=44.2, verdicts=parts)


def alone(name: str, outcome: Outcome = Outcome.HELD) -> Iterator[Event]:
    return journals.run(outcome=outcome, title=f"What if {name} dies?", file=f"{name}.yaml")


def test_every_experiment_of_a_shared_run_has_a_row_of_its_own():
    page = made(shared(part("a"), part("b")), alone("c"))
    words = words_of(page)
    assert "3 experiments: 3 held" in words
    assert "These are 2 runs: some were of several experiments at the same time." in words
    assert "asked again" not in words
    assert page.count('href="#run-1"') == 2
    assert page.count('href="#run-2"') == 1
    section = words.split("2 experiments at the same time", 1)[1]
    assert "What if a dies? a.yaml ✓ held Playback availability was 99.9 %" in section
    assert "a long one" not in words


def test_what_did_not_tell_and_was_asked_again_counts_once():
    page = made(
        shared(part("a", Outcome.INCONCLUSIVE), part("b"), outcome=Outcome.VIOLATED),
        alone("c", Outcome.INCONCLUSIVE),
        alone("a", Outcome.VIOLATED),
        alone("c", Outcome.INCONCLUSIVE),
    )
    words = words_of(page)
    assert "3 experiments: 1 held, 1 violated, 1 inconclusive" in words
    assert "2 of them did not tell at first, and were asked again." in words
    assert words.count("? inconclusive asked again") == 2


def test_two_answers_about_the_same_experiment_are_two():
    """Reports lie side by side to be compared: only what has told nothing is left out of the count."""
    words = words_of(made(alone("a", Outcome.VIOLATED), alone("a")))
    assert "2 experiments: 1 violated, 1 held" in words
    assert "asked again" not in words


def test_one_shared_run_alone_says_what_it_says_about_each():
    page = made(shared(part("a"), part("b", Outcome.INCONCLUSIVE), outcome=Outcome.INCONCLUSIVE))
    assert "<title>2 experiments at the same time" in page
    words = words_of(page)
    assert "b.yaml ? inconclusive It fell to 80 %." in words
    assert "All experiments" not in words


def test_a_run_that_its_gate_doubts_does_not_tell():
    doubted = [*alone("a"), ToldApart(t_s=44.2, verdicts=(part("a", Outcome.INCONCLUSIVE),))]
    words = words_of(made(doubted, alone("a")))
    assert "1 experiment: 1 held" in words
    assert "? inconclusive asked again" in words
    assert words.count("This does not tell") == 1, "its own section says the same as the list"


def test_what_belongs_to_no_run_before_it_is_left_alone():
    reader_of = made(iter([ToldApart(t_s=0.0, verdicts=(part("a"),))]), alone("c"))
    assert "at the same time" not in words_of(reader_of)
