"""The ladder of a play: which of the bitrates that titles are encoded at a device and a plan may have.

Nobody is sent more than their screen can show or than they pay for; the lowest bitrate is always there::

    device    picture   at most        plan       picture   at most
    phone     480p      1750 kbit/s    basic      720p      3000 kbit/s
    tablet    720p      3000 kbit/s    standard   1080p     4300 kbit/s
    tv        1080p     4300 kbit/s    premium    no limit
    tv_4k     no limit

Source of the pictures' bitrates: Netflix's fixed ladder, in "Per-Title Encode Optimization", Netflix TechBlog, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from targets.playback.validation import Plan
from targets.playback.video import LADDER_KBPS


class Device(StrEnum):
    """What a play is watched on."""

    PHONE = "phone"
    TABLET = "tablet"
    TV = "tv"
    TV_4K = "tv_4k"


DEVICE_KBPS_MAX: Final[Mapping[Device, float]] = {
    Device.PHONE: 1750.0,
    Device.TABLET: 3000.0,
    Device.TV: 4300.0,
    Device.TV_4K: math.inf,
}
"""The highest bitrate that makes a difference on a device, in kbit/s."""

PLAN_KBPS_MAX: Final[Mapping[Plan, float]] = {Plan.BASIC: 3000.0, Plan.STANDARD: 4300.0, Plan.PREMIUM: math.inf}
"""The highest bitrate of a plan, in kbit/s."""


def ladder_for(device: Device, plan: Plan, ladder_kbps: tuple[int, ...] = LADDER_KBPS) -> tuple[int, ...]:
    """Return the bitrates of ``ladder_kbps`` (rising, in kbit/s) for a device and a plan, rising; never none."""
    most_kbps = min(DEVICE_KBPS_MAX[device], PLAN_KBPS_MAX[plan])
    return tuple(kbps for kbps in ladder_kbps if kbps <= most_kbps) or ladder_kbps[:1]


def device_of(value: object) -> Device:
    """Return the device that a request names. Raises ValueError, which says what is allowed."""
    for device in Device:
        if device == value:
            return device
    raise ValueError(f"device is {value!r:.40}; there are {', '.join(Device)}")
