"""The HTTP toxics: which requests feel them, and what is done to a request or to its answer.

The ``stream`` of such a toxic says what feels it. ``upstream``: the request, before the server has it. ``downstream``:
the answer; the server has done its work by then. So ``http_status`` upstream is a server that was never asked, and
downstream one whose answer got lost.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http import HTTPStatus
from math import inf
from typing import ClassVar

from chaos.proxy.toxics.base import GIB, HOUR_MS, Toxic, attribute
from chaos.proxy.toxics.http.framing import Head

WITHOUT_BODY = frozenset({204, 304})


@dataclass(slots=True)
class Count:
    """How many requests one toxic could have fallen on, over all connections: what ``first`` and ``every`` count by."""

    candidates: int = 0


@dataclass(slots=True)
class Treatment:
    """What is done to one message, by all the toxics that fall on it."""

    delay_ms: float = 0.0
    answer: Answer | None = None
    """Stands in for the message's answer."""
    abort_after_bytes: float = inf
    """The connection is broken off once so many bytes of the body have passed; at 0 before the head."""
    rate_bytes_s: float = inf
    corrupt_every_bytes: int = 0
    """One byte of so many of the body is changed; 0: none."""
    corrupt_rng: random.Random | None = None
    dropped_headers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that no server gave."""

    status: int
    body: bytes
    content_type: str

    def to_bytes(self, request: Head, *, last: bool) -> bytes:
        """Return it as it is sent to whoever made this request; ``last``: the connection ends after it."""
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [
            f"HTTP/1.1 {self.status} {reason}",
            f"Content-Type: {self.content_type}",
            *([] if self.status in WITHOUT_BODY else [f"Content-Length: {len(self.body)}"]),
            *(["Connection: close"] if last else []),
        ]
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        return head if request.method == "HEAD" else head + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpToxic(Toxic):
    """Base of the HTTP toxics: which requests feel it. All that is said must be so; the rest does not matter."""

    extension: ClassVar[bool] = True

    method: str = attribute("method", "")
    """``GET``, ``POST``, ..."""
    path: str = attribute("path", "")
    """A pattern for the whole path without the query, as of file names: ``/plays/*``."""
    header: str = attribute("header", "")
    """The name of a header that the request must have."""
    header_value: str = attribute("header_value", "")
    """A pattern for that header's whole value."""
    share: float = attribute("share", 1.0, least=0.0, most=1.0)
    """The share of these requests, drawn for each."""
    first: int = attribute("first", 0, least=0, most=GIB)
    """Only the first so many of these requests, counted over all connections; 0: all."""
    every: int = attribute("every", 0, least=0, most=GIB)
    """Only every n-th of these requests (3: every third); 0 and 1: all."""

    def problems_together(self) -> list[str]:
        """A pattern for a header's value needs the header's name."""
        if self.header_value and not self.header:
            return ["header_value is given without header, the name of the header that it is for"]
        return []

    def falls_on(self, request: Head, count: Count, rng: random.Random) -> bool:
        """Decide whether this request feels the toxic; it is counted if it could."""
        if self.method and request.method != self.method.upper():
            return False
        if self.path and not fnmatchcase(request.path, self.path):
            return False
        if self.header:
            value = request.headers.get(self.header.lower())
            if value is None or (self.header_value and not fnmatchcase(value, self.header_value)):
                return False
        count.candidates += 1
        if self.first and count.candidates > self.first:
            return False
        if self.every and count.candidates % self.every:
            return False
        return self.share >= 1.0 or rng.random() < self.share

    @abstractmethod
    def treat(self, treatment: Treatment, rng: random.Random) -> None:
        """Add what this toxic does to a message to what the toxics before it do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDelay(HttpToxic):
    """A request, or its answer, is held back for ``delay_ms``, give or take up to ``jitter_ms``."""

    kind: ClassVar[str] = "http_delay"
    delay_ms: int = attribute("delay_ms", 0, least=0, most=HOUR_MS)
    jitter_ms: int = attribute("jitter_ms", 0, least=0, most=HOUR_MS)

    def treat(self, treatment: Treatment, rng: random.Random) -> None:
        """Add the delay."""
        jitter_ms = rng.uniform(-self.jitter_ms, self.jitter_ms) if self.jitter_ms else 0.0
        treatment.delay_ms += max(0.0, self.delay_ms + jitter_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStatus(HttpToxic):
    """A request is answered with ``status`` and ``body`` in place of the server's answer."""

    kind: ClassVar[str] = "http_status"
    status: int = attribute("status", 503, least=200, most=599)
    body: str = attribute("body", "")
    content_type: str = attribute("content_type", "text/plain; charset=utf-8")

    def problems_together(self) -> list[str]:
        """A header is one line."""
        said = HttpToxic.problems_together(self)
        if not self.content_type.isprintable():
            said.append("content_type has characters that no header may have")
        if self.status in WITHOUT_BODY and self.body:
            said.append(f"an answer with the status {self.status} has no body")
        return said

    def treat(self, treatment: Treatment, rng: random.Random) -> None:  # noqa: ARG002 - the kinds share one signature
        """Let the first such answer stand."""
        if treatment.answer is None:
            body = self.body.encode("utf-8", "replace")
            treatment.answer = Answer(status=self.status, body=body, content_type=self.content_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAbort(HttpToxic):
    """The connection is broken off (RST) in place of a request or an answer, or within its body."""

    kind: ClassVar[str] = "http_abort"
    after_bytes: int = attribute("after_bytes", 0, least=0, most=GIB)

    def treat(self, treatment: Treatment, rng: random.Random) -> None:  # noqa: ARG002
        """Break off at the earliest of all."""
        treatment.abort_after_bytes = min(treatment.abort_after_bytes, self.after_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpThrottle(HttpToxic):
    """A request or an answer passes at ``rate_kb_per_s`` (1 KB is 1000 bytes)."""

    kind: ClassVar[str] = "http_throttle"
    rate_kb_per_s: int = attribute("rate_kb_per_s", 100, least=1, most=GIB // 1000)

    def treat(self, treatment: Treatment, rng: random.Random) -> None:  # noqa: ARG002
        """Keep to the slowest of all."""
        treatment.rate_bytes_s = min(treatment.rate_bytes_s, self.rate_kb_per_s * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCorrupt(HttpToxic):
    """One byte in each ``every_bytes`` of a body is changed, at a place drawn by lot; its length stays as it was."""

    kind: ClassVar[str] = "http_corrupt"
    every_bytes: int = attribute("every_bytes", 1000, least=1, most=GIB)

    def treat(self, treatment: Treatment, rng: random.Random) -> None:
        """Change the most of all."""
        known = treatment.corrupt_every_bytes
        treatment.corrupt_every_bytes = min(known, self.every_bytes) if known else self.every_bytes
        treatment.corrupt_rng = rng


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDropHeader(HttpToxic):
    """The headers called ``name`` are taken out of a request or an answer."""

    kind: ClassVar[str] = "http_drop_header"
    name: str = attribute("name", "")

    def problems_together(self) -> list[str]:
        """A header has a name; and without those that frame it, a message cannot be read any more."""
        said = HttpToxic.problems_together(self)
        if not self.name:
            said.append("name is missing: the header to take out")
        if self.name.lower() in {"content-length", "transfer-encoding"}:
            said.append(f"name is {self.name!r}, without which the other side cannot tell where the message ends")
        return said

    def treat(self, treatment: Treatment, rng: random.Random) -> None:  # noqa: ARG002
        """Take this header out as well."""
        treatment.dropped_headers.append(self.name)


HTTP_KINDS: Mapping[str, type[HttpToxic]] = {
    one.kind: one for one in (HttpDelay, HttpStatus, HttpAbort, HttpThrottle, HttpCorrupt, HttpDropHeader)
}
"""Every kind of HTTP toxic."""
