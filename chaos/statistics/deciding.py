"""How many more seconds would decide it: a standard error shrinks with the square root of the time."""

from __future__ import annotations

import math
from collections.abc import Callable

from chaos.statistics.jackknife import Estimate

MORE_S_MAX = 3600
"""What would take longer than this is not decided by more of the same."""


def more_seconds(estimate: Estimate, threshold: float, alpha: float) -> int | None:
    """Return in how many more seconds of the same the interval no longer holds ``threshold``; None when never.

    Assumes that the estimate stays what it is, and that its standard error after S' seconds in place of S is
    ``se * sqrt(S / S')``. Where nothing has happened yet, it is the silence that grows instead. 0 when it is decided
    already. None where the estimate lies on the threshold itself, or so near that it takes more than an hour.
    """

    def decided(more: int) -> bool:
        low, high = shrunk(estimate, more).interval(alpha)
        return threshold < low or threshold >= high

    if estimate.value == threshold and (estimate.standard_error > 0.0 or estimate.silence > 0.0):
        return None
    return first_second(decided)


def shrunk(estimate: Estimate, more: int) -> Estimate:
    """Return what an estimate would be after so many more seconds of the same."""
    seconds = estimate.df + 1
    return Estimate(
        value=estimate.value,
        standard_error=estimate.standard_error * math.sqrt(seconds / (seconds + more)),
        df=estimate.df + more,
        silence=estimate.silence * seconds / (seconds + more),
    )


def first_second(decided: Callable[[int], bool]) -> int | None:
    """Return the first number of seconds from which on ``decided`` is true; None when it is not within an hour."""
    if not decided(MORE_S_MAX):
        return None
    low, high = 0, MORE_S_MAX
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle + 1, high)
    return low


def seconds_for(attempts: float, per_s: float) -> int | None:
    """Return in how many seconds so many attempts come; None where none come at all."""
    return None if per_s <= 0.0 else max(0, math.ceil(attempts / per_s - 1e-9))
