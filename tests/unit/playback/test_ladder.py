"""The bitrates that a device and a plan may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.ladder import DEVICE_KBPS_MAX, PLAN_KBPS_MAX, Device, device_of, ladder_for
from targets.playback.validation import Plan
from targets.playback.video import LADDER_KBPS

LADDER = (235, 750, 1750, 3000, 5800)


@pytest.mark.parametrize(
    ("device", "plan", "highest"),
    [
        (Device.PHONE, Plan.PREMIUM, 750),
        (Device.TABLET, Plan.PREMIUM, 1750),
        (Device.TV, Plan.PREMIUM, 3000),
        (Device.TV_4K, Plan.PREMIUM, 5800),
        (Device.TV_4K, Plan.STANDARD, 3000),
        (Device.TV_4K, Plan.BASIC, 1750),
        (Device.PHONE, Plan.BASIC, 750),
    ],
)
def test_the_ladder_ends_where_the_screen_or_the_plan_does(device, plan, highest):
    assert ladder_for(device, plan, LADDER) == LADDER[: LADDER.index(highest) + 1]


def test_whoever_pays_for_all_and_can_show_all_gets_all():
    assert ladder_for(Device.TV_4K, Plan.PREMIUM) == LADDER_KBPS


@given(
    device=st.sampled_from(Device),
    plan=st.sampled_from(Plan),
    ladder=st.lists(st.integers(1, 50_000), min_size=1, unique=True).map(sorted).map(tuple),
)
def test_no_ladder_is_empty_or_goes_beyond_what_is_allowed_but_for_the_lowest(device, plan, ladder):
    allowed = ladder_for(device, plan, ladder)

    assert allowed == ladder[: len(allowed)]
    assert allowed
    assert all(kbps <= min(DEVICE_KBPS_MAX[device], PLAN_KBPS_MAX[plan]) for kbps in allowed[1:])


@pytest.mark.parametrize("value", ["radio", "TV", "", None, 4, ["tv"]])
def test_an_unknown_device_is_told_which_there_are(value):
    with pytest.raises(ValueError, match="there are phone, tablet, tv, tv_4k"):
        device_of(value)
