"""Other numbers of instances and workers than a topology's file has: what becomes of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.topology.model import InstanceConfig, Scaling, Service, Topology, worker_name
from chaos.topology.scaling import Dimension, port_clashes, refusal, scaled, too_large
from chaos.topology.tables import MAX_INSTANCES

ZONES = ({"zone": "a"}, {"zone": "b"})


def a_topology(**services: Service) -> Topology:
    usual = {
        "api": Service(name="api", python="shop:api", instances=({}, {}), calls=("app",)),
        "app": Service(name="app", python="shop:app", instances=ZONES, calls=("store",)),
        "store": Service(name="store", python="shop:store", instances=({},) * 3, calls=("store",)),
    }
    return Topology(
        name="shop", file=Path("/shop/topology.yaml"), services={**usual, **services}, clients={"users": ("api",)}
    )


@given(st.dictionaries(st.sampled_from(["api", "app", "store"]), st.integers(1, 12)))
def test_names_are_unique_labels_repeat_and_every_caller_reaches_every_instance(replicas: dict[str, int]):
    before = a_topology()
    after = scaled(before, replicas=replicas, workers={})
    numbers = {name: replicas.get(name, len(service.instances)) for name, service in before.services.items()}

    names = [instance.name for instance in after.instances()]
    assert names == [f"{service}-{index}" for service, number in numbers.items() for index in range(1, number + 1)]
    labels = [instance.labels["zone"] for instance in after.instances() if instance.service == "app"]
    assert labels == [("a", "b")[index % 2] for index in range(numbers["app"])]

    edges = [edge.name for edge in after.edges()]
    assert len(edges) == len(set(edges))
    assert len(edges) == numbers["api"] * (1 + numbers["app"]) + numbers["store"] * (numbers["app"] + numbers["store"])


def test_fewer_instances_keep_the_first_labels():
    assert scaled(a_topology(), replicas={"app": 1}, workers={}).services["app"].instances == ZONES[:1]


def test_what_was_scaled_is_said_and_the_number_of_the_file_is_no_change():
    before = a_topology()
    after = scaled(before, replicas={"app": 4, "api": 1, "store": 3}, workers={"api": 2, "app": 1})
    assert after.scaled == (
        "app: 4 instances instead of 2",
        "api: 1 instance instead of 2",
        "api: 2 workers instead of 1",
    )
    assert scaled(before, replicas={"store": 3}, workers={"api": 1}) == before


@pytest.mark.parametrize(
    ("scaling", "dimension", "number", "said"),
    [
        (
            Scaling(replicas_least=3, replicas_most=3),
            Dimension.REPLICAS,
            4,
            "app cannot have 4: its topology allows 3 instances, and no other number (scaling)",
        ),
        (
            Scaling(replicas_most=1),
            Dimension.REPLICAS,
            2,
            "app cannot have 2: its topology allows 1 instance, and no other number (scaling)",
        ),
        (
            Scaling(replicas_least=2, replicas_most=8),
            Dimension.REPLICAS,
            1,
            "app cannot have 1: its topology allows 2 to 8 instances (scaling)",
        ),
        (
            Scaling(),
            Dimension.WORKERS,
            2,
            "app cannot have 2: its topology allows 1 worker, and no other number (scaling)",
        ),
        (
            Scaling(workers_most=4),
            Dimension.WORKERS,
            5,
            "app cannot have 5: its topology allows 1 to 4 workers (scaling)",
        ),
        (Scaling(workers_most=4), Dimension.WORKERS, 4, None),
        (Scaling(), Dimension.REPLICAS, MAX_INSTANCES, None),
    ],
)
def test_what_the_topology_does_not_allow_is_refused_with_what_it_does(
    scaling: Scaling, dimension: Dimension, number: int, said: str | None
):
    assert refusal(Service(name="app", scaling=scaling), dimension, number) == said


def test_a_target_is_not_scaled_beyond_what_one_may_have():
    assert too_large(a_topology()) is None
    assert too_large(scaled(a_topology(), replicas={"api": 200}, workers={})) == "205 instances in all, allowed are 200"
    crowded = scaled(a_topology(), replicas={"api": 20}, workers={"api": 16})
    assert too_large(crowded) == "325 processes in all (instances times workers), allowed are 200"
    wide = scaled(a_topology(), replicas={"api": 60, "app": 60}, workers={})
    assert too_large(wide) == "3849 edges (caller to instance called) in all, allowed are 2000"


def test_more_instances_may_take_the_fixed_port_of_another_service():
    topology = a_topology(
        api=Service(name="api", python="a:b", port=8000), app=Service(name="app", python="a:b", port=8002)
    )
    assert list(port_clashes(topology.services)) == []
    larger = scaled(topology, replicas={"api": 3}, workers={})
    assert list(port_clashes(larger.services)) == [("app", "port 8002 belongs to the service api already")]


@given(st.integers(1, 20), st.integers(2, 16))
def test_what_workers_are_told_differs_in_all_that_must_be_their_own(index: int, workers: int):
    whole = InstanceConfig(
        service="app", instance=f"app-{index}", index=index, host="127.0.0.1", port=7000, labels={"zone": "a"},
        calls={}, reached_by={}, settings={}, disabled=(), seed=1, data_dir="/data", workers=workers,
        worker_ports=tuple(range(7001, 7001 + workers)),
    )  # fmt: skip
    told = [whole.for_worker(number, shared_fd=10 + number) for number in range(1, workers + 1)]
    for own in ("instance", "port", "data_dir", "shared_fd"):
        assert len({getattr(one, own) for one in told}) == workers
    for number, one in enumerate(told, start=1):
        assert one.instance == worker_name(whole.instance, number)
        shared = replace(
            one, instance=whole.instance, port=whole.port, data_dir=whole.data_dir, shared_fd=whole.shared_fd
        )
        assert shared == whole
