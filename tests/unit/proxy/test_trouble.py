"""Trouble as on a bad network, on a fake clock; and delays that vary in other ways than Toxiproxy's."""

from __future__ import annotations

import math
import random
import statistics

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


# flap


def test_a_flapping_link_is_down_first_and_at_the_same_moments_for_every_connection():
    for met_s in (0.0, 0.7, 3.1):
        line = wire(toxic_stage(made("flap", down_ms=200, up_ms=300), at_s=met_s))
        for at_s in (3.15, 3.3, 3.55, 3.75):
            line.feed(at_s, b"x")
        assert line.finish().moments == pytest.approx([3.2, 3.3, 3.7, 3.75])


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
