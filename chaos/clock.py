"""The one place of the framework that reads a clock or sleeps.

Every time in the framework is in seconds on the machine's monotonic clock, which all processes of one
machine share: a time stamped inside Locust can be compared with one stamped by the runner. Services under
``targets/`` and the code of ``chaos.resilience`` do not use this module; they ask their running event loop.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


def monotonic_s() -> float:
    """Return the seconds of the machine's monotonic clock (CLOCK_MONOTONIC)."""
    return time.monotonic()


def wall_clock_s() -> float:
    """Return the time of day, as seconds since 1970 in UTC."""
    return time.time()


def wall_clock_iso(moment_s: float | None = None) -> str:
    """Return a time of day in UTC as ISO 8601 with milliseconds, for people: that of ``moment_s``, or the present one.

    ``moment_s`` are seconds since 1970, as of ``wall_clock_s``.
    """
    moment_s = wall_clock_s() if moment_s is None else moment_s
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds")


def sleep_blocking(duration_s: float) -> None:
    """Block for ``duration_s`` seconds; for code without an event loop (the guardian, the launcher)."""
    time.sleep(duration_s)


async def sleep_until(moment_s: float) -> None:
    """Sleep until ``moment_s`` on the monotonic clock; return at once when it has passed.

    Schedules are kept on absolute moments: relative sleeps add up their lateness.
    """
    await asyncio.sleep(max(0.0, moment_s - monotonic_s()))
