"""The open schedule: when each play is due, known beforehand and whatever becomes of the plays before it.

Arrivals are a Poisson process conditioned on its count in each second: every second has exactly its share of the rate,
at independent, uniformly random moments. (Given their number, the arrivals of a Poisson process in an interval are
independent and uniform in it.) So plays still bunch as they do in the world within a second, and yet the realised rate
does not wander, which would blur every comparison of one phase with another.

A surge lays further arrivals over these, made in the same way. Those underneath stay what they are, with their numbers,
so that the same viewers come at the same moments, with or without it.

    rate          | |  |   | ||   |  | |   ||  |  |  |
    surge                 |||||||||||||||
    schedule      | |  |  ||||||||||||||| |  ||  |  |  |
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.experiment.plan import PlannedSurge

_ROUNDING = 1e-9
"""Ten arrivals that floats add up to 9.9999999999 are ten."""

SURGE_NUMBERS = 1_000_000_000
"""The arrivals of the first surge are numbered from here, those of the second from twice this, and so on: more than any
schedule has."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One arrival: its own number, its moment in seconds after the start, and whether a surge brings it.

    Without a surge, numbers count from 0.
    """

    number: int
    at_s: float
    surge: bool = False


def arrivals(
    seed: int | str,
    rate_per_s: float,
    duration_s: float = math.inf,
    *,
    part: int = 0,
    parts: int = 1,
    surges: Sequence[PlannedSurge] = (),
) -> Iterator[Arrival]:
    """Return the arrivals of the schedule, in order of time; without ``duration_s`` they never end.

    A rate with a fraction is carried over: 2.5 a second are 2, 3, 2, 3, … . The schedule is split between processes by
    ``part`` (from 0) of ``parts``: each gets every ``parts``-th arrival, and all together the same schedule as one
    process alone. The schedule of a second depends on the seed and the second, not on the duration. Schedules
    that are to be independent of each other have seeds of their own, such as ``"7/browse"``. What a surge adds
    depends on the seed, the surge's place among ``surges`` and by how much it raises the rate; it moves along with it.

    Raises ValueError for a rate or a duration that is not positive, a part that is not there, or a surge that adds
    nothing.
    """
    if not (math.isfinite(rate_per_s) and rate_per_s > 0.0):
        raise ValueError(f"The rate must be a number of arrivals a second above 0; it is {rate_per_s!r}.")
    if not duration_s > 0.0:
        raise ValueError(f"The duration must be longer than 0 s; it is {duration_s!r}.")
    if not 0 <= part < parts:
        raise ValueError(f"There is no part {part} of {parts}; parts count from 0.")
    streams: list[Iterator[Arrival]] = [
        (Arrival(number, at_s) for number, at_s in _poisson(f"arrivals/{seed}", rate_per_s, duration_s))
    ]
    for place, surge in enumerate(surges, start=1):
        extra_per_s = surge.rate_per_s - rate_per_s
        if not (extra_per_s > 0.0 and 0.0 <= surge.at_s < surge.until_s):
            raise ValueError(
                f"A surge must raise the rate of {rate_per_s:g} a second for a while; this one is {surge!r}."
            )
        streams.append(_surge(f"surge/{seed}/{place}", place * SURGE_NUMBERS, surge, extra_per_s, duration_s))
    merged = heapq.merge(*streams, key=lambda arrival: arrival.at_s)
    return (arrival for arrival in merged if arrival.number % parts == part)


def _surge(key: str, first: int, surge: PlannedSurge, extra_per_s: float, duration_s: float) -> Iterator[Arrival]:
    for number, after_s in _poisson(key, extra_per_s, surge.until_s - surge.at_s):
        if surge.at_s + after_s < duration_s:
            yield Arrival(first + number, surge.at_s + after_s, surge=True)


def _poisson(key: str, rate_per_s: float, duration_s: float) -> Iterator[tuple[int, float]]:
    """Yield number and moment of each arrival; ``key`` decides them all."""
    number = 0
    second = 0
    while second < duration_s:
        length_s = min(1.0, duration_s - second)
        end = math.floor(rate_per_s * (second + length_s) + _ROUNDING)
        rng = random.Random(f"{key}/{second}")
        for at_s in sorted(second + length_s * rng.random() for _ in range(end - number)):
            yield number, at_s
            number += 1
        second += 1
