"""Values with units: read without rounding, written back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3s", 3.0), ("500ms", 0.5), ("2m", 120.0), ("1.5h", 5400.0), ("0s", 0.0), (" 3 s ", 3.0), ("0.1ms", 0.0001)],
)
def test_durations_are_read(text: str, seconds: float):
    assert units.read_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "s", "-3s", "3 seconds", "1e3s", "3s3s", "3,5s", "٣s", "1" * 13 + "s"])
def test_other_texts_are_no_durations(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        units.read_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.8, "800ms"),
        (0.0005, "0.5ms"),
        (3.0, "3s"),
        (90.0, "90s"),
        (120.0, "2m"),
        (3600.0, "1h"),
        (1.25, "1.25s"),
    ],
)
def test_durations_are_written_short(seconds: float, text: str):
    assert units.format_duration(seconds) == text


def test_a_percentage_is_exact():
    assert units.read_percent("99.5%") == 0.995
    assert units.read_percent("0.07%") == 0.0007
    assert units.format_percent(0.995) == "99.5%"
    assert units.format_percent(0.07) == "7%"


def test_a_rate_may_leave_its_unit_out():
    assert units.read_rate_per_s("30/s") == units.read_rate_per_s("30 / s") == units.read_rate_per_s("30") == 30.0
    with pytest.raises(ValueError, match="not a rate"):
        units.read_rate_per_s("30/m")


@given(st.integers(0, 10**9))
def test_what_is_written_reads_as_itself(number: int):
    assert units.read_duration_s(units.format_duration(number / 1000)) == number / 1000
    assert units.read_percent(units.format_percent(number / 10**6)) == number / 10**6
    assert units.read_number(units.format_number(number / 1000)) == number / 1000


@given(st.text(max_size=10))
def test_any_text_is_a_value_or_a_value_error(text: str):
    for read in (units.read_duration_s, units.read_percent, units.read_rate_per_s, units.read_number):
        said = None
        try:
            assert read(text) >= 0
        except ValueError as error:
            said = str(error)
        assert said is None or said.startswith("not a")
