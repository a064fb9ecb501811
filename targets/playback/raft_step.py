"""What goes into a step of `raft.RaftNode` and what comes out of it: its timing, its stored state, inputs, outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from targets.playback.raft_messages import Entry, Message


class Role(StrEnum):
    """What a node is at the moment."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """``heartbeat_s`` is the longest silence of a leader.

    A replica stands for election after a random time from ``election_s`` to twice that without a leader. Raises
    ValueError unless an election takes at least three heartbeats.
    """

    heartbeat_s: float = 0.1
    election_s: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s * 3 <= self.election_s < math.inf:
            raise ValueError(
                f"heartbeat_s is {self.heartbeat_s!r} and election_s {self.election_s!r}; "
                "an election timeout is at least three heartbeats, and a heartbeat over 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a node had on disk when it stopped, and begins with: a new one has term 0, no vote and no entries.

    ``applied`` is how far the log was applied, and thereby known to be committed.
    """

    term: int = 0
    vote: str | None = None
    entries: Sequence[Entry] = ()
    applied: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Input: ``sender`` said ``message``. It may come late, twice, or never."""

    sender: str
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Input: commands to append, as JSON text. Only a leader with room in its log takes them; see `Outputs.first`."""

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Input: time has passed."""


Input: TypeAlias = Received | Propose | Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    """What must be on disk before anything else is done: term and vote, and the log from ``first`` on.

    What stood from index ``first`` on is replaced by ``entries``; with ``first`` None the log stays as it is.
    """

    term: int
    vote: str | None
    first: int | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What to do after a step, in the order of the fields."""

    persist: Persist | None
    messages: tuple[tuple[str, Message], ...]
    """To whom, and what."""
    committed: tuple[tuple[int, Entry], ...]
    """Entries to apply, with their indices: each is given out once by a node, in order."""
    first: int | None
    """For `Propose`: the index of the first command, or None when the commands were refused."""
    wake_s: float
    """When to step with a `Tick`, unless another input comes sooner."""
