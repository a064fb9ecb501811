"""What replicas of a replicated log say to each other: four messages of Raft, as frozen records and as JSON.

Field names follow the paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014), with
the pre-vote of Ongaro's thesis (section 9.6). Reading a message checks it completely, for it comes from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

COMMAND_BYTES_MAX = 8 * 1024
"""The longest command, in bytes of its JSON text."""

BATCH_BYTES_MAX = 20 * 1024
"""The most bytes of commands in one message. Quoted as JSON within JSON they at most double, which still fits into the
64 KiB that a service takes in."""

BATCH_ENTRIES_MAX = 128
"""The most entries in one message."""

NOTHING = ""
"""The command of an entry that a new leader appends in order to commit what is before it; it is applied to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log: the term of the leader that made it, and a command as JSON text (ASCII), or ``NOTHING``."""

    term: int
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """The leader's: ``entries`` follow the one at ``previous_index``; everything up to ``commit`` is committed.

    Without entries it is a heartbeat.
    """

    term: int
    previous_index: int
    previous_term: int
    entries: tuple[Entry, ...]
    commit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """The answer to ``Append``.

    ``matched`` is the index up to which the log agrees with the leader's, None when the entry at ``previous_index``
    (repeated here) was another one or missing. Then ``hint`` is the last index at which the logs may agree.
    """

    term: int
    previous_index: int
    matched: int | None
    hint: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRequest:
    """A candidate's: will you vote for me in ``term``? With ``pre``: would you, if I stood? That changes nothing yet.

    ``last_index`` and ``last_term`` are those of the candidate's last entry.
    """

    term: int
    last_index: int
    last_term: int
    pre: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """The answer to ``VoteRequest``. ``term`` is the voter's; with ``pre`` and ``granted`` the one asked for."""

    term: int
    granted: bool
    pre: bool


Message: TypeAlias = Append | Appended | VoteRequest | Vote


def message_to_json(message: Message) -> dict[str, object]:
    """Return the form of ``message`` that travels."""
    match message:
        case Append():
            return {
                "kind": "append",
                "term": message.term,
                "previous_index": message.previous_index,
                "previous_term": message.previous_term,
                "entries": [[entry.term, entry.command] for entry in message.entries],
                "commit": message.commit,
            }
        case Appended():
            return {
                "kind": "appended",
                "term": message.term,
                "previous_index": message.previous_index,
                "matched": message.matched,
                "hint": message.hint,
            }
        case VoteRequest():
            return {
                "kind": "vote_request",
                "term": message.term,
                "last_index": message.last_index,
                "last_term": message.last_term,
                "pre": message.pre,
            }
        case Vote():
            return {"kind": "vote", "term": message.term, "granted": message.granted, "pre": message.pre}


def message_from_json(data: Any) -> Message:
    """Read what ``message_to_json`` wrote. Raises ValueError for anything else."""
    match data:
        case {
            "kind": "append",
            "term": term,
            "previous_index": index,
            "previous_term": previous,
            "entries": [*entries],
            "commit": commit,
        } if len(entries) <= BATCH_ENTRIES_MAX:
            return Append(
                term=_count(term),
                previous_index=_count(index),
                previous_term=_count(previous),
                entries=tuple(map(_entry, entries)),
                commit=_count(commit),
            )
        case {"kind": "appended", "term": term, "previous_index": index, "matched": matched, "hint": hint}:
            return Appended(
                term=_count(term),
                previous_index=_count(index),
                matched=None if matched is None else _count(matched),
                hint=_count(hint),
            )
        case {"kind": "vote_request", "term": term, "last_index": index, "last_term": last, "pre": bool(pre)}:
            return VoteRequest(term=_count(term), last_index=_count(index), last_term=_count(last), pre=pre)
        case {"kind": "vote", "term": term, "granted": bool(granted), "pre": bool(pre)}:
            return Vote(term=_count(term), granted=granted, pre=pre)
        case _:
            raise ValueError(f"not a message between replicas: {str(data)[:100]}")


def _entry(data: object) -> Entry:
    match data:
        case [term, str(command)] if len(command) <= COMMAND_BYTES_MAX:
            return Entry(term=_count(term), command=command)
        case _:
            raise ValueError(f"not an entry of the log: {str(data)[:100]}")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"not a term or an index: {str(value)[:40]!r}; it is a whole number of 0 or more")
    return value
