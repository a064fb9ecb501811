"""Figures as people read them."""

from __future__ import annotations

import pytest

from chaos.topology.model import Unit
from chaos.verdict.units import figure, plural


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.99534, Unit.PERCENT, "99.53 %"),
        (0.995, Unit.PERCENT, "99.5 %"),
        (1.0, Unit.PERCENT, "100 %"),
        (0.999996, Unit.PERCENT, "99.9996 %"),
        (0.0, Unit.PERCENT, "0 %"),
        (0.000004, Unit.PERCENT, "0.0004 %"),
        (28.43, Unit.PER_SECOND, "28.4 /s"),
        (0.123, Unit.PER_SECOND, "0.12 /s"),
        (0.812, Unit.SECONDS, "812 ms"),
        (0.00412, Unit.SECONDS, "4.1 ms"),
        (0.9996, Unit.SECONDS, "1 s"),
        (2.314, Unit.SECONDS, "2.31 s"),
        (12.34, Unit.SECONDS, "12.3 s"),
        (0.0, Unit.SECONDS, "0 s"),
        (2350.0, Unit.PLAIN, "2350"),
        (1.2345, Unit.PLAIN, "1.23"),
        (None, Unit.PERCENT, "-"),
        (float("nan"), Unit.PERCENT, "-"),
    ],
)
def test_a_figure_is_written_with_its_unit(value, unit, text):
    assert figure(value, unit) == text


@pytest.mark.parametrize(
    ("value", "limit", "unit", "text"),
    [
        (0.99496, 0.995, Unit.PERCENT, "99.496 %"),
        (0.995, 0.995, Unit.PERCENT, "99.5 %"),
        (47.48, 47.5, Unit.PER_SECOND, "47.48 /s"),
        (2.001, 2.0, Unit.SECONDS, "2.001 s"),
        (0.1004, 0.1, Unit.SECONDS, "100.4 ms"),
    ],
)
def test_a_figure_that_differs_from_its_limit_reads_differently(value, limit, unit, text):
    assert figure(value, unit, apart_from=limit) == text


@pytest.mark.parametrize(
    ("noun", "count", "text"),
    [("play", 1, "1 play"), ("play", 3, "3 plays"), ("query", 2, "2 queries"), ("batch", 2, "2 batches")],
)
def test_nouns_have_plurals(noun, count, text):
    assert plural(noun, count) == text
