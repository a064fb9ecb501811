"""The embedded proxy as a program, both ways in: how it starts, ends and refuses to start."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.processes import started

WAYS_IN = {"for programs": ["-m", "chaos.proxy.embedded"], "for people": ["-m", "chaos", "proxy"]}


@pytest.fixture(params=WAYS_IN)
def way_in(request: pytest.FixtureRequest) -> list[str]:
    """Start of the command line."""
    return WAYS_IN[request.param]


@contextmanager
def embedded(*arguments: str, way_in=WAYS_IN["for programs"]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running program and the URL of its API."""
    command = [sys.executable, *way_in, "--port", "0", *arguments]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        yield process, re.search(r"http://127\.0\.0\.1:\d+", line).group()


def failed(way_in: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *way_in, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def get(url: str) -> object:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_with_connections_open(tmp_path, way_in, number):
    config = tmp_path / "proxies.json"
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        address = f"127.0.0.1:{upstream.getsockname()[1]}"
        config.write_text(json.dumps([{"name": "p", "listen": "127.0.0.1:0", "upstream": address}]))
        with embedded("--config", str(config), way_in=way_in) as (process, url):
            host, _, port = get(f"{url}/proxies")["p"]["listen"].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5) as caller:
                caller.sendall(b"x")
                connection, _ = upstream.accept()
                with connection:
                    assert connection.recv(1) == b"x"
                    process.send_signal(number)
                    assert process.wait(timeout=5) == 0
                    assert connection.recv(1) == b""


def test_a_port_that_is_taken_is_named(way_in):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = failed(way_in, "--port", str(port))
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port} for the API" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "exit_code", "problem"),
    [
        (None, 2, "cannot read --config"),
        ("[", 2, "cannot make the proxies of --config .*bad request body: unexpected EOF"),
        ('[{"name":"p"}]', 2, "missing required field: upstream at proxy 1"),
        ('[{"name":"p","upstream":"h:1","listen":"nope"}]', 2, "missing port in address"),
        ('[{"name":"p","upstream":"h:1","listen":"192.0.2.1:9"}]', 3, "bind: cannot assign requested address"),
    ],
)
def test_a_bad_configuration_is_refused(tmp_path, way_in, text, exit_code, problem):
    config = tmp_path / "proxies.json"
    if text is not None:
        config.write_text(text)
    done = failed(way_in, "--port", "0", "--config", str(config))
    assert done.returncode == exit_code
    assert re.search(problem, done.stderr)
    assert "Traceback" not in done.stderr


def post(url: str, body: object) -> dict[str, str]:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def hits(seed: int) -> list[bool]:
    """For each of 30 connections in a row, whether a toxic with toxicity 0.5 hit it."""
    with socket.create_server(("127.0.0.1", 0)) as upstream, embedded("--seed", str(seed)) as (_, url):
        proxy = {"name": "p", "upstream": f"127.0.0.1:{upstream.getsockname()[1]}"}
        listen = post(f"{url}/proxies", proxy)["listen"]
        toxic = {"type": "limit_data", "stream": "upstream", "toxicity": 0.5, "attributes": {"bytes": 0}}
        post(f"{url}/proxies/p/toxics", toxic)
        host, _, port = listen.rpartition(":")
        found = []
        for _ in range(30):
            with socket.create_connection((host, int(port)), timeout=5) as caller:
                caller.sendall(b"x")
                connection, _ = upstream.accept()
                with connection:
                    found.append(connection.recv(1) == b"")
        return found


def test_the_same_seed_hits_the_same_connections():
    first = hits(5)
    assert hits(5) == first
    assert True in first
    assert False in first
    assert hits(6) != first


def test_a_proxy_without_listen_is_on_loopback_only():
    with embedded() as (_, url):
        made = post(f"{url}/proxies", {"name": "p", "upstream": "127.0.0.1:9"})
    assert made["listen"].startswith("127.0.0.1:")
