"""The search for the load from which a system no longer recovers: what it asks for, and when it stops."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chaos.errors import Outcome
from chaos.metastability.model import Edges
from tests.unit.metastability.building import O, R, U, V, finding, found, probe, searched, system, tried

RATES = st.floats(0.5, 2000.0)
PRECISIONS = st.sampled_from([0.05, 0.1, 0.25, 0.5, 1.0, 3.0])


def test_the_load_is_doubled_then_bisected_and_both_ends_are_tried_once_more():
    search = searched(system(50.0), precision=0.2)
    assert tried(search) == [20.0, 40.0, 80.0, 56.57, 47.57, 47.57, 56.57]
    edges = Edges.of(search.probes)
    assert (edges.low, edges.high) == (47.57, 56.57)


def test_a_system_that_does_not_recover_at_its_own_load_is_searched_downwards():
    assert tried(searched(system(7.0), precision=0.5, trials=1)) == [20.0, 10.0, 5.0, 7.071]
    never = searched(system(0.0), trials=1)
    assert tried(never) == [20.0, 10.0, 5.0, 2.5]
    assert found(never).recovers_up_to_per_s is None


def test_a_system_that_recovers_from_everything_is_believed_at_the_most_that_was_allowed():
    search = searched(system(1e9), up_to_per_s=100.0)
    assert tried(search) == [20.0, 40.0, 80.0, 100.0]
    assert found(search).recovers_up_to_per_s == 100.0


def test_vulnerable_and_overloaded_are_told_apart():
    both = found(searched(system(50.0, overloaded_from=70.0)))
    assert both.recovers_up_to_per_s < 50.0 <= both.stays_down_from_per_s < 70.0 <= both.overloaded_from_per_s
    robust = found(searched(system(70.0, overloaded_from=70.0)))
    assert robust.stays_down_from_per_s is None
    assert robust.recovers_up_to_per_s < 70.0 <= robust.overloaded_from_per_s


@pytest.mark.parametrize(
    ("threshold", "outcome"), [(34.0, Outcome.VIOLATED), (36.0, Outcome.HELD), (1.0, Outcome.VIOLATED)]
)
def test_the_load_that_is_asked_about_is_tried_itself(threshold, outcome):
    search = searched(system(threshold), recovers_up_to_per_s=35.0)
    assert found(search, recovers_up_to_per_s=35.0).outcome is outcome
    assert (35.0 in tried(search)) is (threshold > 1.0), "what does not recover at less will not at more"


def test_a_probe_that_says_nothing_is_made_once_more():
    answers = iter([U, R, R, V])
    search = searched(lambda rate: next(answers), precision=1.0, trials=1)
    assert tried(search) == [20.0, 20.0, 40.0, 80.0]


def test_where_the_experiments_own_load_says_nothing_twice_the_search_is_over():
    search = searched(lambda rate: U)
    assert tried(search) == [20.0, 20.0]
    assert found(search).sentences() == (
        "nothing could be said about recovery at any load",
        "at 20/s nothing could be said: it was unknown",
    )


def test_a_load_that_cannot_be_offered_bounds_the_search_and_is_said_to_be_nothing_else():
    search = searched(lambda rate: U if rate > 60.0 else R, precision=0.2)
    said = found(search)
    assert tried(search)[:4] == [20.0, 40.0, 80.0, 80.0]
    assert said.recovers_up_to_per_s == pytest.approx(57.0, rel=0.01)
    assert said.stays_down_from_per_s is said.overloaded_from_per_s is None
    assert any("at 80/s nothing could be said" in one for one in said.sentences())


def test_ends_that_contradict_themselves_are_told_and_not_averaged():
    answers = {20.0: [R, R], 40.0: [V, R], 80.0: [V, V]}
    search = searched(lambda rate: answers[rate].pop(0), precision=1.0)
    assert tried(search) == [20.0, 40.0, 20.0, 40.0, 80.0, 80.0]
    said = found(search, precision=1.0)
    assert (said.recovers_up_to_per_s, said.stays_down_from_per_s) == (20.0, 80.0)
    assert "at 40/s the probes do not agree (recovered in 1, stayed down in 1 of 2 probes): the edge is not sharp" in (
        said.sentences()
    )


@given(
    start=RATES,
    times=st.floats(1.0, 20.0),
    threshold=RATES,
    overload=st.floats(1.0, 5.0),
    precision=PRECISIONS,
    trials=st.integers(1, 3),
    required=st.one_of(st.none(), st.floats(0.05, 1.0)),
)
@example(start=1.0, times=1.0, threshold=1.0, overload=1.0, precision=0.05, trials=1, required=None)
def test_every_threshold_is_found_within_the_precision_and_the_bound(
    start, times, threshold, overload, precision, trials, required
):
    up_to = start * times
    asked = {
        "up_to_per_s": up_to,
        "precision": precision,
        "trials": trials,
        "recovers_up_to_per_s": None if required is None else up_to * required,
    }
    search = searched(system(threshold, threshold * overload), start=start, **asked)
    said, edges = found(search, **asked), Edges.of(search.probes)
    assert not search.exhausted
    assert edges.mixed == ()
    if edges.low is None:
        assert threshold <= min(start, up_to * (required or 1.0)) / 7.9, "it was searched down to an eighth"
    elif edges.high is None:
        assert edges.low == up_to < threshold
    else:
        assert edges.low < threshold <= edges.high
        assert edges.high <= edges.low * (1.0 + precision)
        assert all(tried(search).count(rate) == trials for rate in (edges.low, edges.high))
    if required is not None and said.outcome is not Outcome.INCONCLUSIVE:
        assert (said.outcome is Outcome.HELD) is (up_to * required < threshold)
    elif required is not None:
        assert edges.low is None, "only what recovers nowhere leaves a demand below all that was tried open"


@given(seed=st.integers(0, 10_000), noise=st.floats(0.0, 0.6), trials=st.integers(1, 3))
def test_a_system_that_answers_at_random_is_never_said_to_be_sure(seed, noise, trials):
    rng = random.Random(seed)

    def moody(rate):
        return rng.choice([R, V, O, U]) if rng.random() < noise else system(50.0)(rate)

    search = searched(moody, trials=trials)
    said = found(search, trials=trials)
    edges = said.edges
    for one in search.probes:
        if edges.low is not None and one.rate_per_s <= edges.low:
            assert one.answer in (R, U)
        if edges.high is not None and one.rate_per_s >= edges.high:
            assert one.answer is not R
    answers = {rate: {one.answer for one in search.probes if one.rate_per_s == rate} - {U} for rate in tried(search)}
    contradicting = [rate for rate, them in answers.items() if R in them and len(them) > 1]
    assert all(rate in edges.mixed for rate in contradicting)
    assert all(any(f"at {rate:g}/s the probes do not agree" in one for one in said.sentences()) for rate in edges.mixed)


def test_edges_are_what_is_unanimous_on_either_side():
    everything = itertools.product([R, V, O, U], repeat=4)
    for answers in everything:
        edges = finding(*(probe(10.0 * (at + 1), one) for at, one in enumerate(answers))).edges
        known = {10.0 * (at + 1): one for at, one in enumerate(answers) if one is not U}
        assert edges.low is None or all(one is R for rate, one in known.items() if rate <= edges.low)
        assert edges.high is None or all(one is not R for rate, one in known.items() if rate >= edges.high)
        between = {rate for rate in known if (edges.low or 0.0) < rate < (edges.high or 1e9)}
        assert set(edges.mixed) == between
