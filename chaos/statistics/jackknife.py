"""The jackknife over whole seconds: how sure a share or a ratio is, when failures come in bursts.

Leave out one second at a time and look how far the estimate moves: what one second can move is what chance can do.
Nothing is assumed about how attempts within one second hang together (Efron, "The Jackknife, the Bootstrap and Other
Resampling Plans", SIAM 1982; Tukey's t interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chaos.statistics.student import t_quantile


class Second(NamedTuple):
    """One second: ``part`` of ``whole``, like failures of attempts, or seconds stalled of seconds watched."""

    part: float
    whole: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure, and how sure it is. ``df``: degrees of freedom, one less than seconds."""

    value: float
    standard_error: float
    df: int
    silence: float = 0.0
    """Where nothing has happened at all: 1 / sum of wholes, by which the upper end is bounded; 0 when something has."""
    one: float = 0.0
    """What one event more would add: 1 / sum of wholes, where wholes are numbers of attempts; 0: nobody knows."""

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the lower and the upper end, each of which is wrong in a share ``alpha`` of all runs.

        ``value -+ t(1 - alpha, df) * standard error``. Where nothing happened at all, every second is alike and the
        standard error is 0, which proves nothing: the upper end is then at least ``-ln(alpha) / sum of wholes``, above
        which so long a silence has a probability below alpha (at 5 % the "rule of three", Hanley and Lippman-Hand,
        JAMA 249, 1983).
        """
        half = t_quantile(1.0 - alpha, self.df) * self.standard_error
        high = self.value + half
        return self.value - half, max(high, -math.log(alpha) * self.silence) if self.silence else high


def share(seconds: Sequence[Second]) -> Estimate | None:
    """Return ``sum of parts / sum of wholes`` with its jackknife standard error.

    With S seconds, r all of them together and r_(-j) without second j:
    ``se^2 = (S - 1)/S * sum (r_(-j) - mean)^2``. None for fewer than two seconds in which there was something. The
    ratio of two sums need not be a share: bits per second played are one as well.
    """
    there = [second for second in seconds if second.whole > 0]
    if len(there) < 2:
        return None
    part, whole = math.fsum(one.part for one in there), math.fsum(one.whole for one in there)
    without = [_quotient(part - one.part, whole - one.whole) for one in there]
    return Estimate(
        value=part / whole,
        standard_error=_spread(without),
        df=len(there) - 1,
        silence=1.0 / whole if part == 0 else 0.0,
        one=1.0 / whole,
    )


def mean(values: Sequence[float]) -> Estimate | None:
    """Return the mean of a figure that each second has, like answers a second; None for fewer than two seconds."""
    estimate = share([Second(value, 1.0) for value in values])
    if estimate is None:
        return None
    return Estimate(value=estimate.value, standard_error=estimate.standard_error, df=estimate.df)


def paired_difference(
    experiment: Sequence[Second], control: Sequence[Second], *, factor: float = 1.0
) -> Estimate | None:
    """Return the experiment's share less ``factor`` times the control's, where both ran at the same time.

    Second j of both sides is left out together, so that what hits both alike (a noisy machine) cancels out:
    ``d = sum y / sum m - factor * sum x / sum n``, and ``d_(-j)`` without second j. Both sides have the same number of
    seconds (ValueError otherwise); None when one of them has fewer than two seconds with anything in them.
    """
    if len(experiment) != len(control):
        raise ValueError(f"{len(experiment)} seconds of the experiment beside {len(control)} of its control")
    pairs = [(one, two) for one, two in zip(experiment, control, strict=True) if one.whole > 0 or two.whole > 0]
    if min(_filled(experiment), _filled(control)) < 2:
        return None
    y, m = math.fsum(one.part for one, _ in pairs), math.fsum(one.whole for one, _ in pairs)
    x, n = math.fsum(two.part for _, two in pairs), math.fsum(two.whole for _, two in pairs)
    without = [
        _quotient(y - one.part, m - one.whole) - factor * _quotient(x - two.part, n - two.whole) for one, two in pairs
    ]
    return Estimate(
        value=y / m - factor * x / n,
        standard_error=_spread(without),
        df=len(pairs) - 1,
        silence=1.0 / m if y == 0 else 0.0,
    )


def difference(experiment: Estimate, baseline: Estimate, *, factor: float = 1.0) -> Estimate:
    """Return ``experiment - factor * baseline``, where the two were measured one after the other.

    A short baseline saw few events or none, and the fewer it happened to see, the smaller is its standard error. So one
    event is added to its variance: n events have an error of ``sqrt(n + 1)`` then, and not of ``sqrt(n)``.

    Different seconds are independent, so variances add; degrees of freedom by Welch and Satterthwaite, rounded down
    (Welch, "The generalization of Student's problem", Biometrika 34, 1947).
    """
    first = experiment.standard_error**2
    second = factor**2 * (baseline.standard_error**2 + baseline.one**2)
    if first + second > 0.0:
        df = math.floor((first + second) ** 2 / (first**2 / experiment.df + second**2 / baseline.df))
    else:
        df = min(experiment.df, baseline.df)
    return Estimate(
        value=experiment.value - factor * baseline.value,
        standard_error=math.sqrt(first + second),
        df=max(1, df),
        silence=experiment.silence,
    )


def jackknife(seconds: Sequence[Second], statistic: Callable[[Sequence[Second]], float]) -> Estimate | None:
    """Return any statistic of the seconds with its jackknife standard error: the slow way, for any formula at all."""
    if len(seconds) < 2:
        return None
    without = [statistic([*seconds[:j], *seconds[j + 1 :]]) for j in range(len(seconds))]
    return Estimate(value=statistic(seconds), standard_error=_spread(without), df=len(seconds) - 1)


def _filled(seconds: Sequence[Second]) -> int:
    return sum(1 for one in seconds if one.whole > 0)


def _quotient(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _spread(without: Sequence[float]) -> float:
    number = len(without)
    middle = math.fsum(without) / number
    return math.sqrt((number - 1) / number * math.fsum((one - middle) ** 2 for one in without))
