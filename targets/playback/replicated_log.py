"""A log of commands that the replicas of a service agree on, and the state machine that each of them applies it to.

::

    propose(command) --> queue --> raft.RaftNode.step --> journal (fsync) --> peers, POST /raft --> a majority has it
                                        ^                                                               |
         result <-- StateMachine.apply <'------------------- committed <---------------------------------'

Proposals that arrive together share a step, a flush to disk and a message to each peer. What a peer answers comes in
the answer to the request. One request to a peer is under way at a time, cut off after an election timeout, and at most
one more waits, the newest: Raft repeats whatever is lost. So a dead or slow peer holds up nobody.

A result says that the command is in the log for good and applied here. A failure is one of two: `NoLeader`, it was not
done; `Undecided`, nobody knows yet. After both it may be proposed again, and the state machine knows it by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from asyncio import Future
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import aiohttp

from chaos.resilience import BadRequest, BreakerSettings, CommandSettings, Deadline, Refusal
from chaos.resilience.web import Rejected
from targets.playback.raft import RaftNode
from targets.playback.raft_journal import Journal
from targets.playback.raft_messages import (
    COMMAND_BYTES_MAX,
    NOTHING,
    Message,
    message_from_json,
    message_to_json,
)
from targets.playback.raft_step import Input, Outputs, Propose, Received, Role, Tick, Timing
from targets.playback.service import Context, json_bytes
from targets.playback.transport import FAILURES, CallFailed, json_of

FORWARDED = "X-Forwarded-By"
"""Header of a command that a replica passes on to the leader: it is not passed on again."""

PROPOSE_S = 2.0
"""How long a proposal is waited for."""

_PROPOSALS_MAX = 1_024
_READERS_MAX = 1_024
_RAFT_BREAKER = BreakerSettings(open_s=0.25)
_FORWARD_SETTINGS = CommandSettings(timeout_s=PROPOSE_S, max_concurrent=256, breaker=BreakerSettings(open_s=0.5))


class StateMachine(Protocol):
    """What the log is applied to."""

    @property
    def applied(self) -> int:
        """The index of the last entry applied, which is kept in one transaction with what the entry did."""

    def apply(self, index: int, command: Mapping[str, object]) -> dict[str, object]:
        """Carry out ``command`` and return its result. Indices grow, with gaps; one that was applied does nothing.

        Every replica must come to the same state and result. An exception is our own mistake and ends the process:
        what is wrong with a command belongs into the result.
        """


class NoLeader(Exception):  # noqa: N818 - it names what is missing
    """There is no leader that could be reached, or it has too much to do: the command was not carried out."""


class Undecided(Exception):  # noqa: N818 - it names what the outcome is
    """The command may be carried out or not. Repeated with the same id it is carried out once."""


class ReplicatedLog:
    """One replica of the log; its peers are the instances of its own service that it calls.

    ``path`` is the journal's file. With the settings ``store_heartbeat_s`` and ``store_election_s`` it is a `Timing`.
    Raises sqlite3.Error for a journal that cannot be used, ValueError for impossible settings or a journal that has
    less than was applied.
    """

    def __init__(self, context: Context, machine: StateMachine, path: Path) -> None:
        config = context.config
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._machine = machine
        usual = Timing()
        self._timing = Timing(
            heartbeat_s=context.number("store_heartbeat_s", usual.heartbeat_s),
            election_s=context.number("store_election_s", usual.election_s),
        )
        addresses = {one.instance: one.address for one in config.calls.get(config.service, ())}
        addresses.pop(config.instance, None)
        self._journal = Journal(path)
        try:
            self._node = RaftNode(
                config.instance,
                [config.instance, *addresses],
                timing=self._timing,
                rng=context.rng,
                stored=self._journal.load(applied=machine.applied),
                now_s=self._loop.time(),
            )
        except BaseException:
            self._journal.close()
            raise
        self._applied = machine.applied
        self._queued: list[tuple[str, Future[dict[str, object]]]] = []
        self._undecided: dict[int, Future[dict[str, object]]] = {}
        self._readers: list[tuple[int, Future[None]]] = []
        self._stopped = False
        self._timer = self._loop.call_later(0.0, self._wake)
        self._peers = {name: _Peer(context, name, address, self._timing) for name, address in addresses.items()}
        self._tasks = [self._loop.create_task(self._watched(self._talk(peer))) for peer in self._peers.values()]

    @property
    def leader(self) -> str | None:
        """The instance that leads, as far as this replica knows."""
        return self._node.leader

    def status(self) -> dict[str, object]:
        """Return what this replica is and knows: ``leader``, ``term``, ``role``, ``applied``."""
        node = self._node
        return {"leader": node.leader, "term": node.term, "role": node.role, "applied": self._applied}

    async def propose(self, command: Mapping[str, object], *, forwarded_by: str | None = None) -> dict[str, object]:
        """Have ``command`` carried out once it is in the log for good; return its result, with its ``index`` there.

        A state machine that knows the command already may say the index of the first time instead.

        A replica that does not lead asks the leader, unless ``forwarded_by`` says that another has done that already.
        Raises ValueError for a command that is too large, NoLeader and Undecided.
        """
        text = json_bytes(command).decode()
        if len(text) > COMMAND_BYTES_MAX:
            raise ValueError(f"the command has {len(text)} bytes; at most {COMMAND_BYTES_MAX} are allowed")
        if self._stopped:
            raise NoLeader("this replica has stopped")
        if self._node.role is not Role.LEADER:
            leader = None if forwarded_by else self._peers.get(self._node.leader or "")
            if leader is None:
                raise NoLeader("no leader is known here at the moment")
            return await self._forward(leader, command)
        if len(self._queued) + len(self._undecided) >= _PROPOSALS_MAX:
            raise NoLeader(f"{_PROPOSALS_MAX} commands wait already")
        if not self._queued:
            # What arrives with it is read in the same turn of the loop, and goes along.
            self._loop.call_soon(self._propose_queued)
        result: Future[dict[str, object]] = self._loop.create_future()
        self._queued.append((text, result))
        deadline = Deadline.current()
        try:
            async with asyncio.timeout(PROPOSE_S if deadline is None else min(PROPOSE_S, deadline.remaining_s())):
                return await result
        except TimeoutError:
            raise Undecided("no majority of the replicas has taken the command in time") from None

    def receive(self, body: bytes) -> list[dict[str, object]]:
        """Take a message of a peer, the body of ``POST /raft``; return what to answer. Raises ValueError, NoLeader."""
        match json.loads(body):
            case {"from": str(sender), "message": message} if sender in self._peers:
                outputs = self._step(Received(sender=sender, message=message_from_json(message)), answering=sender)
                return [message_to_json(answer) for to, answer in outputs.messages if to == sender]
            case _:
                raise ValueError(f"the body must be {{'from': one of {', '.join(self._peers)}, 'message': ...}}")

    async def wait_applied(self, index: int, timeout_s: float) -> bool:
        """Wait until the entry at ``index`` is applied here, at most ``timeout_s``; return whether it is."""
        if index <= self._applied:
            return True
        self._readers = [(one, reader) for one, reader in self._readers if not reader.done()]
        if len(self._readers) >= _READERS_MAX:
            return False
        reader: Future[None] = self._loop.create_future()
        self._readers.append((index, reader))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await reader
        return index <= self._applied

    async def close(self) -> None:
        """Stop taking part. Whatever is undecided fails."""
        self._stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._journal.close()

    def _stop(self) -> None:
        self._stopped = True
        self._timer.cancel()
        self._fail_all()
        for _, reader in self._readers:
            if not reader.done():
                reader.set_result(None)

    # Steps of the node, carried out at once and in order

    def _wake(self) -> None:
        with contextlib.suppress(_Stopped):
            self._step(Tick())

    def _propose_queued(self) -> None:
        queued, self._queued = [one for one in self._queued if not one[1].done()], []
        if queued and not self._stopped:
            with contextlib.suppress(_Stopped):
                self._step(Propose(commands=tuple(text for text, _ in queued)), results=[one for _, one in queued])

    def _step(
        self, given: Input, *, results: Sequence[Future[dict[str, object]]] = (), answering: str | None = None
    ) -> Outputs:
        """Step the node and carry out what it says; but messages to ``answering`` are left to the caller.

        A failure in here (a full disk, a state machine that raises) ends the process: what the node believes and what
        is on disk are no longer the same. Raises _Stopped then, and when this replica has stopped before.
        """
        if self._stopped:
            raise _Stopped("this replica has stopped")
        try:
            term = self._node.term
            outputs = self._node.step(self._loop.time(), given)
            if outputs.persist is not None:
                self._journal.save(outputs.persist)
            for to, message in outputs.messages:
                if to != answering:
                    self._peers[to].send(message)
            if results:
                self._await_decision(outputs.first, results)
            if self._undecided and (self._node.role is not Role.LEADER or self._node.term != term):
                self._fail_all()
            self._apply(outputs)
        except Exception as error:
            self._fail(error)
            for result in results:
                _settle(result, Undecided("this replica failed before the command was decided"))
            raise _Stopped("this replica has failed") from error
        self._timer.cancel()
        if outputs.wake_s < math.inf:
            self._timer = self._loop.call_at(outputs.wake_s, self._wake)
        return outputs

    def _await_decision(self, first: int | None, results: Sequence[Future[dict[str, object]]]) -> None:
        for offset, result in enumerate(results):
            if first is None:
                _settle(result, NoLeader("this replica does not lead any more, or its log is full"))
            else:
                self._undecided[first + offset] = result

    def _apply(self, outputs: Outputs) -> None:
        for index, entry in outputs.committed:
            if entry.command != NOTHING:
                result = self._machine.apply(index, cast("Mapping[str, object]", json.loads(entry.command)))
                waiting = self._undecided.pop(index, None)
                if waiting is not None:
                    _settle(waiting, {"index": index, **result})
            self._applied = index
        if outputs.committed and self._readers:
            for index, reader in self._readers:
                if index <= self._applied and not reader.done():
                    reader.set_result(None)
            self._readers = [(index, reader) for index, reader in self._readers if index > self._applied]

    def _fail_all(self) -> None:
        """Leadership is lost: whether what was proposed stays in the log is for the next leader to say."""
        for result in self._undecided.values():
            _settle(result, Undecided("this replica lost its leadership before the command was decided"))
        self._undecided.clear()
        for _, result in self._queued:
            _settle(result, NoLeader("this replica does not lead any more"))
        self._queued.clear()

    def _fail(self, error: Exception) -> None:
        self._stop()
        if not self._context.failed.done():
            self._context.failed.set_exception(error)

    # Peers

    async def _talk(self, peer: _Peer) -> None:
        """Carry messages to a peer and its answers back, one at a time."""
        while True:
            message = await peer.next_message()
            try:
                answers = await peer.call(message)
            except (*FAILURES, BadRequest):
                continue
            for answer in answers:
                self._step(Received(sender=peer.name, message=answer))

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``; a mistake of ours in it ends the process."""
        try:
            await work
        except _Stopped:
            return
        except Exception as error:  # noqa: BLE001 - handed to who serves us
            self._fail(error)

    async def _forward(self, leader: _Peer, command: Mapping[str, object]) -> dict[str, object]:
        try:
            return await leader.forward(command)
        except Rejected as rejected:
            raise ValueError(rejected.body[:200].decode(errors="replace")) from rejected
        except (Refusal, aiohttp.ClientConnectorError) as refused:
            raise NoLeader(f"the leader {leader.name} does not take the command: {refused}") from refused
        except FAILURES as failure:
            raise Undecided(f"the leader {leader.name} has not answered: {failure!r}") from failure


class _Stopped(NoLeader):
    """The replica takes part no more."""


class _Peer:
    """Another replica: how to call it, and the message that waits for it."""

    def __init__(self, context: Context, name: str, address: str, timing: Timing) -> None:
        self.name = name
        self._http = context.http
        self._address = address
        self._own_name = context.config.instance
        self._timeout_s = timing.election_s
        self._waiting: Message | None = None
        self._any_waiting = asyncio.Event()
        self.call = context.isolation.command(
            f"{context.config.service}.raft[{name}]",
            self._call,
            settings=CommandSettings(timeout_s=None, max_concurrent=1, breaker=_RAFT_BREAKER),
        )
        self.forward = context.isolation.command(
            f"{context.config.service}.forward[{name}]", self._forward, settings=_FORWARD_SETTINGS
        )

    def send(self, message: Message) -> None:
        """Have ``message`` sent soon, in the place of one that still waits."""
        self._waiting = message
        self._any_waiting.set()

    async def next_message(self) -> Message:
        """Wait for a message to send, and take it."""
        await self._any_waiting.wait()
        self._any_waiting.clear()
        message, self._waiting = self._waiting, None
        assert message is not None, "the event is set together with the message"
        return message

    async def _call(self, message: Message) -> list[Message]:
        # Not the command's timeout: agreement needs one, even in a run whose isolation is switched off.
        async with asyncio.timeout(self._timeout_s):
            reply = await self._http.post(
                f"http://{self._address}/raft", json={"from": self._own_name, "message": message_to_json(message)}
            )
        match json_of(reply):
            case {"messages": [*answers]}:
                try:
                    return [message_from_json(answer) for answer in answers]
                except ValueError as error:
                    raise CallFailed(str(error)) from error
            case _:
                raise CallFailed(f"{self.name} does not answer as a replica does")

    async def _forward(self, command: Mapping[str, object]) -> dict[str, object]:
        reply = await self._http.post(
            f"http://{self._address}/commands", json=command, headers={FORWARDED: self._own_name}
        )
        match json_of(reply):
            case dict() as result:
                return result
            case _:
                raise CallFailed(f"{self.name} does not answer a command with an object")


def _settle(future: Future[dict[str, object]], outcome: dict[str, object] | Exception) -> None:
    """Give a proposal its outcome, unless nobody waits for it any more."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
