import itertools
from pathlib import Path

import pytest

from chaos.environment.layout import Conditions, command_line, lay_out
from chaos.errors import EnvironmentFailure
from chaos.topology.model import Service, Topology


def a_topology(**changes):
    services = {
        "api": Service(name="api", python="app:api", instances=({}, {}), calls=("store",)),
        "store": Service(name="store", command=("store",), instances=({"zone": "a"}, {"zone": "b"}), port=7000),
    }
    fields = {
        "name": "shop",
        "file": Path("/shop/topology.yaml"),
        "services": services,
        "clients": {"users": ("api",)},
        "settings": {"size": 3},
    }
    return Topology(**{**fields, **changes})


def laid_out(topology=None, reserved=None):
    numbers = itertools.count(20_000)

    def reserve(port, purpose):
        (reserved if reserved is not None else []).append((port, purpose))
        return port

    return lay_out(topology or a_topology(), free=lambda: next(numbers), reserve=reserve)


CONDITIONS = Conditions(seed=7, disabled=("isolation",), settings={"size": 3})


def test_every_instance_and_every_edge_has_a_port_of_its_own():
    layout = laid_out()
    assert list(layout.instance_ports) == ["api-1", "api-2", "store-1", "store-2"]
    assert list(layout.edge_ports) == [
        "users.api-1",
        "users.api-2",
        "api-1.store-1",
        "api-1.store-2",
        "api-2.store-1",
        "api-2.store-2",
    ]
    ports = [*layout.instance_ports.values(), *layout.edge_ports.values()]
    assert len(set(ports)) == len(ports) == 10


def test_an_instance_is_seen_at_its_port_and_a_worker_that_nobody_calls_where_it_calls_others():
    layout = laid_out(a_topology(clients={}))
    assert layout.ports_of("store-1") == (layout.instance_ports["store-1"],)
    calls = (layout.edge_ports["api-2.store-1"], layout.edge_ports["api-2.store-2"])
    assert layout.ports_of("api-2") == (layout.instance_ports["api-2"], *calls)
    assert layout.ports_of("api-2.store-1") == calls[:1]
    assert layout.ports_of("api-3") == ()
    assert laid_out().ports_of("api-2") == (layout.instance_ports["api-2"],), "here users call it"


def test_fixed_ports_count_up_from_the_services_and_are_reserved():
    reserved = []
    layout = laid_out(reserved=reserved)
    assert reserved == [(7000, "store-1"), (7001, "store-2")]
    assert layout.instance_address("store-2") == "127.0.0.1:7001"


def test_an_instance_is_told_its_own_proxies_and_those_of_its_callers():
    layout = laid_out()
    config = layout.instance_config("api-2", CONDITIONS, data_dir=Path("/data/api-2"))
    assert (config.service, config.instance, config.index, config.host) == ("api", "api-2", 2, "127.0.0.1")
    assert config.port == layout.instance_ports["api-2"]
    assert [(one.instance, one.address, one.labels) for one in config.calls["store"]] == [
        ("store-1", layout.edge_address("api-2.store-1"), {"zone": "a"}),
        ("store-2", layout.edge_address("api-2.store-2"), {"zone": "b"}),
    ]
    assert config.reached_by == {"users": layout.edge_address("users.api-2")}
    assert (config.seed, config.disabled, config.settings) == (7, ("isolation",), {"size": 3})
    assert config.data_dir == "/data/api-2"


def test_the_client_is_told_its_own_proxies():
    layout = laid_out()
    config = layout.client_config("users", CONDITIONS, data_dir=Path("/data/users"))
    assert [one.address for one in config.calls["api"]] == [
        layout.edge_address("users.api-1"),
        layout.edge_address("users.api-2"),
    ]
    assert config.reached_by == {}


def test_an_unknown_client_is_named_with_the_nearest():
    with pytest.raises(EnvironmentFailure, match=r"no client 'user', did you mean 'users'\?; it has: users"):
        laid_out().client_config("user", CONDITIONS, data_dir=Path("/data"))


def test_a_proxy_leads_from_each_edge_to_its_instance():
    layout = laid_out()
    specs = {spec.name: spec for spec in layout.proxy_specs()}
    assert list(specs) == list(layout.edges)
    assert specs["api-1.store-2"].listen == layout.edge_address("api-1.store-2")
    assert specs["api-1.store-2"].upstream == "127.0.0.1:7001"


def test_the_placeholders_of_a_command_are_replaced_and_other_braces_kept():
    layout = laid_out()
    config = layout.instance_config("api-1", CONDITIONS, data_dir=Path("/data/api-1"))
    command = (
        "{folder}/serve",
        "--at={host}:{port}",
        "--as={service}/{instance}",
        "{calls[store]}",
        "{settings[size]}",
        "{data_dir}",
        '{"json": {}}',
        "{unknown}",
    )
    assert command_line(command, config, folder=Path("/shop")) == [
        "/shop/serve",
        f"--at=127.0.0.1:{config.port}",
        "--as=api/api-1",
        f"{layout.edge_address('api-1.store-1')},{layout.edge_address('api-1.store-2')}",
        "3",
        "/data/api-1",
        '{"json": {}}',
        "{unknown}",
    ]


@pytest.mark.parametrize(
    ("word", "said"), [("{calls[stor]}", "did you mean 'store'"), ("{settings[sizes]}", "there are: size")]
)
def test_a_placeholder_for_something_that_is_not_there_is_an_error(word, said):
    config = laid_out().instance_config("api-1", CONDITIONS, data_dir=Path("/data"))
    with pytest.raises(EnvironmentFailure, match=said):
        command_line((word,), config, folder=Path("/shop"))
