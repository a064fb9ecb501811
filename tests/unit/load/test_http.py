"""The load's own HTTP connection, against servers that behave as badly as faults make them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chaos.load.http import Connection, HttpError
from tests.ports import dead_address

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Behave = Callable[[socket.socket], None]


class Server:
    """A server in a thread of its own; each connection it takes is handed to the next of its behaviours."""

    def __init__(self, *behaviours: Behave) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, args=(behaviours,))
        self.thread.start()

    def _serve(self, behaviours: tuple[Behave, ...]) -> None:
        for behave in behaviours:
            connection, _ = self.listener.accept()
            connection.settimeout(5.0)
            with connection, contextlib.suppress(OSError):
                behave(connection)

    def reads(self, connection: socket.socket) -> bytes:
        request = connection.recv(65536)
        self.requests.append(request)
        return request

    def close(self) -> None:
        self.thread.join(5.0)
        self.listener.close()


@contextlib.contextmanager
def serving(*behaviours: Callable[[Server, socket.socket], None]) -> Iterator[Server]:
    server = Server(*[lambda c, b=behave: b(server, c) for behave in behaviours])
    try:
        yield server
    finally:
        server.close()


def answer_twice(server: Server, connection: socket.socket) -> None:
    for _ in range(2):
        server.reads(connection)
        connection.sendall(ANSWER)


def answer_once_and_hang_up(server: Server, connection: socket.socket) -> None:
    server.reads(connection)
    connection.sendall(ANSWER)


def hang_up(server: Server, connection: socket.socket) -> None:
    server.reads(connection)


def answer_half(server: Server, connection: socket.socket) -> None:
    server.reads(connection)
    connection.sendall(ANSWER[:-2])


def trickle(server: Server, connection: socket.socket) -> None:
    server.reads(connection)
    for byte in ANSWER:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def talk_nonsense(server: Server, connection: socket.socket) -> None:
    server.reads(connection)
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def answer_in_pieces(server: Server, connection: socket.socket) -> None:
    server.reads(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")
    server.reads(connection)


def answer_a_head(server: Server, connection: socket.socket) -> None:
    server.reads(connection)
    connection.sendall(ANSWER.removesuffix(b"hello"))
    server.reads(connection)
    connection.sendall(ANSWER)


def answer_after_a_hint(server: Server, connection: socket.socket) -> None:
    for _ in range(2):
        server.reads(connection)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        time.sleep(0.05)  # so that it arrives alone
        connection.sendall(ANSWER)


def answer_without_a_body(server: Server, connection: socket.socket) -> None:
    for status in (b"204 No Content", b"304 Not Modified"):
        server.reads(connection)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")


def test_a_connection_is_kept_alive_and_used_again():
    with serving(answer_twice) as server:
        connection = Connection(server.address)
        answers = [connection.request("GET", "/probe", timeout_s=5.0) for _ in range(2)]
        connection.close()
    assert [(answer.status, bytes(answer.body)) for answer in answers] == [(200, b"hello")] * 2
    assert server.requests[0] == f"GET /probe HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode()


def test_a_body_and_headers_are_sent():
    with serving(answer_once_and_hang_up) as server:
        connection = Connection(server.address)
        connection.request("POST", "/play", timeout_s=5.0, headers={"X-Who": "me"}, body=b"{}")
        connection.close()
    assert server.requests[0].endswith(b"X-Who: me\r\nContent-Length: 2\r\n\r\n{}")


def test_a_request_on_a_connection_that_was_cut_is_not_sent_again():
    with serving(answer_once_and_hang_up) as server:
        connection = Connection(server.address)
        connection.request("GET", "/", timeout_s=5.0)
        server.thread.join(5.0)
        with pytest.raises(HttpError, match=r"connection closed|connection reset"):
            connection.request("GET", "/", timeout_s=5.0)
        assert not connection.is_open
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("behave", "reason"), [(hang_up, "closed"), (answer_half, "closed"), (talk_nonsense, "unread")]
)
def test_an_answer_that_is_none_is_an_error(behave, reason):
    with serving(behave) as server:
        connection = Connection(server.address)
        with pytest.raises(HttpError, match=reason):
            connection.request("GET", "/", timeout_s=5.0)
        assert not connection.is_open


def test_an_answer_that_trickles_in_is_over_at_the_timeout():
    with serving(trickle) as server:
        began_s = time.monotonic()
        with pytest.raises(HttpError, match="timed out"):
            Connection(server.address).request("GET", "/", timeout_s=0.1)
        assert 0.1 <= time.monotonic() - began_s < 0.8


def test_an_answer_in_pieces_is_put_together():
    with serving(answer_in_pieces) as server:
        connection = Connection(server.address)
        answer = connection.request("GET", "/", timeout_s=5.0)
        assert connection.is_open
        connection.close()
    assert answer.body == b"hello"


def test_an_answer_to_a_head_ends_with_its_headers_whatever_length_they_tell():
    with serving(answer_a_head) as server:
        connection = Connection(server.address)
        answers = [connection.request(method, "/", timeout_s=2.0) for method in ("HEAD", "GET")]
        connection.close()
    assert [(answer.status, bytes(answer.body)) for answer in answers] == [(200, b""), (200, b"hello")]


def test_an_interim_answer_is_not_taken_for_the_answer():
    with serving(answer_after_a_hint) as server:
        connection = Connection(server.address)
        answers = [connection.request("GET", "/", timeout_s=2.0) for _ in range(2)]
        connection.close()
    assert [(answer.status, bytes(answer.body)) for answer in answers] == [(200, b"hello")] * 2


def test_an_answer_with_a_status_that_has_no_body_is_not_waited_for():
    with serving(answer_without_a_body) as server:
        connection = Connection(server.address)
        answers = [connection.request("GET", "/", timeout_s=2.0) for _ in range(2)]
        connection.close()
    assert [(answer.status, bytes(answer.body)) for answer in answers] == [(204, b""), (304, b"")]


def test_a_port_that_nobody_listens_on_refuses():
    with pytest.raises(HttpError, match="connection refused"):
        Connection(dead_address()).request("GET", "/", timeout_s=5.0)
