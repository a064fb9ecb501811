"""The plan: decided by the experiment and the seed alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chaos.experiment.model import PhaseName
from chaos.experiment.plan import Action, overlaps, plan
from tests.unit.experiment.building import Project

PICKS = """\
faults:
  - {kind: kill, service: box, pick: 2, at: 1s, for: 3s}
  - {kind: pause, service: box, pick: 2, at: 4s}
  - {kind: latency, service: orders, from: front, latency_ms: 100}"""


def test_phases_follow_each_other(project: Project):
    made = plan(*project.load(), 1)
    assert made.phases == {
        PhaseName.WARM_UP: (0.0, 3.0),
        PhaseName.BASELINE: (3.0, 11.0),
        PhaseName.FAULT: (11.0, 21.0),
        PhaseName.RECOVERY: (21.0, 29.0),
    }
    assert made.duration_s == 29.0
    assert made.seed == 1


def test_faults_have_names_times_and_victims(project: Project):
    kill, pause, latency = plan(*project.load(faults=PICKS), 1).faults
    assert (kill.name, kill.at_s, kill.until_s) == ("1-kill", 12.0, 15.0)
    assert (pause.name, pause.at_s, pause.until_s) == ("2-pause", 15.0, 21.0)
    assert kill.victims == kill.instances
    assert len(kill.victims) == 2
    assert latency.instances == ("orders-1", "orders-2")
    assert latency.victims == ("front-1.orders-1", "front-1.orders-2")
    assert latency.description == "latency (latency_ms 100): 2 edges from front to orders-1, orders-2"


def test_without_a_caller_a_fault_on_the_wire_falls_on_every_callers_edges(project: Project):
    (down,) = plan(*project.load(faults="faults: [{kind: down, service: orders, pick: 1}]"), 1).faults
    (chosen,) = down.instances
    assert down.victims == tuple(f"{caller}.{chosen}" for caller in ("front-1", "orders-1", "orders-2"))


def test_labels_choose_instances_and_are_compared_as_texts(project: Project):
    (kill,) = plan(*project.load(faults='faults: [{kind: kill, service: box, where: {zone: "1"}}]'), 1).faults
    assert kill.victims == ("box-5",)


def test_the_same_seed_gives_the_same_plan(project: Project):
    assert plan(*project.load(faults=PICKS), 5) == plan(*project.load(faults=PICKS), 5)


def test_the_same_seed_gives_the_same_plan_in_another_process(project: Project):
    made = plan(*project.load(faults=PICKS), 5)
    code = (
        "import sys; from pathlib import Path; from chaos.experiment.parser import load_experiment; "
        "from chaos.experiment.plan import plan; "
        "print(*[fault.victims for fault in plan(*load_experiment(Path(sys.argv[1])), 5).faults])"
    )
    said = subprocess.run([sys.executable, "-c", code, str(project.file)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == " ".join(str(fault.victims) for fault in made.faults)


def test_seeds_differ_in_what_they_pick(project: Project):
    loaded = project.load(faults=PICKS)
    assert len({plan(*loaded, seed).faults[0].victims for seed in range(60)}) == 10  # all pairs of five


def test_a_change_of_one_fault_leaves_the_picks_of_the_others(project: Project):
    changed = PICKS.replace(
        "{kind: kill, service: box, pick: 2, at: 1s, for: 3s}", "{kind: down, service: orders, pick: 1}"
    )
    for seed in range(20):
        before, after = plan(*project.load(faults=PICKS), seed), plan(*project.load(faults=changed), seed)
        assert before.faults[1].victims == after.faults[1].victims


def test_a_larger_pick_keeps_what_the_smaller_one_chose(project: Project):
    for seed in range(20):
        two = plan(*project.load({"faults.0.pick": "2"}, faults=PICKS), seed).faults[0].victims
        three = plan(*project.load({"faults.0.pick": "3"}, faults=PICKS), seed).faults[0].victims
        assert set(two) < set(three)


def test_steps_are_in_the_order_of_time_and_heal_first(project: Project):
    faults = "faults:\n  - {kind: kill, service: box, for: 4s}\n  - {kind: pause, service: orders, at: 4s}"
    steps = plan(*project.load(faults=faults), 1).steps()
    assert [(step.at_s, step.action, step.fault.name) for step in steps] == [
        (11.0, Action.APPLY, "1-kill"),
        (15.0, Action.HEAL, "1-kill"),
        (15.0, Action.APPLY, "2-pause"),
        (21.0, Action.HEAL, "2-pause"),
    ]


def test_a_plan_is_described_for_people(project: Project):
    assert plan(*project.load(faults="faults: [{kind: stop, service: orders, at: 500ms}]"), 1).describe() == (
        "    0.00 s  -- warm_up, 3 s",
        "    3.00 s  -- baseline, 8 s",
        "   11.00 s  -- fault, 10 s",
        "   11.50 s     apply  1-stop  stop: orders-1, orders-2",
        "   21.00 s     heal   1-stop",
        "   21.00 s  -- recovery, 8 s",
        "   29.00 s  -- end",
    )


def test_a_surge_is_planned_like_a_fault_and_numbered_behind_them(project: Project):
    load = "load: {locustfile: load.py, rate: 12/s, surges: [{at: 1s, for: 4s, rate: 60/s}]}"
    made = plan(*project.load(load=load, faults="faults: [{kind: kill, service: orders, for: 1s}]"), 1)
    (surge,) = made.surges
    assert (surge.name, surge.at_s, surge.until_s, surge.extra_per_s) == ("2-surge", 12.0, 16.0, 48.0)
    assert [surge.ordered(until_s) for until_s in (11.0, 12.0, 12.5, 16.0, 20.0)] == [0, 0, 24, 192, 192]
    assert made.describe()[2:7] == (
        "   11.00 s  -- fault, 10 s",
        "   11.00 s     apply  1-kill  kill: orders-1, orders-2",
        "   12.00 s     heal   1-kill",
        "   12.00 s     apply  2-surge  surge: 60 arrivals a second in place of 12",
        "   16.00 s     heal   2-surge",
    )


def test_a_surge_without_an_end_lasts_until_the_phase_ends(project: Project):
    load = "load: {locustfile: load.py, rate: 12/s, surges: [{at: 1s, rate: 60/s}]}"
    (surge,) = plan(*project.load(load=load, faults=""), 1).surges
    assert (surge.name, surge.until_s) == ("1-surge", 21.0)


def test_a_fault_phase_that_may_go_on_is_planned_at_its_longest(project: Project):
    faults = "faults: [{kind: stop, service: orders}, {kind: kill, service: box, for: 2s}]"
    made = plan(*project.load(verdict="verdict: {extend: 30s}", faults=faults), 1)
    assert made.phases[PhaseName.FAULT] == (11.0, 21.0)
    assert made.duration_s == 59.0, "the load lasts as long as the run may"
    assert [fault.until_s for fault in made.faults] == [51.0, 13.0]
    assert [line for line in made.describe() if "apply" not in line] == [
        "    0.00 s  -- warm_up, 3 s",
        "    3.00 s  -- baseline, 8 s",
        "   11.00 s  -- fault, 10 s, at most 40 s: until every rule is decided",
        "   13.00 s     heal   2-kill",
        "   51.00 s     heal   1-stop",
        "   51.00 s  -- recovery, 8 s, at the latest from here",
        "   59.00 s  -- end",
    ]


def test_a_surge_without_an_end_goes_on_as_long_as_the_fault_phase_may(project: Project):
    load = "load: {locustfile: load.py, rate: 12/s, surges: [{at: 1s, rate: 60/s}]}"
    (surge,) = plan(*project.load(load=load, faults="", verdict="verdict: {extend: 5s}"), 1).surges
    assert (surge.at_s, surge.until_s) == (12.0, 26.0)


def said_of(project: Project, *faults: str, seed: int = 1) -> list[str]:
    """Return what is said of the overlaps of these faults, the first of which stands in line 6 of the file."""
    made = plan(*project.load(faults="\n".join(["faults:", *(f"  - {one}" for one in faults)])), seed)
    return [str(one) for one in overlaps(made, project.file.relative_to(project.folder))]


def test_two_faults_that_hold_the_same_of_a_victim_at_one_time_are_told_with_names_times_and_victims(project: Project):
    said = said_of(
        project,
        "{kind: down, service: orders, at: 500ms}",
        "{kind: down, service: orders, from: front, at: 2s, for: 2s}",
    )
    expected = (
        "x.yaml:7: faults.1: 2-down (2s to 4s) and 1-down (500ms to the end) both hold the line of "
        "front-1.orders-1, front-1.orders-2, and the first of them to end would end the other one, too; let one begin "
        "('at') when the other has ended ('for'), or let them fall on others ('where', 'from')"
    )
    assert said == [expected]


def test_victims_are_drawn_out_of_the_way_of_other_faults_for_as_long_as_there_are_any(project: Project):
    """There are five boxes."""
    kill, pause = "{kind: kill, service: box, pick: 2, for: 5s}", "{kind: pause, service: box, pick: 3, at: 1s}"
    named = "{kind: stop, service: box, where: {isp: beta}}"
    for seed in range(20):
        assert said_of(project, kill, pause, seed=seed) == []
        assert said_of(project, kill, named, seed=seed) == []
        (said,) = said_of(project, kill, pause.replace("pick: 3", "pick: 4"), seed=seed)
        assert "both hold the process of box-" in said
        assert said.endswith("('where', 'from', or a smaller 'pick')")


@pytest.mark.parametrize("start_s", [4.5, 11.0, 7.3])
def test_a_fault_may_begin_when_another_ends_whatever_the_phase_begins_at(project: Project, start_s: float):
    for tenths in range(1, 60):
        first = f"{{kind: kill, service: orders, at: 300ms, for: {tenths * 100}ms}}"
        second = f"{{kind: pause, service: orders, at: {300 + tenths * 100}ms}}"
        loaded = project.load({"phases.baseline": f"{start_s - 3.0:.1f}s"}, faults=f"faults: [{first}, {second}]")
        made = plan(*loaded, 1)
        assert overlaps(made, project.file) == []
        assert made.faults[1].follows(made.faults[0])


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("kill, service: box", "pause, service: box, at: 1s, for: 1s", True),
        ("restart, service: box", "stop, service: box, at: 9s", True),
        ("kill, service: box, for: 2s", "pause, service: box, at: 2s", False),
        ("pause, service: box, at: 2s", "kill, service: box, for: 2s", False),
        ("kill, service: box", "kill, service: orders", False),
        ("kill, service: orders", "down, service: orders", False),
        ("latency, service: box, latency_ms: 5", "latency, service: box, latency_ms: 9", False),
        ("down, service: box", "latency, service: box, latency_ms: 9", False),
        ("down, service: orders, from: front", "down, service: orders, from: orders", False),
        ("hook, service: box, evidence: /x n, request: PUT /x, undo: DELETE /x",
         "hook, service: box, evidence: /x n, request: POST /x, undo: DELETE /x, at: 5s", True),
        ("hook, service: box, evidence: /x n, request: PUT /x, undo: DELETE /x",
         "hook, service: box, evidence: /x n, request: PUT /y, undo: DELETE /y", False),
        ("hook, service: box, evidence: /x n, request: PUT /x, undo: none",
         "hook, service: box, evidence: /x n, request: PUT /y, undo: none", False),
    ],
)  # fmt: skip
def test_faults_meet_that_hold_the_same_of_the_same_at_the_same_time(
    project: Project, one: str, other: str, meet: bool
):
    assert bool(said_of(project, f"{{kind: {one}}}", f"{{kind: {other}}}")) == meet


def test_a_fault_follows_one_that_ends_when_it_begins_on_a_victim_of_both(project: Project):
    faults = "faults: [{kind: kill, service: box, for: 2s}, {kind: pause, service: box, at: 2s, for: 1s}]"
    kill, pause = plan(*project.load(faults=faults), 1).faults
    assert pause.follows(kill)
    assert not kill.follows(pause)
    elsewhere = faults.replace("pause, service: box", "pause, service: orders")
    kill, pause = plan(*project.load(faults=elsewhere), 1).faults
    assert not pause.follows(kill)
