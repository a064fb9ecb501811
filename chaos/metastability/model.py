"""Probes, their answers, and what many of them say about the edge between loads that recover and loads that do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """What one probe says about its rate."""

    RECOVERED = "recovered"
    """The steady state held before the trigger, and again after it while the load was held."""
    STAYED_DOWN = "stayed_down"
    """The steady state held before the trigger, and did not come back: the system is vulnerable at this rate."""
    OVERLOADED = "overloaded"
    """The steady state did not even hold before the trigger: this rate is beyond what the system carries."""
    UNKNOWN = "unknown"
    """Nothing can be said: the trigger touched nothing, the generator fell behind, the machine was starved."""

    @property
    def words(self) -> str:
        """How it is written for people."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One run at one rate, and its answer."""

    rate_per_s: float
    answer: Answer
    recovery_s: float | None = None
    """Seconds from healing until the steady state held again for good; None when it did not."""
    reason: str = ""
    """Why the answer is no ``recovered``, in a sentence."""
    seed: int = 0
    replay: str = ""
    """The command that repeats it."""
    own: bool = False
    """Whether it is the experiment's own run, at the experiment's own rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """What probes at several rates say together; rates in events a second.

    ``low`` is the highest rate at which, and below which, nothing but recoveries was seen. ``high`` is the lowest at
    which, and above which, none was seen. What lies between is ``mixed``: rates whose probes contradict each other, or
    those of other rates. At ``blind`` rates nothing could be said, although it was tried twice.
    """

    low: float | None
    high: float | None
    mixed: tuple[float, ...]
    blind: tuple[float, ...]

    @classmethod
    def of(cls, probes: Iterable[Probe]) -> Edges:
        """Return the edges of these probes."""
        rates = by_rate(probes)
        known = {rate: answers for rate, tried in rates.items() if (answers := known_of(tried))}
        low = high = None
        for rate in sorted(known):
            if set(known[rate]) != {Answer.RECOVERED}:
                break
            low = rate
        for rate in sorted(known, reverse=True):
            if Answer.RECOVERED in known[rate]:
                break
            high = rate
        mixed = [rate for rate in sorted(known) if (low is None or rate > low) and (high is None or rate < high)]
        blind = [rate for rate, tried in sorted(rates.items()) if rate not in known and len(tried) > 1]
        return cls(low=low, high=high, mixed=tuple(mixed), blind=tuple(blind))

    @property
    def bound(self) -> float | None:
        """The lowest rate above ``low`` that is known, or feared, not to recover."""
        above = [rate for rate in self.blind if self.low is not None and rate > self.low]
        return min([*above, *([] if self.high is None else [self.high])], default=None)


def by_rate(probes: Iterable[Probe]) -> dict[float, list[Answer]]:
    """Return the answers at each rate, in the order in which they came."""
    answers: dict[float, list[Answer]] = {}
    for probe in probes:
        answers.setdefault(probe.rate_per_s, []).append(probe.answer)
    return answers


def known_of(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """Return the answers that say something."""
    return tuple(answer for answer in answers if answer is not Answer.UNKNOWN)
