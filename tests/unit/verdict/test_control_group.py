"""Rules beside a concurrent control group: who is judged, by how much, and what a noisy machine changes: nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.errors import Outcome
from chaos.experiment.model import Guard, PhaseName, VerdictSettings
from chaos.groups import Group
from chaos.samples import LAG_KIND, Sample, SampleOutcome
from chaos.statistics.jackknife import Second, paired_difference
from chaos.verdict.briefly import holds_briefly
from chaos.verdict.guards import guard_value
from chaos.verdict.judge import judge
from chaos.verdict.recovery import recovery_s
from chaos.verdict.rules import Baseline, checks_of
from chaos.verdict.ruling import rule_on
from chaos.verdict.windows import SampleStore
from tests.unit.verdict.building import METRICS, PHASES, TOPOLOGY, experiment, receipt, rule

HELD, VIOLATED, INCONCLUSIVE = Outcome.HELD, Outcome.VIOLATED, Outcome.INCONCLUSIVE
FAULT = PHASES[PhaseName.FAULT]
OF_CONTROL = "availability >= 99% of control_group"


def never(_second, _number):
    return False


def run(*, per_s=10, fails=never, control_fails=never, others_fail=never, delay_s=0.05, control_delay_s=0.05, end_s=44):
    """A run of two groups and as many others; ``fails`` says of the attempt of a second and a number how it went."""
    store = SampleStore(0.0)
    sides = (
        (Group.EXPERIMENT, fails, delay_s),
        (Group.CONTROL, control_fails, control_delay_s),
        (None, others_fail, 0.05),
    )
    for second in range(end_s):
        for group, failing, delay in sides:
            for number in range(per_s):
                due_s = second + number / per_s
                took_s = delay(second, number) if callable(delay) else delay
                failed = failing(second, number)
                store.add(
                    [
                        Sample(kind=LAG_KIND, scheduled_s=due_s, ended_s=due_s, outcome=SampleOutcome.OK,
                               values={"lag_s": 0.001}),
                        Sample(kind="play", scheduled_s=due_s, ended_s=due_s + took_s,
                               outcome=SampleOutcome.FAILED if failed else SampleOutcome.OK,
                               values={} if failed else {"delay_s": took_s}, group=group),
                        Sample(kind="session", scheduled_s=due_s, ended_s=due_s, outcome=SampleOutcome.OK,
                               values={"stalled_s": 0.1 if failed else 0.0, "played_s": 0.9 if failed else 1.0},
                               group=group),
                    ]
                )  # fmt: skip
    return store


def in_fault(second, number):
    return FAULT[0] <= second < FAULT[1]


def one_in(count):
    return lambda second, number: in_fault(second, number) and (second * 10 + number) % count == 0


def checked(store, text):
    baseline = Baseline.measure(store, METRICS, PHASES[PhaseName.BASELINE])
    (check,) = checks_of([rule(text)], METRICS, store, baseline)
    return check


def ruled(store, text=OF_CONTROL, *, span=FAULT, **options):
    return rule_on(checked(store, text), span, VerdictSettings(**options))


# ---- who is judged


def test_fixed_limits_and_the_baseline_are_of_the_experiment_group_and_rates_of_all():
    store = run(others_fail=one_in(2), control_fails=one_in(5), fails=one_in(10))
    assert ruled(store, "availability >= 80%").measured == pytest.approx(0.9)
    assert ruled(store, "availability >= 50% of baseline").measured == pytest.approx(0.9)
    assert ruled(store, "availability >= 50% of baseline").baseline == 1.0
    rate = ruled(store, "sps >= 50% of baseline")
    assert rate.measured == pytest.approx(30 * (0.9 + 0.8 + 0.5) / 3, rel=0.01)
    assert "experiment group" not in rate.explanation


def test_without_groups_everybody_is_judged():
    store = SampleStore(0.0)
    store.add(replace(one, group=None) for one in samples_of_everybody())
    result = ruled(store, "availability >= 99.5%")
    assert (result.measured, result.control_group) == (1.0, None)
    assert "group" not in result.explanation


def samples_of_everybody():
    return [
        Sample(kind="play", scheduled_s=second / 20, ended_s=second / 20, outcome=SampleOutcome.OK)
        for second in range(20 * 44)
    ]


def test_a_guard_looks_at_the_experiment_group():
    store = run(fails=in_fault)
    guarded = Guard(rule=rule("availability < 50%"), for_s=3.0)
    assert guard_value(guarded, store=store, topology=TOPOLOGY, now_s=16.0, since_s=12.0) == 0.0
    assert store.measure(METRICS["availability"], 13.0, 16.0) > 0.6, "of all, two thirds are well"


# ---- what is said


def test_a_group_that_is_worse_violates_and_both_groups_are_named_with_the_interval_of_their_difference():
    result = ruled(run(fails=one_in(5), control_fails=one_in(100)))
    assert result.outcome is VIOLATED
    assert result.measured == pytest.approx(0.8)
    assert result.control_group == pytest.approx(0.99)
    assert result.limit == pytest.approx(0.99 * 0.99)
    low, high = result.difference
    assert low <= -0.19 <= high < -0.1
    assert (
        "playback availability was 80 % in the experiment group where >= 98 % was asked "
        "(99 % of the control group's 99 %)" in result.explanation.replace("98.01", "98")
    )
    assert "; less the control group's: between -" in result.explanation
    assert result.explanation.endswith("each end 95 % sure")


def test_the_interval_is_that_of_the_paired_jackknife():
    rng = random.Random(4)
    store = run(fails=lambda *_: rng.random() < 0.05, control_fails=lambda *_: rng.random() < 0.03)
    tallies = [
        [store.of(group).tally("play", 12.0 + i, 13.0 + i) for i in range(20)]
        for group in (Group.EXPERIMENT, Group.CONTROL)
    ]
    sides = [[Second(one.failed, one.counted) for one in side] for side in tallies]
    result = ruled(store, alpha=0.01)
    low, high = paired_difference(*sides).interval(0.01)
    assert result.difference == pytest.approx((-high, -low))
    low, high = paired_difference(*sides, factor=0.99).interval(0.01)
    shifted = result.limit + 0.01
    assert result.interval == pytest.approx((shifted - high, min(1.0, shifted - low)))


@pytest.mark.parametrize(
    ("text", "worse"),
    [
        ("delay_p99 <= 150% of control_group", {"delay_s": lambda s, n: 0.2 if in_fault(s, n) else 0.05}),
        ("rebuffering <= 150% of control_group", {"fails": one_in(2), "control_fails": one_in(20)}),
    ],
)
def test_quantiles_and_ratios_are_compared_as_well(text, worse):
    result = ruled(run(**worse), text)
    assert result.outcome is VIOLATED
    assert result.difference[0] > 0.0
    alike = ruled(run(fails=one_in(20), control_fails=one_in(20)), text)
    assert alike.outcome is HELD
    assert alike.difference == pytest.approx((0.0, 0.0))


def test_too_few_attempts_in_a_group_say_how_many_more_seconds_it_takes():
    result = ruled(run(per_s=4))
    assert result.outcome is INCONCLUSIVE
    assert "80 plays in each group are too few to tell: it takes 100, 25 s of this load" in result.explanation
    assert result.needs_s == 5


def test_with_a_margin_held_is_shown():
    assert ruled(run(), margin=0.001).outcome is INCONCLUSIVE
    assert ruled(run(), margin=0.02).outcome is HELD
    assert ruled(run(fails=one_in(5)), margin=0.02).outcome is VIOLATED


def test_a_kind_that_is_in_no_group_cannot_be_compared():
    store = SampleStore(0.0)
    store.add(samples_of_everybody())
    result = ruled(store)
    assert result.outcome is INCONCLUSIVE
    assert result.explanation.endswith("is to be compared with the control group, but no play was in either group")


def test_a_control_group_in_which_nothing_worked_is_no_measure():
    result = ruled(run(fails=in_fault, control_fails=in_fault))
    assert result.outcome is INCONCLUSIVE
    assert "the control group's was 0 too" in result.explanation


# ---- a noisy machine


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=20, max_size=20), st.integers(2, 4))
def test_what_hits_both_groups_alike_never_fails_the_rule(dead, factor):
    """Whatever share of a second's attempts fails, and however slow they are, when it is so for both."""

    def noise(second, number):
        return in_fault(second, number) and number < dead[second - 12]

    def slow_s(second, number):
        return 0.05 * factor ** (dead[second - 12] if in_fault(second, number) else 0)

    store = run(fails=noise, control_fails=noise, delay_s=slow_s, control_delay_s=slow_s)
    assert ruled(store).outcome is HELD
    assert ruled(store, "rebuffering <= 110% of control_group").outcome is HELD
    delays = ruled(store, "delay_p99 <= 110% of control_group")
    assert delays.outcome is HELD or "too few to tell" in delays.explanation
    if sum(dead) > 60:
        assert ruled(store, "availability >= 99% of baseline").outcome is VIOLATED, "the baseline was quiet"


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.floats(0.0, 0.5), st.floats(0.0, 1.0))
def test_the_verdict_is_that_of_the_two_groups_whatever_becomes_of_all_others(chance, few, others):
    drawn = {(s, n): chance.random() for s in range(44) for n in range(10)}

    def result(share):
        return ruled(run(fails=lambda s, n: drawn[s, n] < few, others_fail=lambda s, n: drawn[s, n] < share))

    assert result(others) == result(0.0)


# ---- before the fault and after it


def test_a_few_seconds_break_the_rule_only_when_that_is_sure():
    window = (12.0, 15.0)
    assert holds_briefly(checked(run(), OF_CONTROL), window) is True
    assert holds_briefly(checked(run(fails=lambda s, n: (s, n) == (13, 4)), OF_CONTROL), window) is True
    assert holds_briefly(checked(run(fails=in_fault), OF_CONTROL), window) is False
    few = checked(run(per_s=3), "delay_p99 <= 150% of control_group")
    assert holds_briefly(few, window) is None, "nine delays have no p99 to compare"


def judged(store, *rules, **options):
    tested = experiment(*rules, **options)
    recovered = recovery_s(
        tested.steady_state, topology=TOPOLOGY, store=store, phases=PHASES, healed_at_s=PHASES[PhaseName.RECOVERY][0]
    )
    return judge(
        experiment=tested, topology=TOPOLOGY, seed=7, backend="embedded", disabled=(), phases=PHASES, store=store,
        receipts=[receipt()], recovery_s=recovered, replay="chaos run x.yaml",
    )  # fmt: skip


def test_recovery_is_that_of_the_experiment_group():
    def until_36(second, number):
        return 12 <= second < 36

    verdict = judged(run(fails=until_36), "availability >= 50% of control_group", recover_within_s=8.0)
    assert verdict.recovery_s is not None
    assert 1.0 <= verdict.recovery_s <= 4.0
    assert verdict.outcome is VIOLATED


def test_groups_that_were_not_alike_before_any_fault_make_the_run_void():
    verdict = judged(run(fails=lambda second, number: number < 5), OF_CONTROL)
    assert verdict.outcome is INCONCLUSIVE
    assert "the system was not well before any fault" in verdict.reasons[0]


def test_a_load_without_groups_is_told_so():
    store = SampleStore(0.0)
    store.add(samples_of_everybody())
    verdict = judged(store, OF_CONTROL)
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.reasons[0].startswith("no play was in the experiment group or in the control group: the locustfile")


def test_a_quantile_alone_cannot_tell_of_recovery_in_so_few_seconds():
    verdict = judged(run(per_s=10), "delay_p99 <= 150% of control_group", recover_within_s=8.0)
    assert verdict.outcome is INCONCLUSIVE
    assert any(
        "too few attempts of the two groups to see the steady state hold again" in one for one in verdict.reasons
    )


def test_a_second_of_the_run_tells_of_both_groups_where_there_are_any():
    store = run(fails=one_in(2), end_s=20)
    names = ("availability", "sps")
    assert store.live_groups(METRICS, names, 18.0) == {
        "experiment": {"availability": 0.5},
        "control": {"availability": 1.0},
    }
    alone = SampleStore(0.0)
    alone.add(samples_of_everybody())
    assert alone.live_groups(METRICS, names, 18.0) is None


def test_a_rule_tells_on_how_many_attempts_of_the_experiment_group_it_rests():
    store = run(per_s=7)
    assert ruled(store).attempts == 140
    assert ruled(store, "sps >= 50% of baseline").attempts == 420
