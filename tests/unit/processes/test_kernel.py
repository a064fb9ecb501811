import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.processes import kernel
from chaos.processes.kernel import PortUse

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(local, remote, state, rx=0):
    return f"   0: {local} {remote} {state} 00000000:{rx:08X} 00:00000000 00000000  0  0 8086 1 0000 100 0 0 10 0\n"


@pytest.fixture
def no_diagnostics(monkeypatch):
    def refuse(*_states: int, carried: bool = False) -> Iterator[kernel.TcpSocket]:
        raise PermissionError(1, "not here")

    monkeypatch.setattr(kernel, "tcp_sockets", refuse)


@pytest.mark.usefixtures("no_diagnostics")
def test_only_the_servers_side_of_a_connection_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "_PROC", tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        HEADER
        + line("0100007F:4E20", "00000000:0000", "0A", rx=3)  # 20000 listens, 3 wait to be accepted
        + line("0100007F:4E20", "0100007F:8001", "01", rx=256)  # accepted, 256 bytes unread
        + line("0100007F:8001", "0100007F:4E20", "01", rx=9)  # the caller's side of the same
        + line("0100007F:4E20", "0100007F:8002", "06", rx=5)  # in TIME_WAIT: over
        + line("0100007F:4E21", "0100007F:8003", "01", rx=1)  # another port
    )
    (tmp_path / "net" / "tcp6").write_text(
        HEADER + line("0000000000000000FFFF00000100007F:4E20", "0000000000000000FFFF00000100007F:8004", "01", rx=4)
    )
    use = kernel.port_use([20_000])
    assert use == PortUse(connections=2, waiting_bytes=260, waiting_connections=3)


@pytest.mark.usefixtures("no_diagnostics")
def test_without_diagnostics_and_proc_everything_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "_PROC", tmp_path)
    assert kernel.port_use([1]) == PortUse(connections=0, waiting_bytes=0, waiting_connections=0)
    assert kernel.bytes_carried([1]) == {}
    assert kernel.listener(1) is None


def the_real_kernel_shows_what_waits_unread():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            before = kernel.port_use([port])
            assert (before.connections, before.waiting_connections) == (1, 1)
            accepted, _ = server.accept()
            with accepted:
                caller.sendall(b"x" * 100)
                accepted.recv(1, socket.MSG_PEEK)  # it has arrived
                assert kernel.port_use([port]) == PortUse(connections=1, waiting_bytes=100, waiting_connections=0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's sock_diag")
def test_the_real_kernel_shows_what_waits_unread():
    the_real_kernel_shows_what_waits_unread()


@pytest.mark.usefixtures("no_diagnostics")
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_and_the_same_without_its_diagnostics():
    the_real_kernel_shows_what_waits_unread()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_who_listens_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert f"(pid {os.getpid()})" in (kernel.listener(server.getsockname()[1]) or "")


def test_an_open_connections_bytes_are_counted_both_ways():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"x" * 1000)
                assert len(accepted.recv(1000, socket.MSG_WAITALL)) == 1000
                accepted.sendall(b"y" * 300)
                assert client.recv(1000)
                limit_s = time.monotonic() + 5
                while kernel.bytes_carried([port])[port] != 1300 and time.monotonic() < limit_s:
                    pass  # the acknowledgement of the last bytes may be on its way
                assert kernel.bytes_carried([port]) == {port: 1300}
        assert kernel.bytes_carried([port]) == {port: 0}, "closed connections are no longer there"


def test_a_port_without_connections_has_carried_nothing():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert kernel.bytes_carried([port]) == {port: 0}
