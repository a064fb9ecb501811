"""Quantiles of Student's t distribution, by how many standard errors an estimate from few seconds may be off."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

SERIES_DF_MAX = 200
"""Up to here the distribution is summed; beyond, the expansion at the normal one is exact to nine digits."""

_BISECTIONS = 80


def t_cdf(t: float, df: int) -> float:
    """Return P(T <= t) for ``df`` (1 or more) degrees of freedom.

    The finite sums of Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and 26.7.4, which
    are exact for whole degrees of freedom. Raises ValueError for fewer than one.
    """
    if df < 1:
        raise ValueError(f"Student's t has 1 degree of freedom or more, not {df}")
    angle = math.atan2(t, math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    if df % 2:
        term, total = cosine, cosine if df > 1 else 0.0
        for step in range(3, df - 1, 2):
            term *= cosine * cosine * (step - 1) / step
            total += term
        inside = (angle + sine * total) * 2.0 / math.pi
    else:
        term = total = 1.0
        for step in range(2, df - 1, 2):
            term *= cosine * cosine * (step - 1) / step
            total += term
        inside = sine * total
    return (1.0 + inside) / 2.0


@functools.lru_cache(maxsize=4096)
def t_quantile(p: float, df: int) -> float:
    """Return t with P(T <= t) = ``p`` (0 < p < 1): ``t_quantile(0.99, 19)`` is 2.539.

    Bisection on the exact sums up to 200 degrees of freedom; beyond, the expansion at the normal quantile (Abramowitz
    and Stegun 26.7.5). Raises ValueError for a ``p`` or ``df`` out of range.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"a quantile is asked for a probability between 0 and 1, not {p!r}")
    if df < 1:
        raise ValueError(f"Student's t has 1 degree of freedom or more, not {df}")
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    if df > SERIES_DF_MAX:
        return _expanded(NormalDist().inv_cdf(p), df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        low, high = high, 2.0 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2.0


def _expanded(z: float, df: int) -> float:
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * df**4)
    )
