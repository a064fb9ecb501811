"""Cuts one direction of an HTTP/1.1 connection into messages without changing a byte (RFC 9112, sections 2, 6 and 7).

A splitter is fed chunks as they come and returns pieces: the head of a message once it is complete, then the parts of
its body, then ``Done``. The pieces' bytes, one after the other, are what was fed. It understands what is needed to find
where messages end and to choose among them, and nothing else; what it does not understand is ``NotHttp``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

HEAD_MAX_BYTES = 64 * 1024
_LINE_MAX_BYTES = 8 * 1024
_BEGINNING_BYTES = 1024  # by then another protocol has shown that it is one
_METHOD, _TARGET = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}", rb"[!-~\x80-\xff]+"
_REQUEST_LINE = re.compile(rb"(%s) (%s) HTTP/1\.([01])\r?\n" % (_METHOD, _TARGET))
_BEGUN_REQUEST_LINE = re.compile(rb"%s(?: (?:%s(?: [HTP/1.0\r]{0,9})?)?)?" % (_METHOD, _TARGET))
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_SCHEME_AND_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")


class NotHttp(Exception):  # noqa: N818 - it names what the stream is
    """The stream is not HTTP/1.1, or in a form that cannot be followed. ``rest`` is what no piece holds yet."""

    def __init__(self, rest: bytes) -> None:
        super().__init__("not HTTP/1.1")
        self.rest = rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a message: its first line and its headers."""

    raw: bytes
    """As it came, with the empty line at its end."""
    method: str
    """Empty in an answer."""
    target: str
    """What is asked for, with its query; empty in an answer."""
    status: int
    """0 in a request."""
    minor_version: int
    """1 for HTTP/1.1."""
    headers: Mapping[str, str]
    """By name in lower case; several of one name are joined by a comma."""

    @property
    def path(self) -> str:
        """The target without its query, and without scheme and host where a caller of a forward proxy says them."""
        path, _, _ = self.target.partition("?")
        stripped = _SCHEME_AND_HOST.sub("", path, count=1) if not path.startswith("/") else path
        return stripped or "/"

    @property
    def keeps_alive(self) -> bool:
        """Whether the sender means to go on with the connection after this message."""
        words = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        return "close" not in words if self.minor_version else "keep-alive" in words


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes of a message's body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes between those of the body, which say how long its chunks are, and trailers."""

    data: bytes


class Done(Enum):
    """The end of a message."""

    MESSAGE = "message"
    """The next one may follow."""


Piece = Head | Body | Frame | Done


class _State(Enum):
    HEAD = "head"
    FIXED = "fixed"  # a body of known length
    CHUNK_SIZE = "chunk size"
    CHUNK = "chunk"
    CHUNK_END = "chunk end"
    TRAILER = "trailer"
    UNTIL_END = "until end"  # a body that lasts until the connection ends


class Splitter:
    """Cuts one direction into messages.

    ``request_method`` is None for requests. For answers it returns the method of the request that the next answer
    belongs to; the length of an answer depends on it.
    """

    __slots__ = ("_at", "_buffer", "_left", "_request_method", "_scanned", "_state")

    def __init__(self, request_method: Callable[[], str] | None = None) -> None:
        self._buffer = b""
        self._at = 0  # what is before it is taken
        self._scanned = 0  # up to here there is no end of a head
        self._left = 0
        self._state = _State.HEAD
        self._request_method = request_method

    @property
    def between(self) -> bool:
        """Whether nothing of a message has come since the last one ended."""
        return self._state is _State.HEAD and self._at == len(self._buffer)

    @property
    def until_end(self) -> bool:
        """Whether the message under way lasts until the connection ends."""
        return self._state is _State.UNTIL_END

    def rest(self) -> bytes:
        """Return what was fed and is in no piece yet, and begin anew as if nothing had been fed."""
        rest = self._buffer[self._at :]
        self._buffer, self._at, self._scanned = b"", 0, 0
        self._left, self._state = 0, _State.HEAD
        return rest

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces that are complete now. Raises NotHttp; the pieces before it are good."""
        rest = self._buffer[self._at :]
        self._buffer, self._at, self._scanned = rest + data if rest else data, 0, max(0, self._scanned - self._at)
        while self._at < len(self._buffer):
            before = self._at
            yield from self._step()
            if self._at == before:
                return

    def _step(self) -> Iterator[Piece]:
        match self._state:
            case _State.HEAD:
                yield from self._head()
            case _State.FIXED | _State.CHUNK:
                data = self._take(min(self._left, len(self._buffer) - self._at))
                self._left -= len(data)
                yield Body(data)
                if self._left == 0 and self._state is _State.CHUNK:
                    self._state = _State.CHUNK_END
                elif self._left == 0:
                    yield from self._end()
            case _State.UNTIL_END:
                yield Body(self._take(len(self._buffer) - self._at))
            case _:
                yield from self._between_chunks()

    def _between_chunks(self) -> Iterator[Piece]:
        line = self._line()
        if not line:
            return
        empty = line in {b"\r\n", b"\n"}
        if self._state is _State.TRAILER:
            yield Frame(line)
            if empty:
                yield from self._end()
        elif self._state is _State.CHUNK_END:
            if not empty:
                raise NotHttp(line + self.rest())
            self._state = _State.CHUNK_SIZE
            yield Frame(line)
        else:
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                raise NotHttp(line + self.rest())
            self._left = int(size.group(1), 16)
            self._state = _State.CHUNK if self._left else _State.TRAILER
            yield Frame(line)

    def _head(self) -> Iterator[Piece]:
        buffer, at = self._buffer, self._at
        if self._request_method is None and buffer[at] in b"\r\n":  # RFC 9112, 2.2: empty lines are no request
            yield Frame(self._take(1))
            return
        end = _HEAD_END.search(buffer, max(at, self._scanned - 3))
        if end is None:
            self._scanned = len(buffer)
            if len(buffer) - at > HEAD_MAX_BYTES or not self._may_be_head():
                raise NotHttp(self.rest())
            return
        raw = buffer[at : end.end()]
        if len(raw) > HEAD_MAX_BYTES:
            raise NotHttp(self.rest())
        head = read_head(raw, answer=self._request_method is not None)
        if head is None:
            raise NotHttp(self.rest())
        try:
            self._left, self._state = self._body_of(head)
        except ValueError:
            raise NotHttp(self.rest()) from None
        self._take(len(raw))
        yield head
        if self._state is _State.HEAD:
            yield Done.MESSAGE

    def _may_be_head(self) -> bool:
        """Whether what came could become a head; so that the greeting of another protocol is not held for long."""
        start = self._buffer[self._at : self._at + _BEGINNING_BYTES]
        if self._request_method is not None:
            return any(start[: len(version)] == version[: len(start)] for version in (b"HTTP/1.1", b"HTTP/1.0"))
        return (_REQUEST_LINE.match if b"\n" in start else _BEGUN_REQUEST_LINE.fullmatch)(start) is not None

    def _body_of(self, head: Head) -> tuple[int, _State]:
        """Return the length of a message's body and how it ends (RFC 9112, 6.3). ValueError for one that lies."""
        if self._request_method is not None:
            method = self._request_method()
            if method == "HEAD" or head.status < 200 or head.status in {204, 304}:
                return 0, _State.HEAD
        coding = head.headers.get("transfer-encoding", "").lower()
        if coding:
            if coding.rpartition(",")[2].strip() == "chunked":
                return 0, _State.CHUNK_SIZE
            if self._request_method is None:
                raise ValueError(coding)
            return 0, _State.UNTIL_END
        length = head.headers.get("content-length")
        if length is not None:
            lengths = {one.strip() for one in length.split(",")}
            text = lengths.pop()
            if lengths or not (text.isascii() and text.isdigit()) or len(text) > 18:
                raise ValueError(length)
            return int(text), (_State.FIXED if int(text) else _State.HEAD)
        return 0, (_State.HEAD if self._request_method is None else _State.UNTIL_END)

    def _end(self) -> Iterator[Piece]:
        self._state = _State.HEAD
        yield Done.MESSAGE

    def _line(self) -> bytes:
        """Take a whole line; empty when there is none yet. A limit must not depend on how the bytes come."""
        end = self._buffer.find(b"\n", self._at) + 1
        if (end or len(self._buffer)) - self._at > _LINE_MAX_BYTES:
            raise NotHttp(self.rest())
        return self._take(end - self._at) if end else b""

    def _take(self, size: int) -> bytes:
        taken = self._buffer[self._at : self._at + size]
        self._at += size
        return taken


def begins_request(data: bytes) -> bool:
    """Whether these bytes begin with the first line of an HTTP/1 request."""
    return _REQUEST_LINE.match(data) is not None


def read_head(raw: bytes, *, answer: bool) -> Head | None:
    """Read a whole head; None when it is none."""
    match = (_STATUS_LINE if answer else _REQUEST_LINE).match(raw)
    if match is None:
        return None
    headers: dict[str, str] = {}
    for ended in raw[match.end() :].decode("latin-1").split("\n"):
        line = ended.removesuffix("\r")
        name, colon, value = line.partition(":")
        if not line:
            break
        # Folded lines, spaces before the colon, lone carriage returns: forbidden all, and read in more than one way.
        if not colon or not name or name != name.strip() or "\r" in line:
            return None
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    if answer:
        minor, status = match.groups()
        return Head(raw=raw, method="", target="", status=int(status), minor_version=int(minor), headers=headers)
    method, target, minor = match.groups()
    return Head(
        raw=raw,
        method=method.decode("ascii"),
        target=target.decode("latin-1"),
        status=0,
        minor_version=int(minor),
        headers=headers,
    )


def without_header(raw: bytes, name: str) -> bytes:
    """Return a head without the headers of this name."""
    lines = raw.splitlines(keepends=True)
    wanted = name.lower().encode("latin-1", "replace")
    return b"".join(line for number, line in enumerate(lines)
                    if number == 0 or line.partition(b":")[0].lower() != wanted)  # fmt: skip
