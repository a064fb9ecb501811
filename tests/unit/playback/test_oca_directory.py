"""Cache control's memory of the OCAs."""

from __future__ import annotations

from dataclasses import replace

from targets.playback.oca_directory import OcaDirectory, Taken
from targets.playback.oca_map import OcaReport, OcaState, title_tag
from targets.playback.seed_data import SeedData
from tests.unit.playback.little_target import report

DATA = SeedData.generate(1, subscribers=1, titles=30, countries=1)


def directory(forget_after_s=3.0, ocas_max=1000):
    return OcaDirectory(forget_after_s=forget_after_s, ocas_max=ocas_max)


def news(sequence, **changes):
    return replace(report(DATA, sequence=sequence), **changes)


def names(states):
    return [state.id for state in states]


def test_an_oca_that_reports_is_on_the_map():
    one = directory()

    assert one.take(0.0, news(1)) is Taken.YES
    assert names(one.map(0.0)) == ["oca-1"]
    assert one.map(0.0)[0].titles == DATA.holdings("alpha", 1)


def test_the_silent_is_forgotten_after_three_seconds_and_comes_back_with_a_report():
    one = directory()
    one.take(0.0, news(1))

    assert names(one.map(3.0)) == ["oca-1"]
    assert names(one.map(3.01)) == []
    assert one.take(4.0, news(2)) is Taken.YES
    assert names(one.map(4.0)) == ["oca-1"]


def test_without_forgetting_the_silent_stays_for_ever():
    one = directory(forget_after_s=None)
    one.take(0.0, news(1))

    assert names(one.map(1e9)) == ["oca-1"]


def test_titles_are_remembered_between_reports_without_them():
    one = directory()
    one.take(0.0, news(1))

    assert one.take(1.0, news(2, titles=None)) is Taken.YES
    assert one.map(1.0)[0].titles == DATA.holdings("alpha", 1)


def test_titles_are_asked_for_when_they_are_not_known_and_until_then_the_oca_is_not_on_the_map():
    one = directory()

    assert one.take(0.0, news(7, titles=None)) is Taken.WANTS_TITLES
    assert names(one.map(0.0)) == []
    assert one.take(0.1, news(7)) is Taken.YES
    assert names(one.map(0.1)) == ["oca-1"]


def test_a_new_version_of_the_titles_is_asked_for():
    one = directory()
    one.take(0.0, news(1))

    assert one.take(1.0, news(2, titles=None, titles_version=2)) is Taken.WANTS_TITLES
    assert one.take(1.1, news(3, titles=1, titles_version=2)) is Taken.YES
    assert one.map(1.1)[0].titles == 1


def test_an_old_report_changes_nothing_and_does_not_keep_the_oca_alive():
    one = directory()
    one.take(0.0, news(5, load=0.2))

    assert one.take(2.0, news(4, load=0.9)) is Taken.OLD
    assert one.take(2.5, news(5, load=0.9)) is Taken.OLD
    assert one.map(2.5)[0].load == 0.2
    assert names(one.map(3.01)) == []


def test_a_restarted_oca_counts_from_one_again_and_is_believed():
    one = directory()
    one.take(0.0, news(50))

    assert one.take(1.0, news(1, incarnation=2, titles=None)) is Taken.WANTS_TITLES
    assert one.take(1.1, news(2, incarnation=2, load=0.3)) is Taken.YES
    assert one.map(1.1)[0].load == 0.3


def test_the_version_changes_exactly_when_the_map_does():
    one = directory()
    one.take(0.0, news(1))
    first = one.version
    one.take(1.0, news(2, load=0.01))
    assert one.version == first
    one.take(2.0, news(3, load=0.5))
    changed = one.version
    assert changed > first
    one.map(5.5)
    assert one.version > changed


def test_a_full_directory_takes_no_new_oca():
    one = directory(ocas_max=1)
    one.take(0.0, news(1))

    assert one.take(0.0, replace(news(1), id="oca-2")) is Taken.FULL
    assert one.take(1.0, news(2)) is Taken.YES
    assert one.take(9.0, replace(news(1), id="oca-2")) is Taken.YES


def test_the_silence_of_each_oca_is_known():
    one = directory()
    one.take(1.0, news(1))

    assert one.silence_s(3.5) == {"oca-1": 2.5}


def test_reports_and_states_come_back_from_json_as_they_were():
    full, brief = news(1), news(1, titles=None)
    one = directory()
    one.take(0.0, full)
    (state,) = one.map(0.0)

    assert OcaReport.from_json(full.to_json()) == full
    assert OcaReport.from_json(full.to_json(with_titles=False)) == brief
    assert OcaState.from_json(state.to_json(), {title_tag(state.titles): state.titles}) == state
