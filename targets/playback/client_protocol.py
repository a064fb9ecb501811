"""What passes between the playback client and whoever drives it: requests out, replies in, events to tell.

    client.run(now)  --- HttpRequest | ProbeAll | Wait  | SendAside --->  driver (gevent, asyncio, a test's simulation)
                     <-- Reply       | Probed   | Woken | Woken ---------

The client does no input and no output and reads no clock; every reply brings the moment it came at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

OCAS_MAX = 10
"""The backend offers this many OCAs; what a longer list has beyond is not looked at."""

CHUNKS_MAX = 10_000
"""No session is longer than this; a ticket that says so is not believed."""


class RequestKind(StrEnum):
    """What a request is for; the name it is counted under."""

    PLAY = "play"
    CHUNK = "chunk"
    ACTIVITY = "activity"
    SIGN_UP = "sign_up"
    LOG_IN = "log_in"
    CANCEL = "cancel"
    HOME = "home"
    SEARCH = "search"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """Send this to ``address`` (``host:port``) and return a `Reply`, after ``timeout_s`` at the latest, all included.

    ``fresh`` asks for a connection of its own; without it the one that is open to ``address`` is used again, if any.
    A request that fails ends its connection.
    """

    kind: RequestKind
    address: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout_s: float
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAll:
    """GET ``path`` from all ``addresses`` at once and return `Probed`.

    It ends when all have answered, ``grace_s`` after the first good answer, or after ``timeout_s``; what has not come
    by then counts as no answer.
    """

    addresses: tuple[str, ...]
    path: str
    timeout_s: float
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Return `Woken` at the moment ``until_s``, or a little later."""

    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAside:
    """Begin to send ``request`` beside everything else, and return `Woken` at once.

    It has a connection of its own, is sent once, and whatever comes of it is forgotten.
    """

    request: HttpRequest


Request = HttpRequest | ProbeAll | Wait | SendAside


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to an `HttpRequest`. ``status`` 0: there was none, and ``error`` says in a word or two why."""

    now_s: float
    status: int = 0
    body: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The answers to a `ProbeAll`: for each address the seconds its answer took, None where there was no good one."""

    now_s: float
    latencies_s: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """The end of a `Wait`, or the beginning of a `SendAside`."""

    now_s: float


Answer = Reply | Probed | Woken


@dataclass(frozen=True, slots=True, kw_only=True)
class Oca:
    """An Open Connect Appliance as the backend names it; ``address`` is ``host:port``."""

    id: str
    address: str
    isp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The backend's permission to play: what to fetch, and from whom."""

    session: str
    title: str
    chunks: int
    chunk_s: float
    ladder_kbps: tuple[int, ...]
    ocas: tuple[Oca, ...]
    degraded: tuple[str, ...]
    """The commands that were answered by a fallback; empty when all is as it should be."""

    @classmethod
    def from_json(cls, body: bytes) -> Ticket:
        """Read the body of a good answer to a play request. Raises ValueError when it is not one."""
        try:
            fields = json.loads(body)
            ticket = cls(
                session=str(fields["session"]),
                title=str(fields["title"]),
                chunks=int(fields["chunks"]),
                chunk_s=float(fields["chunk_s"]),
                ladder_kbps=tuple(sorted(int(kbps) for kbps in fields["ladder_kbps"])),
                ocas=tuple(_read_oca(item) for item in fields["ocas"][:OCAS_MAX]),
                degraded=tuple(str(name) for name in fields.get("degraded", ())),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The answer to the play request cannot be read: {error!r}.") from error
        if not (0 < ticket.chunks <= CHUNKS_MAX and ticket.chunk_s > 0 and ticket.ladder_kbps and ticket.ocas):
            raise ValueError("The answer to the play request names no chunks, no bitrates or no OCAs.")
        return ticket


def _read_oca(fields: Mapping[str, object]) -> Oca:
    address = urlsplit(str(fields["url"])).netloc
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(f"an OCA's url is http://host:port, not {fields['url']!r}")
    return Oca(id=str(fields["id"]), address=address, isp=str(fields.get("isp", "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first frame was shown, ``play_delay_s`` after the moment the play was due."""

    now_s: float
    play_delay_s: float
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The backend said no, as it may: the subscriber's plan or the title's licence does not allow it."""

    now_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The play never showed a frame."""

    now_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Seconds played and seconds stalled since the event before this one; ``kbit`` as in `Account`."""

    since_s: float
    now_s: float
    played_s: float
    stalled_s: float
    kbit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """The client left one OCA for another (or came back to the same one after all had failed)."""

    now_s: float
    left: str
    taken: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A session that had started is over, and how it was.

    ``completed`` is False when the viewer gave up on a picture that stood still; who has seen all of it, or has pressed
    stop, has completed it. ``kbit`` is as in `Account`. ``paused_s`` and ``seek_s`` (spent waiting for the first
    picture after a seek) are no part of ``stalled_s``: see `client_buffer`.
    """

    now_s: float
    completed: bool
    play_delay_s: float
    played_s: float
    stalled_s: float
    paused_s: float
    seek_s: float
    kbit: float
    stalls: int
    switches: int

    @property
    def rebuffer_ratio(self) -> float:
        """Share of stalls in the time that was to be playing time, 0 to 1."""
        whole_s = self.played_s + self.stalled_s
        return self.stalled_s / whole_s if whole_s > 0.0 else 0.0

    @property
    def mean_kbps(self) -> float:
        """Mean bitrate of the video that was played, in real-world kbit/s; 0 when there was none."""
        return self.kbit / self.played_s if self.played_s > 0.0 else 0.0


ClientEvent = Started | Refused | Failed | Watched | Switched | Ended
Tell = Callable[[ClientEvent], None]
"""Where the client's events go."""
