"""How sure a rule's figure is: intervals, evidence, margins, and how much longer would tell."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.errors import Outcome
from chaos.experiment.model import PhaseName, VerdictSettings
from chaos.samples import SampleOutcome
from chaos.statistics.jackknife import Second, share
from chaos.verdict.pending import undecided
from chaos.verdict.rules import Baseline, checks_of
from chaos.verdict.ruling import rule_on
from chaos.verdict.windows import SampleStore
from tests.unit.verdict.building import METRICS, PHASES, TOPOLOGY, every, experiment, rule, sample, store_of

HELD, VIOLATED, INCONCLUSIVE = Outcome.HELD, Outcome.VIOLATED, Outcome.INCONCLUSIVE
FAULT = PHASES[PhaseName.FAULT]


def ruled(store, text, *, span=FAULT, **settings):
    baseline = Baseline.measure(store, METRICS, PHASES[PhaseName.BASELINE])
    (check,) = checks_of([rule(text)], METRICS, store, baseline)
    return rule_on(check, span, VerdictSettings(**settings))


def randomly(share_of, seed=1, start_s=12.0, end_s=32.0):
    rng = random.Random(seed)
    return lambda moment_s: start_s <= moment_s < end_s and rng.random() < share_of


def test_the_interval_of_a_share_is_the_jackknifes_over_seconds():
    store = store_of(fails=randomly(0.02))
    result = ruled(store, "availability >= 99.5%", alpha=0.01)
    seconds = [store.tally("play", 12.0 + i, 13.0 + i) for i in range(20)]
    low, high = share([Second(one.failed, one.counted) for one in seconds]).interval(0.01)
    assert result.interval == pytest.approx((1 - high, 1 - max(0.0, low)))
    assert result.alpha == 0.01


def test_a_rule_that_the_bets_alone_show_to_be_broken_says_so_because_its_interval_does_not():
    for text in ("availability >= 99.5%", "availability >= 99.5% of baseline"):
        dead_seconds = ruled(store_of(fails=lambda moment_s: 14.0 <= moment_s < 16.0), text)
        assert dead_seconds.outcome is VIOLATED
        assert dead_seconds.interval[0] < 0.995 < dead_seconds.interval[1]
        assert "the interval leaves it open, but bets made second by second" in dead_seconds.explanation
    everywhere = ruled(store_of(fails=randomly(0.2)), "availability >= 99.5%")
    assert everywhere.outcome is VIOLATED
    assert everywhere.interval[1] < 0.995
    assert "bets" not in everywhere.explanation


def test_no_failure_at_all_proves_no_more_than_its_attempts():
    low, high = ruled(store_of(), "availability >= 99.5%").interval
    assert (low, high) == (pytest.approx(1 + math.log(0.05) / 1000), 1.0)


def test_a_few_failures_that_chance_explains_are_inconclusive_and_say_how_much_longer_would_tell():
    """Eight plays of a thousand fail, where five may: seven seconds have one of them, and so might another seven."""
    store = store_of(fails=lambda moment_s: round(moment_s * 50) in {*range(700, 1300, 90), 1301})
    result = ruled(store, "availability >= 99.5%", alpha=0.01)
    assert result.outcome is INCONCLUSIVE
    assert result.needs_s is not None
    assert f"chance alone explains the difference: {result.needs_s} s more like these would tell" in result.explanation


def test_a_system_with_its_plays_measured_within_the_limit_holds_without_a_margin():
    """The shipped experiments: some 240 plays, one of which may fail."""
    store = store_of(per_s=24.0, fails=lambda moment_s: abs(moment_s - 15.0) < 0.001)
    result = ruled(store, "availability >= 99.5%", span=(12.0, 22.0))
    assert (result.outcome, result.needs_s) == (HELD, None)


def test_with_a_margin_held_means_shown():
    few = ruled(store_of(per_s=30.0), "availability >= 99.5%", span=(12.0, 22.0), margin=0.002)
    assert few.outcome is INCONCLUSIVE
    assert "neither shows nor refutes it within the margin of 0.2 %: 5 s more like these would tell" in few.explanation
    assert few.needs_s == 5
    assert ruled(store_of(per_s=30.0), "availability >= 99.5%", span=(12.0, 28.0), margin=0.002).outcome is HELD


def test_what_is_shown_to_hold_would_hold_after_its_worst_second_once_more():
    """One second of twenty has six failures: rare bursts are believed to be rare only after a while."""
    store = store_of(end_s=90.0, fails=lambda moment_s: 13 <= moment_s < 13.12)
    short = ruled(store, "availability >= 99%", span=(12.0, 32.0), margin=0.005, alpha=0.05)
    long = ruled(store, "availability >= 99%", span=(12.0, 72.0), margin=0.005, alpha=0.05)
    assert short.interval[0] > 0.983
    assert (short.outcome, long.outcome) == (INCONCLUSIVE, HELD)
    assert 20 < short.needs_s < 60


def test_a_margin_is_tolerated_and_beyond_it_a_rule_is_broken():
    slightly, clearly = (store_of(fails=every(one, 12.0, 32.0)) for one in (125, 25))
    assert ruled(slightly, "availability >= 99.5%", margin=0.01).outcome is HELD, "0.8 % fail evenly, 1.5 % may"
    assert ruled(clearly, "availability >= 99.5%", margin=0.01).outcome is VIOLATED


def test_a_margin_of_what_is_no_percentage_is_a_share_of_the_limit():
    store = store_of(delay_s=lambda moment_s: 2.1)
    assert ruled(store, "delay_p99 <= 2s").outcome is VIOLATED
    assert ruled(store, "delay_p99 <= 2s", margin=0.1).outcome is HELD


@pytest.mark.parametrize(("dead", "outcome"), [((12,), VIOLATED), ((28,), INCONCLUSIVE), ((25, 28), VIOLATED)])
def test_a_dead_second_is_evidence_where_the_fault_begins_and_two_are_anywhere(dead, outcome):
    store = store_of(fails=lambda moment_s: math.floor(moment_s) in dead)
    assert ruled(store, "availability >= 99.5%").outcome is outcome


def test_one_early_failure_among_few_attempts_is_an_accident():
    store = store_of(per_s=2.0, fails=lambda moment_s: abs(moment_s - 12.0) < 0.001)
    assert ruled(store, "availability >= 99.5%").outcome is INCONCLUSIVE


def test_a_burst_of_slow_answers_is_no_reason_to_accuse_a_p99_but_slow_answers_throughout_are():
    burst = store_of(delay_s=lambda moment_s: 2.5 if 27 <= moment_s < 28 else 0.1)
    throughout = store_of(delay_s=lambda moment_s: 2.5 if round(moment_s * 50) % 30 == 0 else 0.1)
    assert ruled(burst, "delay_p99 <= 2s").outcome is INCONCLUSIVE
    assert ruled(throughout, "delay_p99 <= 2s").outcome is VIOLATED


def test_bursts_widen_the_interval_of_a_quantile():
    rng = random.Random(5)
    spread = store_of(delay_s=lambda moment_s: rng.random())
    lumpy = store_of(delay_s=lambda moment_s: (math.floor(moment_s) * 7 % 20) / 20 + 0.001 * (moment_s % 1))
    widths = []
    for store in (spread, lumpy):
        low, high = ruled(store, "delay_p99 <= 5s").interval
        median = replace(METRICS["delay_p99"], quantile=0.5)
        (check,) = checks_of([rule("delay_p99 <= 5s")], {"delay_p99": median}, store, Baseline())
        low, high = rule_on(check, FAULT).interval
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_few_values_have_no_upper_end_and_the_sentence_says_so():
    result = ruled(store_of(per_s=10.0), "delay_p99 <= 2s")
    assert result.interval == (pytest.approx(0.05), None)
    assert "; at least 50 ms, 95 % sure" in result.explanation


def test_a_rate_of_the_baseline_carries_the_baselines_own_uncertainty():
    rng = random.Random(2)
    store = store_of(fails=lambda moment_s: rng.random() < (0.3 if moment_s < 12 else 0.36))
    result = ruled(store, "sps >= 95% of baseline")
    low, high = result.interval
    own = share([Second(store.tally("play", 12.0 + i, 13.0 + i).good, 1.0) for i in range(20)]).interval(0.05)
    assert high - low > 1.2 * (own[1] - own[0])
    assert result.outcome is INCONCLUSIVE


def test_a_rate_has_an_interval_around_what_was_measured_and_can_be_shown_to_hold():
    store = store_of(fails=randomly(0.02))
    result = ruled(store, "sps >= 95% of baseline", margin=0.001)
    assert result.outcome is HELD
    assert result.interval == (pytest.approx(48.6, abs=0.4), pytest.approx(49.5, abs=0.5))
    ratio = SampleStore(0.0)
    for number in range(12 * 50, 32 * 50):
        ratio.add([sample(number / 50, kind="session", stalled_s=9.0 + number % 3, played_s=0.0)])
    low, high = ruled(ratio, "rebuffering >= 50%").interval
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(1.0)


def test_a_ratio_is_judged_by_its_seconds():
    store = store_of()
    for second in range(12, 32):
        stalled_s = 0.5 if second % 2 else 0.0
        store.add([sample(second + 0.5, kind="session", stalled_s=stalled_s, played_s=10 - stalled_s)] * 20)
    result = ruled(store, "rebuffering <= 1%")
    assert result.measured == pytest.approx(0.025)
    assert result.outcome is VIOLATED
    assert ruled(store, "rebuffering <= 2.4%").outcome is INCONCLUSIVE
    assert ruled(store, "rebuffering <= 3%").outcome is HELD


@pytest.mark.parametrize(("stalled_s", "played_s"), [(0.0, 2.0), (2.0, 0.0)])
def test_one_session_decides_no_ratio(stalled_s, played_s):
    store = store_of()
    store.add([sample(15.0, kind="session", stalled_s=stalled_s, played_s=played_s)])
    result = ruled(store, "rebuffering <= 1%")
    assert result.outcome is INCONCLUSIVE
    assert "1 session are too few to tell: it takes 10" in result.explanation


def test_a_largest_value_is_judged_without_an_interval():
    largest = replace(METRICS["delay_p99"], name="delay_max", title="longest play delay", quantile=1.0)
    store = store_of(delay_s=lambda moment_s: 0.5 if abs(moment_s - 15.0) < 0.1 else 0.05)

    def judged(text):
        (check,) = checks_of([rule(text)], {"delay_max": largest}, store, Baseline())
        return rule_on(check, FAULT)

    assert (judged("delay_max <= 1s").outcome, judged("delay_max <= 1s").measured) == (HELD, 0.5)
    assert judged("delay_max <= 0.1s").outcome is VIOLATED
    assert judged("delay_max <= 1s").interval == (None, None)


def test_a_quantile_beside_the_baselines_is_resampled_and_gives_the_same_each_time():
    rng = random.Random(3)
    store = store_of(delay_s=lambda moment_s: rng.random() * (3 if 12 <= moment_s < 32 else 1))
    result = ruled(store, "delay_p99 <= 150% of baseline")
    assert result.outcome is VIOLATED
    low, high = result.interval
    assert low <= result.measured <= high
    assert ruled(store, "delay_p99 <= 150% of baseline") == result
    assert ruled(store, "delay_p99 <= 400% of baseline", margin=0.01).outcome is HELD


def test_fallbacks_are_shares_of_the_good_answers():
    store = SampleStore(0.0)
    for number in range(44 * 50):
        moment_s = number / 50
        fallback = 12 <= moment_s < 32 and number % 10 == 0
        store.add([sample(moment_s, outcome=SampleOutcome.FALLBACK if fallback else SampleOutcome.OK)])
    assert ruled(store, "degraded <= 5%").outcome is VIOLATED
    assert ruled(store, "degraded <= 10%").outcome is HELD
    assert ruled(store, "degraded >= 5%", margin=0.01).outcome is HELD


def with_fallbacks(share_of):
    """Plays of which this share is answered by a fallback in the fault phase, and none before it."""
    store, rng = SampleStore(0.0), random.Random(1)
    for number in range(44 * 50):
        moment_s = number / 50
        fallback = 12 <= moment_s < 32 and rng.random() < share_of
        store.add([sample(moment_s, outcome=SampleOutcome.FALLBACK if fallback else SampleOutcome.OK)])
    return store


def test_a_few_events_where_the_baseline_had_none_accuse_nobody_and_many_do():
    text = "degraded <= 200% of baseline"
    assert ruled(with_fallbacks(0.0), text).outcome is HELD
    assert ruled(with_fallbacks(0.002), text).outcome is INCONCLUSIVE
    assert ruled(with_fallbacks(0.6), text).outcome is VIOLATED
    assert ruled(with_fallbacks(0.05), text).outcome is VIOLATED


def test_dead_seconds_are_seen_beside_a_baseline_too():
    dead = store_of(fails=every(1, 14.0, 17.0))
    assert ruled(dead, "availability >= 95% of baseline").outcome is VIOLATED
    assert ruled(store_of(fails=every(1, 14.0, 15.0)), "availability >= 95% of baseline").outcome is HELD


@pytest.mark.parametrize("share_of", [0.0005, 0.002, 0.05])
def test_a_system_that_is_as_it_was_is_hardly_ever_accused_beside_a_baseline_of_few_failures(share_of):
    """At alpha 5 %; a baseline of ten seconds that happens to see no failure proves little."""
    accused = 0
    for seed in range(60):
        store = store_of(fails=randomly(share_of, seed, start_s=0.0, end_s=44.0))
        accused += ruled(store, "availability >= 100% of baseline").outcome is VIOLATED
    assert accused <= 7


def test_a_phase_of_one_second_has_no_interval_and_holds_as_measured():
    result = ruled(store_of(per_s=300.0), "availability >= 99.5%", span=(12.0, 13.0))
    assert (result.outcome, result.interval) == (HELD, None)


def test_too_few_samples_say_how_many_more_seconds_it_takes():
    result = ruled(store_of(per_s=1.0), "availability >= 99.5%")
    assert (result.outcome, result.needs_s) == (INCONCLUSIVE, 180)


def test_rules_that_are_not_decided_yet_are_named():
    store = store_of(per_s=10.0)
    tested = experiment("availability >= 99.5%", "sps >= 95% of baseline", "rebuffering <= 1%")
    baseline = Baseline.measure(store, METRICS, PHASES[PhaseName.BASELINE])
    for until_s, left in ((20.0, ("availability >= 99.5%", "rebuffering <= 1%")), (32.0, ("rebuffering <= 1%",))):
        found = undecided(tested, topology=TOPOLOGY, store=store, baseline=baseline, span=(12.0, until_s))
        assert found == left


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    share_of=st.floats(0.0, 0.6),
    text=st.sampled_from(
        [
            "availability >= 99%",
            "availability <= 20%",
            "availability >= 99% of baseline",
            "sps >= 95% of baseline",
            "sps <= 20/s",
            "delay_p99 <= 300%",
            "delay_p99 >= 5% of baseline",
        ]
    ),
    margin=st.sampled_from([None, 0.0, 0.02]),
)
def test_an_interval_holds_what_was_measured_and_outcomes_agree_with_it(seed, share_of, text, margin):
    """``300%`` and ``5%`` are plain numbers of seconds here."""
    rng = random.Random(seed)
    store = store_of(per_s=20.0, fails=randomly(share_of, seed), delay_s=lambda moment_s: rng.random())
    result = ruled(store, text, margin=margin)
    low, high = result.interval
    assert low is None or low <= result.measured + 1e-9
    assert high is None or high >= result.measured - 1e-9
    upward = ">=" in text
    beyond = high if upward else low
    slack = (margin or 0.0) * (1.0 if text.startswith("availability") else abs(result.limit))
    if result.outcome is HELD and margin is not None and not text.startswith("delay"):
        sure = low if upward else high
        assert sure >= result.limit - slack - 1e-9 if upward else sure <= result.limit + slack + 1e-9
    if result.outcome is VIOLATED:
        assert result.needs_s is None
    if beyond is not None and (
        beyond < result.limit - slack - 1e-9 if upward else beyond > result.limit + slack + 1e-9
    ):
        assert result.outcome is not HELD
