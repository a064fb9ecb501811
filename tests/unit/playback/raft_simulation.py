"""Replicas of a log in simulated time, on a network and machines that fail in every way Raft must endure.

Messages are lost, delayed, doubled and overtaken; directions between replicas are cut; replicas are paused, killed in
the middle of carrying out a step, and restarted with their disk. After every step Raft's safety properties are checked
against what all replicas have ever done (figure 3 of the paper).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from targets.playback.raft import RaftNode
from targets.playback.raft_messages import NOTHING, Entry, Message, message_from_json, message_to_json
from targets.playback.raft_step import Input, Outputs, Persist, Propose, Received, Role, Stored, Tick, Timing

TIMING = Timing(heartbeat_s=0.1, election_s=0.5)
_WAKE_MIN_S = 0.0001
"""A node that wants to be woken at once, for ever, does not stop time."""


@dataclass
class Disk:
    """What outlives a kill: the journal, and how far the state machine is."""

    term: int = 0
    vote: str | None = None
    entries: list[Entry] = field(default_factory=list)
    applied: int = 0

    def save(self, persist: Persist) -> None:
        """Carry out what a step wants on disk."""
        self.term, self.vote = persist.term, persist.vote
        if persist.first is not None:
            self.entries[persist.first - 1 :] = persist.entries


@dataclass
class Machine:
    """One replica's machine. ``node`` is None while the process is dead."""

    disk: Disk = field(default_factory=Disk)
    node: RaftNode | None = None
    wake: int = 0
    """Number of the wake-up that counts; earlier ones are void."""
    paused: bool = False
    held_back: list[Input] = field(default_factory=list)
    proposed: dict[int, str] = field(default_factory=dict)
    """Commands that wait for their outcome here, by index."""
    leading_term: int = 0


class Simulation:
    """A cluster of ``size`` replicas; whatever happens follows from ``seed``."""

    def __init__(self, seed: int, size: int = 3) -> None:
        self.rng = random.Random(seed)
        self.now_s = 100.0
        self.names = [f"store-{number}" for number in range(1, size + 1)]
        self.machines = {name: Machine() for name in self.names}
        self.loss = 0.0
        self.doubling = 0.0
        self.delay_max_s = 0.01
        self.crash_in_step = 0.0
        self.cut: set[tuple[str, str]] = set()
        self.committed: list[Entry] = []
        """What any replica has ever applied, by index."""
        self.acknowledged: list[str] = []
        self.leader_of: dict[int, str] = {}
        self.written: dict[tuple[int, int], tuple[str, int]] = {}
        """For each (index, term) ever written: its command, and the term of the entry before."""
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count(1)
        for name in self.names:
            self.start(name)

    # Time

    def after(self, delay_s: float, action: Callable[[], object]) -> None:
        """Have ``action`` done in ``delay_s``."""
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._numbers), action))

    def run(self, duration_s: float) -> None:
        """Let ``duration_s`` pass."""
        end_s = self.now_s + duration_s
        while self._events and self._events[0][0] <= end_s:
            at_s, _, action = heapq.heappop(self._events)
            self.now_s = max(self.now_s, at_s)
            action()
        self.now_s = end_s

    # Processes

    def start(self, name: str) -> None:
        """Start the process of a replica, with what is on its disk."""
        machine = self.machines[name]
        disk = machine.disk
        machine.node = RaftNode(
            name,
            self.names,
            timing=TIMING,
            rng=random.Random(self.rng.random()),
            stored=Stored(term=disk.term, vote=disk.vote, entries=tuple(disk.entries), applied=disk.applied),
            now_s=self.now_s,
        )
        self.step(name, Tick())

    def kill(self, name: str) -> None:
        """Kill it; its state machine may have flushed less than it applied."""
        machine = self.machines[name]
        machine.disk.applied = max(0, machine.disk.applied - self.rng.choice((0, 0, 1, 5)))
        self.machines[name] = Machine(disk=machine.disk, wake=next(self._numbers))

    def resume(self, name: str) -> None:
        """Let a paused process go on, with what has arrived meanwhile."""
        machine = self.machines[name]
        machine.paused = False
        held_back, machine.held_back = machine.held_back, []
        for given in [Tick(), *held_back] if self.rng.random() < 0.5 else held_back:
            self.step(name, given)

    def heal(self) -> None:
        """End every fault."""
        self.loss = self.doubling = self.crash_in_step = 0.0
        self.delay_max_s = 0.01
        self.cut.clear()
        for name, machine in self.machines.items():
            if machine.paused:
                self.resume(name)
        for name, machine in list(self.machines.items()):
            if machine.node is None:
                self.start(name)

    # Steps

    def step(self, name: str, given: Input) -> Outputs | None:
        """Step a node and carry out what it says, unless it is killed on the way."""
        machine = self.machines[name]
        node = machine.node
        if node is None:
            return None
        if machine.paused:
            machine.held_back.append(given)
            return None
        led_term = node.term if node.role is Role.LEADER else None
        outputs = node.step(self.now_s, given)
        doom = self.rng.randrange(4) if self.rng.random() < self.crash_in_step else None
        if doom == 0:
            self.kill(name)
            return None
        if outputs.persist is not None:
            if led_term == node.term and outputs.persist.first is not None:
                assert outputs.persist.first > len(machine.disk.entries), "a leader only appends"
            machine.disk.save(outputs.persist)
            self._check_written(machine.disk, outputs.persist)
        if doom == 1:
            self.kill(name)
            return None
        self._check_leader(name, machine, node)
        for to, message in outputs.messages:
            self._send(name, to, message)
        if doom == 2:
            self.kill(name)
            return None
        self._settle(machine, node, given, outputs)
        number = machine.wake = next(self._numbers)
        self.after(min(max(_WAKE_MIN_S, outputs.wake_s - self.now_s), 60.0), lambda: self._wake(name, number))
        if doom == 3:
            self.kill(name)
        return outputs

    def _wake(self, name: str, number: int) -> None:
        if self.machines[name].wake == number:
            self.step(name, Tick())

    def _settle(self, machine: Machine, node: RaftNode, given: Input, outputs: Outputs) -> None:
        """Do as the driver does: note what was proposed, apply what is committed, acknowledge."""
        leading_term = node.term if node.role is Role.LEADER else 0
        if leading_term != machine.leading_term:
            machine.proposed.clear()
            machine.leading_term = leading_term
        if isinstance(given, Propose) and outputs.first is not None:
            machine.proposed.update(enumerate(given.commands, start=outputs.first))
        for index, entry in outputs.committed:
            self._check_applied(index, entry)
            machine.disk.applied = index
            command = machine.proposed.pop(index, None)
            if command is not None:
                assert entry.command == command, "a command is acknowledged that is not in the log"
                self.acknowledged.append(command)

    def propose(self, command: str) -> bool:
        """Propose to somebody who believes to lead; whether it was taken."""
        leaders = [
            name
            for name, one in self.machines.items()
            if one.node is not None and not one.paused and one.node.role is Role.LEADER
        ]
        if not leaders:
            return False
        outputs = self.step(self.rng.choice(leaders), Propose(commands=(command,)))
        return outputs is not None and outputs.first is not None

    def _send(self, sender: str, to: str, message: Message) -> None:
        assert message_from_json(message_to_json(message)) == message
        copies = 2 if self.rng.random() < self.doubling else 1
        for _ in range(copies):
            if self.rng.random() >= self.loss:
                delay_s = self.rng.uniform(0.0005, self.delay_max_s)
                self.after(delay_s, lambda: self._deliver(sender, to, message))

    def _deliver(self, sender: str, to: str, message: Message) -> None:
        if (sender, to) not in self.cut:
            self.step(to, Received(sender=sender, message=message))

    # Safety

    def _check_leader(self, name: str, machine: Machine, node: RaftNode) -> None:
        if node.role is not Role.LEADER:
            return
        if node.term not in self.leader_of:
            held = machine.disk.entries[: len(self.committed)]
            assert held == self.committed, f"leader completeness: {name} lacks committed entries in term {node.term}"
        assert self.leader_of.setdefault(node.term, name) == name, f"election safety: term {node.term}"
        assert (machine.disk.term, machine.disk.vote) == (node.term, name)

    def _check_written(self, disk: Disk, persist: Persist) -> None:
        if persist.first is None:
            return
        previous = disk.entries[persist.first - 2].term if persist.first > 1 else 0
        for index, entry in enumerate(persist.entries, start=persist.first):
            fact = (entry.command, previous)
            assert self.written.setdefault((index, entry.term), fact) == fact, f"log matching: entry {index}"
            assert entry.term >= previous
            previous = entry.term

    def _check_applied(self, index: int, entry: Entry) -> None:
        assert index <= len(self.committed) + 1, "an entry was applied before the one in front of it"
        if index == len(self.committed) + 1:
            self.committed.append(entry)
        assert self.committed[index - 1] == entry, f"state machine safety: entry {index}"

    # Looking at it

    def leaders(self) -> list[str]:
        """Who leads at the moment, in its own opinion."""
        return [name for name, one in self.machines.items() if one.node is not None and one.node.role is Role.LEADER]

    def the_leader(self, *, every_s: float = 0.1) -> str:
        """Who leads, once exactly one does; looked for ``every_s``."""
        for _ in range(int(10.0 / every_s)):
            if len(self.leaders()) == 1:
                return self.leaders()[0]
            self.run(every_s)
        raise AssertionError("no leader within ten seconds")

    def node(self, name: str) -> RaftNode:
        """The node of a replica that is running."""
        node = self.machines[name].node
        assert node is not None
        return node

    def isolate(self, name: str) -> None:
        """Cut a replica off, in both directions."""
        for other in self.names:
            self.cut |= {(name, other), (other, name)}

    def commands(self) -> list[str]:
        """The commands applied so far, in order."""
        return [entry.command for entry in self.committed if entry.command != NOTHING]
