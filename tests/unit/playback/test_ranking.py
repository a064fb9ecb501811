"""Which OCAs a client is given, and when the map is believed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.oca_health import routes_of
from targets.playback.oca_map import OcaState
from targets.playback.ranking import OCAS_PER_PLAY, MapKeeper, explain, rank


def oca(number, isp="alpha", load=0.0, titles=1, accepting=True):
    return OcaState(
        id=f"oca-{number}",
        url=f"http://127.0.0.1:{9000 + number}",
        isp=isp,
        load=load,
        accepting=accepting,
        routes=routes_of(isp),
        titles=titles,
    )


ALL = [
    oca(3 * place + number + 1, isp)
    for place, isp in enumerate(("alpha", "beta", "gamma", "ixp"))
    for number in range(3)
]


def ranked(ocas=ALL, *, isp="beta", title=0, seed=1, **options):
    return rank(ocas, isp=isp, title=title, rng=random.Random(seed), **options)


def test_ten_are_given_the_clients_own_network_first_then_the_exchange():
    assert [one.isp for one in ranked()][:6] == ["beta"] * 3 + ["ixp"] * 3
    assert len(ranked()) == OCAS_PER_PLAY == 10


def test_a_client_of_an_unknown_network_is_sent_to_the_exchange_first():
    assert [one.isp for one in ranked(isp=None)][:3] == ["ixp"] * 3


def test_an_oca_without_the_title_is_not_given():
    assert [one.id for one in ranked([oca(1, titles=0b01), oca(2, titles=0b10)], title=1)] == ["oca-2"]


def test_it_says_of_every_oca_why_it_is_where_it_is():
    ocas = [
        oca(1, load=0.25),
        oca(2, load=0.95),
        oca(3, accepting=False),
        oca(4, titles=0b10),
        replace(oca(5), routes={"gamma": 0}),
        oca(6, "ixp", load=0.5),
        oca(7, "gamma"),
    ]
    given = ranked(ocas, isp="alpha", count=5)
    told = explain(ocas, given, isp="alpha", title=0)
    assert [one["id"] for one in told[:5]] == [one.id for one in given]
    assert [one["place"] for one in told] == [1, 2, 3, 4, 5, None, None]
    assert {one["id"]: one["why"] for one in told} == {
        "oca-1": "in the client's network; 75% of its capacity is free, which is its weight in the draw",
        "oca-2": "in the client's network; after all others: 95% of its capacity is in use",
        "oca-3": "in the client's network; after all others: it refuses new streams",
        "oca-4": "left out: it does not hold the title",
        "oca-5": "left out: it has no route to the client",
        "oca-6": "at the exchange point; 50% of its capacity is free, which is its weight in the draw",
        "oca-7": "in another provider's network; 100% of its capacity is free, which is its weight in the draw",
    }
    without = explain(ocas, ranked(ocas, isp="alpha", by_health=False), isp="alpha", title=0, by_health=False)
    assert next(one["why"] for one in without if one["id"] == "oca-2") == (
        "in the client's network; its load is not minded"
    )


def test_whoever_came_too_late_is_told_so():
    given = ranked()
    late = [one for one in explain(ALL, given, isp="beta", title=0) if one["place"] is None]
    assert len(late) == 2
    assert all(one["why"].endswith("; 10 others came before it") for one in late)


def test_an_oca_without_a_route_to_the_client_is_not_given():
    unreachable = replace(oca(1), routes={"gamma": 0})

    assert [one.id for one in ranked([unreachable, oca(2)])] == ["oca-2"]


def test_the_nearly_full_and_those_that_refuse_come_after_all_others():
    ocas = [oca(1, "beta", load=0.95), oca(2, "beta", accepting=False), oca(3, "gamma")]

    assert [one.id for one in ranked(ocas)] == ["oca-3", *(one.id for one in ranked(ocas)[1:])]
    assert len(ranked(ocas)) == 3


def test_equals_take_turns_so_that_the_best_is_not_overrun():
    rng = random.Random(1)
    first = Counter(rank(ALL, isp="beta", title=0, rng=rng)[0].id for _ in range(3000))

    assert set(first) == {"oca-4", "oca-5", "oca-6"}
    assert all(850 < count < 1150 for count in first.values())


def test_the_busy_get_less_in_proportion_to_their_free_capacity():
    rng = random.Random(1)
    ocas = [oca(1, "beta", load=0.0), oca(2, "beta", load=0.75)]
    first = Counter(rank(ocas, isp="beta", title=0, rng=rng)[0].id for _ in range(5000))

    assert first["oca-2"] / 5000 == pytest.approx(0.2, abs=0.03)


def test_without_regard_to_health_the_full_are_as_good_as_the_idle():
    rng = random.Random(1)
    ocas = [oca(1, "beta", load=0.0), oca(2, "beta", load=1.0, accepting=False)]
    first = Counter(rank(ocas, isp="beta", title=0, rng=rng, by_health=False)[0].id for _ in range(2000))

    assert first["oca-2"] / 2000 == pytest.approx(0.5, abs=0.05)


def test_the_same_chance_gives_the_same_ranking():
    assert ranked(seed=5) == ranked(seed=5)


@given(
    st.lists(st.tuples(st.sampled_from(["alpha", "beta", "ixp"]), st.floats(0, 1), st.booleans(), st.integers(0, 3))),
    st.integers(0, 1),
    st.booleans(),
)
def test_a_ranking_holds_only_holders_of_the_title_once_each(parts, title, by_health):
    ocas = [oca(number, *part[:2], part[3], part[2]) for number, part in enumerate(parts)]
    given_ = ranked(ocas, title=title, by_health=by_health)

    assert len(given_) == min(10, sum(one.holds(title) for one in ocas))
    assert len({one.id for one in given_}) == len(given_)
    assert all(one.holds(title) for one in given_)


# ---- the map


def kept(keep=True, **limits):
    return MapKeeper(keep=keep, **limits)


def test_the_newest_map_counts():
    keeper = kept()
    keeper.answered(0.0, ALL)
    keeper.answered(1.0, ALL[3:])

    assert keeper.view(1.0).ocas == tuple(ALL[3:])
    assert not keeper.view(1.0).stale


def test_before_the_first_map_there_is_none():
    assert kept().view(0.0).ocas == ()


def test_a_map_that_loses_most_ocas_at_once_is_doubted_and_all_are_kept():
    keeper = kept()
    keeper.answered(0.0, ALL)
    for moment, left in ((0.5, 8), (1.0, 5), (1.5, 1), (2.0, 0), (4.0, 0)):
        keeper.answered(moment, ALL[:left])

    assert {one.id for one in keeper.view(4.0).ocas} == {one.id for one in ALL}
    assert keeper.view(4.0).stale


def test_a_doubted_map_is_believed_again_when_half_of_the_ocas_are_back():
    keeper = kept()
    keeper.answered(0.0, ALL)
    keeper.answered(1.0, ())
    keeper.answered(5.0, ALL[:6])

    assert keeper.view(5.0).ocas == tuple(ALL[:6])
    assert not keeper.view(5.0).stale


def test_the_loss_of_a_provider_and_one_more_oca_is_believed():
    keeper = kept()
    keeper.answered(0.0, ALL)
    keeper.answered(3.0, ALL[4:])

    assert keeper.view(3.0).ocas == tuple(ALL[4:])


def test_the_long_gone_are_not_counted_as_lost_at_once():
    keeper = kept(remember_s=15.0)
    keeper.answered(0.0, ALL)
    for moment in range(1, 40):
        keeper.answered(float(moment), ALL[6:])
    keeper.answered(40.0, ALL[9:])

    assert keeper.view(40.0).ocas == tuple(ALL[9:])


def test_without_an_answer_the_last_map_is_kept_and_becomes_stale():
    keeper = kept()
    keeper.answered(0.0, ALL)
    keeper.unanswered()

    assert not keeper.view(3.0).stale
    assert keeper.view(3.1).stale
    assert keeper.view(3.1).ocas == tuple(ALL)


def test_a_stale_map_is_given_up_in_the_end():
    keeper = kept(stale_max_s=900.0)
    keeper.answered(0.0, ALL)

    assert keeper.view(900.0).ocas
    assert keeper.view(900.1).ocas == ()


def test_with_the_protection_off_only_what_is_said_now_counts():
    keeper = kept(keep=False)
    keeper.answered(0.0, ALL)
    keeper.answered(1.0, ALL[:1])
    assert keeper.view(1.0).ocas == tuple(ALL[:1])
    keeper.answered(2.0, ())
    assert keeper.view(2.0).ocas == ()
    keeper.answered(3.0, ALL)
    keeper.unanswered()
    assert keeper.view(3.0).ocas == ()
