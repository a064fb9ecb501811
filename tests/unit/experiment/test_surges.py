"""Surges of load in experiment files: what is read, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from chaos.experiment.model import Surge
from tests.unit.experiment.building import Project

WRONG_SURGES = {
    "a surge that is none": (
        "{rate: 30/s, surges: [{for: 2s, rate: 30/s}]}",
        "surges.0.rate: 30/s is no more than the load's own rate of 30/s",
    ),
    "a surge without a rate": (
        "{rate: 30/s, surges: [{for: 2s}]}",
        "surges.0.rate: missing; arrivals a second while it lasts: more than the load's rate",
    ),
    "a surge of a closed load": (
        "{surges: [{rate: 60/s}]}",
        "surges: a surge raises the rate of an open schedule; write load.rate as well",
    ),
    "a surge after the end": (
        "{rate: 30/s, surges: [{at: 10s, for: 1s, rate: 60/s}]}",
        "surges.0.at: 10s is not before the end of the fault phase (10s)",
    ),
    "a surge that reaches into the recovery": (
        "{rate: 30/s, surges: [{at: 9s, for: 2s, rate: 60/s}]}",
        (
            "surges.0.for: ends after the fault phase of 10s; at most 1s is left after 'at', "
            "or leave 'for' out: then it lasts until the phase ends"
        ),
    ),
    "surges that overlap": (
        "{rate: 30/s, surges: [{at: 4s, rate: 60/s}, {at: 1s, for: 4s, rate: 90/s}]}",
        "surges.0.at: begins before another surge ends (5s); two may not overlap",
    ),
    "a surge at an unknown key": (
        "{rate: 30/s, surges: [{rate: 60/s, fro: 2s}]}",
        "surges.0.fro: unknown key, allowed here: at, for, rate, did you mean 'for'?",
    ),
}


@pytest.mark.parametrize(("load", "line"), WRONG_SURGES.values(), ids=WRONG_SURGES)
def test_a_wrong_surge_gets_this_line(project: Project, load: str, line: str):
    wrong = load.replace("{", "{locustfile: load.py, ", 1)
    assert project.problems(load=f"load: {wrong}") == [f"x.yaml:4: load.{line}"]


def test_surges_are_read_in_the_order_of_time_and_may_touch(project: Project):
    load = "load: {locustfile: load.py, rate: 30/s, surges: [{at: 5s, rate: 60/s}, {at: 1s, for: 4s, rate: 150/s}]}"
    experiment, _ = project.load(load=load)
    assert experiment.load.surges == (
        Surge(at_s=1.0, for_s=4.0, rate_per_s=150.0),
        Surge(at_s=5.0, for_s=None, rate_per_s=60.0),
    )
    changed, _ = project.load({"load.surges.1.rate": "200/s"}, load=load)
    assert [surge.rate_per_s for surge in changed.load.surges] == [200.0, 60.0]


def test_an_experiment_with_a_surge_needs_no_fault(project: Project):
    surge = "load: {locustfile: load.py, rate: 30/s, surges: [{rate: 60/s}]}"
    assert project.load(faults="", load=surge)[0].faults == ()
    without = "x.yaml:1: faults: missing; what happens to the target; may be left out when the load has a surge"
    assert project.problems(faults="") == [without]
