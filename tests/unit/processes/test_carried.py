"""The kernel's own count of bytes on open connections, on real sockets."""

from __future__ import annotations

import socket
import time

from chaos.processes.carried import bytes_carried


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
                while bytes_carried([port])[port] != 1300 and time.monotonic() < limit_s:
                    pass  # the acknowledgement of the last bytes may be on its way
                assert bytes_carried([port]) == {port: 1300}
        assert bytes_carried([port]) == {port: 0}, "closed connections are no longer there"


def test_a_port_without_connections_has_carried_nothing():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert bytes_carried([port]) == {port: 0}
