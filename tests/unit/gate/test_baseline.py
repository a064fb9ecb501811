"""What is worse than the resilience baseline: found when it is, and not when it is not, bursts or none."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.errors import UsageError
from chaos.gate import baseline_file
from chaos.gate.baseline import (
    BURSTS_LEAST,
    Comparison,
    Figures,
    Limits,
    ResilienceBaseline,
    RuleFigures,
    compare,
    figures_of,
    merge,
    rejected,
    share_p,
    together_p,
    updated,
)
from chaos.topology.parser import load_topology
from tests.unit.gate.building import EXPERIMENTS, rule, verdict

RULE = "playback_availability >= 99.5%"
TOPOLOGY = load_topology(EXPERIMENTS.parent / "targets/playback")


def figures(failed: tuple[int, ...], attempts: int = 230, recovery_s: tuple[float, ...] = (0.0,)) -> Figures:
    runs = RuleFigures(
        metric="playback_availability",
        unit="%",
        share=True,
        attempts=(attempts,) * len(failed),
        measured=tuple(1.0 - one / attempts for one in failed),
    )
    return Figures(rules={RULE: runs}, recovery_s=recovery_s)


def baseline_of(count: int, one: Figures) -> ResilienceBaseline:
    return ResilienceBaseline(experiments={f"e{number}.yaml": {"quick": one} for number in range(count)})


def test_the_figures_of_a_run_are_its_rules_with_the_attempts_of_the_fault_phase():
    found = figures_of(verdict_with_two_rules(), TOPOLOGY)
    assert found.recovery_s == (1.5,)
    assert found.rules[RULE].share
    assert found.rules[RULE].attempts == (200,)
    assert found.rules[RULE].failed == (3,)
    assert not found.rules["play_delay_p99_s <= 1500ms"].share


def verdict_with_two_rules():
    delay = rule(0.3, text="play_delay_p99_s <= 1500ms", limit=1.5, unit="s")
    return replace(verdict(attempts=200, recovery_s=1.5), steady_state=(rule(0.985, attempts=200), delay))


def test_the_same_again_is_not_worse():
    before = figures((0, 1, 0), recovery_s=(0.0, 0.25, 0.0))
    now = {f"e{number}.yaml": figures((1,)) for number in range(40)}
    assert compare(baseline_of(40, before), now, form="quick").experiments == {}


def test_many_more_failures_in_one_experiment_are_worse_and_named():
    before = figures((0, 1, 0), recovery_s=(0.0, 0.25, 0.0))
    now = {f"e{number}.yaml": figures((0,)) for number in range(40)}
    now["e7.yaml"] = figures((20,))
    worse = compare(baseline_of(40, before), now, form="quick")
    assert set(worse.experiments) == {"e7.yaml"}
    (sentence,) = worse.experiments["e7.yaml"]
    assert "91.3 % (20 of 230 failed) now" in sentence
    assert "(1 of 690 failed) then" in sentence


def test_a_little_more_everywhere_is_worse_together_and_in_no_single_experiment():
    before = figures((0, 0, 0), recovery_s=(0.0, 0.0, 0.25))
    now = {f"e{number}.yaml": figures((number % 3,)) for number in range(45)}
    worse = compare(baseline_of(45, before), now, form="quick")
    assert worse.experiments == {}
    (sentence,) = worse.together
    assert "over 45 experiments" in sentence


def test_one_burst_in_one_experiment_does_not_speak_for_all_of_them():
    before = figures((0, 0, 0), recovery_s=(0.0, 0.0, 0.25))
    now = {f"e{number}.yaml": figures((0,)) for number in range(45)}
    now["e3.yaml"] = figures((60,))
    worse = compare(baseline_of(45, before), now, form="quick")
    assert worse.together == ()
    assert set(worse.experiments) == {"e3.yaml"}


def test_a_slower_recovery_is_worse_when_it_is_beyond_the_spread_and_matters():
    before = figures((0, 0, 0), recovery_s=(0.25, 0.0, 0.25))
    now = {f"e{number}.yaml": figures((0,), recovery_s=(0.5,)) for number in range(20)}
    assert compare(baseline_of(20, before), now, form="quick").experiments == {}
    now["e0.yaml"] = figures((0,), recovery_s=(3.0,))
    (sentence,) = compare(baseline_of(20, before), now, form="quick").experiments["e0.yaml"]
    assert sentence.startswith(
        "recovery is slower than the resilience baseline's: 3 s now, 167 ms on average of 3 runs"
    )


def test_a_recovery_is_not_compared_with_a_baseline_of_one_run():
    now = {"e0.yaml": figures((0,), recovery_s=(9.0,))}
    worse = compare(baseline_of(1, figures((0,), recovery_s=(0.0,))), now, form="quick")
    assert worse.experiments == {}
    assert worse.tests == 1, "the share alone"


def test_a_system_that_does_not_come_back_any_more_is_worse_where_all_runs_came_back():
    never = {"e0.yaml": figures((0,), recovery_s=())}
    worse = compare(baseline_of(1, figures((0, 0, 0), recovery_s=(0.0, 0.25, 0.0))), never, form="quick")
    assert worse.experiments == {
        "e0.yaml": (
            "the steady state was not seen to hold again after healing, as it did in the resilience baseline's 3 runs",
        )
    }
    doubtful = baseline_of(1, figures((0, 0, 0), recovery_s=(0.0, 0.25)))
    assert compare(doubtful, never, form="quick").experiments == {}


def test_what_the_baseline_does_not_know_is_told():
    worse = compare(baseline_of(1, figures((0,))), {"new.yaml": figures((9,))}, form="quick")
    assert worse.unknown == ("new.yaml",)
    assert compare(baseline_of(1, figures((0,))), {"e0.yaml": figures((9,))}, form="full").unknown == ("e0.yaml",)


def test_a_rule_with_another_text_is_another_rule():
    changed = figures((200,), recovery_s=())
    changed = Figures(rules={"playback_availability >= 10%": changed.rules[RULE]})
    assert compare(baseline_of(1, figures((0,))), {"e0.yaml": changed}, form="quick").tests == 0


@pytest.mark.parametrize("burst", [1, 2])
def test_false_alarms_of_a_whole_gate_are_as_rare_as_declared_with_bursts(burst: int):
    """Same truth before and now, failures in bursts: 200 simulated gates, alpha = 1 %."""
    rng = random.Random(burst)

    def failures() -> int:
        return sum(burst for _ in range(230 // burst) if rng.random() < 0.01)

    alarms = 0
    for _ in range(200):
        known = {
            f"e{number}.yaml": {
                "quick": figures(
                    tuple(failures() for _ in range(3)), recovery_s=tuple(rng.choice((0.0, 0.25)) for _ in range(3))
                )
            }
            for number in range(20)
        }
        now = {name: figures((failures(),), recovery_s=(rng.choice((0.0, 0.25)),)) for name in known}
        worse = compare(
            ResilienceBaseline(experiments=known, limits=Limits(share=0.0, share_together=0.0)), now, form="quick"
        )
        alarms += bool(worse.experiments or worse.together)
    assert alarms <= 7, "2 are expected at 1 %; 8 or more of 200 have a chance of 1 in 1000"


def test_a_large_change_is_nearly_always_found():
    rng = random.Random(3)
    found = 0
    for _ in range(100):
        known = baseline_of(20, figures((0, 1, 1), recovery_s=(0.0, 0.25, 0.0)))
        now = {f"e{number}.yaml": figures((0,)) for number in range(20)}
        now["e5.yaml"] = figures((sum(rng.random() < 0.12 for _ in range(230)),))
        found += "e5.yaml" in compare(known, now, form="quick").experiments
    assert found >= 95


TABLE = re.findall(
    r"^\| (one|all) experiments?, 99\.9 % to ([0-9.]+) % \| ([0-9]+) % \|$",
    (EXPERIMENTS.parent / "docs/gate.md").read_text(),
    re.MULTILINE,
)


@pytest.mark.parametrize(("which", "to_percent", "found_percent"), TABLE)
def test_what_the_documentation_says_it_can_see_is_what_a_simulation_sees(which, to_percent, found_percent):
    """Three quick runs of 160 attempts as the baseline, 53 experiments, the strictest of 160 comparisons."""
    rng = random.Random(f"{which}/{to_percent}")

    def failed(attempts: int, share: float) -> int:
        return sum(rng.random() < share for _ in range(attempts))

    now, strictest, trials, found = 1.0 - float(to_percent) / 100.0, 0.01 / 160, 60, 0
    for _ in range(trials):
        if which == "one":
            found += share_p(failed(160, now), 160, failed(480, 0.001), 480, BURSTS_LEAST) <= strictest
            continue
        units = [(failed(160, now), 160, failed(480, 0.001), 480) for _ in range(53)]
        lost, p = together_p(units, BURSTS_LEAST)
        found += p <= strictest and lost >= Limits().share_together
    assert 100.0 * found / trials == pytest.approx(float(found_percent), abs=20)


def test_the_documentation_has_that_table():
    assert len(TABLE) == 8


@given(st.lists(st.floats(0.0, 1.0), max_size=40), st.floats(0.001, 0.4))
def test_holm_rejects_no_less_than_bonferroni_and_no_more_than_each_alone(ps, alpha):
    tests = [Comparison(experiment=str(at), p=p, matters=True, sentence="") for at, p in enumerate(ps)]
    found = {test.experiment for test in rejected(tests, alpha)}
    assert {test.experiment for test in tests if test.p <= alpha / len(tests)} <= found
    assert found <= {test.experiment for test in tests if test.p <= alpha}


@given(st.integers(0, 200), st.integers(0, 600), st.floats(1.0, 10.0))
def test_a_p_value_is_one_and_falls_with_every_failure(failed, failed_before, bursts):
    p = share_p(failed, 230, failed_before, 690, bursts)
    assert 0.0 <= p <= 1.0
    assert share_p(failed + 1, 230, failed_before, 690, bursts) <= p + 1e-12
    if failed / 230 <= failed_before / 690:
        assert p == 1.0


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(100, 300), st.integers(0, 50), st.integers(100, 900)), min_size=8
    )
)
def test_the_jackknife_agrees_with_a_naive_one(units):
    lost, p = together_p(units, 2.0)
    assert lost == pytest.approx(
        sum(one[0] for one in units) / sum(one[1] for one in units)
        - sum(one[2] for one in units) / sum(one[3] for one in units)
    )
    assert 0.0 <= p <= 1.0
    assert (p == 1.0) == (lost <= 0.0)


# -- the file ---------------------------------------------------------------------------------------------------------

SOME_FIGURES = st.builds(
    figures,
    st.lists(st.integers(0, 230), min_size=1, max_size=5).map(tuple),
    recovery_s=st.lists(st.sampled_from([0.0, 0.25, 1.5]), max_size=5).map(tuple),
)
BASELINES = st.builds(
    ResilienceBaseline,
    experiments=st.dictionaries(
        st.sampled_from(["a.yaml", "edge/b.yaml", "edge/ü c.yaml"]),
        st.dictionaries(st.sampled_from(["quick", "full"]), SOME_FIGURES, min_size=1),
    ),
)


@given(baseline=BASELINES)
def test_what_is_written_is_read_and_written_again_as_the_same_text(tmp_path_factory, baseline):
    file = tmp_path_factory.mktemp("baseline") / "resilience-baseline.json"
    baseline_file.write(file, baseline)
    again = baseline_file.read(file)
    assert baseline_file.to_text(again) == file.read_text()
    for name, forms in baseline.experiments.items():
        for form, one in forms.items():
            assert again.experiments[name][form].rules[RULE].failed == one.rules[RULE].failed


def test_a_change_of_one_experiment_is_a_change_of_its_lines_alone():
    before = baseline_of(3, figures((0, 1, 0)))
    after = updated(before, {"e1.yaml": [figures((2,)), figures((3,))]}, form="quick")
    old, new = (baseline_file.to_text(one).splitlines() for one in (before, after))
    changed = [line for line in new if line not in old]
    assert len(old) == len(new)
    assert len(changed) <= 5
    assert '"attempts": [230, 230],' in "".join(changed)


def test_an_update_leaves_other_experiments_and_forms_as_they_are():
    before = baseline_of(2, figures((0,)))
    after = updated(before, {"e0.yaml": [figures((5,))], "new.yaml": [figures((1,))], "none.yaml": []}, form="full")
    assert after.experiments["e0.yaml"]["quick"] == before.experiments["e0.yaml"]["quick"]
    assert after.experiments["e1.yaml"] == before.experiments["e1.yaml"]
    assert after.experiments["e0.yaml"]["full"].rules[RULE].failed == (5,)
    assert set(after.experiments) == {"e0.yaml", "e1.yaml", "new.yaml"}


def test_runs_are_merged_by_rules_that_all_of_them_measured():
    other = Figures(rules={"sps >= 95% of baseline": figures((0,)).rules[RULE]}, recovery_s=())
    both = Figures(rules={**figures((1,)).rules, **other.rules}, recovery_s=(0.5,))
    assert set(merge([both, other]).rules) == {"sps >= 95% of baseline"}
    assert merge([both, both]).rules[RULE].attempts == (230, 230)
    assert merge([both, other]).recovery_s == (0.5,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is no resilience baseline"),
        ('{"version": 9, "experiments": {}}', "of version 9, and this chaos reads version 1"),
        ('{"version": 1, "experiments": []}', "is no resilience baseline"),
        ('{"version": 1, "experiments": {}, "limits": {"beta": 1}}', "limits: only alpha, share"),
        ('{"version": 1, "experiments": {}, "limits": {"alpha": 0.7}}', "limits.alpha is 0.7"),
        ('{"version": 1, "experiments": {"a.yaml": {"quick": 3}}}', "experiments.a.yaml.quick: it takes rules"),
        (
            '{"version": 1, "experiments": {"a.yaml": {"quick": {"rules": {}, "recovery_s": {"runs": ["x"]}}}}}',
            "quick.recovery_s.runs: 'x' is no number",
        ),
        (
            (
                '{"version": 1, "experiments": {"a.yaml": {"quick": {"recovery_s": {"runs": []}, "rules": {"r": {'
                '"metric": "m", "unit": "%", "share": true, "attempts": [1, 2], "measured": [1.0]}}}}}}'
            ),
            "there are 2 attempts and 1 measured",
        ),
    ],
)
def test_a_broken_file_is_refused_with_the_place_of_what_is_wrong(tmp_path: Path, text: str, said: str):
    file = tmp_path / "resilience-baseline.json"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        baseline_file.read(file)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


def test_a_missing_file_that_was_named_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        baseline_file.read(tmp_path / "none.json")


def test_the_baseline_is_found_beside_the_experiments_and_names_them_from_there(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments"
    (folder / "edge").mkdir(parents=True)
    assert baseline_file.find([folder]) is None
    assert baseline_file.place_for([folder]) == folder / "resilience-baseline.json"
    (tmp_path / "resilience-baseline.json").write_text("{}")
    assert baseline_file.find([folder / "edge/a.yaml"]) == Path("resilience-baseline.json")
    (folder / "resilience-baseline.json").write_text("{}")
    found = baseline_file.find([folder])
    assert found == folder / "resilience-baseline.json"
    assert baseline_file.name_of(folder / "edge/a.yaml", found) == "edge/a.yaml"
