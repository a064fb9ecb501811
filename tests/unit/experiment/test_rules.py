"""The language of the steady state: read, written, read again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.experiment.model import Comparison, Guard, Reference, Rule
from chaos.experiment.rules import GUARD_PATTERN, RULE_PATTERN, read_guard, read_rule, write_guard, write_rule
from chaos.topology.model import Measure, Metric, Unit

METRICS = {
    name: Metric(name=name, title=name, measure=measure, of="play", unit=unit)
    for name, measure, unit in (
        ("availability", Measure.SHARE, Unit.PERCENT),
        ("stalled", Measure.RATIO, Unit.PERCENT),
        ("delay_s", Measure.QUANTILE, Unit.SECONDS),
        ("sps", Measure.RATE, Unit.PER_SECOND),
        ("items", Measure.QUANTILE, Unit.PLAIN),
    )
}

READS = {
    "availability >= 99.5%": ("availability", Comparison.AT_LEAST, 0.995, None),
    "availability>=99.5 %": ("availability", Comparison.AT_LEAST, 0.995, None),
    "  delay_s   <= 800ms ": ("delay_s", Comparison.AT_MOST, 0.8, None),
    "delay_s < 2 m": ("delay_s", Comparison.BELOW, 120.0, None),
    "sps > 28.5": ("sps", Comparison.ABOVE, 28.5, None),
    "sps > 28.5/s": ("sps", Comparison.ABOVE, 28.5, None),
    "sps >= 95% of baseline": ("sps", Comparison.AT_LEAST, 0.95, Reference.BASELINE),
    "delay_s <= 150%  of  baseline": ("delay_s", Comparison.AT_MOST, 1.5, Reference.BASELINE),
    "availability >= 99% of control_group": ("availability", Comparison.AT_LEAST, 0.99, Reference.CONTROL_GROUP),
    "delay_s<=150% of  control_group": ("delay_s", Comparison.AT_MOST, 1.5, Reference.CONTROL_GROUP),
    "items <= 3": ("items", Comparison.AT_MOST, 3.0, None),
    "stalled <= 120%": ("stalled", Comparison.AT_MOST, 1.2, None),
}


@pytest.mark.parametrize("text", READS)
def test_a_rule_is_read(text: str):
    rule = read_rule(text, METRICS)
    assert (rule.metric, rule.comparison, rule.limit, rule.of) == READS[text]
    assert rule.text == " ".join(text.split())
    assert re.match(RULE_PATTERN, text)


WRONG = {
    "": "not a rule",
    "availability": "not a rule",
    ">= 99%": "not a rule",
    "availability >=": "not a rule",
    "availability > = 3%": "not a rule",
    "availability => 99%": "'=>' compares nothing, allowed are >=, <=, >, <",
    "availability == 99%": "'==' compares nothing",
    "sps >= lots": "sps is compared with a number a second, like 30/s",
    "sps >= -3": "not with '-3'",
    "availability >= 0.995": "availability is compared with a percentage, like 99.5%",
    "availability <= 101%": "availability never exceeds 100%, so 101% says nothing",
    "sps >= 3 of baseline": "the baseline is scaled by a percentage, like '95% of baseline', not '3'",
    "sps >= 0% of baseline": "out of range",
    "items <= 0% of control_group": "0% of control_group is out of range",
    "items <= 3 of control_group": "the control group is scaled by a percentage, like '95% of control_group', not '3'",
    "sps >= 95% of control_group": "sps counts how many there are, and chance decides how many fall into either group",
    "availability >= 99% of control": "not with '99% of control'",
    "speed >= 3": "no metric 'speed', the target has: availability, stalled, delay_s, sps, items",
    "availability >= 99% for 3s": "has no 'for 3s'",
    "availability >= 99% with evidence 100": "a rule of the steady state has no evidence",
    "items <= 3 apples": "items is compared with a plain number",
    "x" * 300: "has 300 characters, allowed are 200",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_rule_is_explained(text: str):
    with pytest.raises(ValueError, match=re.escape(WRONG[text])):
        read_rule(text, METRICS)


WRONG_GUARDS = {
    "availability < 20%": "has no time",
    "availability < 20% of baseline for 3s": "a guard compares with a fixed limit, not with the baseline",
    "availability < 20% of control_group for 3s": "a guard compares with a fixed limit, not with the control group",
    "availability < 20% for 3": "not a duration",
    "availability < 20% for 0s": "'for 0s' is out of range",
    "availability < 20% for ever": "not a duration",
    "availability < 95% with evidence": "not with '95% with evidence'",
    "availability < 95% with evidence much": "evidence is a plain number, like 100, not 'much'",
    "availability < 95% with evidence 2": "evidence 2 is out of range, allowed is 10 to 1e+06",
    "stalled > 5% with evidence 100": "stalled is no share, and only shares can be bet on",
}


@pytest.mark.parametrize("text", WRONG_GUARDS)
def test_a_wrong_guard_is_explained(text: str):
    with pytest.raises(ValueError, match=re.escape(WRONG_GUARDS[text])):
        read_guard(text, METRICS)


@st.composite
def rules(draw: st.DrawFn, *, relative: bool) -> Rule:
    metric = draw(st.sampled_from(list(METRICS.values())))
    references = [None, Reference.BASELINE, *([] if metric.measure is Measure.RATE else [Reference.CONTROL_GROUP])]
    of = draw(st.sampled_from(references)) if relative else None
    hundredths = draw(st.integers(1, 100 if metric.measure is Measure.SHARE and of is None else 10_000_000))
    scale = draw(st.sampled_from([1, 10, 1000])) * (100 if metric.unit is Unit.PERCENT or of else 1)
    return Rule(
        metric=metric.name,
        comparison=draw(st.sampled_from(Comparison)),
        limit=min(hundredths / scale, 1000.0) if of else hundredths / scale,
        of=of,
        text="",
    )


@given(rules(relative=True))
def test_a_rule_that_is_written_reads_as_itself(rule: Rule):
    text = write_rule(rule, METRICS[rule.metric])
    again = read_rule(text, METRICS)
    assert again == Rule(metric=rule.metric, comparison=rule.comparison, limit=rule.limit, of=rule.of, text=text)
    assert re.match(RULE_PATTERN, text)


@given(rules(relative=False), st.integers(1, 3_600_000))
def test_a_guard_that_is_written_reads_as_itself(rule: Rule, milliseconds: int):
    guard = Guard(rule=rule, for_s=milliseconds / 1000)
    text = write_guard(guard, METRICS[rule.metric])
    again = read_guard(text, METRICS)
    assert (again.for_s, again.rule.limit, again.rule.comparison) == (guard.for_s, rule.limit, rule.comparison)
    assert re.match(GUARD_PATTERN, text)


@given(st.integers(1, 99), st.integers(10, 1_000_000))
def test_a_guard_by_evidence_that_is_written_reads_as_itself(percent: int, evidence: int):
    text = f"availability < {percent}% with evidence {evidence}"
    guard = read_guard(text, METRICS)
    assert (guard.for_s, guard.evidence, guard.rule.limit) == (0.0, evidence, percent / 100)
    assert write_guard(guard, METRICS["availability"]) == text
    assert re.match(GUARD_PATTERN, text)


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_a_value_error(text: str):
    for read in (read_rule, read_guard):
        said = None
        try:
            read(text, METRICS)
        except ValueError as error:
            said = str(error)
        assert said != ""
