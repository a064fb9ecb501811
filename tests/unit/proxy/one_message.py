"""One message that one HTTP toxic falls on, in each form that a message can have."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chaos.proxy.toxics import End
from tests.unit.proxy.http_streams import chunked, understand
from tests.unit.proxy.talk import Talk, toxic

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = bytes(range(48, 98)) * 8
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY, [150, 7], extension=b";a=b", trailers=b"X-Sum: 1\r\n")
FORMS = {
    "request with a length": (b"POST / HTTP/1.1\r\nA: b\r\nContent-Length: 400\r\n\r\n" + BODY, "upstream"),
    "request in chunks": (b"POST / HTTP/1.1\r\nA: b\r\n" + CHUNKED, "upstream"),
    "answer with a length": (b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 400\r\n\r\n" + BODY, "downstream"),
    "answer in chunks": (b"HTTP/1.1 200 OK\r\nA: b\r\n" + CHUNKED, "downstream"),
    "answer until the end": (b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n" + BODY, "downstream"),
}  # fmt: skip


class One:
    """One message on its way, to the server or to the caller, that came at 1.0 s."""

    def __init__(self, form: str, feeding: Callable[[bytes], Iterable[bytes]], kind: str, **attributes: object) -> None:
        self.raw, self.stream = FORMS[form]
        self.toxic = toxic(kind, stream=self.stream, **attributes)
        self.talk = Talk(self.toxic)
        if self.stream == "upstream":
            self.talk.caller(*feeding(self.raw), at_s=1.0)
        else:
            self.talk.caller(GET).server(*feeding(self.raw), at_s=1.0)
            if "until" in form:
                self.talk.server(End.EOF)
        self.talk.finish()
        self.out = self.talk.to_server if self.stream == "upstream" else self.talk.to_caller
        self.heard = self.talk.server_heard if self.stream == "upstream" else self.talk.caller_heard
        self.end = self.talk.ends[self.stream == "downstream"]

    def body(self) -> bytes:
        methods = None if self.stream == "upstream" else ["GET"]
        ((_, body, _, _),) = understand([self.heard], methods=methods).messages
        return body
