"""The ladder of a play: which of the bitrates that titles are encoded at a device and a plan may have.

Nobody is sent more than their screen can show or than they pay for; the lowest bitrate is always there::

    device    at most          plan       at most
    phone      750 kbit/s      basic      1750 kbit/s
    tablet    1750 kbit/s      standard   3000 kbit/s
    tv        3000 kbit/s      premium    no limit
    tv_4k     no limit

The limits are chosen so that each device and each plan ends at another step of `video.LADDER_KBPS`.
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
    Device.PHONE: 750.0,
    Device.TABLET: 1750.0,
    Device.TV: 3000.0,
    Device.TV_4K: math.inf,
}
"""The highest bitrate that makes a difference on a device, in kbit/s."""

PLAN_KBPS_MAX: Final[Mapping[Plan, float]] = {Plan.BASIC: 1750.0, Plan.STANDARD: 3000.0, Plan.PREMIUM: math.inf}
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
