"""The embedded proxy alone is safe: who may ask it, from where, and how much it takes on."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.proxy import token
from chaos.proxy.addresses import is_loopback, keep_alive
from tests.processes import started

PEOPLE = ["-m", "chaos", "proxy", "--port", "0"]


@contextmanager
def proxy_server(*arguments: str, **environment: str) -> Iterator[str]:
    """Run ``chaos proxy`` and yield the URL of its API."""
    command = [sys.executable, *PEOPLE, *arguments]
    with started(command, stdout=subprocess.PIPE, text=True, env={"PATH": "", **environment}) as process:
        yield process.stdout.readline().split(": ")[-1].strip()


def ask(url: str, body: object = None, **headers: str) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def made(url: str, name: str = "p", upstream: str = "127.0.0.1:9") -> tuple[int, str]:
    return ask(f"{url}/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": upstream})


@pytest.mark.parametrize(
    ("host", "ours"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_which_addresses_are_this_machines_alone(host, ours):
    assert is_loopback(host) is ours


def test_keep_alive_is_what_the_real_server_sets():
    with socket.socket() as connection:
        keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [connection.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [15, 15, 9]


@pytest.mark.parametrize("way", ["option", "variable"])
def test_with_a_token_only_those_who_know_it_are_answered(way):
    arguments = ["--token", "open sesame"] if way == "option" else []
    environment = {} if way == "option" else {token.VARIABLE: "open sesame"}
    with proxy_server(*arguments, **environment) as url:
        for path in ("/version", "/proxies", "/metrics", "/receipts"):
            status, text = ask(url + path)
            assert (status, "a token is needed" in text) == (401, True)
            assert ask(url + path, Authorization="Bearer open")[0] == 401
            assert ask(url + path, Authorization="Bearer open sesame")[0] == 200
            assert ask(url + path, Authorization="Basic !!")[0] == 401
        password = base64.b64encode(b"anybody:open sesame").decode()
        assert ask(f"{url}/proxies", Authorization=f"Basic {password}")[0] == 200


def test_a_token_is_carried_by_a_bearer_or_as_a_password():
    assert token.given("Bearer abc") == token.given("bearer  abc ") == "abc"
    assert token.given("Basic " + base64.b64encode(b":a:b").decode()) == "a:b"
    assert token.given("Basic " + base64.b64encode(b"\xff\xff").decode()) == ""
    assert token.given("Digest abc") == token.given("") == ""
    assert token.headers("") == {}


def test_the_options_limit_what_it_takes_on():
    with proxy_server("--max-proxies", "1", "--max-connections", "1", "--max-body-bytes", "1024") as url:
        assert made(url, "a")[0] == 201
        status, text = made(url, "b")
        assert (status, "too many proxies: at most 1 at once" in text) == (500, True)
        assert made(url, "x" * 2000)[0] == 413
