"""The outcome of a run, as a table of cases."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from chaos.errors import Outcome
from chaos.events import InstanceDied
from chaos.experiment.model import PhaseName
from chaos.experiment.plan import PlannedSurge
from chaos.samples import SampleOutcome
from chaos.verdict.judge import judge
from chaos.verdict.recovery import recovery_s
from chaos.verdict.surge import surge_receipt
from chaos.verdict.windows import SampleStore
from tests.unit.verdict.building import PHASES, TOPOLOGY, every, experiment, guard, receipt, sample, store_of

HELD, VIOLATED, INCONCLUSIVE = Outcome.HELD, Outcome.VIOLATED, Outcome.INCONCLUSIVE


def verdict_of(store, *rules, receipts=None, phases=PHASES, recovered=..., topology=TOPOLOGY, **options):
    judged = {
        key: options.pop(key) for key in ("guard", "deaths", "machine", "forced", "forced_reason") if key in options
    }
    tested = experiment(*rules, **options)
    if recovered is ...:
        recovered = recovery_s(
            tested.steady_state,
            topology=TOPOLOGY,
            store=store,
            phases=phases,
            healed_at_s=phases[PhaseName.RECOVERY][0],
        )
    return judge(
        experiment=tested,
        topology=topology,
        seed=7,
        backend="embedded",
        disabled=(),
        phases=phases,
        store=store,
        receipts=[receipt()] if receipts is None else receipts,
        recovery_s=recovered,
        replay="chaos run experiments/outage.yaml --seed 7",
        **judged,
    )


@dataclass
class Case:
    says: str
    outcome: Outcome
    words: str
    """Must be in the first reason."""
    store: dict = field(default_factory=dict)
    rules: tuple[str, ...] = ("availability >= 99.5%",)
    options: dict = field(default_factory=dict)


SURGE = PlannedSurge(name="2-surge", at_s=13.0, until_s=17.0, rate_per_s=60.0, base_per_s=12.0)
ALL_FAIL = every(1, 12.0, 32.0)
CASES = [
    Case("all is well", HELD, "playback availability was 100 % where >= 99.5 % was asked"),
    Case(
        "a few failures within the limit",
        HELD,
        "99.6 % where >= 99.5 %",
        store={"fails": every(250, 12.0, 32.0)},
    ),
    Case(
        "failures in the fault phase",
        VIOLATED,
        "playback availability was 90 % where >= 99.5 % was asked; worst in second 12 (5 of 50 plays failed)",
        store={"fails": every(10, 12.0, 32.0)},
    ),
    Case(
        "failures in one second",
        VIOLATED,
        "worst in second 14 (50 of 50 plays failed)",
        store={"fails": every(1, 14.0, 15.0)},
    ),
    Case("slow plays", VIOLATED, "play delay p99 was 2.5 s where <= 2 s was asked; worst in second 12 (2.5 s)",
         store={"delay_s": lambda moment_s: 2.5 if 12 <= moment_s < 32 else 0.1}, rules=("delay_p99 <= 2s",)),
    Case(
        "a lower rate than the baseline's",
        VIOLATED,
        "SPS was 40 /s where >= 47.5 /s was asked (95 % of the baseline's 50 /s)",
        store={"fails": every(5, 12.0, 32.0)},
        rules=("sps >= 95% of baseline",),
    ),
    Case(
        "nothing ever started, and only the delay has a rule",
        VIOLATED,
        "play delay p99 has no value, because none of 1000 plays succeeded",
        store={"fails": ALL_FAIL},
        rules=("delay_p99 <= 2s",),
    ),
    # -- the test itself is void
    Case(
        "a fault that touched nothing",
        INCONCLUSIVE,
        "the fault 2-pause touched nothing (no connection was open)",
        options={"receipts": [receipt(), receipt(touched=False, fault="2-pause")]},
    ),
    Case(
        "a fault that touched nothing, and failures",
        INCONCLUSIVE,
        "touched nothing",
        store={"fails": ALL_FAIL},
        options={"receipts": [receipt(touched=False)]},
    ),
    Case(
        "a surge that the generator did not make",
        INCONCLUSIVE,
        "the surge 2-surge did not come (70 of 192 more arrivals began in 4 s): what was measured says",
        options={"receipts": [receipt(), surge_receipt(SURGE, sent=70, until_s=17.0)]},
    ),
    Case(
        "a surge that came",
        HELD,
        "100 %",
        options={"receipts": [receipt(), surge_receipt(SURGE, sent=190, until_s=17.0)]},
    ),
    Case(
        "a surge that healing ended early came as far as it was ordered",
        HELD,
        "100 %",
        options={"receipts": [receipt(), surge_receipt(SURGE, sent=48, until_s=14.0)]},
    ),
    Case("no fault was applied", INCONCLUSIVE, "no fault was applied", options={"receipts": []}),
    Case(
        "a generator that lags",
        INCONCLUSIVE,
        "the load generator fell behind: 1 arrival in 100 began 240 ms late or later, where 100 ms is allowed",
        store={"lag_s": 0.24},
    ),
    Case("a generator that lags, and failures", INCONCLUSIVE, "fell behind", store={"lag_s": 0.24, "fails": ALL_FAIL}),
    Case(
        "a generator that lags in the recovery, after failures",
        VIOLATED,
        "availability was 0 %",
        store={"lag_s": lambda moment_s: 0.24 if moment_s > PHASES[PhaseName.FAULT][1] else 0.001, "fails": ALL_FAIL},
    ),
    Case(
        "a generator that lags in the recovery, and all is well",
        INCONCLUSIVE,
        "fell behind",
        store={"lag_s": lambda moment_s: 0.24 if moment_s > PHASES[PhaseName.FAULT][1] else 0.001},
    ),
    Case("a generator that lags less than allowed", HELD, "100 %", store={"lag_s": 0.24},
         options={"max_start_lag_s": 0.3}),
    Case(
        "a system that was ill before",
        INCONCLUSIVE,
        "the system was not well before any fault: in the baseline playback availability was 90 %",
        store={"fails": every(10, 2.0, 32.0)},
    ),
    Case("one failure in the baseline is no illness", HELD, "100 %",
         store={"fails": lambda moment_s: abs(moment_s - 3.0) < 0.001}),
    Case(
        "a baseline without load",
        INCONCLUSIVE,
        "nothing was attempted in the baseline",
        options={"phases": {**PHASES, PhaseName.BASELINE: (-20.0, -10.0)}},
    ),
    # -- what the faults had to break
    Case(
        "a fault that broke what it had to",
        HELD,
        "playback availability was 100 %",
        store={"delay_s": lambda moment_s: 1.5 if 12 <= moment_s < 32 else 0.1},
        options={"must_break": ("delay_p99 >= 1s",)},
    ),
    Case(
        "a fault that did not break what it had to",
        INCONCLUSIVE,
        "the faults did not break what they had to (play delay p99 was 50 ms where >= 1 s was asked",
        options={"must_break": ("delay_p99 >= 1s",)},
    ),
    Case(
        "a fault that broke what it had to from the moment it was there",
        VIOLATED,
        "playback availability was",
        store={"fails": lambda moment_s: 14 <= moment_s < 32},
        options={"receipts": [replace(receipt(), applied_at_s=14.0)], "must_break": ("availability <= 1%",)},
    ),
    # -- a rule that could not be told
    Case(
        "too few attempts",
        INCONCLUSIVE,
        "20 plays are too few to tell: it takes 200, 200 s of this load",
        store={"per_s": 1.0},
    ),
    Case("as few attempts as are needed", HELD, "100 %", store={"per_s": 10.0}),
    Case("one failure among too few", INCONCLUSIVE, "too few to tell", store={"per_s": 1.0, "fails": every(1, 14, 15)}),
    Case(
        "clear failures among few attempts",
        VIOLATED,
        "playback availability was 85 %",
        store={"per_s": 1.0, "fails": every(1, 14.0, 17.0)},
    ),
    Case("too few for a p99", INCONCLUSIVE, "too few to tell: it takes 100",
         store={"per_s": 2.0}, rules=("delay_p99 <= 2s",)),
    Case("no sample of the kind", INCONCLUSIVE, "no session was attempted in the fault phase, so rebuffer ratio is "
         "unknown", rules=("availability >= 99.5%", "rebuffering <= 1%")),
    Case("a rule that could not be told, and one that broke", VIOLATED, "playback availability was 0 %",
         store={"fails": ALL_FAIL}, rules=("rebuffering <= 1%", "availability >= 99.5%")),
    Case("a whole that allows no failure", VIOLATED, "90 % where >= 100 % was asked",
         store={"per_s": 0.5, "fails": every(1, 14.0, 16.0, 0.5)}, rules=("availability >= 100%",)),
    Case("a baseline that was zero", INCONCLUSIVE, "the baseline was 0 too", rules=("sps >= 95% of baseline",),
         store={"fails": every(1, 0.0, 99.0)}),
    Case("a rate under a closed load, within what chance explains", INCONCLUSIVE, "chance alone explains",
         store={"lag_s": None, "fails": every(17, 12.0, 32.0)}, rules=("sps >= 95% of baseline",)),
    Case("a rate under a closed load, beyond chance", VIOLATED, "SPS was 40 /s",
         store={"lag_s": None, "fails": every(5, 12.0, 32.0)}, rules=("sps >= 95% of baseline",)),
    # -- guard and recovery
    Case(
        "a guard",
        VIOLATED,
        "the guard 'availability < 20%' stopped the fault phase early: it measured 3.1 %",
        store={"fails": ALL_FAIL},
        options={"guard": ("availability < 20%", 0.031), "guards": (guard("availability < 20%", 3.0),)},
    ),
    Case("recovery in time", HELD, "100 %", options={"recover_within_s": 5.0, "recovered": 1.25}),
    Case(
        "recovery that took too long",
        VIOLATED,
        "the steady state held again 7.25 s after healing, where 5 s were allowed",
        options={"recover_within_s": 5.0, "recovered": 7.25},
    ),
    Case(
        "no recovery",
        VIOLATED,
        "did not hold again in the 12 s after healing: in the last 3 s playback availability was 50 % where",
        store={"fails": every(2, 32.0, 99.0)},
        options={"recover_within_s": 5.0},
    ),
    Case(
        "a recovery phase too short to tell",
        INCONCLUSIVE,
        "the recovery phase of 12 s is too short to see the steady state hold within 11 s",
        options={"recover_within_s": 11.0, "recovered": None},
    ),
    Case(
        "attempts too rare to see a recovery",
        INCONCLUSIVE,
        "in the last 4.75 s there were too few attempts to see the steady state hold again",
        store={"per_s": 1.0, "end_s": 40.0, "fails": lambda moment_s: moment_s >= 32.0},
        rules=("availability >= 50%",),
        options={"recover_within_s": 5.0},
    ),
    Case(
        "users who are stuck after healing",
        VIOLATED,
        "did not hold again in the 12 s after healing: in the last 10.8 s no play was attempted",
        store={"per_s": 1.3, "end_s": 34.2},
        options={"recover_within_s": 5.0},
    ),
    Case("a recovery nobody asked for", HELD, "100 %", options={"recovered": None}),
    # -- cut short
    Case("an error", Outcome.ERROR, "Locust died", store={"fails": ALL_FAIL},
         options={"forced": Outcome.ERROR, "forced_reason": "Locust died\nits last line"}),
    Case("an interruption", Outcome.INTERRUPTED, "interrupted", options={"forced": Outcome.INTERRUPTED}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.says for case in CASES])
def test_the_outcome_and_its_first_reason(case):
    verdict = verdict_of(store_of(**case.store), *case.rules, **case.options)
    assert (verdict.outcome, case.words in verdict.reasons[0]) == (case.outcome, True), verdict.reasons


def test_the_reasons_of_a_failure_come_before_what_held():
    verdict = verdict_of(
        store_of(fails=every(10, 12.0, 32.0)), "delay_p99 <= 2s", "availability >= 99.5%", recover_within_s=5.0
    )
    assert [reason.split(" was ")[0] for reason in verdict.reasons[:2]] == ["playback availability", "play delay p99"]
    assert verdict.reasons[2].startswith("the steady state held again")


def test_a_death_is_told_and_changes_nothing():
    died = InstanceDied(t_s=3.0, instance="store-1", status="exit status 1", last_lines=("no space",))
    verdict = verdict_of(store_of(), deaths=[died])
    assert verdict.outcome is HELD
    assert verdict.reasons[-1] == "store-1 ended although no fault had ended it (exit status 1)"
    assert verdict.deaths == (verdict.reasons[-1],)


def test_a_run_that_broke_off_early_still_has_its_figures():
    phases = {PhaseName.WARM_UP: (0.0, 2.0), PhaseName.BASELINE: (2.0, 5.0)}
    verdict = verdict_of(store_of(end_s=5.0), phases=phases, forced=Outcome.ERROR, forced_reason="x", recovered=None)
    assert verdict.outcome is Outcome.ERROR
    assert [(phase.name, phase.attempts) for phase in verdict.phases] == [
        ("warm_up", {"play": 100}),
        ("baseline", {"play": 150}),
    ]
    assert verdict.steady_state == ()


def test_phases_carry_every_metric_and_the_attempts_of_each_kind():
    store = store_of()
    store.add([sample(13.0, kind="session", stalled_s=1.0, played_s=9.0)])
    fault = verdict_of(store).phases[2]
    assert fault.attempts == {"play": 1000, "session": 1}
    assert set(fault.metrics) == set(TOPOLOGY.metrics)
    assert fault.metrics["rebuffering"] == pytest.approx(0.1)


def test_a_rate_is_compared_for_the_load_that_was_really_offered():
    """A fifth fewer arrivals in the fault phase, every one of them started: nothing is wrong with the system."""
    store = SampleStore(0.0)
    for moment_s in [i / 50 for i in range(600)] + [12 + i / 40 for i in range(1280)]:
        store.add([sample(moment_s, kind="generator.lag", lag_s=0.0), sample(moment_s)])
    verdict = verdict_of(store, "sps >= 95% of baseline")
    assert verdict.outcome is HELD
    assert "20 % fewer to be served" in verdict.reasons[0]
    assert verdict.steady_state[0].limit == pytest.approx(38.0, rel=0.01)
    assert verdict.steady_state[0].baseline == pytest.approx(50.0, rel=0.01)


def _with_refusals(before: int, under_fault: int) -> SampleStore:
    """Fifty arrivals a second; of each hundred so many are refused in the baseline, and in the fault phase."""
    store = SampleStore(0.0)
    for number in range(32 * 50):
        moment_s = number / 50
        refused = number * 37 % 100 < (before if moment_s < 12 else under_fault)
        outcome = SampleOutcome.REFUSED if refused else SampleOutcome.OK
        store.add([sample(moment_s, kind="generator.lag", lag_s=0.0), sample(moment_s, outcome=outcome)])
    return store


def test_a_rate_is_not_blamed_for_refusals_that_chance_explains():
    """4 % were refused before, 10 % are now: 100 where 40 give or take 6 were expected is too many for chance alone."""
    assert verdict_of(_with_refusals(4, 5), "sps >= 99% of baseline").outcome is HELD
    verdict = verdict_of(_with_refusals(4, 10), "sps >= 99% of baseline")
    assert verdict.outcome is VIOLATED


def test_a_system_that_begins_to_refuse_everybody_does_not_get_away_with_it():
    assert verdict_of(_with_refusals(4, 90), "sps >= 95% of baseline").outcome is VIOLATED
