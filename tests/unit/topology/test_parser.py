"""Topology files: what is read, and what is said about wrong ones, with the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck as Check
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.errors import UsageError
from chaos.topology import tables as t
from chaos.topology.model import HealthCheck, Measure, Metric, Scaling, Topology, Unit
from chaos.topology.parser import load_topology

LINES = {
    "name": "name: shop",
    "clients": "clients: {shopper: {calls: [front]}}",
    "services": 'services: {front: {python: "shop.front:main"}}',
}


def write(folder: Path, **keys: str) -> Path:
    """Write a topology, with some of its top keys replaced, added or (when empty) left out."""
    file = folder / "topology.yaml"
    file.write_text("\n".join(text for text in {**LINES, **keys}.values() if text) + "\n")
    return file


def load(folder: Path, **keys: str) -> Topology:
    return load_topology(write(folder, **keys))


def problems(folder: Path, **keys: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(folder, **keys)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_a_whole_topology_is_read(tmp_path: Path):
    topology = load(
        tmp_path,
        preload="preload: shop.service",
        settings="settings: {scale: 60, region: north}",
        clients="clients: {shopper: {calls: [front, box]}}",
        services="""\
services:
  front:
    python: shop.front:main
    instances: 2
    calls: [box, front]
    health: {http: /healthz, timeout: 10s}
    isolation: /isolation
    port: 8000
    environment: {LEVEL: 3}
    stop_timeout: 2s
  box:
    command: [run, "{port}", "{settings[scale]}", "{calls[front]}", "--host={host}"]
    calls: [front]
    instances: [{isp: alpha}, {isp: beta, zone: 1}]
    health: {tcp: true}""",
        protections="protections: {isolation: every call has a deadline}",
        metrics="metrics: {sps: {title: starts, measure: rate, of: play, detail: true}}",
    )
    assert (topology.name, topology.preload, topology.folder) == ("shop", "shop.service", tmp_path)
    assert topology.settings == {"scale": 60, "region": "north"}
    front, box = topology.services.values()
    assert front.python == "shop.front:main"
    assert front.instances == ({}, {})
    assert front.calls == ("box", "front")
    assert front.health == HealthCheck(http_path="/healthz", timeout_s=10.0)
    assert front.isolation_path == "/isolation"
    assert front.port == 8000
    assert front.environment == {"LEVEL": "3"}
    assert front.stop_timeout_s == 2.0
    assert box.command == ("run", "{port}", "{settings[scale]}", "{calls[front]}", "--host={host}")
    assert box.instances == ({"isp": "alpha"}, {"isp": "beta", "zone": "1"})
    assert box.health.http_path is None
    assert topology.protections == {"isolation": "every call has a deadline"}
    assert topology.metrics == {
        "sps": Metric(name="sps", title="starts", measure=Measure.RATE, of="play", unit=Unit.PER_SECOND, detail=True)
    }
    assert [instance.name for instance in topology.instances()] == ["front-1", "front-2", "box-1", "box-2"]
    assert len(topology.edges()) == 4 + 8 + 4


def test_workers_and_how_far_a_service_may_be_scaled_are_read(tmp_path: Path):
    topology = load(
        tmp_path,
        services="""\
services:
  front: {python: "shop.front:main", workers: 2, scaling: {replicas_least: 1, replicas_most: 8, workers_most: 4}}
  back: {command: [serve, "{workers}"], workers: 3}
  alone: {python: "shop.alone:main"}""",
    )
    assert {name: (one.workers, one.scaling) for name, one in topology.services.items()} == {
        "front": (2, Scaling(replicas_least=1, replicas_most=8, workers_most=4)),
        "back": (3, Scaling(workers_most=3)),
        "alone": (1, Scaling(workers_most=1)),
    }


def test_a_folder_stands_for_its_topology_file(tmp_path: Path):
    write(tmp_path)
    assert load_topology(tmp_path).file == tmp_path / "topology.yaml"


def test_without_metrics_those_of_plain_requests_are_there(tmp_path: Path):
    metrics = load(tmp_path).metrics
    assert list(metrics) == ["availability", "requests_per_s", "latency_p50_s", "latency_p99_s", "fallback_share"]
    assert {metric.of for metric in metrics.values()} == {"request"}
    assert metrics["latency_p99_s"].quantile == 0.99
    assert metrics["latency_p99_s"].unit is Unit.SECONDS


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("{title: t, measure: share, of: play}", Unit.PERCENT),
        ("{title: t, measure: fallback_share, of: play}", Unit.PERCENT),
        ("{title: t, measure: rate, of: play}", Unit.PER_SECOND),
        ("{title: t, measure: quantile, of: play, field: delay_s, quantile: 0.5}", Unit.SECONDS),
        ("{title: t, measure: quantile, of: play, field: kbit_per_s, quantile: 0.5}", Unit.PLAIN),
        ("{title: t, measure: ratio, of: play, field: a, per: [a, b]}", Unit.PERCENT),
        ("{title: t, measure: ratio, of: play, field: a, per: [a, b], unit: ''}", Unit.PLAIN),
    ],
)
def test_a_metric_has_the_unit_of_its_measure(tmp_path: Path, metric: str, unit: Unit):
    assert load(tmp_path, metrics=f"metrics: {{m: {metric}}}").metrics["m"].unit is unit


WRONG = {
    "an unknown key": (
        {"nam": "servces: 3"},
        (
            "topology.yaml:4: servces: unknown key, allowed here: name, preload, settings, clients, services, "
            "protections, metrics, did you mean 'services'?"
        ),
    ),
    "no services": ({"services": ""}, "topology.yaml:1: services: missing; the services of the target"),
    "a call to nobody": (
        {"services": 'services: {front: {python: "a:b", calls: [bax]}, box: {python: "a:b"}}'},
        "topology.yaml:3: services.front.calls: no service 'bax', there are: front, box, did you mean 'box'?",
    ),
    "a client's call to nobody": (
        {"clients": "clients: {shopper: {calls: [front, frnt]}}"},
        "topology.yaml:2: clients.shopper.calls: no service 'frnt', there are: front, did you mean 'front'?",
    ),
    "a client named as a service": (
        {"clients": "clients: {front: {calls: [front]}}"},
        "topology.yaml:2: clients.front: 'front' is a service as well; give the client another name",
    ),
    "a name with a dot": (
        {"services": 'services:\n  front: {python: "a:b"}\n  a.b: {python: "a:b"}'},
        (
            "topology.yaml:5: services.a.b: not a name that is allowed here; "
            "write a name of small letters, digits and _, at most 40"
        ),
    ),
    "python and command": (
        {"services": 'services: {front: {python: "a:b", command: [x]}}'},
        "topology.yaml:3: services.front: has both python and command; a service is started by exactly one of them",
    ),
    "neither python nor command": (
        {"services": "services: {front: {instances: 2}}"},
        "topology.yaml:3: services.front: has neither python nor command; a service is started by exactly one of them",
    ),
    "a command as a text": (
        {"services": "services: {front: {command: run me}}"},
        (
            "topology.yaml:3: services.front.command: 'run me' is a text; write a list here, "
            "each item on a line of its own after '- '"
        ),
    ),
    "an unknown placeholder": (
        {"services": 'services: {front: {command: [x, "{prt}"]}}'},
        (
            "topology.yaml:3: services.front.command.1: no placeholder 'prt', there are: port, host, instance, "
            "service, data_dir, folder, python, disabled, workers, calls[service], settings[name], did you mean 'port'?"
        ),
    ),
    "a placeholder for a service that is not called": (
        {"services": 'services: {front: {command: ["{calls[box]}"]}}'},
        "topology.yaml:3: services.front.command.0: no service among those it calls 'box', there are: none",
    ),
    "a placeholder for a setting that is not there": (
        {"services": 'services: {front: {command: ["{settings[scale]}"]}}'},
        "topology.yaml:3: services.front.command.0: no setting 'scale', there are: none",
    ),
    "no module": (
        {"services": "services: {front: {python: shop.front}}"},
        (
            "topology.yaml:3: services.front.python: 'shop.front' is not allowed here; "
            "write 'module:function', like shop.api:main"
        ),
    ),
    "no instances": (
        {"services": 'services: {front: {python: "a:b", instances: 0}}'},
        (
            "topology.yaml:3: services.front.instances: 0 is out of range, "
            "allowed is a whole number of instances from 1 to 200"
        ),
    ),
    "labels without a list": (
        {"services": 'services: {front: {python: "a:b", instances: {isp: a}}}'},
        (
            "topology.yaml:3: services.front.instances: this is one set of labels; "
            "write a number, or a list with the labels of each instance"
        ),
    ),
    "more instances than its own scaling": (
        {"services": 'services: {front: {python: "a:b", instances: 2, scaling: {replicas_most: 1}}}'},
        (
            "topology.yaml:3: services.front.instances: front cannot have 2: "
            "its topology allows 1 instance, and no other number (scaling)"
        ),
    ),
    "more workers than its own scaling": (
        {"services": 'services: {front: {python: "a:b", workers: 3, scaling: {workers_most: 2}}}'},
        ("topology.yaml:3: services.front.workers: front cannot have 3: its topology allows 1 to 2 workers (scaling)"),
    ),
    "a scaling that nothing fits": (
        {"services": 'services: {front: {python: "a:b", scaling: {replicas_least: 3, replicas_most: 2}}}'},
        "topology.yaml:3: services.front.scaling.replicas_most: 2 is less than replicas_least, which is 3",
    ),
    "workers of a command that is not told of them": (
        {"services": "services: {front: {command: [serve], workers: 2}}"},
        (
            "topology.yaml:3: services.front.command: has no {workers}, "
            "so nothing tells it how many workers it is to have"
        ),
    ),
    "a port taken twice": (
        {"services": 'services:\n  front: {python: "a:b", port: 8000, instances: 3}\n  b: {python: "a:b", port: 8002}'},
        "topology.yaml:5: services.b.port: port 8002 belongs to the service front already",
    ),
    "ports beyond the last": (
        {"services": 'services: {front: {python: "a:b", port: 65535, instances: 2}}'},
        "topology.yaml:3: services.front.port: the last of 2 instances would get port 65536",
    ),
    "two health checks": (
        {"services": 'services: {front: {python: "a:b", health: {http: /x, tcp: true}}}'},
        "topology.yaml:3: services.front.health.tcp: http is given as well; keep one of them",
    ),
    "a path without a slash": (
        {"services": 'services: {front: {python: "a:b", isolation: state}}'},
        (
            "topology.yaml:3: services.front.isolation: 'state' is not allowed here; "
            "write an HTTP path that begins with /, like /healthz"
        ),
    ),
    "too many instances": (
        {"services": 'services: {front: {python: "a:b", instances: 150}, b: {python: "a:b", instances: 150}}'},
        "topology.yaml:3: services: 300 instances in all, allowed are 200",
    ),
    "too many edges": (
        {"services": 'services: {front: {python: "a:b", instances: 50, calls: [front]}}'},
        "topology.yaml:3: services: 2550 edges (caller to instance called) in all, allowed are 2000",
    ),
    "a setting that is a list": (
        {"settings": "settings: {scale: [1]}"},
        "topology.yaml:4: settings.scale: this is a list; write a single value: a text, a number, true or false",
    ),
    "an unknown measure": (
        {"metrics": "metrics: {m: {title: t, measure: shar, of: play}}"},
        (
            "topology.yaml:4: metrics.m.measure: 'shar' is none of: share, rate, quantile, ratio, fallback_share, "
            "did you mean 'share'?"
        ),
    ),
    "a quantile of nothing": (
        {"metrics": "metrics: {m: {title: t, measure: quantile, of: play, quantile: 0.9}}"},
        (
            "topology.yaml:4: metrics.m.field: missing; the measure quantile needs it: "
            "the value of the samples that it is computed from"
        ),
    ),
    "a share with a quantile": (
        {"metrics": "metrics: {m: {title: t, measure: share, of: play, quantile: 0.9}}"},
        "topology.yaml:4: metrics.m.quantile: the measure share has no use for it; leave it out",
    ),
    "a rate in percent": (
        {"metrics": "metrics: {m: {title: t, measure: rate, of: play, unit: '%'}}"},
        "topology.yaml:4: metrics.m.unit: a rate is not measured in '%', allowed is '/s'",
    ),
    "no mapping at all": (
        {"name": "- 1", "clients": "", "services": ""},
        (
            "topology.yaml:1: this is a list; write keys and values here: name, preload, settings, clients, services, "
            "protections, metrics"
        ),
    ),
}


@pytest.mark.parametrize(("keys", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_gets_this_line(tmp_path: Path, keys: dict[str, str], line: str):
    assert problems(tmp_path, **keys) == [line]


def test_all_problems_are_told_at_once(tmp_path: Path):
    lines = problems(
        tmp_path,
        name="nam: shop",
        clients="clients: {shopper: {calls: [back], cals: 3}}",
        services="services:\n  front: {}\n  box: {python: 3, port: 80}",
    )
    assert [line.split(": ")[:2] for line in lines] == [
        ["topology.yaml:1", "nam"],
        ["topology.yaml:1", "name"],
        ["topology.yaml:2", "clients.shopper.cals"],
        ["topology.yaml:2", "clients.shopper.calls"],
        ["topology.yaml:4", "services.front"],
        ["topology.yaml:5", "services.box.python"],
        ["topology.yaml:5", "services.box.port"],
    ]


_KEYS = st.sampled_from([*t.TOPOLOGY.fields, *t.SERVICE.fields, *t.HEALTH.fields, *t.METRIC.fields, "front", "box"])
_LEAVES = st.one_of(
    st.sampled_from(
        ["front", "box", "a:b", "{port}", "{calls[box]}", "/x", "3s", "share", "ratio", "%", "", "x" * 5000]
    ),
    st.none(),
    st.booleans(),
    st.integers(-1, 70_000),
    st.floats(allow_nan=False),
)
_TREES = st.recursive(
    _LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(_KEYS, below, max_size=5), max_leaves=15
)


@settings(suppress_health_check=[Check.function_scoped_fixture], max_examples=150)
@given(service=_TREES, changes=st.dictionaries(_KEYS, _TREES, max_size=3))
def test_any_tree_is_a_topology_or_a_usage_error(tmp_path: Path, service: object, changes: dict[str, object]):
    tree = {
        "name": "shop",
        "clients": {"shopper": {"calls": ["front"]}},
        "services": {"front": {"python": "a:b"}, "box": service},
        **changes,
    }
    (tmp_path / "topology.yaml").write_text(json.dumps(tree))
    refused = None
    try:
        topology = load_topology(tmp_path)
        assert topology.instances()
        assert topology.edges()
    except UsageError as error:
        refused = error
    assert refused is None or refused.problems
