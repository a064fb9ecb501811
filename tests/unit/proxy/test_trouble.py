"""Trouble as on a bad network, on a fake clock; and delays that vary in other ways than Toxiproxy's."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest

from chaos.proxy.toxics import KINDS, Direction, End, InstalledToxic, Life, Toxic
from chaos.proxy.toxics.kinds import PARETO_DEVIATION, PARETO_MEAN, PARETO_SHAPE, Latency
from tests.unit.proxy.wire import FEEDINGS, START_S, toxic_stage, wire

TEXT = bytes(range(256)) * 2
every_feeding = pytest.mark.parametrize("feeding", FEEDINGS)


def made(kind: str, **attributes: object) -> Toxic:
    return KINDS[kind]().with_attributes(attributes)


def installed(toxic: Toxic, *, stream: str = "upstream") -> InstalledToxic:
    life = Life(since_s=START_S, seed="1/p/t/1")
    return InstalledToxic(name="t", direction=Direction(stream), stream=stream, toxicity=1.0, toxic=toxic, life=life)


# black_hole


@every_feeding
def test_a_black_hole_swallows_all_and_ends_nothing(feeding):
    line = wire(toxic_stage(made("black_hole")))
    for chunk in feeding(TEXT):
        line.feed(0.0, chunk)
    line.feed(1.0, End.EOF)
    assert line.finish().out == []
    line.change(2.0, lambda now_s: line.chain.remove(now_s, "0"))
    assert line.out == [(2.0, End.RESET)]


def test_a_connection_that_lost_nothing_in_a_black_hole_goes_on():
    line = wire(toxic_stage(made("black_hole")))
    line.change(2.0, lambda now_s: line.chain.remove(now_s, "0"))
    line.feed(3.0, b"x")
    assert line.out == [(3.0, b"x")]


def test_an_end_alone_comes_out_of_a_black_hole_as_what_it_was():
    line = wire(toxic_stage(made("black_hole")))
    line.feed(1.0, End.EOF)
    line.change(2.0, lambda now_s: line.chain.remove(now_s, "0"))
    assert line.out == [(2.0, End.EOF)]


def test_a_black_hole_that_is_set_anew_remembers_what_it_took():
    line = wire(toxic_stage(made("black_hole")))
    line.feed(0.0, b"x")
    line.change(1.0, lambda now_s: line.chain.replace(now_s, "0", toxic_stage(made("black_hole"), at_s=1.0)))
    line.change(2.0, lambda now_s: line.chain.remove(now_s, "0"))
    assert line.out == [(2.0, End.RESET)]


def test_a_black_hole_does_not_give_back_what_came_in_before_an_end():
    line = wire(toxic_stage(made("black_hole")))
    line.feed(0.0, End.EOF)
    line.change(1.0, lambda now_s: line.chain.replace(now_s, "0", toxic_stage(made("black_hole"), at_s=1.0)))
    line.change(2.0, lambda now_s: line.chain.replace(now_s, "0", None))  # spared from now on
    assert line.out == [(2.0, End.EOF)]


def test_a_black_hole_holds_nothing_so_a_sender_never_has_to_wait():
    line = wire(toxic_stage(made("black_hole")))
    for _ in range(100):
        line.feed(0.0, bytes(100_000))
    assert not line.chain.full


# partition


@every_feeding
def test_a_partition_holds_until_it_heals_and_loses_nothing(feeding):
    line = wire(toxic_stage(made("partition")))
    for chunk in feeding(TEXT):
        line.feed(0.0, chunk)
    line.feed(1.0, End.EOF)
    assert line.finish().out == []
    line.change(2.0, lambda now_s: line.chain.remove(now_s, "0"))
    assert (line.data, line.end) == (TEXT, (2.0, End.EOF))


def test_a_partition_makes_the_sender_wait_when_it_holds_enough():
    line = wire(toxic_stage(made("partition")))
    assert not line.chain.full
    line.feed(0.0, bytes(100_000))
    assert line.chain.full


# stall


@every_feeding
def test_a_stall_holds_for_its_time(feeding):
    line = wire(toxic_stage(made("stall", duration_ms=500)))
    for chunk in feeding(TEXT):
        line.feed(0.2, chunk)
    line.feed(0.6, b"later")
    assert line.finish().data == TEXT + b"later"
    assert set(line.moments) == {0.5, 0.6}


def test_a_stall_may_begin_later():
    line = wire(toxic_stage(made("stall", duration_ms=500, after_ms=1000)))
    for at_s in (0.0, 0.9, 1.0, 1.4, 1.6):
        line.feed(at_s, b"x")
    assert line.finish().moments == [0.0, 0.9, 1.5, 1.5, 1.6]


def test_a_stall_may_come_again_and_again():
    line = wire(toxic_stage(made("stall", duration_ms=200, after_ms=100, every_ms=1000)))
    for at_s in (0.0, 0.15, 0.35, 1.05, 1.15, 2.2, 2.31):
        line.feed(at_s, b"x")
    assert line.finish().moments == pytest.approx([0.0, 0.3, 0.35, 1.05, 1.3, 2.3, 2.31])


def test_a_stall_without_a_duration_lasts_until_it_is_removed():
    line = wire(toxic_stage(made("stall", after_ms=100)))
    line.feed(0.05, b"a")
    line.feed(0.2, b"b")
    line.feed(0.3, End.EOF)
    assert line.finish().out == [(0.05, b"a")]
    line.change(9.0, lambda now_s: line.chain.remove(now_s, "0"))
    assert line.out[1:] == [(9.0, b"b"), (9.0, End.EOF)]


def test_a_stall_with_another_duration_counts_from_where_it_began():
    line = wire(toxic_stage(made("stall", duration_ms=5000)))
    line.feed(0.0, b"x")
    shorter = toxic_stage(made("stall", duration_ms=1500), at_s=1.0)
    line.change(1.0, lambda now_s: line.chain.replace(now_s, "0", shorter))
    assert line.finish().moments == [1.5]


@every_feeding
def test_what_came_before_a_stall_and_after_it_passes_as_it_comes(feeding):
    line = wire(toxic_stage(made("stall", duration_ms=100, after_ms=1000, every_ms=500)))
    for at_s in (0.5, 1.05, 1.3, 1.55, 1.7):
        for chunk in feeding(TEXT):
            line.feed(at_s, chunk)
    assert line.finish().data == TEXT * 5
    assert sorted(set(line.moments)) == pytest.approx([0.5, 1.1, 1.3, 1.6, 1.7])


@pytest.mark.parametrize("every_ms", [0, 1000])
def test_a_stall_that_is_removed_gives_back_at_once_what_it_held(every_ms):
    line = wire(toxic_stage(made("stall", duration_ms=900, every_ms=every_ms)))
    line.feed(0.1, b"a")
    line.feed(0.2, End.EOF)
    line.change(0.3, lambda now_s: line.chain.remove(now_s, "0"))
    assert line.out == [(0.3, b"a"), (0.3, End.EOF)]


def test_a_stall_counts_from_when_it_met_the_connection_and_not_from_when_it_was_installed():
    line = wire(toxic_stage(made("stall", duration_ms=500), at_s=7.0, since_s=0.0))
    line.feed(7.1, b"x")
    assert line.finish().moments == [7.5]


# flap


@every_feeding
def test_a_flapping_link_delays_and_loses_nothing(feeding):
    line = wire(toxic_stage(made("flap", down_ms=200, up_ms=300)))
    for at_s in (0.1, 0.3, 0.6):
        for chunk in feeding(TEXT):
            line.feed(at_s, chunk)
    line.feed(1.1, End.EOF)
    assert (line.finish().data, line.end) == (TEXT * 3, (1.2, End.EOF))
    assert sorted(set(line.moments)) == pytest.approx([0.2, 0.3, 0.7, 1.2])


def test_a_flapping_link_that_is_set_anew_keeps_its_moments_and_gives_back_what_it_held():
    line = wire(toxic_stage(made("flap", down_ms=5000, up_ms=5000)))
    line.feed(1.0, b"a")
    quicker = toxic_stage(made("flap", down_ms=500, up_ms=500), at_s=2.1)
    line.change(2.1, lambda now_s: line.chain.replace(now_s, "0", quicker))
    line.feed(2.1, b"b")
    line.feed(2.6, b"c")
    assert line.finish().out == [(2.5, b"a"), (2.5, b"b"), (2.6, b"c")]
    line.feed(3.1, b"d")
    line.change(3.2, lambda now_s: line.chain.remove(now_s, "0"))
    assert line.out[-1] == (3.2, b"d")


def test_both_directions_of_a_flapping_link_are_down_at_the_same_moments():
    moments = []
    for direction, stage in installed(made("flap", down_ms=200, up_ms=300)).stages(START_S + 0.05, 1):
        line = wire(stage)
        line.feed(0.6, direction.encode())
        moments.append(line.finish().moments)
    assert moments == [[0.7], [0.7]]


def test_a_flapping_link_is_down_first_and_at_the_same_moments_for_every_connection():
    for met_s in (0.0, 0.7, 3.1):
        line = wire(toxic_stage(made("flap", down_ms=200, up_ms=300), at_s=met_s))
        for at_s in (3.15, 3.3, 3.55, 3.75):
            line.feed(at_s, b"x")
        assert line.finish().moments == pytest.approx([3.2, 3.3, 3.7, 3.75])


# refuse


def test_refuse_falls_on_a_share_of_the_connections_that_the_seed_decides():
    half = replace(installed(made("refuse")), toxicity=0.5)
    refused = [half.hits(number) for number in range(1000)]
    assert 400 < sum(refused) < 600
    assert refused == [half.hits(number) for number in range(1000)]
    other = replace(half, life=Life(since_s=START_S, seed="2/p/t/1"))
    assert refused != [other.hits(number) for number in range(1000)]


# the short way


@pytest.mark.parametrize("kind", ["black_hole", "partition", "stall", "flap"])
def test_no_trouble_lets_anything_take_the_short_way(kind):
    line = wire(toxic_stage(made(kind)))
    assert not line.chain.passes(START_S, b"x", START_S + 0.0005)


# all of them


@pytest.mark.parametrize("kind", ["black_hole", "stall", "flap"])
def test_what_falls_on_whole_connections_works_both_ways_and_counts_each_once(kind):
    toxic = installed(made(kind))
    for number in (1, 2):
        stages = dict(toxic.stages(START_S, number))
        assert set(stages) == set(Direction)
        for stage in stages.values():
            assert stage is not None
            stage.push(START_S + number, b"xyz")
    meter = toxic.life.meter
    assert (meter.connections, meter.bytes) == (2, 12)
    assert (meter.first_s, meter.last_s) == (START_S + 1, START_S + 2)


def test_a_partition_works_in_its_direction_alone():
    assert [direction for direction, _ in installed(made("partition"), stream="downstream").stages(START_S, 1)] == [
        Direction.DOWNSTREAM
    ]


def test_refusing_is_nothing_for_open_connections():
    assert installed(made("refuse")).stages(START_S, 1) == ()


@pytest.mark.parametrize(
    ("toxic", "words"),
    [
        (made("stall", duration_ms=-1), "duration_ms is -1, allowed is 0 to 3600000"),
        (made("stall", duration_ms=10, every_ms=10), "every_ms is 10, which must be more than duration_ms"),
        (made("flap", up_ms=0), "up_ms is 0, allowed is 1 to"),
        (made("stall", every_ms=5), "every_ms is 5, which must be more than duration_ms, and that more than 0"),
        (made("stall", after_ms=3_600_001), "after_ms is 3600001, allowed is 0 to 3600000"),
        (made("http_abort", after_bytes=2**30 + 1), "after_bytes is 1073741825, allowed is 0 to 1073741824"),
        (made("http_delay", share=0.123456789 + 1), "share is 1.12346, allowed is 0 to 1"),
        (made("latency", distribution="cauchy"), "distribution is 'cauchy', allowed is one of uniform, normal, pareto"),
        (made("http_delay", share=1.5), "share is 1.5, allowed is 0 to 1"),
        (made("http_status", status=99), "status is 99, allowed is 200 to 599"),
        (made("http_status", status=204, body="x"), "status 204 has no body"),
        (made("http_status", content_type="a\r\nb"), "content_type has characters that no header may have"),
        (made("http_drop_header"), "name is missing"),
        (made("http_drop_header", name="Content-Length"), "cannot tell where the message ends"),
        (made("http_abort", header_value="x"), "header_value is given without header"),
    ],
    ids=lambda value: value.kind if isinstance(value, Toxic) else None,
)
def test_wrong_settings_of_what_toxiproxy_does_not_have_are_said(toxic, words):
    (problem,) = toxic.problems()
    assert words in problem


@pytest.mark.parametrize("kind", [kind for kind, toxic in KINDS.items() if not toxic.extension])
def test_the_settings_of_toxiproxys_kinds_are_as_free_as_there(kind):
    names = list(KINDS[kind]().attributes)
    assert made(kind, **dict.fromkeys(names, -5)).problems() == []


# how a delay varies


def delays_ms(distribution: str, *, latency: int = 100, jitter: int = 20, count: int = 40_000) -> list[float]:
    toxic = Latency(latency_ms=latency, jitter_ms=jitter, distribution=distribution)
    draw = toxic.delays_ms(random.Random(5))
    return [draw() for _ in range(count)]


@pytest.mark.parametrize("distribution", ["normal", "pareto"])
def test_a_delay_has_the_mean_and_the_deviation_that_were_asked_for(distribution):
    drawn = delays_ms(distribution)
    # A Pareto distribution of shape 3 has no third moment: its sample deviation settles slowly.
    assert statistics.fmean(drawn) == pytest.approx(100, abs=1)
    assert statistics.pstdev(drawn) == pytest.approx(20, rel=0.02 if distribution == "normal" else 0.15)


def test_a_normal_delay_is_even_on_both_sides():
    drawn = delays_ms("normal")
    assert sum(delay > 120 for delay in drawn) / len(drawn) == pytest.approx(0.1587, abs=0.01)
    assert sum(delay < 80 for delay in drawn) / len(drawn) == pytest.approx(0.1587, abs=0.01)


def test_a_pareto_delay_has_a_floor_and_a_long_tail():
    drawn = sorted(delays_ms("pareto"))
    least_ms = 100 - 20 * (PARETO_MEAN - 1) / PARETO_DEVIATION
    assert drawn[0] >= least_ms
    for share in (0.5, 0.9, 0.99):
        quantile = 1 / (1 - share) ** (1 / PARETO_SHAPE)  # of a Pareto distribution with the least value 1
        expected_ms = 100 + 20 * (quantile - PARETO_MEAN) / PARETO_DEVIATION
        assert drawn[int(share * len(drawn))] == pytest.approx(expected_ms, rel=0.03)


def test_the_constants_are_those_of_a_pareto_distribution():
    # Mean and variance for shape a and least value 1: a / (a - 1) and a / ((a - 1)^2 (a - 2)).
    assert PARETO_MEAN == 1.5
    assert math.isclose(PARETO_DEVIATION**2, 0.75)


class Fixed(random.Random):
    """Draws what it is told to."""

    def __init__(self, drawn: float) -> None:
        super().__init__(0)
        self.drawn = drawn

    def random(self) -> float:
        return self.drawn


def netem_pareto(share: float) -> float:
    """What Linux' netem adds to the delay for each unit of its jitter, at this share of its table (NISTnet's
    ``pareto.c``): the inverse of the distribution function of shape 3, about its mean, by 4/3, cut at 4."""
    return min(4.0, (share ** (-1 / 3) - 1.5) * 4 / 3)


def test_the_long_tail_is_netems_scaled_to_the_deviation_that_was_asked_for():
    # netem's 4/3 is one by the variance: its deviation is 1.155 jitters before it is cut. Here it is one jitter.
    toxic = Latency(latency_ms=1000, jitter_ms=10, distribution="pareto")
    for share in (0.999, 0.9, 0.5, 0.1, 0.02):
        delay_ms = toxic.delays_ms(Fixed(1 - share))()
        assert (delay_ms - 1000) / 10 == pytest.approx(netem_pareto(share) * 3 / 4 / math.sqrt(0.75))
    assert toxic.delays_ms(Fixed(1 - 1e-6))() > 1000 + 10 * 100  # not cut: the tail is as long as it is


@pytest.mark.parametrize("distribution", ["uniform", "normal", "pareto"])
@every_feeding
def test_however_a_delay_varies_nothing_is_lost_or_overtaken(distribution, feeding):
    line = wire(toxic_stage(made("latency", latency=50, jitter=40, distribution=distribution)))
    for at_s in (0.0, 0.01, 1.0):
        for chunk in feeding(TEXT):
            line.feed(at_s, chunk)
    line.feed(1.0, End.EOF)
    assert line.finish().data == TEXT * 3
    assert line.moments == sorted(line.moments)
    assert line.out[-1][1] is End.EOF


def test_a_delay_that_would_be_negative_is_none():
    line = wire(toxic_stage(made("latency", latency=1, jitter=1000, distribution="normal")))
    for index in range(100):
        line.feed(index * 10.0, b"x")
    assert all(at_s >= index * 10.0 for index, at_s in enumerate(line.finish().moments))


def test_a_distribution_is_shown_only_when_it_is_not_toxiproxys():
    assert made("latency", latency=5).attributes == {"latency": 5, "jitter": 0}
    normal = made("latency", latency=5, distribution="normal")
    assert normal.attributes == {"latency": 5, "jitter": 0, "distribution": "normal"}
    assert (normal.needs_extension, made("latency").needs_extension) == (True, False)
