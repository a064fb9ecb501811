"""Faults in experiment files: what is said about wrong ones, with the line."""

from __future__ import annotations

import pytest

from chaos.faults.hook import Hook
from chaos.faults.registry import FAULTS
from tests.unit.experiment.building import TOPOLOGY, Project

WRONG_FAULTS = {
    "an unknown kind": (
        "{kind: kil, service: box}",
        (f"kind: no kind of fault: 'kil', allowed are: {', '.join(FAULTS)}, did you mean 'kill'?"),
    ),
    "no kind": (
        "{service: box}",
        (f"kind: missing; allowed are: {', '.join(FAULTS)}"),
    ),
    "an unknown service": (
        "{kind: kill, service: bux}",
        "service: no service 'bux', there are: front, orders, box, lonely, did you mean 'box'?",
    ),
    "a client": (
        "{kind: kill, service: shopper}",
        (
            "service: 'shopper' is a client, outside the target; name the service that it calls, "
            "and 'from' for this caller alone"
        ),
    ),
    "an unknown label": (
        "{kind: kill, service: box, where: {ips: alpha}}",
        "where.ips: no label of box 'ips', there are: isp, zone, did you mean 'isp'?",
    ),
    "an unknown value of a label": (
        "{kind: kill, service: box, where: {isp: alpa}}",
        "where.isp: no box with isp 'alpa', there are: alpha, beta, did you mean 'alpha'?",
    ),
    "labels that no instance has together": (
        "{kind: kill, service: box, where: {isp: alpha, zone: 1}}",
        "where: no instance of box has all of these labels",
    ),
    "more than there are": (
        "{kind: kill, service: box, where: {isp: alpha}, pick: 5}",
        "pick: 5 is more than there are: 4 to choose from",
    ),
    "a caller that does not call": (
        "{kind: down, service: orders, from: shopper}",
        "from: no caller of orders 'shopper', there are: front, orders",
    ),
    "a service that nobody calls": (
        "{kind: down, service: lonely}",
        "service: nobody calls lonely, so there is no wire for this fault to fall on",
    ),
    "a caller for a process": (
        "{kind: kill, service: box, from: shopper}",
        (
            "from: not allowed here: only faults on the wire have it; a fault on the host hits the process, "
            "whoever calls it"
        ),
    ),
    "a setting without its unit": (
        "{kind: latency, service: box, latency: 20, latency_ms: 1}",
        (
            "latency: unknown key, allowed here: kind, service, where, pick, at, for, from, latency_ms, jitter_ms, "
            "distribution, toxicity, stream, did you mean 'latency_ms'?"
        ),
    ),
    "a unit where the name has it": (
        "{kind: latency, service: box, latency_ms: 2s}",
        (
            "latency_ms: '2s' is a text; write a whole number of milliseconds from 0 to 3600000; "
            "its unit stands in its name, so write the number alone"
        ),
    ),
    "a missing setting": ("{kind: latency, service: box}", "latency_ms: missing; delay of every byte"),
    "settings that do not go together": (
        "{kind: latency, service: box, latency_ms: 5, jitter_ms: 9}",
        "jitter_ms: 9 is more than the latency_ms of 5 that it varies",
    ),
    "a direction that is none": (
        "{kind: timeout, service: box, stream: upstrem}",
        "stream: 'upstrem' is none of: upstream, downstream, did you mean 'upstream'?",
    ),
    "a hook that nobody could tell from nothing": (
        "{kind: hook, service: box, request: PUT /x, undo: none}",
        (
            "kind: nothing here would show that it did anything; give it 'evidence', "
            "or say under must_break what it breaks"
        ),
    ),
    "a hook with a setting that the target does not have": (
        "{kind: hook, service: box, request: PUT /x, undo: none, evidence: /x n, authorization: 'B {settings[scal]}'}",
        "authorization: no setting of the target 'scal', there are: scale, region, strict, did you mean 'scale'?",
    ),
    "a hook without an undo": (
        "{kind: hook, service: box, request: PUT /x, evidence: /x n}",
        "undo: missing; the request that ends it, like 'DELETE /admin/disk'; none: there is nothing to end",
    ),
    "a hook on the wire": (
        "{kind: hook, service: box, from: shopper, request: PUT /x, undo: none, evidence: /x n}",
        (
            "from: not allowed here: only faults on the wire have it; a fault on the host hits the process, "
            "whoever calls it"
        ),
    ),
    "a beginning after the end": (
        "{kind: kill, service: box, at: 10s}",
        "at: 10s is not before the end of the fault phase (10s)",
    ),
    "an end after the phase": (
        "{kind: kill, service: box, at: 9.5s, for: 600ms}",
        (
            "for: ends after the fault phase of 10s; at most 500ms is left after 'at', "
            "or leave 'for' out: then it lasts until the phase ends"
        ),
    ),
}


@pytest.mark.parametrize(("item", "line"), WRONG_FAULTS.values(), ids=WRONG_FAULTS)
def test_a_wrong_fault_gets_this_line(project: Project, item: str, line: str):
    faults = f"faults:\n  - {{kind: kill, service: box}}\n  - {item}"
    assert project.problems(faults=faults) == [f"x.yaml:7: faults.1.{line}"]


def test_a_hook_without_evidence_may_show_what_it_breaks(project: Project):
    experiment, _ = project.load(
        faults="faults: [{kind: hook, service: box, request: PUT /x, undo: none}]",
        must_break='must_break: ["availability <= 1%"]',
    )
    assert experiment.faults[0].fault == Hook(request="PUT /x", undo="none")
    assert experiment.leaves_traces


def test_a_fault_may_end_exactly_with_its_phase(project: Project):
    experiment, _ = project.load(faults="faults: [{kind: kill, service: box, at: 700ms, for: 9.3s}]")
    assert experiment.faults[0].for_s == 9.3


def test_a_hook_on_workers_that_cannot_be_asked_one_by_one_is_refused(project: Project):
    command = 'command: [run, "--port", "{port}", "{workers}"], scaling: {workers_most: 4}'
    project.topology.write_text(TOPOLOGY.replace('command: [run, "--port", "{port}"]', command))
    hook = "faults: [{kind: hook, service: %s, request: PUT /x, undo: DELETE /x, evidence: /x n}]"
    said = (
        "x.yaml:5: faults.0.kind: asks every process, and the 3 workers of orders share one port, at which nobody "
        "knows who answers; write workers.orders: 1, or make it a python service, whose workers have a port each"
    )
    assert project.problems({"workers.orders": "3"}, faults=hook % "orders") == [said]
    project.load({"workers.orders": "3"}, faults="faults: [{kind: kill, service: orders}]")
    project.load({"workers.orders": "1"}, faults=hook % "orders")
    project.load({"workers.front": "3"}, faults=hook % "front")
