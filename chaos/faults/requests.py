"""Faults for single HTTP requests: chosen by method, path, header, share or count; nobody else feels anything.

    caller --request--> [ proxy: does it fall on this one? ] --request--> server
    caller <--answer--- [ and on its answer?               ] <--answer--- server

``stream`` says what feels the fault: ``upstream`` the request, before the server has it; ``downstream`` the answer,
when the server has done its work. The edges must speak plain HTTP/1.1, and the proxy must be the embedded one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Stream
from chaos.faults.network import GIB, HOUR_MS
from chaos.faults.settings import setting
from chaos.faults.trouble import Extension

MANY = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFault(Extension):
    """Base of the faults for requests: which of them feel it. All that is said must be so."""

    stream: Stream = setting(  # noqa: RUF009 - a field
        "upstream: the request feels it, before the server has it; downstream: the answer", Stream.UPSTREAM
    )
    method: str = setting("only requests with this method", "", extension="method")
    path: str = setting("only paths of this pattern, like /plays/*, without the query", "", extension="path")
    header: str = setting("only requests that have this header", "", extension="header")
    header_value: str = setting("only when its value is of this pattern, like test-*", "", extension="header_value")
    share: float = setting("only this share of them", 1.0, most=1.0, share=True, extension="share")
    first: int = setting("only the first so many of them on each edge; 0: all", 0, most=MANY, extension="first")
    every: int = setting(
        "only every n-th of them on each edge (3: every third); 0: each", 0, most=MANY, extension="every"
    )

    def direction(self) -> Stream:
        """Return the setting."""
        return self.stream

    def check_together(self) -> Sequence[tuple[str, str]]:
        """A pattern for a header's value needs the header."""
        if self.header_value and not self.header:
            return [("header_value", "needs 'header', the name of the header that it is for")]
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDelay(HttpFault):
    """Holds back the requests it falls on, or their answers."""

    kind: ClassVar[str] = "http_delay"

    delay_ms: int = setting("how long", most=HOUR_MS, extension="delay_ms")
    jitter_ms: int = setting("the delay varies by up to this much, up and down", 0, most=HOUR_MS, extension="jitter_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStatus(HttpFault):
    """Answers the requests it falls on with a status and a body of its own, in place of the server."""

    kind: ClassVar[str] = "http_status"

    status: int = setting("the status, like 503", least=200, most=599, extension="status")
    body: str = setting("the body", "", extension="body")
    content_type: str = setting("what the body is", "text/plain; charset=utf-8", extension="content_type")

    def check_together(self) -> Sequence[tuple[str, str]]:
        """Some answers have no body."""
        said = list(HttpFault.check_together(self))
        if self.body and self.status in {204, 304}:
            said.append(("body", f"an answer with the status {self.status} has none"))
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAbort(HttpFault):
    """Breaks the connection off (TCP reset) in place of the requests it falls on, or of their answers."""

    kind: ClassVar[str] = "http_abort"

    after_bytes: int = setting("so much of the body passes before", 0, most=GIB, extension="after_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpThrottle(HttpFault):
    """Lets the requests it falls on, or their answers, pass slowly."""

    kind: ClassVar[str] = "http_throttle"

    rate_kb_per_s: int = setting("how fast", least=1, most=GIB // 1000, extension="rate_kb_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCorrupt(HttpFault):
    """Changes bytes in the bodies of the requests it falls on, or of their answers; lengths stay."""

    kind: ClassVar[str] = "http_corrupt"

    every_bytes: int = setting("one byte in so many is changed", 1000, least=1, most=GIB, extension="every_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDropHeader(HttpFault):
    """Takes a header out of the requests it falls on, or of their answers."""

    kind: ClassVar[str] = "http_drop_header"

    name: str = setting("the name of the header to take out", extension="name")

    def check_together(self) -> Sequence[tuple[str, str]]:
        """Without the headers that frame it, a message cannot be read any more."""
        said = list(HttpFault.check_together(self))
        if self.name.lower() in {"content-length", "transfer-encoding"}:
            said.append(("name", f"without {self.name} nobody can tell where the message ends"))
        return said
