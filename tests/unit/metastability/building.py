"""Searches and probes with defaults for everything, so that what a test sets is what it means."""

from __future__ import annotations

from collections.abc import Callable

from chaos.experiment.model import Metastability
from chaos.metastability.finding import Finding
from chaos.metastability.model import Answer, Probe
from chaos.metastability.search import ThresholdSearch

R, V, O, U = Answer.RECOVERED, Answer.STAYED_DOWN, Answer.OVERLOADED, Answer.UNKNOWN  # noqa: E741 - a table of answers
Oracle = Callable[[float], Answer]


def settings(**changes: object) -> Metastability:
    return Metastability(**{"up_to_per_s": 160.0, "hold_s": 15.0, **changes})  # type: ignore[arg-type]


def system(vulnerable_from: float, overloaded_from: float = 1e9) -> Oracle:
    """A system that always answers alike: it recovers, then stays down, then is overloaded."""
    return lambda rate: O if rate >= overloaded_from else V if rate >= vulnerable_from else R


def probe(rate: float, answer: Answer, **changes: object) -> Probe:
    made = {"recovery_s": 1.5 if answer is R else None, "reason": "" if answer is R else f"it was {answer.words}"}
    return Probe(rate_per_s=rate, answer=answer, **{**made, **changes})  # type: ignore[arg-type]


def searched(oracle: Oracle, *, start: float = 20.0, **changes: object) -> ThresholdSearch:
    """A search that was carried through; it may never want more than it said."""
    search = ThresholdSearch(settings(**changes), start_per_s=start)
    while (rate := search.next_rate()) is not None:
        search.take(probe(rate, oracle(rate)))
        assert len(search.probes) <= search.most
    return search


def finding(*probes: Probe, unfinished: str = "", **changes: object) -> Finding:
    return Finding(settings=settings(**changes), probes=probes, unfinished=unfinished)


def found(search: ThresholdSearch, **changes: object) -> Finding:
    return finding(*search.probes, **changes)


def tried(search: ThresholdSearch) -> list[float]:
    return [one.rate_per_s for one in search.probes]
