"""The clients: toxiproxy-python as it is, and ProxyControl on top of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaos.errors import EnvironmentFailure
from chaos.faults.base import Stream, ToxicSpec, Traffic
from chaos.proxy.control import ProxyControl, ProxySpec

SERVERS = ["embedded", "real"]


@pytest.fixture
def client(api, server):
    """toxiproxy-python, told where the server is (its address is global)."""
    before = APIConsumer.host, APIConsumer.port
    client = Toxiproxy()
    client.update_api_consumer("127.0.0.1", server.port)
    yield client
    client.update_api_consumer(*before)


@pytest.fixture
def control(api, server) -> ProxyControl:
    return ProxyControl("127.0.0.1", server.port)


def latency(name: str = "late", **attributes: int) -> ToxicSpec:
    return ToxicSpec(
        name=name, type="latency", stream=Stream.UPSTREAM, toxicity=1.0, attributes={"latency": 5, **attributes}
    )


SPECS = [ProxySpec(name=name, listen="127.0.0.1:0", upstream="127.0.0.1:9") for name in ("a", "b")]


async def test_toxiproxy_python_makes_and_finds_and_destroys_proxies(client):
    def work():
        assert "version" in json.loads(client.version())
        made = client.create(name="a", upstream="127.0.0.1:9", listen="127.0.0.1:0")
        with pytest.raises(ProxyExists):
            client.create(name="a", upstream="127.0.0.1:9")
        found = client.get_proxy("a")
        assert (found.name, found.upstream, found.listen, found.enabled) == ("a", "127.0.0.1:9", made.listen, True)
        assert client.get_proxy("b") is None
        client.populate(
            [
                {"name": "b", "upstream": "127.0.0.1:9"},
                {"name": "a", "upstream": "127.0.0.1:10", "listen": found.listen},
            ]
        )
        assert {name: proxy.upstream for name, proxy in client.proxies().items()} == {
            "a": "127.0.0.1:10",
            "b": "127.0.0.1:9",
        }
        client.destroy_all()
        assert client.proxies() == {}

    await asyncio.to_thread(work)


async def test_toxiproxy_python_adds_and_removes_toxics_and_takes_proxies_down(client):
    def work():
        proxy = client.create(name="a", upstream="127.0.0.1:9", listen="127.0.0.1:0")
        proxy.add_toxic(type="latency", attributes={"latency": 5})
        toxic = proxy.get_toxic("latency_downstream")
        assert (toxic.type, toxic.stream, toxic.toxicity, toxic.attributes) == (
            "latency", "downstream", 1, {"latency": 5, "jitter": 0},
        )  # fmt: skip
        with pytest.raises(InvalidToxic):
            proxy.add_toxic(type="nope")
        with pytest.raises(ProxyExists):
            proxy.add_toxic(type="latency")
        proxy.destroy_toxic("latency_downstream")
        with pytest.raises(NotFound):
            proxy.destroy_toxic("latency_downstream")
        with proxy.down():
            assert not client.get_proxy("a").enabled
        assert client.get_proxy("a").enabled
        proxy.add_toxic(type="timeout", attributes={"timeout": 0})
        proxy.disable()
        client.reset()
        assert client.get_proxy("a").enabled
        assert client.get_proxy("a").toxics() == {}

    await asyncio.to_thread(work)


async def test_control_tells_which_server_answers(control, server):
    identity = await control.identity()
    assert identity.embedded == server.embedded
    assert await control.version() == identity.version


async def test_control_makes_all_proxies_and_deletes_them(control):
    listens = await control.create_all(SPECS)
    assert set(listens) == {"a", "b"}
    assert all(not listen.endswith(":0") for listen in listens.values())
    assert await control.enabled() == {"a": True, "b": True}
    await control.delete_all(["a", "b", "never there"])
    assert await control.enabled() == {}


async def test_control_makes_nothing_when_a_port_is_taken(control, server):
    specs = [*SPECS, ProxySpec(name="c", listen=f"127.0.0.1:{server.port}", upstream="127.0.0.1:9")]
    with pytest.raises(EnvironmentFailure, match=f"127.0.0.1:{server.port}: bind: address already in use"):
        await control.create_all(specs)
    assert await control.enabled() == {}


async def test_control_leaves_the_proxies_of_others_alone(control):
    await control.create_all(SPECS[:1])
    with pytest.raises(EnvironmentFailure, match=r"named 'a' already.*curl -X DELETE http://127\.0\.0\.1"):
        await control.create_all([ProxySpec(name="a", listen="127.0.0.1:0", upstream="127.0.0.1:10"), SPECS[1]])
    assert await control.enabled() == {"a": True}


async def test_control_refuses_two_proxies_of_one_name(control):
    with pytest.raises(EnvironmentFailure, match="same name are wanted: a"):
        await control.create_all([SPECS[0], SPECS[0]])


async def test_control_adds_a_toxic_once_and_removes_it_whether_or_not_it_is_there(control):
    await control.create_all(SPECS)
    await control.add_toxic("a", latency())
    await control.add_toxic("a", latency())
    assert await control.toxics() == {"a": ("late",), "b": ()}
    with pytest.raises(EnvironmentFailure, match="with other settings"):
        await control.add_toxic("a", latency(jitter=3))
    await control.remove_toxic("a", "late")
    await control.remove_toxic("a", "late")
    await control.remove_toxic("nope", "late")
    assert await control.toxics() == {"a": (), "b": ()}


async def test_control_says_why_a_toxic_cannot_be_added(control):
    await control.create_all(SPECS)
    with pytest.raises(EnvironmentFailure, match="to the proxy 'nope': proxy not found"):
        await control.add_toxic("nope", latency())
    wrong = ToxicSpec(name="t", type="nope", stream=Stream.UPSTREAM, toxicity=1.0, attributes={})
    with pytest.raises(EnvironmentFailure, match="invalid toxic type"):
        await control.add_toxic("a", wrong)


async def test_control_disables_and_enables(control):
    await control.create_all(SPECS)
    for enabled in (False, False, True, True):
        await control.set_enabled("a", enabled=enabled)
        assert await control.enabled() == {"a": enabled, "b": True}
    with pytest.raises(EnvironmentFailure, match="enable the proxy 'nope': proxy not found"):
        await control.set_enabled("nope", enabled=True)


async def test_control_reads_the_traffic_of_every_proxy(control, server, upstream, call):
    echo = await upstream()
    listens = await control.create_all([ProxySpec(name="a", listen="127.0.0.1:0", upstream=echo.address), SPECS[1]])
    before = (await control.traffic())["a"]
    for _ in range(3):
        caller = await call(listens["a"])
        await caller.exchange(b"0123456789")
        caller.writer.close()
    async with asyncio.timeout(5):
        while (traffic := await control.traffic())["a"].bytes - before.bytes < 60:
            await asyncio.sleep(0.02)
    assert traffic["a"].bytes - before.bytes == 60
    assert traffic["a"].connections - before.connections == (3 if server.embedded else 0)
    assert traffic["b"] == Traffic(connections=0, bytes=0)


async def test_two_controls_do_not_get_in_each_others_way(control, server):
    nobody = ProxyControl("127.0.0.1", 1, timeout_s=1.0)
    await control.create_all(SPECS)
    answers = await asyncio.gather(
        *(each for _ in range(10) for each in (control.enabled(), nobody.enabled())), return_exceptions=True
    )
    assert answers[::2] == [{"a": True, "b": True}] * 10
    assert all(isinstance(answer, EnvironmentFailure) for answer in answers[1::2])
    assert (APIConsumer.host, APIConsumer.port) == ("127.0.0.1", 8474)
