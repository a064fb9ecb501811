"""Control groups in experiment files: what they make of the faults, and what does not go with them."""

from __future__ import annotations

import pytest

from chaos.experiment.model import Reference
from chaos.experiment.plan import plan
from chaos.faults.requests import HttpDelay
from tests.unit.experiment.building import Project

GROUPED = {
    "control_group": "control_group: 10%",
    "faults": "faults: [{kind: http_delay, service: orders, from: front, delay_ms: 200, path: /rank}]",
    "steady_state": 'steady_state: ["availability >= 99% of control_group", "delay_p99_s <= 800ms"]',
}


def test_a_control_group_scopes_the_faults_to_the_experiment_group(project: Project):
    experiment, topology = project.load(**GROUPED)
    assert experiment.load.control_group == 0.1
    assert experiment.steady_state[0].of is Reference.CONTROL_GROUP
    (entry,) = experiment.faults
    assert isinstance(entry.fault, HttpDelay)
    assert (entry.fault.header, entry.fault.header_value) == ("X-Chaos-Group", "experiment")
    assert (entry.fault.path, entry.fault.delay_ms) == ("/rank", 200)
    said = "\n".join(plan(experiment, topology, 1).describe())
    assert "header X-Chaos-Group, header_value experiment" in said
    alone, _ = project.load()
    assert alone.load.control_group == 0.0


def test_the_scope_stays_in_a_control(project: Project):
    experiment, _ = project.load({"faults.0.delay_ms": "400"}, **GROUPED)
    (entry,) = experiment.faults
    assert isinstance(entry.fault, HttpDelay)
    assert (entry.fault.header_value, entry.fault.delay_ms) == ("experiment", 400)


WRONG_GROUPS = {
    "a fault on everybody": (
        {"faults": "faults: [{kind: latency, service: orders, latency_ms: 200}]"},
        (
            "faults.0.kind: falls on everybody whose requests come by, and with a control_group it has to fall on "
            "one group alone; allowed are http_delay, http_status, http_abort, http_throttle, http_corrupt, "
            "http_drop_header"
        ),
    ),
    "a header of one's own": (
        {"faults": "faults: [{kind: http_status, service: orders, status: 500, header: X-Passport}]"},
        "faults.0.header: is taken: with a control_group the framework itself writes X-Chaos-Group here",
    ),
    "no rule that compares": (
        {"steady_state": 'steady_state: ["availability >= 99%"]'},
        "control_group: no rule compares with it; write one, like 'playback_availability >= 99% of control_group'",
    ),
    "a rule without a group": (
        {"control_group": ""},
        "steady_state: compares with the control group, and there is none; write 'control_group: 10%' beside it",
    ),
    "a surge alone": (
        {"faults": "", "load": "load: {locustfile: load.py, rate: 30/s, surges: [{rate: 60/s}]}"},
        "control_group: needs a fault, which falls on one of the two groups; a surge falls on everybody",
    ),
    "more than all accounts": (
        {"control_group": "control_group: 60%"},
        "control_group: 60% is out of range",
    ),
    "a search for metastability": (
        {"metastability": "metastability: true"},
        "metastability: a trigger that falls on one group of accounts alone is no trigger for the whole system",
    ),
    "a rate": (
        {"steady_state": "steady_state: [orders_per_s >= 9% of control_group, availability >= 9% of control_group]"},
        "steady_state.0: orders_per_s counts how many there are, and chance decides how many fall into either group",
    ),
}


@pytest.mark.parametrize(("keys", "said"), WRONG_GROUPS.values(), ids=WRONG_GROUPS)
def test_what_does_not_go_with_a_control_group_is_explained(project: Project, keys: dict[str, str], said: str):
    (problem,) = project.problems(**{**GROUPED, **keys})
    assert said in problem
