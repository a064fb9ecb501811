"""The open schedule: when each play is due, known beforehand and whatever becomes of the plays before it.

Arrivals are a Poisson process conditioned on its count in each second: every second has exactly its share of the rate,
at independent, uniformly random moments. (Given their number, the arrivals of a Poisson process in an interval are
independent and uniform in it.) So plays still bunch as they do in the world within a second, and yet the realised rate
does not wander, which would blur every comparison of one phase with another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

_ROUNDING = 1e-9
"""Ten arrivals that floats add up to 9.9999999999 are ten."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One arrival: its number in the whole schedule, from 0, and its moment in seconds after the start."""

    number: int
    at_s: float


def arrivals(
    seed: int | str, rate_per_s: float, duration_s: float = math.inf, *, part: int = 0, parts: int = 1
) -> Iterator[Arrival]:
    """Return the arrivals of the schedule, in order of time; without ``duration_s`` they never end.

    A rate with a fraction is carried over: 2.5 a second are 2, 3, 2, 3, … . The schedule is split between processes by
    ``part`` (from 0) of ``parts``: each gets every ``parts``-th arrival, and all together the same schedule as one
    process alone. The schedule of a second depends on the seed and the second, not on the duration. Schedules
    that are to be independent of each other have seeds of their own, such as ``"7/browse"``.

    Raises ValueError for a rate or a duration that is not positive, or a part that is not there.
    """
    if not (math.isfinite(rate_per_s) and rate_per_s > 0.0):
        raise ValueError(f"The rate must be a number of arrivals a second above 0; it is {rate_per_s!r}.")
    if not duration_s > 0.0:
        raise ValueError(f"The duration must be longer than 0 s; it is {duration_s!r}.")
    if not 0 <= part < parts:
        raise ValueError(f"There is no part {part} of {parts}; parts count from 0.")
    return _share(seed, rate_per_s, duration_s, part, parts)


def _share(seed: int | str, rate_per_s: float, duration_s: float, part: int, parts: int) -> Iterator[Arrival]:
    number = 0
    second = 0
    while second < duration_s:
        length_s = min(1.0, duration_s - second)
        end = math.floor(rate_per_s * (second + length_s) + _ROUNDING)
        rng = random.Random(f"arrivals/{seed}/{second}")
        for at_s in sorted(second + length_s * rng.random() for _ in range(end - number)):
            if number % parts == part:
                yield Arrival(number, at_s)
            number += 1
        second += 1
