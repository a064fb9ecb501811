import os
import socket
from pathlib import Path

import pytest

from chaos.processes import kernel
from chaos.processes.kernel import PortUse

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(local, remote, state, rx=0):
    return f"   0: {local} {remote} {state} 00000000:{rx:08X} 00:00000000 00000000  0  0 8086 1 0000 100 0 0 10 0\n"


def test_only_the_servers_side_of_a_connection_counts(tmp_path):
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
    use = kernel.port_use([20_000], proc=tmp_path)
    assert use == PortUse(connections=2, waiting_bytes=260, waiting_connections=3)


def test_without_proc_everything_is_none(tmp_path):
    assert kernel.port_use([1], proc=tmp_path) == PortUse(connections=0, waiting_bytes=0, waiting_connections=0)
    assert kernel.listener(1, proc=tmp_path) is None


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_the_real_kernel_shows_what_waits_unread_and_who_listens():
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
        assert f"(pid {os.getpid()})" in (kernel.listener(port) or "")
