"""How far a count of independent events may be off: for closed loads, live figures and windows of a few seconds."""

from __future__ import annotations

import math


def rate_standard_error(rate_per_s: float, window_s: float) -> float:
    """Return the standard error (per second) of a rate counted over ``window_s`` seconds.

    Events that arrive independently are Poisson: a count of expected size ``rate * window`` has that same
    variance, so the rate has the variance ``rate / window``.
    """
    return math.sqrt(max(rate_per_s, 0.0) / window_s) if window_s > 0 else math.inf
