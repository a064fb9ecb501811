"""Quantiles, and between which two of the ordered values the true one lies (order statistics)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence


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


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(at most ``k`` of ``n`` independent attempts succeed), each with probability ``p`` (0 < p < 1).

    Summed from the larger end of the shorter tail until further terms no longer change the sum, so that it costs some
    ten standard deviations of steps however large n is.
    """
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    if k > n * p:  # the upper tail is the short one
        return 1.0 - binomial_cdf(n - k - 1, n, 1.0 - p)
    term = math.exp(
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    )
    total, odds = 0.0, (1.0 - p) / p
    for number in range(k, -1, -1):
        total += term
        if term <= total * 1e-17:
            break
        term *= odds * number / (n - number + 1)
    return total


def quantile_ranks(n: int, q: float, alpha: float) -> tuple[int | None, int | None]:
    """Return the ranks (from 1) of the values below and above which the true ``q`` quantile lies at most rarely.

    The number of values below the true quantile is binomial(n, q), whatever the distribution: so the value of rank r
    is above it with P(X < r) = P(X <= r - 1). The lower rank is the largest for which this is at most ``alpha``, the
    upper one the smallest for which it is at least 1 - ``alpha``. None where n values are too few to have such a rank:
    of 200 values none is surely above the p99. A p99 of 2 000 values lies between ranks 1968 and 1991 (alpha 0.5 %).
    David and Nagaraja, "Order Statistics" (2003), 7.1. Of the least and the largest value that there could be (q of 0
    and 1) no number of values says anything.
    """
    if n < 1 or not 0.0 < q < 1.0:
        return None, None
    lower = _first_rank(n, lambda rank: binomial_cdf(rank - 1, n, q) > alpha) - 1
    upper = _first_rank(n, lambda rank: 1.0 - binomial_cdf(rank - 1, n, q) <= alpha)
    return (lower if lower >= 1 else None), (upper if upper <= n else None)


def quantile_interval(
    ordered: Sequence[float], q: float, alpha: float, *, effective: float | None = None
) -> tuple[float | None, float | None]:
    """Return the values between which the true ``q`` quantile lies, each end wrong in a share ``alpha`` of all runs.

    ``ordered`` are sorted. ``effective`` is how many *independent* values they are worth, fewer than there are when
    slow answers come in bursts (`design_effect`); ranks are those of so many values, stretched to all of them. None for
    an end that so few values do not have.
    """
    n = len(ordered)
    worth = n if effective is None else max(1, min(n, math.floor(effective)))
    lower, upper = quantile_ranks(worth, q, alpha)
    low = None if lower is None else ordered[max(1, math.floor(lower * n / worth)) - 1]
    high = None if upper is None else ordered[min(n, math.ceil(upper * n / worth)) - 1]
    return low, high


def design_effect(share: float, standard_error: float, n: float) -> float:
    """Return by how much bursts inflate the variance of a share: its own, over that of ``n`` independent attempts.

    Never below 1. n / design effect is the number of attempts that the sample is worth (Kish, "Survey Sampling", 1965).
    """
    variance = share * (1.0 - share) / n if n > 0 else 0.0
    return max(1.0, standard_error**2 / variance) if variance > 0 else 1.0


def _first_rank(n: int, true_from: Callable[[int], bool]) -> int:
    """Return the first rank of 1..n from which on the condition is true; n + 1 when it never is."""
    low, high = 1, n + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if true_from(middle) else (middle + 1, high)
    return low
