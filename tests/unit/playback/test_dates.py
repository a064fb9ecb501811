"""Dates from the loop's time."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.dates import Calendar, epoch_of

EPOCH = dt.date(2026, 1, 1)
CALENDAR = Calendar(EPOCH, began_s=1_000.0)


@pytest.mark.parametrize(
    ("at_s", "date"),
    [
        (0.0, EPOCH),
        (1_000.0, EPOCH),
        (1_000.0 + 86_399.9, EPOCH),
        (1_000.0 + 86_400.0, dt.date(2026, 1, 2)),
        (1_000.0 + 365 * 86_400.0, dt.date(2027, 1, 1)),
    ],
)
def test_a_day_is_86400_seconds_and_nothing_is_before_the_epoch(at_s, date):
    assert CALENDAR.date(at_s) == date


@given(days=st.integers(0, 3_650))
def test_a_date_begins_at_the_first_moment_that_is_of_it(days):
    date = EPOCH + dt.timedelta(days=days)
    begin_s = CALENDAR.begin_s(date)

    assert CALENDAR.date(begin_s) == date
    assert days == 0 or CALENDAR.date(begin_s - 1.0) == date - dt.timedelta(days=1)


def test_the_epoch_is_a_setting():
    assert epoch_of({}) == EPOCH
    assert epoch_of({"epoch_date": "2026-02-28"}) == dt.date(2026, 2, 28)
    with pytest.raises(ValueError, match=r"settings\.epoch_date is 'soon'; a date such as 2026-01-01"):
        Calendar.of({"epoch_date": "soon"}, began_s=0.0)
