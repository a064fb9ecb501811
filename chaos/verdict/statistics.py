"""The few formulas behind a verdict, in the standard library alone."""

from __future__ import annotations

import math
from collections.abc import Iterable


def quantile(values: Iterable[float], q: float) -> float | None:
    """Return the exact ``q`` quantile (0..1) of ``values``, or None when there are none.

    Linear interpolation between the two nearest ranks: definition 7 of Hyndman and Fan, "Sample Quantiles in
    Statistical Packages" (The American Statistician 50, 1996), the one that numpy and spreadsheets use by default.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    # Written as a step from the lower value, so that equal neighbours give exactly that value.
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def rate_standard_error(rate_per_s: float, window_s: float) -> float:
    """Return the standard error (per second) of a rate counted over ``window_s`` seconds.

    Events that arrive independently are Poisson: a count of expected size ``rate * window`` has that same
    variance, so the rate has the variance ``rate / window``.
    """
    return math.sqrt(max(rate_per_s, 0.0) / window_s) if window_s > 0 else math.inf
