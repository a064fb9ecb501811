"""The small language of the steady state and of the guards, read and written.

::

    rule   = metric comparison limit                     playback_availability >= 99.5%
    limit  = value in the metric's unit                  play_delay_p99_s <= 800ms
           | percentage "of baseline"                    sps >= 95% of baseline
           | percentage "of control_group"               playback_availability >= 99% of control_group
    guard  = metric comparison value "for" duration      playback_availability < 20% for 3s
           | metric comparison value                     playback_availability < 95% with evidence 100
             "with evidence" number

A ``Sentence`` is what the words say, before anything is known of the metric; ``to_rule`` and ``to_guard`` give it its
meaning. Everything here raises ValueError with what is wrong and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chaos import units
from chaos.errors import suggest
from chaos.experiment.model import Comparison, Guard, Reference, Rule
from chaos.topology.model import Measure, Metric, Unit

MAX_LENGTH = 200
RULE_PATTERN = (
    rf"^\s*\w+\s*(?:>=|<=|>|<)\s*{units.NUMBER} ?(?:%|ms|s|m|h|/ ?s)?(?:\s+of\s+(?:baseline|control_group))?\s*$"
)
GUARD_PATTERN = (
    rf"^\s*\w+\s*(?:>=|<=|>|<)\s*{units.NUMBER} ?(?:%|ms|s|m|h|/ ?s)?\s+"
    rf"(?:for\s+{units.NUMBER} ?(?:ms|s|m|h)|with\s+evidence\s+{units.NUMBER})\s*$"
)
EVIDENCE_LEAST, EVIDENCE_MOST = 10.0, 1_000_000.0
"""Of a guard: below, one run in ten would be aborted by chance; above, it would hardly ever trip."""

_EXAMPLE = "write a metric, >= or <=, and a limit, like 'availability >= 99.5%' or 'requests_per_s >= 95% of baseline'"
_GUARD_EXAMPLE = (
    "write a metric, < or >, a limit and a time, like 'availability < 20% for 3s', "
    "or how much evidence, like 'availability < 95% with evidence 100'"
)
_SENTENCE = re.compile(
    r"\s*(?P<metric>[^\s<>=!]+)\s*(?P<comparison>[<>=!]{1,3})\s*(?P<limit>[^<>=]*?)"
    r"(?:\s+of\s+(?P<of>baseline|control_group))?(?:\s+for\s+(?P<duration>\S[^<>=]*?)"
    r"|\s+with\s+evidence\s+(?P<evidence>\S[^<>=]*?))?\s*"
)
_WANTED = {
    Unit.PERCENT: "a percentage, like 99.5%",
    Unit.SECONDS: "a duration, like 800ms or 2s",
    Unit.PER_SECOND: "a number a second, like 30/s",
    Unit.PLAIN: "a plain number",
}


_READERS: Mapping[Unit, Callable[[str], float]] = {
    Unit.PERCENT: units.read_percent,
    Unit.SECONDS: units.read_duration_s,
    Unit.PER_SECOND: units.read_rate_per_s,
    Unit.PLAIN: units.read_number,
}
_WRITERS: Mapping[Unit, Callable[[float], str]] = {
    Unit.PERCENT: units.format_percent,
    Unit.SECONDS: units.format_duration,
    Unit.PER_SECOND: lambda value: f"{units.format_number(value)}/s",
    Unit.PLAIN: units.format_number,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """The words of a rule or a guard."""

    text: str
    metric: str
    comparison: Comparison
    limit: str
    of: Reference | None
    duration: str | None
    evidence: str | None = None


def read_sentence(text: str) -> Sentence:
    """Return the parts of a rule or guard."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"has {len(text)} characters, allowed are {MAX_LENGTH}")
    found = _SENTENCE.fullmatch(text)
    if found is None or not found["limit"]:
        raise ValueError(f"not a rule; {_EXAMPLE}")
    if found["comparison"] not in set(Comparison):
        raise ValueError(f"{found['comparison']!r} compares nothing, allowed are {', '.join(Comparison)}")
    return Sentence(
        text=" ".join(text.split()),
        metric=found["metric"],
        comparison=Comparison(found["comparison"]),
        limit=found["limit"],
        of=None if found["of"] is None else Reference(found["of"]),
        duration=found["duration"],
        evidence=found["evidence"],
    )


def to_rule(sentence: Sentence, metrics: Mapping[str, Metric]) -> Rule:
    """Return the rule that a sentence of the steady state says."""
    if sentence.duration is not None:
        raise ValueError(f"a rule of the steady state has no 'for {sentence.duration}': it holds for the whole phase")
    if sentence.evidence is not None:
        raise ValueError("a rule of the steady state has no evidence: how sure a verdict is, is said under 'verdict'")
    metric = _metric(sentence, metrics)
    if sentence.of is Reference.CONTROL_GROUP and metric.measure is Measure.RATE:
        raise ValueError(
            f"{metric.name} counts how many there are, and chance decides how many fall into either group; "
            "compare a share, a quantile or a ratio with the control group"
        )
    limit = _limit(sentence, metric) if sentence.of is None else _factor(sentence, sentence.of)
    return Rule(metric=metric.name, comparison=sentence.comparison, limit=limit, of=sentence.of, text=sentence.text)


def to_guard(sentence: Sentence, metrics: Mapping[str, Metric]) -> Guard:
    """Return the guard that a sentence says."""
    if sentence.of is not None:
        beside = "the baseline" if sentence.of is Reference.BASELINE else "the control group"
        raise ValueError(f"a guard compares with a fixed limit, not with {beside}; write the limit as a value")
    metric = _metric(sentence, metrics)
    limit = _limit(sentence, metric)
    rule = Rule(metric=metric.name, comparison=sentence.comparison, limit=limit, text=sentence.text)
    if sentence.evidence is not None:
        return Guard(rule=rule, for_s=0.0, evidence=_evidence(sentence.evidence, metric))
    if sentence.duration is None:
        raise ValueError(f"has no time, so a single bad moment would end the run; {_GUARD_EXAMPLE}")
    for_s = units.read_duration_s(sentence.duration)
    if not 0 < for_s <= 3600:
        raise ValueError(f"'for {sentence.duration}' is out of range, allowed is more than 0s and at most 1h")
    return Guard(rule=rule, for_s=for_s)


def _evidence(text: str, metric: Metric) -> float:
    if metric.measure not in {Measure.SHARE, Measure.FALLBACK_SHARE}:
        raise ValueError(f"{metric.name} is no share, and only shares can be bet on; write 'for 3s' instead")
    try:
        evidence = units.read_number(text)
    except ValueError:
        raise ValueError(f"evidence is a plain number, like 100, not {text!r}") from None
    if not EVIDENCE_LEAST <= evidence <= EVIDENCE_MOST:
        raise ValueError(
            f"evidence {text} is out of range, allowed is {EVIDENCE_LEAST:g} to {EVIDENCE_MOST:g}; "
            "by chance it aborts one run in so many at most"
        )
    return evidence


def read_rule(text: str, metrics: Mapping[str, Metric]) -> Rule:
    """Read a rule: ``read_rule("availability >= 99.5%", topology.metrics).limit == 0.995``."""
    return to_rule(read_sentence(text), metrics)


def read_guard(text: str, metrics: Mapping[str, Metric]) -> Guard:
    """Read a guard: ``read_guard("availability < 20% for 3s", topology.metrics).for_s == 3.0``."""
    return to_guard(read_sentence(text), metrics)


def write_rule(rule: Rule, metric: Metric) -> str:
    """Write a rule in its shortest form, which reads as the same rule."""
    relative = f"{units.format_percent(rule.limit)} of {rule.of}"
    return f"{rule.metric} {rule.comparison} {_WRITERS[metric.unit](rule.limit) if rule.of is None else relative}"


def write_guard(guard: Guard, metric: Metric) -> str:
    """Write a guard in its shortest form, which reads as the same guard."""
    if guard.evidence is not None:
        return f"{write_rule(guard.rule, metric)} with evidence {units.format_number(guard.evidence)}"
    return f"{write_rule(guard.rule, metric)} for {units.format_duration(guard.for_s)}"


def _metric(sentence: Sentence, metrics: Mapping[str, Metric]) -> Metric:
    metric = metrics.get(sentence.metric)
    if metric is None:
        raise ValueError(
            f"no metric {sentence.metric!r}, the target has: {', '.join(metrics)}{suggest(sentence.metric, metrics)}"
        )
    return metric


def _limit(sentence: Sentence, metric: Metric) -> float:
    try:
        limit = _READERS[metric.unit](sentence.limit)
    except ValueError:
        raise ValueError(
            f"{metric.name} is compared with {_WANTED[metric.unit]}, or with a percentage 'of baseline' "
            f"or 'of control_group', not with {sentence.limit!r}"
        ) from None
    if metric.measure in {Measure.SHARE, Measure.FALLBACK_SHARE} and limit > 1.0:
        raise ValueError(f"{metric.name} never exceeds 100%, so {sentence.limit} says nothing")
    return limit


def _factor(sentence: Sentence, of: Reference) -> float:
    try:
        factor = units.read_percent(sentence.limit)
    except ValueError:
        beside = "baseline" if of is Reference.BASELINE else "control group"
        raise ValueError(
            f"the {beside} is scaled by a percentage, like '95% of {of}', not {sentence.limit!r}"
        ) from None
    if not 0 < factor <= 1000:
        raise ValueError(f"{sentence.limit} of {of} is out of range, allowed is more than 0% and at most 100000%")
    return factor
