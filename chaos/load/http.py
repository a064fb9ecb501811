"""One HTTP/1.1 connection under gevent, with one limit of time for the whole of a request.

It is geventhttpclient's parser on a plain gevent socket. Its client is not used, because a chaos experiment meets just
what that one hides: it sends a GET again by itself on a connection that was cut, so that a fault is not seen; its
timeouts count from byte to byte, so that an answer that trickles in never times out; its test whether a connection is
still alive fails for file descriptors above 1023; and it looks every host up in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gevent
from gevent import socket
from geventhttpclient.response import HTTPResponseParser  # type: ignore[attr-defined,unused-ignore]

_BLOCK_BYTES = 65_536
_BODY_BYTES_MAX = 64 * 1024 * 1024
_SWITCHING_PROTOCOLS = 101
"""The one status below 200 that nothing in HTTP follows."""


class HttpError(Exception):
    """A request came to nothing; the text is a word or two on why: ``timed out``, ``connection refused``."""


class Answer(HTTPResponseParser):  # type: ignore[misc,unused-ignore]
    """The answer to a request with this ``method``, being parsed; status and body are there once it is ``complete``.

    What comes before it (103 Early Hints and other interim answers) is passed over.
    """

    def __init__(self, method: str) -> None:
        super().__init__()
        self._method = method
        self.complete = False
        self.body = bytearray()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.get_code())

    def _on_status(self, text: Any) -> None: ...

    def _on_message_begin(self) -> None: ...

    def _on_header_field(self, text: Any) -> None: ...

    def _on_header_value(self, text: Any) -> None: ...

    def _on_headers_complete(self) -> bool:
        """Return whether the answer ends here: one to a HEAD has no body, whatever length its headers tell."""
        return self._method == "HEAD"

    def _on_body(self, data: bytes) -> None:
        self.body += data

    def _on_message_complete(self) -> None:
        self.complete = self.status >= 200 or self.status == _SWITCHING_PROTOCOLS


class Connection:
    """A connection to ``address`` (``host:port``), opened by the first request and kept alive between requests."""

    def __init__(self, address: str) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._place = (host.strip("[]"), int(port))
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the last request left the connection open."""
        return self._socket is not None

    def request(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send a request and return its whole answer, after ``timeout_s`` at the latest, connecting included.

        Raises HttpError, and closes the connection, when there is no whole answer by then; it is sent once only.
        """
        timeout = gevent.Timeout.start_new(timeout_s)
        answer = None
        try:
            answer = self._exchange(method, _head(method, path, self.address, headers, body) + body)
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise
            raise HttpError("timed out") from None
        except ConnectionRefusedError:
            raise HttpError("connection refused") from None
        except ConnectionError:
            raise HttpError("connection reset") from None
        except OSError as error:
            raise HttpError(error.strerror or type(error).__name__) from None
        finally:
            timeout.close()
            if answer is None or not answer.should_keep_alive():
                self.close()
        return answer

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, method: str, message: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.socket(self._family, socket.SOCK_STREAM)
            self._socket.connect(self._place)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._socket
        connection.sendall(message)
        answer = Answer(method)
        while not answer.complete:
            data = connection.recv(_BLOCK_BYTES)
            try:
                answer.feed(data)
            except Exception as error:  # the parser's own error type is private to its package
                raise HttpError("unreadable answer" if data else "connection closed") from error
            if not data and not answer.complete:
                raise HttpError("connection closed")
            if len(answer.body) > _BODY_BYTES_MAX:
                raise HttpError("answer too long")
        return answer


def _head(method: str, path: str, address: str, headers: Mapping[str, str] | None, body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1\r\nHost: {address}\r\n"]
    if headers:
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")
