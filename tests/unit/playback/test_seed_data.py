"""The world made from the seed."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter

import pytest

from targets.playback import tokens
from targets.playback.licences import ALWAYS
from targets.playback.seed_data import ISPS, IXP, SeedData, title_index
from targets.playback.validation import Refusal, refusal
from tests.unit.playback.little_target import TODAY, config

LATER = dt.date(2026, 12, 31)

OCAS = [(isp, index) for index, isp in enumerate([one for isp in (*ISPS, IXP) for one in [isp] * 3], start=1)]


def test_the_same_seed_gives_the_same_world_and_another_seed_another():
    first, again, other = SeedData.generate(1), SeedData(1, 10_000, 500, 20), SeedData.generate(2)

    assert SeedData.generate(1) is first
    assert (first.subscribers, first.titles, first.isps) == (again.subscribers, again.titles, again.isps)
    assert [first.holdings(*oca) for oca in OCAS] == [again.holdings(*oca) for oca in OCAS]
    assert first.subscribers != other.subscribers
    assert first.titles != other.titles


def test_the_world_has_the_size_of_the_issue():
    data = SeedData.generate(1)

    assert (len(data.subscribers), len(data.titles), len(data.countries)) == (10_000, 500, 20)
    assert len({one.id for one in data.subscribers}) == 10_000


@pytest.mark.parametrize("seed", range(5))
def test_three_to_six_percent_of_plays_are_refused_for_each_reason(seed):
    data = SeedData.generate(seed)
    rng = random.Random(seed)
    plays = 20_000
    found = Counter(refusal(rng.choice(data.subscribers), rng.choice(data.titles), TODAY) for _ in range(plays))

    assert 0.03 < 1 - found[None] / plays < 0.06
    assert found[Refusal.PLAN] > 0.01 * plays
    assert found[Refusal.LICENCE] + found[Refusal.LICENCE_WINDOW] > 0.01 * plays
    assert min(found[Refusal.LICENCE], found[Refusal.LICENCE_WINDOW]) > 0.005 * plays


def test_another_date_decides_otherwise_about_one_title_in_ten():
    data = SeedData.generate(1)
    anywhere = [(title, country) for title in data.titles for country in data.countries]
    changed = Counter(
        (title.window_on(country, TODAY) is None, title.window_on(country, LATER) is None)
        for title, country in anywhere
    )

    assert 0.09 < changed[False, True] / len(anywhere) < 0.11
    assert 0.003 < changed[True, False] / len(anywhere) < 0.007


@pytest.mark.parametrize("seed", range(5))
def test_each_title_is_held_by_ten_ocas_and_survives_a_provider_and_one_more(seed):
    data = SeedData.generate(seed)
    for title in range(len(data.titles)):
        holders = [(isp, index) for isp, index in OCAS if data.holdings(isp, index) >> title & 1]
        assert len(holders) >= 10
        for lost in ISPS:
            assert len([isp for isp, _ in holders if isp != lost]) - 1 >= 5
        assert [isp for isp, _ in holders].count(IXP) == 3


def test_subscribers_are_spread_over_the_providers_and_some_are_with_nobody_known():
    data = SeedData.generate(1)
    found = Counter(data.networks.lookup(data.client_ip(one)) for one in data.subscribers[:2000])

    assert all(500 < found[isp] < 850 for isp in ISPS)
    assert 20 < found[None] < 120


def test_a_subscriber_always_calls_from_the_same_address():
    data = SeedData.generate(1)

    assert data.client_ip(data.subscribers[7]) == SeedData(1, 10_000, 500, 20).client_ip(data.subscribers[7])


def test_a_leased_block_belongs_to_the_lessee():
    data = SeedData.generate(1)

    assert data.networks.lookup("10.1.10.1") == "beta"
    assert data.networks.lookup("10.1.250.1") == "alpha"


def test_licences_are_those_of_the_titles():
    data = SeedData.generate(1)
    title = next(title for title in data.titles if len(title.licences) < 20)
    without = next(country for country in data.countries if country not in title.licences)
    within = next(country for country, windows in title.licences.items() if windows == (ALWAYS,))

    assert not data.licensed(title.id, without, TODAY)
    assert data.licensed(title.id, within, TODAY)


def test_the_token_is_the_subscribers_own():
    data = SeedData.generate(1)

    assert tokens.verify(data.token(data.subscribers[3], "key"), "key") == data.subscribers[3]


def test_a_run_decides_the_size_of_its_world():
    data = SeedData.of(config("store", seed=5))

    assert (data.seed, data.subscriber_count, data.title_count, data.country_count) == (5, 60, 30, 3)
    assert data.new_title_count == 4
    assert SeedData.of(config("store", settings={"new_titles": 2})).new_title_count == 2


def test_new_titles_are_at_the_end_of_the_catalogue_and_no_oca_is_delivered_with_them():
    data, without = SeedData.generate(1, new_titles=4), SeedData.generate(1, new_titles=0)

    assert data.titles == without.titles
    assert [title.id for title in data.new_titles] == [f"title-0{number}" for number in range(501, 505)]
    assert data.catalogue == data.titles + data.new_titles
    assert not any(
        refusal(subscriber, title, TODAY) for subscriber in data.subscribers[:50] for title in data.new_titles
    )
    for oca in OCAS:
        assert data.holdings(*oca) == without.holdings(*oca) == data.assigned(*oca) & (1 << 500) - 1
    for title in range(500, 504):
        assert len([oca for oca in OCAS if data.assigned(*oca) >> title & 1]) >= 10


@pytest.mark.parametrize(
    ("size", "value", "least"),
    [("subscribers", 0, 1), ("titles", 10_000, 1), ("countries", 99, 1), ("new_titles", 9_999, 0)],
)
def test_an_impossible_size_says_what_is_possible(size, value, least):
    with pytest.raises(ValueError, match=rf"settings\.{size} is {value}; from {least} to"):
        SeedData.generate(1, **{size: value})


@pytest.mark.parametrize(
    ("title", "index"),
    [("title-0001", 0), ("title-0500", 499), ("title-0000", None), ("title-1", None), ("film-0001", None), ("", None)],
)
def test_a_titles_name_says_its_position(title, index):
    assert title_index(title) == index
