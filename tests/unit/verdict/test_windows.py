"""The sample store, against a naive recomputation from a list of samples."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.samples import LAG_KIND, Sample, SampleOutcome
from chaos.statistics.quantiles import quantile
from chaos.topology.model import Measure, Metric, Unit
from chaos.verdict.statistics import rate_standard_error
from chaos.verdict.windows import Moment, SampleStore
from tests.unit.verdict.building import METRICS, sample

GOOD = (SampleOutcome.OK, SampleOutcome.FALLBACK)

moments = st.floats(min_value=-2.0, max_value=12.0, allow_nan=False).map(lambda value: round(value, 2))
samples = st.builds(
    lambda kind, scheduled, took, outcome, values: Sample(
        kind=kind, scheduled_s=scheduled, ended_s=scheduled + took, outcome=outcome, values=values
    ),
    kind=st.sampled_from(["play", "session"]),
    scheduled=moments,
    took=st.floats(min_value=0.0, max_value=6.0),
    outcome=st.sampled_from(SampleOutcome),
    values=st.dictionaries(
        st.sampled_from(["delay_s", "stalled_s", "played_s"]),
        st.floats(min_value=0.0, max_value=100.0) | st.just(math.nan) | st.just(math.inf),
    ),
)


def naive(metric, found, start_s, end_s, by):
    moment = Moment.ENDED if metric.measure is Measure.RATE else by
    window = [
        one
        for one in found
        if one.kind == metric.of and start_s <= (one.ended_s if moment is Moment.ENDED else one.scheduled_s) < end_s
    ]
    good = [one for one in window if one.outcome in GOOD]
    failed = [one for one in window if one.outcome is SampleOutcome.FAILED]

    def total(name: str) -> float:
        return math.fsum(one.values[name] for one in window if math.isfinite(one.values.get(name, math.nan)))

    match metric.measure:
        case Measure.SHARE:
            return len(good) / (len(good) + len(failed)) if good or failed else None
        case Measure.RATE:
            return len(good) / (end_s - start_s)
        case Measure.FALLBACK_SHARE:
            return sum(one.outcome is SampleOutcome.FALLBACK for one in good) / len(good) if good else None
        case Measure.RATIO:
            below = math.fsum(total(name) for name in metric.per)
            return total(metric.field) / below if below else None
        case Measure.QUANTILE:
            values = [one.values[metric.field] for one in good if math.isfinite(one.values.get(metric.field, math.nan))]
            if len(values) < 2:
                return values[0] if values else None
            return statistics.quantiles(values, n=100, method="inclusive")[98]


@given(st.lists(samples, max_size=60), moments, moments, st.sampled_from(Moment), st.sampled_from(sorted(METRICS)))
def test_every_measure_of_any_window_is_what_a_naive_recomputation_gives(found, start_s, end_s, by, name):
    store = SampleStore(0.0)
    store.add(found)
    measured = store.measure(METRICS[name], start_s, end_s, by=by)
    expected = naive(METRICS[name], found, start_s, end_s, by) if end_s > start_s else None
    assert (measured is None) == (expected is None)
    if expected is not None:
        assert measured == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(samples, max_size=40), moments, moments, st.sampled_from(Moment))
def test_counts_add_up_to_the_samples_in_the_window(found, start_s, end_s, by):
    store = SampleStore(0.0)
    store.add(found)
    counted = sum(sum(outcomes.values()) for outcomes in store.counts(start_s, end_s, by=by).values())
    inside = [one for one in found if start_s <= (one.scheduled_s if by is Moment.SCHEDULED else one.ended_s) < end_s]
    assert counted == len(inside)
    assert len(store) == len(found)


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=2, max_size=80), st.integers(1, 99))
def test_a_quantile_is_the_one_of_the_standard_library(values, percent):
    expected = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
    assert quantile(values, percent / 100) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_the_quantile_of_nothing_is_nothing_and_of_one_value_that_value():
    assert quantile([], 0.99) is None
    assert quantile([3.0], 0.99) == 3.0
    assert quantile([1.0, 2.0], 0.0) == 1.0
    assert quantile([1.0, 2.0], 1.0) == 2.0


def test_the_standard_error_of_fifty_a_second_over_three_seconds_is_four():
    assert rate_standard_error(50.0, 3.0) == pytest.approx(4.08, abs=0.01)
    assert rate_standard_error(50.0, 0.0) == math.inf


def test_times_are_relative_to_the_origin():
    store = SampleStore(1000.0)
    store.add([sample(1003.5)])
    assert store.tally("play", 3.0, 4.0).good == 1
    assert store.tally("play", 1003.0, 1004.0).total == 0


def test_a_refusal_is_an_answer_and_neither_success_nor_failure():
    store = SampleStore(0.0)
    store.add([sample(1.0), sample(1.1, outcome=SampleOutcome.REFUSED), sample(1.2, outcome=SampleOutcome.FAILED)])
    assert store.measure(METRICS["availability"], 0.0, 2.0) == 0.5
    assert store.counts(0.0, 2.0) == {"play": {"ok": 1, "refused": 1, "failed": 1}}


def test_a_slow_failure_counts_where_it_was_due_and_for_live_figures_where_it_was_known():
    store = SampleStore(0.0)
    store.add([sample(1.0, outcome=SampleOutcome.FAILED, took_s=5.0)])
    availability = METRICS["availability"]
    assert store.measure(availability, 1.0, 2.0) == 0.0
    assert store.measure(availability, 6.0, 7.0) is None
    assert store.live_values({"availability": availability}, 7.0) == {"availability": 0.0}


def test_silence_is_a_rate_of_zero_and_no_measurement_of_anything_else():
    store = SampleStore(0.0)
    assert store.measure(METRICS["sps"], 0.0, 1.0) == 0.0
    for name in ("availability", "delay_p99", "rebuffering", "degraded"):
        assert store.measure(METRICS[name], 0.0, 1.0) is None


def test_the_generators_lag_samples_are_no_attempts_and_give_its_p99_and_what_it_offered():
    store = SampleStore(0.0)
    store.add(sample(moment / 10, kind=LAG_KIND, lag_s=moment / 1000) for moment in range(100))
    assert store.counts(0.0, 20.0) == {}
    assert store.start_lag_p99_s(0.0, 10.0) == pytest.approx(0.09801)
    assert store.offered(2.0, 4.0) == 20


def test_lag_may_be_carried_by_the_attempts_themselves():
    store = SampleStore(0.0)
    store.add([sample(1.0, lag_s=0.2), sample(1.5, lag_s=0.2), sample(1.7)])
    assert store.start_lag_p99_s(0.0, 2.0) == pytest.approx(0.2)
    assert store.offered(0.0, 2.0) == 2


def test_a_closed_load_offers_nothing_that_is_known():
    store = SampleStore(0.0)
    store.add([sample(1.0)])
    assert store.offered(0.0, 2.0) is None
    assert store.start_lag_p99_s(0.0, 2.0) is None


def test_a_series_has_one_value_for_each_whole_second():
    store = SampleStore(0.0)
    store.add([sample(1.2), sample(1.4, outcome=SampleOutcome.FAILED), sample(3.9)])
    assert store.series(METRICS["availability"], 1.0, 4.5) == [(1.0, 0.5), (2.0, None), (3.0, 1.0)]


def test_a_metric_of_an_unknown_kind_or_field_measures_nothing():
    store = SampleStore(0.0)
    store.add([sample(1.0)])
    strange = Metric(name="x", title="x", measure=Measure.QUANTILE, of="play", unit=Unit.SECONDS, field="y_s")
    assert store.measure(strange, 0.0, 2.0) is None


def test_a_sample_without_a_moment_is_refused():
    with pytest.raises(ValueError, match="no moment"):
        SampleStore(0.0).add([sample(math.nan)])
