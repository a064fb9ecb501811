"""Differences of quantiles, by resampling whole seconds: what the p99 would have been had other seconds come.

A quantile has no formula for its standard error that bursts do not break. So draw as many seconds as there were, with
replacement, take the quantile, and again: the spread of the results is what chance does (the bootstrap of clusters:
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Davison and Hinkley, 1997, 3.8).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist

from chaos.statistics.quantiles import quantile
from chaos.statistics.student import t_quantile

ROUNDS = 1000
"""Enough that the ends of a 99 % interval wander by less than a tenth of its width."""


def quantile_difference_interval(
    experiment: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]],
    q: float,
    alpha: float,
    rng: random.Random,
    *,
    factor: float = 1.0,
    rounds: int = ROUNDS,
) -> tuple[float, float] | None:
    """Return the ends of ``quantile(experiment) - factor * quantile(other)``, each wrong in a share ``alpha`` of runs.

    Each side is its values, second by second (outer length S seconds, inner any); the unit is the values'. ``rng``
    decides the draws, so that one seed gives one answer. None when a side has no two seconds with values in them. Costs
    ``rounds`` sorts of all values.
    """
    sides = [[list(second) for second in side if second] for side in (experiment, other)]
    if min(len(side) for side in sides) < 2:
        return None
    found = sorted(_drawn(sides[0], q, rng) - factor * _drawn(sides[1], q, rng) for _ in range(rounds))
    low, high = quantile(found, alpha), quantile(found, 1.0 - alpha)
    assert low is not None
    assert high is not None
    return low, high


def paired_quantile_difference_interval(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
    q: float,
    alpha: float,
    rng: random.Random,
    *,
    factor: float = 1.0,
    rounds: int = ROUNDS,
) -> tuple[float, float] | None:
    """Return what ``quantile_difference_interval`` returns, of two sides that were measured in the same seconds.

    ``pairs`` are the values of both sides, second by second. A second is drawn with both sides together, so that what
    hits both alike (a noisy machine) does so in every draw, and cancels out. A draw without a value on a side is made
    again; None when a side has no two seconds with values in them.

    Draws from S seconds spread too little, by the square root of (S - 1) / S, and know nothing of Student's t. So the
    ends are those of a smaller share, ``Phi(-sqrt(S / (S - 1)) * t(1 - alpha, S - 1))``: the expanded percentile
    interval (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015).
    """
    seconds = min(sum(1 for pair in pairs if pair[side]) for side in (0, 1))
    if seconds < 2:
        return None
    found: list[float] = []
    while len(found) < rounds:
        drawn = rng.choices(pairs, k=len(pairs))
        first, second = (quantile((value for pair in drawn for value in pair[side]), q) for side in (0, 1))
        if first is not None and second is not None:
            found.append(first - factor * second)
    widened = math.sqrt(seconds / (seconds - 1)) * t_quantile(1.0 - alpha, seconds - 1)
    end = NormalDist().cdf(-widened)
    low, high = quantile(found, end), quantile(found, 1.0 - end)
    assert low is not None
    assert high is not None
    return low, high


def _drawn(seconds: Sequence[Sequence[float]], q: float, rng: random.Random) -> float:
    drawn = rng.choices(seconds, k=len(seconds))
    value = quantile((value for second in drawn for value in second), q)
    assert value is not None
    return value
