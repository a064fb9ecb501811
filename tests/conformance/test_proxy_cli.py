"""Toxiproxy's own command line client drives every server: what it does, and what it prints, to the letter.

The client is built once per machine from the module and version of the real server. What it prints here is written
down once, for every server: the real one proves that it is right.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.errors import EnvironmentFailure
from chaos.proxy.server import install_toxiproxy_cli
from tests.ports import free_port

EARLY_S = 0.01
"""As in test_proxy_toxics.py: what clocks and rounding may take off a delay."""

both_streams = pytest.mark.parametrize("stream", ["upstream", "downstream"])


@dataclass(frozen=True)
class Said:
    """What the client said, and how it ended."""

    out: str
    err: str
    code: int


Cli = Callable[[str], Awaitable[Said]]


@pytest.fixture(scope="session")
def program() -> Path:
    try:
        return install_toxiproxy_cli()
    except EnvironmentFailure as failure:
        pytest.skip(f"Toxiproxy's command line client is not here and cannot be built: {failure}")


@pytest.fixture
def cli(program, api, server) -> Cli:
    """Run one command of the client, written as in a shell."""

    async def run(command: str) -> Said:
        done = await asyncio.to_thread(
            subprocess.run,
            [program, "--host", f"http://127.0.0.1:{server.port}", *shlex.split(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return Said(done.stdout, done.stderr, done.returncode)

    return run


async def do(cli: Cli, command: str) -> str:
    """Run a command that must succeed without a complaint; return what it printed."""
    said = await cli(command)
    assert (said.code, said.err) == (0, ""), said
    return said.out


SESSION = """\
$ list
$ create --listen 127.0.0.1:0 --upstream 127.0.0.1:9 web
Created new proxy web
$ create -l 127.0.0.1:0 -u localhost:10 cache
Created new proxy cache
$ list
cache\t127.0.0.1:<cache>\tlocalhost:10\tenabled\t0
web\t127.0.0.1:<web>\t127.0.0.1:9\tenabled\t0
$ inspect web
$ toxic add --type latency --attribute latency=200 --toxicity 0.5 --downstream web
Added downstream latency toxic 'latency_downstream' on proxy 'web'
$ toxic add --toxicName late --type latency --attribute latency=100 --attribute jitter=20 --upstream web
Added upstream latency toxic 'late' on proxy 'web'
$ toxic add -n cut -t slicer -a average_size=1000000 -a delay=10 -d web
Added downstream slicer toxic 'cut' on proxy 'web'
$ toxic add -t bandwidth -a rate=100 --tox 0.125 -u web
Added upstream bandwidth toxic 'bandwidth_upstream' on proxy 'web'
$ toxic add -t slow_close -a delay=1 cache
Added downstream slow_close toxic 'slow_close_downstream' on proxy 'cache'
$ toxic add -t timeout -a timeout=2 cache
Added downstream timeout toxic 'timeout_downstream' on proxy 'cache'
$ toxic add -t reset_peer -a timeout=3 cache
Added downstream reset_peer toxic 'reset_peer_downstream' on proxy 'cache'
$ toxic add -t limit_data -a bytes=4 cache
Added downstream limit_data toxic 'limit_data_downstream' on proxy 'cache'
$ toxic add -t noop -a without-a-value -a nobody_knows=5 cache
Added downstream noop toxic 'noop_downstream' on proxy 'cache'
$ list
cache\t127.0.0.1:<cache>\tlocalhost:10\tenabled\t5
web\t127.0.0.1:<web>\t127.0.0.1:9\tenabled\t4
$ inspect web
late\ttype=latency\tstream=upstream\ttoxicity=1.00\tattributes=[\tjitter=20\tlatency=100\t]
bandwidth_upstream\ttype=bandwidth\tstream=upstream\ttoxicity=0.12\tattributes=[\trate=100\t]
latency_downstream\ttype=latency\tstream=downstream\ttoxicity=0.50\tattributes=[\tjitter=0\tlatency=200\t]
cut\ttype=slicer\tstream=downstream\ttoxicity=1.00\tattributes=[\taverage_size=1e+06\tdelay=10\tsize_variation=0\t]
$ inspect cache
slow_close_downstream\ttype=slow_close\tstream=downstream\ttoxicity=1.00\tattributes=[\tdelay=1\t]
timeout_downstream\ttype=timeout\tstream=downstream\ttoxicity=1.00\tattributes=[\ttimeout=2\t]
reset_peer_downstream\ttype=reset_peer\tstream=downstream\ttoxicity=1.00\tattributes=[\ttimeout=3\t]
limit_data_downstream\ttype=limit_data\tstream=downstream\ttoxicity=1.00\tattributes=[\tbytes=4\t]
noop_downstream\ttype=noop\tstream=downstream\ttoxicity=1.00\tattributes=[\t]
$ toxic update --toxicName late --toxicity 0.25 --attribute latency=300 web
Updated toxic 'late' on proxy 'web'
$ toxic update -n latency_downstream -a jitter=7 -a nobody_knows=5 web
Updated toxic 'latency_downstream' on proxy 'web'
$ inspect web
late\ttype=latency\tstream=upstream\ttoxicity=0.25\tattributes=[\tjitter=20\tlatency=300\t]
bandwidth_upstream\ttype=bandwidth\tstream=upstream\ttoxicity=0.12\tattributes=[\trate=100\t]
latency_downstream\ttype=latency\tstream=downstream\ttoxicity=1.00\tattributes=[\tjitter=7\tlatency=200\t]
cut\ttype=slicer\tstream=downstream\ttoxicity=1.00\tattributes=[\taverage_size=1e+06\tdelay=10\tsize_variation=0\t]
$ toxic remove --toxicName latency_downstream web
Removed toxic 'latency_downstream' on proxy 'web'
$ toxic delete -n bandwidth_upstream web
Removed toxic 'bandwidth_upstream' on proxy 'web'
$ inspect web
late\ttype=latency\tstream=upstream\ttoxicity=0.25\tattributes=[\tjitter=20\tlatency=300\t]
cut\ttype=slicer\tstream=downstream\ttoxicity=1.00\tattributes=[\taverage_size=1e+06\tdelay=10\tsize_variation=0\t]
$ toggle web
Proxy web is now disabled
$ list
cache\t127.0.0.1:<cache>\tlocalhost:10\tenabled\t5
web\t127.0.0.1:<web>\t127.0.0.1:9\tdisabled\t2
$ toggle web
Proxy web is now enabled
$ create --listen 127.0.0.1:0 --upstream 127.0.0.1:9 web
Failed to create proxy: Create: HTTP 409: proxy already exists

(exit code 1)
$ delete cache
Deleted proxy cache
$ list
web\t127.0.0.1:<web>\t127.0.0.1:9\tenabled\t2
$ delete web
Deleted proxy web
$ list
$ inspect web
Failed to retrieve proxy web: HTTP 404: proxy not found

(exit code 1)
"""
"""A session of the client: its commands, and what it prints when it does not talk to a terminal."""


async def test_a_session_prints_the_same_on_every_server(cli, api):
    printed, ports = "", {}
    for command in [line[2:] for line in SESSION.splitlines() if line.startswith("$ ")]:
        said = await cli(command)
        printed += f"$ {command}\n{said.out}{said.err}" + (f"(exit code {said.code})\n" if said.code else "")
        if command.startswith("create"):
            ports |= {made["listen"]: f"127.0.0.1:<{name}>" for name, made in (await api.ok("GET", "/proxies")).items()}
    for listen, placeholder in ports.items():
        printed = printed.replace(f"\t{listen}\t", f"\t{placeholder}\t")
    assert printed == SESSION


INT64 = "bad request body: json: cannot unmarshal"
REFUSED = {
    "create -l 127.0.0.1:0 -u h:1 p": "Failed to create proxy: Create: HTTP 409: proxy already exists",
    "create -l nonsense -u h:1 q": (
        "Failed to create proxy: Create: HTTP 500: listen tcp: address nonsense: missing port in address"
    ),
    "create -l 127.0.0.1:<api> -u h:1 q": (
        "Failed to create proxy: Create: HTTP 500: listen tcp 127.0.0.1:<api>: bind: address already in use"
    ),
    "inspect nope": "Failed to retrieve proxy nope: HTTP 404: proxy not found",
    "toggle nope": "Failed to retrieve proxy nope: HTTP 404: proxy not found",
    "delete nope": "Failed to retrieve proxy nope: HTTP 404: proxy not found",
    # A name with a slash makes an address that the API does not know: the client shows that it is none of its errors.
    "inspect a/b": (
        "Failed to retrieve proxy a/b: json: cannot unmarshal number into Go value of type toxiproxy.ApiError"
    ),
    "toxic add -t latency nope": (
        "Failed to add toxic: failed to retrieve proxy with name `nope`: HTTP 404: proxy not found"
    ),
    "toxic update -n t nope": (
        "Failed to update toxic: failed to retrieve proxy with name `nope`: HTTP 404: proxy not found"
    ),
    "toxic remove -n t nope": (
        "Failed to remove toxic: failed to retrieve proxy with name `nope`: HTTP 404: proxy not found"
    ),
    "toxic add -t nope p": (
        "Failed to add toxic: failed to add toxic to proxy p: AddToxic: HTTP 400: invalid toxic type"
    ),
    "toxic add -t latency -u p": (
        "Failed to add toxic: failed to add toxic to proxy p: AddToxic: HTTP 409: toxic already exists"
    ),
    "toxic add -n latency_upstream -t slicer -d p": (
        "Failed to add toxic: failed to add toxic to proxy p: AddToxic: HTTP 409: toxic already exists"
    ),
    "toxic add -t latency -a latency=soon p": (
        f"Failed to add toxic: failed to add toxic to proxy p: AddToxic: HTTP 400: {INT64} string "
        "into Go struct field LatencyToxic.attributes.latency of type int64"
    ),
    "toxic add -t latency -a latency=1.5 p": (
        f"Failed to add toxic: failed to add toxic to proxy p: AddToxic: HTTP 400: {INT64} number 1.5 "
        "into Go struct field LatencyToxic.attributes.latency of type int64"
    ),
    "toxic add -t slicer -a average_size=many p": (
        f"Failed to add toxic: failed to add toxic to proxy p: AddToxic: HTTP 400: {INT64} string "
        "into Go struct field SlicerToxic.attributes.average_size of type int"
    ),
    "toxic update -n latency_upstream -a jitter=some p": (
        f"Failed to update toxic: failed to update toxic 'latency_upstream' of proxy 'p': HTTP 400: {INT64} string "
        "into Go struct field LatencyToxic.attributes.jitter of type int64"
    ),
    "toxic update -n nope p": (
        "Failed to update toxic: failed to update toxic 'nope' of proxy 'p': HTTP 404: toxic not found"
    ),
    "toxic remove -n nope p": (
        "Failed to remove toxic: failed to remove toxic 'nope' from proxy 'p': HTTP 404: toxic not found"
    ),
    "toxic remove p": (
        "Failed to remove toxic: failed to remove toxic '' from proxy 'p': "
        "json: cannot unmarshal number into Go value of type toxiproxy.ApiError"
    ),
    "toxic add -t latency -u -d p": "Only one should be specified: upstream or downstream.",
    "toxic add -t latency --toxicity 1.5 p": "toxicity should be a float between 0 and 1.",
}


@pytest.mark.parametrize("command", REFUSED)
async def test_what_is_refused_is_said_in_the_same_words_and_changes_nothing(cli, api, proxy, toxic, server, command):
    await proxy("127.0.0.1:9")
    await toxic("latency", "upstream", latency=20)
    before = await api.ok("GET", "/proxies")
    said = await cli(command.replace("<api>", str(server.port)))
    assert said == Said("", REFUSED[command].replace("<api>", str(server.port)) + "\n\n", 1)
    assert await api.ok("GET", "/proxies") == before


async def test_a_created_proxy_listens_where_it_was_told_and_carries_bytes(cli, api, upstream, call):
    echo = await upstream()
    listen = f"127.0.0.1:{free_port()}"
    await do(cli, f"create --listen {listen} --upstream {echo.address} p")
    made = await api.ok("GET", "/proxies/p")
    assert (made["listen"], made["upstream"], made["enabled"], made["toxics"]) == (listen, echo.address, True, [])
    await (await call(listen)).exchange()
    assert await do(cli, "list") == f"p\t{listen}\t{echo.address}\tenabled\t0\n"


@both_streams
@pytest.mark.parametrize("toxicity", [0.0, 0.3, 0.5])
async def test_an_added_toxic_is_in_the_api_with_its_values(cli, api, proxy, stream, toxicity):
    await proxy("127.0.0.1:9")
    await do(cli, f"toxic add --type latency --attribute latency=200 --toxicity {toxicity} --{stream} p")
    assert await api.ok("GET", "/proxies/p/toxics") == [
        {
            "attributes": {"latency": 200, "jitter": 0},
            "name": f"latency_{stream}",
            "type": "latency",
            "stream": stream,
            "toxicity": toxicity,
        }
    ]


@both_streams
async def test_a_toxic_is_felt_when_it_is_added_and_updated_and_no_more_when_it_is_removed(
    cli, api, upstream, proxy, call, stream
):
    caller = await call(await proxy((await upstream()).address))
    await do(cli, f"toxic add -n late -t latency -a latency=200 -a jitter=10 --{stream} p")
    assert 0.19 - EARLY_S <= await caller.exchange() < 2
    await do(cli, "toxic update -n late -a latency=120 p")
    assert (await api.ok("GET", "/proxies/p/toxics/late"))["attributes"] == {"latency": 120, "jitter": 10}
    assert 0.11 - EARLY_S <= await caller.exchange() < 2
    await do(cli, "toxic remove -n late p")
    assert await api.ok("GET", "/proxies/p/toxics") == []
    assert min([await caller.exchange() for _ in range(5)]) < 0.1


async def test_a_toggled_proxy_cuts_and_refuses_connections_until_it_is_toggled_again(cli, api, upstream, proxy, call):
    listen = await proxy((await upstream()).address)
    caller = await call(listen)
    await caller.exchange()
    assert await do(cli, "toggle p") == "Proxy p is now disabled\n"
    assert await caller.until_end() < 5
    with pytest.raises(ConnectionRefusedError):
        await call(listen)
    assert not (await api.ok("GET", "/proxies/p"))["enabled"]
    assert await do(cli, "toggle p") == "Proxy p is now enabled\n"
    await (await call(listen)).exchange()
    assert (await api.ok("GET", "/proxies/p"))["listen"] == listen


async def test_a_deleted_proxy_is_gone(cli, api, upstream, proxy, call):
    listen = await proxy((await upstream()).address)
    caller = await call(listen)
    await caller.exchange()
    assert await do(cli, "delete p") == "Deleted proxy p\n"
    assert await caller.until_end() < 5
    assert await api.ok("GET", "/proxies") == {}
    with pytest.raises(ConnectionRefusedError):
        await call(listen)
