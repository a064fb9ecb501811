"""Activity events: what a subscriber did, as a record that travels to the pipeline through a Valkey stream.

A play that started, a chunk that came late, a play that ended, a search, a sign-up, a cancellation. An event's id is
``<emitter>-<number>``: the emitter is a process's life (instance and moment of its start), the number counts up from 1.
So ids are unique without chance, and a process's events that were counted fit into a bitmap (see `event_stream`).
What is told again by somebody else, because an answer was lost, has an id that is made of what it is about: the play,
or the account.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from targets.playback.seed_data import title_index
from targets.playback.validation import Plan

EVENT_BYTES_MAX = 1_024
WATCHED_S_MAX = 86_400.0
TEXT_MAX = 64

_ID = re.compile(r"(?P<emitter>[\w.-]{1,80})-(?P<number>[1-9]\d{0,14})", re.ASCII)
_NAME = re.compile(r"[\w.@+-]{1,80}", re.ASCII)
_COUNTRY = re.compile(r"[\w-]{1,40}", re.ASCII)


Choice = TypeVar("Choice", bound=StrEnum)


class Kind(StrEnum):
    """What happened."""

    PLAY_STARTED = "play_started"
    CHUNK_STALLED = "chunk_stalled"
    STOPPED = "stopped"
    SEARCHED = "searched"
    SIGNED_UP = "signed_up"
    CANCELLED = "cancelled"


_ABOUT_A_TITLE = frozenset({Kind.PLAY_STARTED, Kind.CHUNK_STALLED, Kind.STOPPED})


class BadEvent(ValueError):  # noqa: N818 - it names what is wrong
    """An event that is none: the text says which field is wrong, what it was and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityEvent:
    """One thing that a subscriber did. Raises BadEvent for a field outside its limits.

    ``at_s`` is the moment on the machine's monotonic clock, which all event loops of a machine share. ``title`` is
    there exactly when the event is about one. ``watched_s`` belongs to ``stopped``: how long was watched. ``reason``
    (why it stalled, stopped or was cancelled) and ``query`` (what was searched for) are free text of at most 64
    printable characters.
    """

    id: str
    kind: Kind
    at_s: float
    subscriber: str
    country: str
    plan: Plan
    title: str | None = None
    watched_s: float | None = None
    reason: str | None = None
    query: str | None = None

    def __post_init__(self) -> None:
        _check("id", self.id, "<emitter>-<number>", allowed=_ID.fullmatch(self.id) is not None)
        _check("at_s", self.at_s, "a number of seconds, 0 or more", allowed=_within(self.at_s, math.inf))
        _check(
            "subscriber",
            self.subscriber,
            "1 to 80 letters, digits or any of _.@+-",
            allowed=_NAME.fullmatch(self.subscriber) is not None,
        )
        _check(
            "country",
            self.country,
            "1 to 40 letters, digits or any of _-",
            allowed=_COUNTRY.fullmatch(self.country) is not None,
        )
        if self.kind in _ABOUT_A_TITLE:
            known = self.title is not None and title_index(self.title) is not None
            _check("title", self.title, f"needed by {self.kind}, such as title-0001", allowed=known)
        else:
            _check("title", self.title, f"not part of {self.kind}", allowed=self.title is None)
        if self.kind is Kind.STOPPED:
            watched = self.watched_s is not None and _within(self.watched_s, WATCHED_S_MAX)
            _check("watched_s", self.watched_s, f"from 0 to {WATCHED_S_MAX:.0f} seconds", allowed=watched)
        else:
            _check("watched_s", self.watched_s, f"not part of {self.kind}", allowed=self.watched_s is None)
        for name, text in (("reason", self.reason), ("query", self.query)):
            allowed = text is None or (len(text) <= TEXT_MAX and text.isprintable())
            _check(name, text, f"at most {TEXT_MAX} printable characters", allowed=allowed)

    @property
    def emitter(self) -> str:
        """The process's life that emitted this event."""
        return self.id.rpartition("-")[0]

    @property
    def number(self) -> int:
        """The position of this event among those of its emitter, from 1."""
        return int(self.id.rpartition("-")[2])

    def to_bytes(self) -> bytes:
        """Return the form that lies in the stream: JSON, fields that are None left out; never more than is allowed."""
        fields = {
            "id": self.id,
            "kind": self.kind,
            "at_s": self.at_s,
            "subscriber": self.subscriber,
            "country": self.country,
            "plan": self.plan,
            "title": self.title,
            "watched_s": self.watched_s,
            "reason": self.reason,
            "query": self.query,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(given, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ActivityEvent:
        """Read what ``to_bytes`` wrote. Raises BadEvent for anything else."""
        if len(data) > EVENT_BYTES_MAX:
            raise BadEvent(f"an event has at most {EVENT_BYTES_MAX} bytes, not {len(data)}")
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadEvent(f"an event is a JSON object: {error}") from error
        if not isinstance(fields, dict):
            raise BadEvent(f"an event is a JSON object, not {type(fields).__name__}")
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise BadEvent(f"an event has no field {unknown[0][:40]!r}; it has {', '.join(cls.__dataclass_fields__)}")
        return cls(
            id=_text(fields, "id"),
            kind=_one_of(Kind, _text(fields, "kind"), "kind"),
            at_s=_number(fields, "at_s"),
            subscriber=_text(fields, "subscriber"),
            country=_text(fields, "country"),
            plan=_one_of(Plan, _text(fields, "plan"), "plan"),
            title=_text(fields, "title") if "title" in fields else None,
            watched_s=_number(fields, "watched_s") if "watched_s" in fields else None,
            reason=_text(fields, "reason") if "reason" in fields else None,
            query=_text(fields, "query") if "query" in fields else None,
        )


def play_event_id(session: str, number: int) -> str:
    """Return the id of an event of a play: ``number`` 0 is that it started, those from 1 are its player's reports.

    The same for every try of a play with an ``Idempotency-Key``, for the session is. So all that is counted of a play
    is in one bitmap, which the events' server keeps for a week: 190 bytes. No emitter's name begins like this, and no
    report has the number 0, so no player can pass for a service.
    """
    return f"play.{session}-{number + 1}"


def _check(name: str, value: object, needed: str, *, allowed: bool) -> None:
    if not allowed:
        raise BadEvent(f"event.{name} is {str(value)[:80]!r}: {needed}")


def _within(value: float, limit: float) -> bool:
    return math.isfinite(value) and 0 <= value <= limit


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadEvent(f"event.{name} is {value!r:.80}: a text is needed")
    return value


def _number(fields: dict[str, object], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadEvent(f"event.{name} is {value!r:.80}: a number is needed")
    try:
        return float(value)
    except OverflowError as error:
        raise BadEvent(f"event.{name} has too many digits") from error


def _one_of(choices: type[Choice], value: str, name: str) -> Choice:
    try:
        return choices(value)
    except ValueError as error:
        raise BadEvent(f"event.{name} is {value[:40]!r}: one of {', '.join(choices)}") from error
