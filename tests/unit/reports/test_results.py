"""Verdicts in words, beside their controls, in lists and as documents."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from chaos.errors import Outcome
from chaos.events import MachineMeasured
from chaos.experiment.plan import Plan
from chaos.reports.compare import comparison, conclusion
from chaos.reports.document import suite_document, verdict_document
from chaos.reports.live import LiveView
from chaos.reports.plain import PlainView, QuietView
from chaos.reports.summary import print_summary
from chaos.reports.text import print_verdict
from chaos.reports.views import Views
from chaos.samples import SampleOutcome
from chaos.topology.model import Topology
from chaos.verdict.machine import summary
from chaos.verdict.model import Verdict
from chaos.verdict.windows import SampleStore
from tests.unit.reports import streaming
from tests.unit.verdict.building import METRICS, TOPOLOGY, every, receipt, sample, store_of
from tests.unit.verdict.test_judge import verdict_of

RULES = ("availability >= 99.5%", "sps >= 95% of baseline", "delay_p99 <= 2s")


def held() -> Verdict:
    return verdict_of(store_of(), *RULES, recover_within_s=5.0)


def violated(*, disabled=("client_failover", "health_filtering")) -> Verdict:
    verdict = verdict_of(store_of(fails=every(5, 12.0, 32.0)), *RULES, recover_within_s=5.0)
    return dataclasses.replace(verdict, disabled=disabled)


def inconclusive() -> Verdict:
    return verdict_of(store_of(), *RULES, receipts=[receipt(touched=False)])


def error() -> Verdict:
    return verdict_of(store_of(end_s=5.0), *RULES, forced=Outcome.ERROR, forced_reason="Locust died", recovered=None)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Job:
    experiment: object = streaming.EXPERIMENT
    topology: Topology = TOPOLOGY
    plan: Plan = dataclasses.field(default_factory=lambda: Plan(seed=1, phases={}, faults=()))


@dataclasses.dataclass(frozen=True)
class Result:
    verdict: Verdict
    outcome: Outcome
    control: Verdict | None = None
    job: Job = Job()


def text_of(*printables, width: int = 80, call=None) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    for one in printables:
        console.print(one)
    if call is not None:
        call(console)
    return console.export_text()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("make", [held, violated, inconclusive, error])
def test_a_verdict_in_words_names_outcome_rules_receipts_seed_and_replay(make, width):
    verdict = make()
    text = text_of(width=width, call=lambda console: print_verdict(console, verdict, METRICS))
    words = " ".join(text.split())
    assert text.startswith(f"{verdict.outcome.value.upper()}: ")
    assert "seed 7" in words
    assert "Replay: chaos run experiments/outage.yaml --seed 7" in words
    assert verdict.reasons[0].split()[-1] in words
    if make is not error:
        assert "availability >= 99.5%" in words
        assert "SPS" in words
        assert "attempts:" in words
    if make is inconclusive:
        assert "NOTHING (no connection was open)" in words


def test_a_violation_says_by_how_much_and_when():
    text = text_of(call=lambda console: print_verdict(console, violated(), METRICS))
    assert "Playback availability was 80 % where >= 99.5 % was asked; worst in second 12" in " ".join(text.split())
    assert "control without client_failover and health_filtering" in " ".join(text.split())


def test_a_rule_shows_between_what_the_truth_lies_and_what_would_decide_it():
    store = store_of(per_s=8.0)
    text = text_of(width=100, call=lambda console: print_verdict(console, verdict_of(store, *RULES), METRICS))
    assert "98.13 % to 100 %" in text
    assert re.search(r"availability >= 99\.5% .* inconclusive", text)
    assert "5 s more would tell" in text


def test_full_answers_fallbacks_refusals_and_failures_are_told_apart():
    store = SampleStore(0.0)
    for number in range(44 * 50):
        outcome = list(SampleOutcome)[number // 5 % 4 if number % 5 == 0 else 0]
        store.add([sample(number / 50, outcome=outcome)])
    verdict = verdict_of(store, *RULES)
    words = text_of(width=100, call=lambda console: print_verdict(console, verdict, METRICS))
    for row in ("full answers", "by fallback", "refused", "failed"):
        assert re.search(rf"^ +{row}( +\d+){{4}} *$", words, flags=re.MULTILINE), row
    fault = verdict_document(verdict)["phases"][2]
    assert set(fault["outcomes"]["play"]) == {"ok", "fallback", "refused", "failed"}
    assert sum(fault["outcomes"]["play"].values()) == fault["attempts"]["play"] == 1000


def test_the_machine_is_told_in_a_line():
    seconds = [MachineMeasured(t_s=1.0, left_share=0.01, steal_share=0.02, foreign_share=0.3, canary_s=0.15)] * 4
    machine = [summary("fault", seconds, max_taken=0.1)]
    verdict = verdict_of(store_of(), *RULES, machine=machine)
    text = text_of(width=140, call=lambda console: print_verdict(console, verdict, METRICS))
    said = "1 % of its processors left over, 32 % taken by others, an edge without a fault answered within 150 ms"
    assert f"Machine: {said} (starved)" in text


def test_how_the_target_was_scaled_is_said_in_words_and_in_the_document():
    words = ("apps: 4 instances instead of 2", "api: 2 workers instead of 1")
    larger = dataclasses.replace(TOPOLOGY, scaled=words)
    verdict = verdict_of(store_of(), *RULES, topology=larger)
    text = text_of(width=120, call=lambda console: print_verdict(console, verdict, METRICS))
    assert f"scaled: {words[0]}; {words[1]}" in text
    assert verdict_document(verdict)["scaled"] == list(words)
    assert "scaled" not in text_of(call=lambda console: print_verdict(console, held(), METRICS))
    assert verdict_document(held())["scaled"] == []


def test_the_replay_command_is_never_broken_over_lines():
    replay = "chaos run experiments/outage.yaml --seed 7 " + "--set load.rate_per_s=50 " * 6 + "[not] markup"
    verdict = dataclasses.replace(held(), replay=replay)
    output = io.StringIO()
    print_verdict(Console(file=output, width=60), verdict, METRICS)
    assert f"Replay: {replay}\n" in output.getvalue()


CONCLUSIONS = [
    (held, violated, "the same faults broke the steady state (availability 80 % instead of 100 %)"),
    (held, held, "the control did not fail: the steady state held without"),
    (held, inconclusive, "the control tells nothing"),
    (held, error, "the control broke off"),
    (violated, violated, "they are not enough"),
    (violated, held, "the steady state broke with the protections and held without"),
    (violated, inconclusive, "the control adds nothing"),
    (inconclusive, violated, "the experiment itself gave no answer"),
]  # fmt: skip


@pytest.mark.parametrize(("experiment", "control", "words"), CONCLUSIONS)
def test_experiment_and_control_say_together(experiment, control, words):
    sentences = conclusion(
        experiment(), dataclasses.replace(control(), disabled=("client_failover", "health_filtering"))
    )
    assert words in " ".join(sentences)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_experiment_and_control_stand_beside_each_other(width):
    text = text_of(comparison(held(), violated(), METRICS), width=width)
    words = " ".join(text.split())
    assert "without client_failover and health_filtering" in words
    assert "HELD VIOLATED" in words
    assert "playback availability 100 % 80 % >= 99.5%" in words
    assert "steady again after at once at once <= 5 s" in words


@pytest.mark.parametrize("title", ["Requests [/s]", "Delay [p99]", "[red]Errors", ":warning: left"])
def test_a_title_is_shown_as_it_is_whatever_it_would_mean_as_markup(title):
    metrics = {name: dataclasses.replace(one, title=title) for name, one in METRICS.items()}
    verdict = dataclasses.replace(held(), file="experiments/[b]outage.yaml")
    result = Result(verdict, Outcome.HELD, violated())
    words = text_of(
        comparison(verdict, violated(), metrics),
        width=120,
        call=lambda console: (print_verdict(console, verdict, metrics), print_summary(console, [result], Outcome.HELD)),
    )
    assert len(re.findall(rf"^ +{re.escape(title)} +\S", words, flags=re.MULTILINE)) >= 2 * 3
    assert re.search(r"^ +\[b\]outage +HELD", words, flags=re.MULTILINE)


def results() -> list[Result]:
    return [
        Result(dataclasses.replace(held(), file="experiments/oca_outage.yaml"), Outcome.HELD, violated()),
        Result(dataclasses.replace(held(), file="experiments/gateway_kill.yaml"), Outcome.INCONCLUSIVE, held()),
        Result(error(), Outcome.ERROR),
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_several_experiments_have_a_line_each_and_the_worst_outcome(width):
    lines = text_of(width=width, call=lambda c: print_summary(c, results(), Outcome.ERROR)).splitlines()
    assert any("oca_outage" in line and "HELD" in line and "failed, as asked" in line for line in lines)
    assert any("gateway_kill" in line and "INCONCLUSIVE" in line and "did NOT fail" in line for line in lines)
    assert any("outage" in line and "ERROR" in line for line in lines)
    assert len(lines) == 6
    assert "exit code 3" in lines[-1]


def test_beside_its_control_an_experiment_with_groups_is_shown_by_the_group_that_is_judged():
    first, *others = violated().steady_state
    with_groups = dataclasses.replace(first, measured=0.0123, control_group=1.0)
    verdict = dataclasses.replace(violated(), steady_state=(with_groups, *others))
    text = text_of(width=120, call=lambda console: console.print(comparison(held(), verdict, METRICS)))
    assert re.search(r"playback availability +100 % +1\.23 %", text)


def test_a_rule_shows_what_the_control_group_measured():
    verdict = held()
    beside = dataclasses.replace(verdict.steady_state[0], control_group=0.9931, difference=(-0.01, 0.02))
    verdict = dataclasses.replace(verdict, steady_state=(beside, *verdict.steady_state[1:]))
    text = text_of(width=120, call=lambda console: print_verdict(console, verdict, METRICS))
    assert text.count("control group 99.31 %") == 1
    document = verdict_document(verdict)["steady_state"][0]
    assert (document["control_group"], document["difference"]) == (0.9931, [-0.01, 0.02])


def test_the_document_has_the_keys_that_are_promised():
    document = verdict_document(held())
    assert json.loads(json.dumps(document)) == document
    assert document["outcome"] == "held"
    assert (document["exit_code"], document["seed"], document["backend"]) == (0, 7, "embedded")
    assert [phase["name"] for phase in document["phases"]] == ["warm_up", "baseline", "fault", "recovery"]
    assert document["metrics"]["fault"]["availability"] == 1.0
    assert document["steady_state"][0] == {
        "rule": "availability >= 99.5%",
        "metric": "availability",
        "outcome": "held",
        "measured": 1.0,
        "limit": 0.995,
        "baseline": 1.0,
        "unit": "%",
        "explanation": "playback availability was 100 % where >= 99.5 % was asked; "
        "between 99.7 % and 100 %, each end 95 % sure",
        "interval": [pytest.approx(1 + math.log(0.05) / 1000), 1.0],
        "alpha": 0.05,
        "needs_s": None,
        "attempts": 1000,
        "control_group": None,
        "difference": None,
    }
    assert document["receipts"][0]["victims"] == ["oca-1", "oca-2"]
    assert (document["control"], document["recovery_s"], document["recover_within_s"]) == (None, 0.0, 5.0)


def test_every_key_of_the_document_is_documented():
    import chaos.reports.document as module

    for key in verdict_document(held()):
        assert key in (module.__doc__ or "")


def test_the_document_of_one_experiment_carries_its_control_and_what_follows():
    [_, unproven, _] = results()
    document = suite_document([unproven], Outcome.INCONCLUSIVE)
    assert document["outcome"] == "inconclusive"
    assert document["control"]["outcome"] == "held"
    assert "proves nothing" in document["conclusion"][0]


def test_the_document_of_several_experiments_has_the_worst_outcome():
    document = suite_document(results(), Outcome.ERROR)
    assert (document["outcome"], document["exit_code"]) == ("error", 3)
    assert [one["outcome"] for one in document["results"]] == ["held", "inconclusive", "error"]


def test_views_choose_by_terminal_and_wish():
    def view_of(*, quiet: bool = False, terminal: bool = True):
        console = Console(file=Tty() if terminal else io.StringIO(), width=80, height=24)
        return Views(console=console, quiet=quiet).view_for(Job())

    assert isinstance(view_of(), LiveView)
    assert isinstance(view_of(terminal=False), PlainView)
    assert isinstance(view_of(quiet=True), QuietView)


def test_views_print_every_verdict_and_the_list():
    text = text_of(call=lambda console: Views(console=console).show_results(results()))
    assert text.count("Replay: ") == 4  # three verdicts, and the one control that did not fail
    assert "The worst outcome of 3 experiments: ERROR (exit code 3)" in text
    assert str(Path("experiments/outage.yaml")) in text
