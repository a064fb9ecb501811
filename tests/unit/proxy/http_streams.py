"""Streams of HTTP messages for tests: written down, made at random, and cut at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from chaos.proxy.toxics.http.framing import Body, Done, Frame, Head, NotHttp, Splitter

LINE = b"\r\n"


@dataclass(frozen=True)
class Said:
    """A message as it was sent, and what it means."""

    raw: bytes
    body: bytes
    head: str
    """``GET /path`` or ``200``."""
    until_end: bool = False


@dataclass(frozen=True)
class Understood:
    """What a splitter made of a stream."""

    messages: list[tuple[Head, bytes, bytes, bool]]
    """Of each: its head, its body, what is between the parts of its body, and whether it is complete."""
    raw: bytes
    """Of all pieces, one after the other, and what was left at the end."""
    not_http: bool


def understand(chunks: Sequence[bytes], *, methods: Sequence[str] | None = None) -> Understood:
    """Feed a splitter; with the ``methods`` of the requests it is one of answers."""
    waiting = list(methods or [])
    splitter = Splitter(None if methods is None else lambda: waiting[0] if waiting else "GET")
    messages: list[tuple[Head, bytes, bytes, bool]] = []
    raw = b""
    not_http = False
    for chunk in chunks:
        if not_http:
            raw += chunk
            continue
        try:
            for piece in splitter.feed(chunk):
                match piece:
                    case Head():
                        raw += piece.raw
                        messages.append((piece, b"", b"", False))
                    case Body(part) | Frame(part):
                        assert part, "an empty piece"
                        raw += part
                        if messages and not messages[-1][3]:
                            head, body, frame, _ = messages[-1]
                            is_body = isinstance(piece, Body)
                            messages[-1] = (head, body + part * is_body, frame + part * (not is_body), False)
                    case Done():
                        head, body, frame, _ = messages[-1]
                        messages[-1] = (head, body, frame, True)
                        if waiting and head.status >= 200:
                            waiting.pop(0)
        except NotHttp as rest:
            raw += rest.rest
            not_http = True
    return Understood(messages, raw + splitter.rest(), not_http)


def heads(understood: Understood) -> list[str]:
    """The first lines, in short."""
    return [f"{head.method} {head.target}" if head.method else str(head.status)
            for head, _, _, _ in understood.messages]  # fmt: skip


def chunked(
    body: bytes, sizes: Sequence[int], *, extension: bytes = b"", trailers: bytes = b"", line: bytes = LINE
) -> bytes:
    """A body in chunks of these sizes, as often as needed."""
    parts, at, number = [], 0, 0
    while at < len(body):
        size = sizes[number % len(sizes)]
        part = body[at : at + size]
        parts += [b"%x" % len(part), extension, line, part, line]
        at += size
        number += 1
    return b"".join([*parts, b"0", extension, line, trailers, line])


def cut(data: bytes, points: Sequence[float]) -> list[bytes]:
    """Cut data at these shares of its length."""
    places = sorted({round(point * len(data)) for point in points} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


CUTS = st.lists(st.floats(0.0, 1.0), max_size=25)

_NAMES = st.sampled_from([b"Host", b"X-Account", b"Accept", b"x-odd_name", b"Cookie"])
_VALUES = st.text(st.characters(codec="latin-1", exclude_characters="\r\n", exclude_categories=("Cc",)), max_size=20)
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES.map(lambda text: text.encode("latin-1"))), max_size=4)
_BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n0\r\n\r\n"]),
)
_LINES = st.sampled_from([b"\r\n", b"\r\n", b"\n"])
_EXTENSIONS = st.sampled_from([b"", b";a", b" ; name=value", b';q="a;b"'])
_TRAILERS = st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\nC: d\r\n"])


@st.composite
def _framed(draw: st.DrawFn, *, may_be_missing: bool) -> tuple[bytes, bytes, bytes]:
    """A header that says how long the body is, the body as it is sent, and the body as it is meant."""
    body, line = draw(_BODIES), draw(_LINES)
    kind = draw(st.sampled_from(["length", "chunked", "missing"] if may_be_missing else ["length", "chunked"]))
    if kind == "missing":
        return b"", b"", b""
    if kind == "length":
        name = draw(st.sampled_from([b"Content-Length: ", b"content-length:"]))
        return name + str(len(body)).encode() + line, body, body
    sent = chunked(
        body,
        draw(st.lists(st.integers(1, 30), min_size=1, max_size=4)),
        extension=draw(_EXTENSIONS),
        trailers=draw(_TRAILERS),
        line=line,
    )
    coding = draw(st.sampled_from([b"chunked", b"Chunked", b"gzip, chunked"]))
    return b"Transfer-Encoding: " + coding + line, sent, body


@st.composite
def requests(draw: st.DrawFn, *, minor: int | None = None) -> Said:
    """Any request."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH"]))
    target = draw(st.sampled_from(["/", "/plays/7?x=1&y=%20", "*", "http://host/a", "/\xe9"]))
    version = draw(st.integers(0, 1)) if minor is None else minor
    length, sent, body = draw(_framed(may_be_missing=True))
    line = draw(_LINES)
    headers = b"".join(name + b": " + value + line for name, value in draw(_HEADERS))
    empty = draw(st.sampled_from([b"", b"", b"\r\n", b"\n\r\n"]))
    first = f"{method} {target} HTTP/1.{version}".encode("latin-1")
    return Said(empty + first + line + headers + length + line + sent, body, f"{method} {target}")


@st.composite
def answers(draw: st.DrawFn, *, method: str, may_last: bool = False) -> Said:
    """Any final answer to a request of this method; ``may_last``: until the end of the connection."""
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 503]))
    length, sent, body = draw(_framed(may_be_missing=may_last))
    if method == "HEAD" or status in {204, 304}:
        sent = body = b""
    elif not length:
        sent = body = draw(_BODIES)
    line = draw(_LINES)
    headers = b"".join(name + b": " + value + line for name, value in draw(_HEADERS))
    reason = draw(st.sampled_from([b" OK", b" ", b"", b" R\xe9ason with words"]))
    first = b"HTTP/1.%d %d%s" % (draw(st.integers(0, 1)), status, reason)
    until_end = not length and not (method == "HEAD" or status in {204, 304})
    return Said(first + line + headers + length + line + sent, body, str(status), until_end)
