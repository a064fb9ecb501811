"""Raft without IO: how replicas agree on one log of commands although any minority of them may stop at any moment.

::

                       election timeout                 a majority would vote            a majority votes
    FOLLOWER (starts) -----------------> PRE_CANDIDATE ---------------------> CANDIDATE ----------------> LEADER
       ^                                    |                                    |                          |
       '------------------------------------+------------------------------------+--------------------------'
              a leader of this term is heard, a higher term is seen, or no majority answered for a timeout

`RaftNode.step(now_s, input)` takes one input and returns an `Outputs`: what must be on disk, what is to be sent once it
is, what is committed, and when to wake the node again. The caller carries these out in that order and at once: the node
counts on it. With it, an entry that a majority has on disk and that was called committed is in the log of every later
leader, at the same place, whoever is killed.

Beyond the paper's core:

* Pre-vote (thesis, 9.6): a replica that was paused or cut off first asks whether it could win; until then its term
  does not grow, so that its return deposes nobody.
* Who has heard of a leader within the election timeout gives no vote away (thesis, 4.2.3).
* A leader that no majority has answered for an election timeout steps down (thesis, 6.2), and refuses writes rather
  than letting them hang.
* Only entries of the leader's own term are committed by counting (paper, 5.4.2), so a new leader appends an empty one.

The members never change while the node lives. The log is kept whole: `LOG_ENTRIES_MAX` bounds it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from targets.playback.raft_messages import (
    BATCH_BYTES_MAX,
    BATCH_ENTRIES_MAX,
    COMMAND_BYTES_MAX,
    NOTHING,
    Append,
    Appended,
    Entry,
    Message,
    Vote,
    VoteRequest,
)
from targets.playback.raft_step import Input, Outputs, Persist, Propose, Received, Role, Stored, Tick, Timing

LOG_ENTRIES_MAX = 200_000
"""The most entries in a log, some 60 MB of memory: over half an hour of 100 commands a second. Further proposals are
refused."""


@dataclass(slots=True)
class _Progress:
    """What a leader knows of one other member."""

    next: int
    matched: int = 0
    commit_sent: int = 0
    heard_s: float = 0.0
    awaiting: bool = False


@dataclass(slots=True)
class _Pending:
    """What the step in progress has come to."""

    messages: list[tuple[str, Message]] = field(default_factory=list)
    state_changed: bool = False
    first_changed: int | None = None
    first_proposed: int | None = None


class RaftNode:
    """One replica. ``members`` are the names of all, ``name`` among them; one alone leads itself.

    Raises ValueError for members without ``name`` or twice the same, and for a log shorter than what was applied.
    """

    def __init__(
        self, name: str, members: Sequence[str], *, timing: Timing, rng: random.Random, stored: Stored, now_s: float
    ) -> None:
        if name not in members or len(set(members)) != len(members):
            raise ValueError(f"members are {list(members)}; they are all different, and {name!r} is one of them")
        if stored.applied > len(stored.entries):
            raise ValueError(f"{stored.applied} entries were applied, but the log has only {len(stored.entries)}")
        self.name = name
        self.term = stored.term
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        """The leader of this term, as far as it is known."""
        self.commit = stored.applied
        self._vote = stored.vote
        self._log = list(stored.entries)
        self._peers = tuple(member for member in members if member != name)
        self._majority = len(members) // 2 + 1
        self._timing = timing
        self._rng = rng
        self._given_out = stored.applied
        self._leader_heard_s = -math.inf
        self._due_s = now_s
        """When to stand for election, or as a leader: when the next heartbeat is due."""
        if self._peers:
            self._await_leader(now_s)
        self._votes: set[str] = set()
        self._progress: dict[str, _Progress] = {}
        self._pending = _Pending()

    @property
    def last_index(self) -> int:
        """The index of the last entry of the log, committed or not; 0 when it is empty."""
        return len(self._log)

    def step(self, now_s: float, given: Input) -> Outputs:
        """Take one input at ``now_s`` (seconds, never going back) and return what is to be done."""
        # First of all: who was paused while it led must not take itself for a leader.
        if self.role is Role.LEADER and now_s >= self._quorum_until_s():
            self._follow(now_s, leader=None)
        match given:
            case Received(sender=sender, message=message):
                self._receive(now_s, sender, message)
            case Propose(commands=commands):
                self._propose(commands)
            case Tick():
                pass
        if now_s >= self._due_s:
            if self.role is Role.LEADER:
                self._beat(now_s)
            else:
                self._stand(now_s, pre=True)
        return self._outputs()

    def _outputs(self) -> Outputs:
        pending, self._pending = self._pending, _Pending()
        persist = None
        if pending.state_changed or pending.first_changed is not None:
            first = pending.first_changed
            entries = () if first is None else tuple(self._log[first - 1 :])
            persist = Persist(term=self.term, vote=self._vote, first=first, entries=entries)
        given_out, self._given_out = self._given_out, self.commit
        return Outputs(
            persist=persist,
            messages=tuple(pending.messages),
            committed=tuple(enumerate(self._log[given_out : self.commit], start=given_out + 1)),
            first=pending.first_proposed,
            wake_s=min(self._due_s, self._quorum_until_s()) if self.role is Role.LEADER else self._due_s,
        )

    def _receive(self, now_s: float, sender: str, message: Message) -> None:
        if sender not in self._peers:
            return
        match message:
            case VoteRequest():
                self._consider(now_s, sender, message)
            case Vote(pre=True, granted=True):
                if self.role is Role.PRE_CANDIDATE and message.term == self.term + 1:
                    self._count_vote(now_s, sender)
            case Vote():
                self._see_term(now_s, message.term)
                if self.role is Role.CANDIDATE and message.granted and message.term == self.term:
                    self._count_vote(now_s, sender)
            case Append():
                self._take(now_s, sender, message)
            case Appended():
                self._see_term(now_s, message.term)
                if self.role is Role.LEADER and message.term == self.term:
                    self._note(now_s, sender, message)

    def _see_term(self, now_s: float, term: int) -> None:
        """Follow whoever leads ``term`` when it is higher than ours."""
        if term > self.term:
            self.term = term
            self._vote = None
            self._pending.state_changed = True
            self._follow(now_s, leader=None)

    def _follow(self, now_s: float, *, leader: str | None) -> None:
        self.role = Role.FOLLOWER
        self.leader = leader
        self._await_leader(now_s)

    def _await_leader(self, now_s: float) -> None:
        self._due_s = now_s + self._timing.election_s * (1.0 + self._rng.random())

    # Elections

    def _stand(self, now_s: float, *, pre: bool) -> None:
        """Stand for election in the next term; with ``pre`` only ask who would vote for us."""
        if not pre:
            self.term += 1
            self._vote = self.name
            self._pending.state_changed = True
        self.role = Role.PRE_CANDIDATE if pre else Role.CANDIDATE
        self.leader = None
        self._votes = set()
        self._await_leader(now_s)
        request = VoteRequest(
            term=self.term + 1 if pre else self.term,
            last_index=self.last_index,
            last_term=self._term_at(self.last_index),
            pre=pre,
        )
        self._pending.messages += [(peer, request) for peer in self._peers]
        self._count_vote(now_s, self.name)

    def _count_vote(self, now_s: float, voter: str) -> None:
        self._votes.add(voter)
        if len(self._votes) < self._majority:
            return
        if self.role is Role.PRE_CANDIDATE:
            self._stand(now_s, pre=False)
        else:
            self._lead(now_s)

    def _consider(self, now_s: float, candidate: str, request: VoteRequest) -> None:
        """Answer a candidate."""
        led = self.role is Role.LEADER or now_s < self._leader_heard_s + self._timing.election_s
        if not led and not request.pre:
            self._see_term(now_s, request.term)
        up_to_date = (request.last_term, request.last_index) >= (self._term_at(self.last_index), self.last_index)
        if request.pre:
            granted = not led and up_to_date and request.term > self.term
        else:
            granted = not led and up_to_date and request.term == self.term and self._vote in {None, candidate}
        if granted and not request.pre:
            self._vote = candidate
            self._pending.state_changed = True
            self._await_leader(now_s)
        term = request.term if granted else self.term
        self._pending.messages.append((candidate, Vote(term=term, granted=granted, pre=request.pre)))

    def _lead(self, now_s: float) -> None:
        self.role = Role.LEADER
        self.leader = self.name
        self._progress = {peer: _Progress(next=self.last_index + 1, heard_s=now_s) for peer in self._peers}
        self._extend([NOTHING])
        self._beat(now_s)

    # Leading

    def _propose(self, commands: Sequence[str]) -> None:
        assert all(command != NOTHING and len(command) <= COMMAND_BYTES_MAX for command in commands)
        if self.role is Role.LEADER and self.last_index + len(commands) <= LOG_ENTRIES_MAX:
            self._pending.first_proposed = self.last_index + 1
            self._extend(commands)
            self._replicate()

    def _extend(self, commands: Sequence[str]) -> None:
        self._changed_from(self.last_index + 1)
        self._log += [Entry(term=self.term, command=command) for command in commands]
        self._advance()

    def _beat(self, now_s: float) -> None:
        """Tell every member that we lead. Whatever was under way to it may be lost, and is sent again."""
        self._due_s = now_s + self._timing.heartbeat_s if self._peers else math.inf
        for peer, progress in self._progress.items():
            self._send(peer, progress)

    def _replicate(self) -> None:
        """Send what there is to send to members from whom no answer is awaited."""
        for peer, progress in self._progress.items():
            news = progress.next <= self.last_index or progress.commit_sent < min(self.commit, progress.matched)
            if news and not progress.awaiting:
                self._send(peer, progress)

    def _send(self, peer: str, progress: _Progress) -> None:
        previous = progress.next - 1
        entries: list[Entry] = []
        size = 0
        for entry in self._log[previous : previous + BATCH_ENTRIES_MAX]:
            size += len(entry.command)
            if size > BATCH_BYTES_MAX:
                break
            entries.append(entry)
        progress.awaiting = True
        progress.commit_sent = self.commit
        message = Append(
            term=self.term,
            previous_index=previous,
            previous_term=self._term_at(previous),
            entries=tuple(entries),
            commit=self.commit,
        )
        self._pending.messages.append((peer, message))

    def _note(self, now_s: float, peer: str, answer: Appended) -> None:
        """Take in a member's answer."""
        progress = self._progress[peer]
        progress.heard_s = now_s
        progress.awaiting = False
        if answer.matched is not None:
            progress.matched = max(progress.matched, answer.matched)
            progress.next = max(progress.next, progress.matched + 1)
            self._advance()
        elif answer.previous_index == progress.next - 1:  # else it answers something older
            progress.next = max(progress.matched, min(answer.hint, answer.previous_index - 1)) + 1
        self._replicate()

    def _advance(self) -> None:
        """Commit what a majority has, if its last entry is of our own term."""
        matched = sorted([self.last_index, *(progress.matched for progress in self._progress.values())], reverse=True)
        index = matched[self._majority - 1]
        if index > self.commit and self._term_at(index) == self.term:
            self.commit = index

    def _quorum_until_s(self) -> float:
        """Return until when enough members have answered lately for us to lead."""
        if not self._peers:
            return math.inf
        heard_s = sorted((progress.heard_s for progress in self._progress.values()), reverse=True)
        return heard_s[self._majority - 2] + self._timing.election_s

    # Following

    def _take(self, now_s: float, leader: str, message: Append) -> None:
        """Take in what a leader says, unless its time is over."""
        self._see_term(now_s, message.term)
        previous = message.previous_index
        matched: int | None = None
        hint = self.last_index
        if message.term == self.term:
            assert self.role is not Role.LEADER, f"two leaders in term {self.term}: {leader} and {self.name}"
            self._leader_heard_s = now_s
            self._follow(now_s, leader=leader)
            if previous <= self.last_index and self._term_at(previous) == message.previous_term:
                matched = previous + len(message.entries)
                self._splice(previous, message.entries)
                self.commit = max(self.commit, min(message.commit, matched))
            elif previous <= self.last_index:
                hint = self._before_term_of(previous)
        answer = Appended(term=self.term, previous_index=previous, matched=matched, hint=hint)
        self._pending.messages.append((leader, answer))

    def _splice(self, previous: int, entries: Sequence[Entry]) -> None:
        """Have ``entries`` follow index ``previous``; what is there and agrees stays, with what follows it."""
        for offset, entry in enumerate(entries):
            index = previous + 1 + offset
            if index > self.last_index or self._term_at(index) != entry.term:
                assert index > self.commit, f"entry {index} is committed and was to be replaced"
                self._changed_from(index)
                self._log[index - 1 :] = entries[offset:]
                return

    def _before_term_of(self, index: int) -> int:
        """Return the last index before the term of the entry at ``index`` began, but nothing before the commit."""
        term = self._term_at(index)
        while index > self.commit and self._term_at(index) == term:
            index -= 1
        return index

    def _changed_from(self, index: int) -> None:
        first = self._pending.first_changed
        self._pending.first_changed = index if first is None else min(first, index)

    def _term_at(self, index: int) -> int:
        return self._log[index - 1].term if index else 0
