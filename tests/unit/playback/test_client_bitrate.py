"""The buffer-based choice of a bitrate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.client_bitrate import next_kbps
from targets.playback.video import LADDER_KBPS, VideoScale

SCALE = VideoScale(60.0)


def test_a_session_begins_at_the_bottom():
    assert next_kbps(None, 3.0, LADDER_KBPS, SCALE) == 235


def test_inside_the_reservoir_it_falls_to_the_bottom():
    assert next_kbps(5800, 1.5, LADDER_KBPS, SCALE) == 235


def test_above_the_cushion_it_is_the_top():
    assert next_kbps(235, 3.6, LADDER_KBPS, SCALE) == 5800


def test_it_rises_to_the_highest_rate_below_the_line():
    # Half-way up the cushion the line is at 235 + 5565 / 2 = 3017 kbit/s.
    assert next_kbps(235, 1.5 + 1.05, LADDER_KBPS, SCALE) == 3000


def test_it_falls_to_the_lowest_rate_above_the_line():
    # The line is at 2000 kbit/s.
    level_s = 1.5 + 2.1 * (2000 - 235) / 5565
    assert next_kbps(5800, level_s, LADDER_KBPS, SCALE) == 3000


@pytest.mark.parametrize("current", [1750, 3000])
def test_it_stays_while_the_line_is_between_its_neighbours(current):
    # The line is at 2700 kbit/s: above 1750 and below 3000, neither of which it crosses a whole step from.
    level_s = 1.5 + 2.1 * (2700 - 235) / 5565
    assert next_kbps(current, level_s, LADDER_KBPS, SCALE) == current


def test_a_ladder_of_one_step_has_no_choice():
    assert next_kbps(235, 2.5, (235,), SCALE) == 235


@given(st.sampled_from(LADDER_KBPS), st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_a_fuller_buffer_never_means_a_lower_rate(current, one_s, other_s):
    low_s, high_s = sorted((one_s, other_s))
    low, high = (next_kbps(current, level_s, LADDER_KBPS, SCALE) for level_s in (low_s, high_s))
    assert low in LADDER_KBPS
    assert low <= high
