"""Small pictures that stand without a script."""

from __future__ import annotations

import re

import pytest

from chaos.reports.html.markup import spark


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ([1.0, 0.0, 1.0], "M1.0,2.0L60.0,26.0L119.0,2.0"),
        ([1.0, 1.0, None, 0.0, 1.0], "M1.0,2.0L30.5,2.0M89.5,26.0L119.0,2.0"),
        ([1.0, None, 0.5, None, None], "M1.0,2.0h1M60.0,14.0h1"),
        ([None, 1.0], "M119.0,2.0h1"),
    ],
)
def test_a_small_line_is_broken_where_nothing_was_measured_and_a_single_second_is_still_seen(values, path):
    assert re.search(r' d="([^"]*)"', spark(values, "x"))[1] == path


def test_a_series_of_nothing_is_a_dash():
    assert ">-<" in spark([None, None], "x")
    assert ">-<" in spark([], "x")
