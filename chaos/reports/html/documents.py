"""Looking into a verdict's document, which may be of another version: what is not there, or is odd, is nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from chaos.errors import Outcome
from chaos.topology.model import Unit
from chaos.verdict.model import PhaseResult, RuleResult, Verdict
from chaos.verdict.units import NOTHING, figure

Document = Mapping[str, object]


def number(document: Document, key: str) -> float | None:
    """Return a finite number, or None."""
    value = document.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def text(document: Document, key: str) -> str:
    """Return a text, or an empty one."""
    value = document.get(key)
    return value if isinstance(value, str) else ""


def texts(document: Document, key: str) -> tuple[str, ...]:
    """Return a list's texts, or none."""
    value = document.get(key)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, Sequence) else ()


def records(document: Document, key: str) -> tuple[Document, ...]:
    """Return a list's objects, or none."""
    value = document.get(key)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    return tuple(one for one in value if isinstance(one, Mapping))


def record(document: Document, key: str) -> Document:
    """Return an object, or an empty one."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


Interval = tuple[float | None, float | None]
"""Between what a figure lies; an end that is not known is None."""


def interval(document: Document, key: str = "interval") -> Interval | None:
    """Return the two ends of an interval; None where neither is known."""
    value = document.get(key)
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = (number({"end": end}, "end") for end in value)
    return None if low is None and high is None else (low, high)


def interval_in_words(ends: Interval | None, unit: str) -> str:
    """Return an interval for people: ``98.9 % to 100 %``, or ``>= 98.9 %`` where it is open."""
    match ends:
        case None | (None, None):
            return NOTHING
        case (None, high):
            return f"<= {shown(high, unit)}"
        case (low, None):
            return f">= {shown(low, unit)}"
        case (low, high):
            return f"{shown(low, unit)} to {shown(high, unit)}"


def outcome(document: Document, key: str = "outcome") -> Outcome | None:
    """Return an outcome, or None for what is none."""
    try:
        return Outcome(text(document, key))
    except ValueError:
        return None


def shown(value: float | None, unit: str, *, apart_from: float | None = None) -> str:
    """Return a value for people; a unit that this version does not know is written behind it."""
    try:
        return figure(value, Unit(unit), apart_from=apart_from)
    except ValueError:
        return NOTHING if value is None else f"{value:.4g} {unit}"


def verdict_of(document: Document) -> Verdict | None:
    """Return the verdict that a document tells of, as far as the sentences about it need it; None when it is none."""
    said = outcome(document)
    if said is None:
        return None
    own = outcome(document, "run_outcome")
    return Verdict(
        outcome=said,
        run_outcome=own if own is not said else None,
        experiment=text(document, "experiment"),
        file=text(document, "file"),
        seed=int(number(document, "seed") or 0),
        backend=text(document, "backend"),
        disabled=texts(document, "disabled"),
        phases=tuple(_phase(one, record(document, "metrics")) for one in records(document, "phases")),
        steady_state=tuple(_rule(one) for one in records(document, "steady_state")),
        receipts=(),
        recovery_s=number(document, "recovery_s"),
        start_lag_p99_s=number(document, "start_lag_p99_s"),
        reasons=texts(document, "reasons"),
        replay=text(document, "replay"),
        recover_within_s=number(document, "recover_within_s"),
        changed=texts(document, "changed"),
    )


def _phase(document: Document, metrics: Document) -> PhaseResult:
    name = text(document, "name")
    values = record(metrics, name)
    return PhaseResult(
        name=name,
        start_s=number(document, "start_s") or 0.0,
        end_s=number(document, "end_s") or 0.0,
        metrics={metric: number(values, metric) for metric in values},
        attempts={},
    )


def _rule(document: Document) -> RuleResult:
    unit = text(document, "unit")
    return RuleResult(
        rule=text(document, "rule"),
        metric=text(document, "metric"),
        outcome=outcome(document) or Outcome.INCONCLUSIVE,
        measured=number(document, "measured"),
        limit=number(document, "limit"),
        baseline=number(document, "baseline"),
        unit=unit if unit in {one.value for one in Unit} else Unit.PLAIN.value,
        explanation=text(document, "explanation"),
        control_group=number(document, "control_group"),
    )
