"""The kernel's own list of sockets, on real ones."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from chaos.processes.sock_diag import ESTABLISHED, LISTEN, TcpSocket, tcp_sockets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's sock_diag")
TIME_WAIT = 6


def states_at(port: int, *states: int) -> list[int]:
    return sorted(one.state for one in tcp_sockets(*states) if one.port == port)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_each_socket_has_its_state_its_port_and_what_waits(family: socket.AddressFamily, host: str):
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with server:
        port = server.getsockname()[1]
        with socket.create_connection((host, port)) as caller:
            listed = [one for one in tcp_sockets(ESTABLISHED, LISTEN) if one.port == port]
            assert sorted(listed, key=lambda one: one.state) == [
                TcpSocket(ESTABLISHED, port, 0, 0),
                TcpSocket(LISTEN, port, 1, 0),
            ], "one is connected, and waits to be accepted"
            accepted, _ = server.accept()
            with accepted:
                caller.sendall(b"x" * 300)
                accepted.recv(1, socket.MSG_PEEK)  # it has arrived
                (one,) = (one for one in tcp_sockets(ESTABLISHED, carried=True) if one.port == port)
                assert (one.unread, one.carried_bytes) == (300, 300)


def test_only_the_states_asked_for_are_listed_so_that_what_is_over_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            accepted, _ = server.accept()
            assert states_at(port, ESTABLISHED) == [ESTABLISHED]
            assert states_at(port, LISTEN) == [LISTEN]
            accepted.close()  # first, so that it is the server's socket that waits
            assert caller.recv(1) == b""
        limit_s = time.monotonic() + 5.0
        while states_at(port, TIME_WAIT) != [TIME_WAIT] and time.monotonic() < limit_s:
            pass  # the caller's last packet may be on its way
        assert states_at(port, TIME_WAIT) == [TIME_WAIT]
        assert states_at(port, ESTABLISHED, LISTEN) == [LISTEN]


def test_a_system_without_netlink_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(socket, "AF_NETLINK")
    with pytest.raises(OSError, match="no netlink sockets"):
        list(tcp_sockets(LISTEN))


def test_what_the_kernel_refuses_is_an_error_and_not_an_empty_list(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chaos.processes.sock_diag._SOCK_DIAG_BY_FAMILY", 0x7FFF)
    with pytest.raises(OSError, match="does not list its sockets"):
        list(tcp_sockets(LISTEN))
