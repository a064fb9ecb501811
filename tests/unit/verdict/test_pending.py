"""Which rules a fault phase leaves open: for want of samples, or for want of certainty."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.errors import Outcome
from chaos.experiment.model import VerdictSettings
from chaos.verdict.pending import has_too_few, undecided
from chaos.verdict.rules import Baseline, check_of
from chaos.verdict.ruling import rule_on
from tests.unit.verdict.building import METRICS, TOPOLOGY, experiment, rule, store_of

SPAN = (12.0, 32.0)


def too_few(*rules: str, per_s: float, most: int | None = None, must_break: tuple[str, ...] = ()) -> bool:
    made = experiment(*rules, must_break=must_break)
    made = replace(made, verdict=VerdictSettings(samples_most=most))
    return has_too_few(made, topology=TOPOLOGY, store=store_of(per_s=per_s), baseline=Baseline(), span=SPAN)


@pytest.mark.parametrize(
    ("per_s", "most", "lacking"),
    [(9.0, None, True), (10.0, None, False), (7.0, 150, True), (7.5, 150, False), (10.0, 500, False)],
    ids=["180 of 200", "200 of 200", "140 of 150", "150 of 150", "no rule is asked for more than its limit takes"],
)
def test_a_rule_lacks_samples_until_it_has_what_its_limit_or_the_form_takes(per_s, most, lacking):
    assert too_few("availability >= 99.5%", per_s=per_s, most=most) is lacking


def test_every_rule_has_to_have_enough_also_one_that_must_break():
    assert not too_few("availability >= 95%", per_s=2.0)
    assert too_few("availability >= 95%", "availability >= 99.5%", per_s=2.0)
    assert too_few("availability >= 95%", per_s=2.0, must_break=("availability <= 0.5%",))


def test_what_no_number_of_samples_decides_lacks_none():
    assert not too_few("availability >= 95% of baseline", per_s=1.0), "there is no baseline to compare with"


def test_fewer_samples_decide_where_the_form_asks_for_fewer_and_the_limit_stays():
    check = check_of(rule("availability >= 99.5%"), METRICS["availability"], store_of(per_s=8.0), Baseline())
    whole, quick = (rule_on(check, SPAN, VerdictSettings(samples_most=most)) for most in (None, 150))
    assert (whole.outcome, quick.outcome) == (Outcome.INCONCLUSIVE, Outcome.HELD)
    assert whole.limit == quick.limit == 0.995
    assert "160 plays are too few to tell: it takes 200" in whole.explanation
    assert quick.interval is not None
    assert quick.interval[0] is not None
    assert quick.interval[0] < 0.985, "and the words claim no more than was seen"


def test_one_failure_among_few_is_left_open():
    store = store_of(per_s=8.0, fails=lambda moment_s: 20.0 <= moment_s < 20.1)
    made = replace(experiment("availability >= 99.5%"), verdict=VerdictSettings(samples_most=150))
    assert undecided(made, topology=TOPOLOGY, store=store, baseline=Baseline(), span=SPAN) == ("availability >= 99.5%",)
