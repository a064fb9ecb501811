"""What a search has found: three loads, how often each was seen, and whether the experiment's demand is met."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from chaos.errors import Outcome
from chaos.experiment.model import Metastability
from chaos.metastability.model import Answer, Edges, Probe, by_rate, known_of
from chaos.units import format_duration, format_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """All probes of a search, in order. ``unfinished`` says why there are no more; empty when it was enough."""

    settings: Metastability
    probes: tuple[Probe, ...]
    unfinished: str = ""

    @property
    def edges(self) -> Edges:
        """What the probes say together."""
        return Edges.of(self.probes)

    @property
    def recovers_up_to_per_s(self) -> float | None:
        """The highest load at which every probe recovered, as at all that are lower; None when there is none."""
        return self.edges.low

    @property
    def stays_down_from_per_s(self) -> float | None:
        """The lowest load at which it was steady before the trigger and never after it; above, nothing recovered."""
        high = self.edges.high
        rates = (one.rate_per_s for one in self.probes if one.answer is Answer.STAYED_DOWN)
        return min((rate for rate in rates if high is not None and rate >= high), default=None)

    @property
    def overloaded_from_per_s(self) -> float | None:
        """The lowest load at which it was never steady before the trigger, as at none that is higher."""
        highest_steady = max((one.rate_per_s for one in self.probes if one.answer in _STEADY_BEFORE), default=0.0)
        rates = (one.rate_per_s for one in self.probes if one.answer is Answer.OVERLOADED)
        return min((rate for rate in rates if rate > highest_steady), default=None)

    @property
    def outcome(self) -> Outcome | None:
        """Whether the system recovers up to the load it must recover up to; None where nothing is asked."""
        required, edges = self.settings.recovers_up_to_per_s, self.edges
        if required is None:
            return None
        if edges.low is not None and edges.low >= required:
            return Outcome.HELD
        return Outcome.VIOLATED if edges.high is not None and edges.high <= required else Outcome.INCONCLUSIVE

    def sentences(self) -> tuple[str, ...]:
        """Return what was found, the demand first; no sentence claims more than was measured."""
        said = [self._about_the_demand(), self._about_recovery(), self._about_vulnerability(), self._about_overload()]
        said += [self._about_mixed(rate) for rate in self.edges.mixed]
        said += [self._about_blind(rate) for rate in self.edges.blind]
        said += [f"the search is not complete: {self.unfinished}"] if self.unfinished else []
        return tuple(sentence for sentence in said if sentence)

    def _about_the_demand(self) -> str:
        required, outcome = self.settings.recovers_up_to_per_s, self.outcome
        if required is None or outcome is None:
            return ""
        asked = f"the system must recover by itself up to {rate_in_words(required)}"
        match outcome:
            case Outcome.HELD:
                return f"{asked}, and it did"
            case Outcome.VIOLATED:
                return f"{asked}, and it did not"
            case _:
                return f"{asked}; the probes do not tell whether it does"

    def _about_recovery(self) -> str:
        low = self.edges.low
        if low is None:
            lowest = min((one.rate_per_s for one in self.probes), default=None)
            known = [one for one in self.probes if one.answer is not Answer.UNKNOWN]
            if lowest is None or not known:
                return "nothing could be said about recovery at any load"
            return f"the system did not recover reliably at any load that was tried, down to {rate_in_words(lowest)}"
        most = "" if self.edges.bound is not None or self.edges.mixed else ", the most that was tried"
        return f"the system recovered by itself up to {rate_in_words(low)}{most} ({self._seen(low)})"

    def _about_vulnerability(self) -> str:
        rate, hold = self.stays_down_from_per_s, format_duration(self.settings.hold_s)
        if rate is None:
            return ""
        return (
            f"at {rate_in_words(rate)} it was steady before the trigger and stayed down after it, for all of the "
            f"{hold} that the load was held ({self._seen(rate)}): it carries this load, and is vulnerable at it"
        )

    def _about_overload(self) -> str:
        rate = self.overloaded_from_per_s
        if rate is None:
            return ""
        reason = next((one.reason for one in self.probes if one.rate_per_s == rate and one.reason), "")
        return (
            f"at {rate_in_words(rate)} it was overloaded, not steady even before the trigger{reason and f': {reason}'}"
        )

    def _about_mixed(self, rate: float) -> str:
        return f"at {rate_in_words(rate)} the probes do not agree ({self._seen(rate)}): the edge is not sharp"

    def _about_blind(self, rate: float) -> str:
        reasons = [one.reason for one in self.probes if one.rate_per_s == rate and one.reason]
        return f"at {rate_in_words(rate)} nothing could be said: {reasons[-1] if reasons else 'no answer'}"

    def _seen(self, rate: float) -> str:
        return seen(known_of(by_rate(self.probes)[rate]))


_STEADY_BEFORE = (Answer.RECOVERED, Answer.STAYED_DOWN)


def rate_in_words(rate_per_s: float) -> str:
    """Return a rate as it is written in an experiment: ``42.4/s``."""
    return f"{format_number(rate_per_s)}/s"


def seen(answers: tuple[Answer, ...]) -> str:
    """Return what was seen at one rate: ``recovered in 1, stayed down in 1 of 2 probes``."""
    counts = Counter(answers)
    parts = [f"{answer.words} in {counts[answer]}" for answer in Answer if counts[answer]]
    return f"{', '.join(parts)} of {len(answers)} {'probe' if len(answers) == 1 else 'probes'}"
