"""Series in bounded memory: nothing that an eye would look for is lost when buckets become one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.reports.html.timeline import SERIES_MAX, Timeline

values = st.floats(min_value=-1e6, max_value=1e6)


@given(st.dictionaries(st.integers(0, 400), values, min_size=1), st.integers(2, 32))
def test_each_bucket_has_the_least_the_greatest_and_the_mean_of_its_seconds(seconds, buckets_max):
    timeline = Timeline(buckets_max=buckets_max)
    for second, value in sorted(seconds.items()):
        timeline.add(float(second), [(("value", "x"), value)])
    series = timeline.series["value", "x"]
    assert timeline.buckets <= buckets_max
    assert timeline.buckets == max(seconds) // timeline.width_s + 1
    naive: dict[int, list[float]] = {}
    for second, value in seconds.items():
        naive.setdefault(second // timeline.width_s, []).append(value)
    for index, mean in enumerate(series.means()):
        inside = naive.get(index)
        if inside is None:
            assert mean is None
            continue
        assert series.lows[index] == min(inside)
        assert series.highs[index] == max(inside)
        assert mean == pytest.approx(math.fsum(inside) / len(inside), rel=1e-9, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 90), values), min_size=1))
def test_two_ticks_of_one_second_share_its_bucket(ticks):
    timeline = Timeline()
    for second, value in ticks:
        timeline.add(second + 0.25, [(("x",), value)])
    assert timeline.width_s == 1
    assert timeline.series["x",].span() == (min(value for _, value in ticks), max(value for _, value in ticks))
    assert sum(timeline.series["x",].counts) == len(ticks)


def test_one_bad_second_of_a_day_is_still_to_be_seen():
    timeline = Timeline(buckets_max=64)
    for second in range(86_400):
        timeline.add(float(second), [(("x",), 0.2 if second == 54_321 else 1.0)])
    assert timeline.series["x",].span() == (0.2, 1.0)
    assert timeline.series["x",].lows[54_321 // timeline.width_s] == 0.2
    assert len(timeline.series["x",].counts) <= 64


def test_a_target_with_names_without_end_does_not_fill_the_memory():
    timeline = Timeline()
    timeline.add(0.0, [((str(number),), 1.0) for number in range(SERIES_MAX + 5)])
    assert len(timeline.series) == SERIES_MAX
    assert timeline.left_out
