"""A link: one caller's connection joined to one connection to the server behind the proxy.

A link is two pipes, one for each direction. A pipe without toxics writes what it reads straight to the other side:
no queue, no task, no copy. With toxics, what it reads goes through a ``Chain``, and one timer wakes the pipe when
the next thing leaves the chain:

    caller -> Side.data_received -> Pipe upstream   -> (Chain) -> Side.transport.write -> server
    caller <- Side.transport.write <- (Chain) <- Pipe downstream <- Side.data_received <- server

A side that reads slowly stops the other side from being read (backpressure), so memory stays within the chain's
limits. A side that ends its stream gets answers still (half-closed), until both have ended or one is gone.

HTTP toxics share one ``Conversation`` on a link: a stage of its own, the first of each chain (see ``toxics.http``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from chaos.clock import monotonic_s
from chaos.proxy.addresses import is_loopback
from chaos.proxy.pipe import Pipe, Side
from chaos.proxy.toxics import Conversation, Direction, HttpToxic, InstalledToxic

CONNECT_TIMEOUT_S = 60.0
_HTTP = "\0http"
"""The name of the HTTP stage in a chain; no toxic is called so."""


class LinkOwner(Protocol):
    """What a link needs to know from its proxy."""

    def toxics(self) -> Sequence[InstalledToxic]:
        """Return the toxics that a new link meets, in order."""

    def upstream_address(self) -> tuple[str, int]:
        """Return where the server is; ValueError when the address cannot be one."""

    def link_opened(self, link: Link) -> int:
        """Note a link; return its number, 1 for the proxy's first."""

    def refuses(self, number: int) -> bool:
        """Whether the link of this number is to be broken off at once."""

    def link_closed(self, link: Link) -> None:
        """Forget a link: both its connections are gone."""


class Link:
    """One accepted connection, its connection to the server, and the two pipes between them."""

    __slots__ = ("_connecting", "_owner", "caller", "conversation", "downstream", "joined", "number", "opened_s",
                 "server", "upstream")  # fmt: skip

    def __init__(self, owner: LinkOwner) -> None:
        self._owner = owner
        self._connecting: asyncio.Task[None] | None = None
        self.number = 0
        self.opened_s = 0.0
        self.joined = False
        """Whether the connection to the server stands; before that the link has met no toxic."""
        self.conversation: Conversation | None = None
        """What is said in HTTP; there while HTTP toxics are, and until their last message is through."""
        self.caller = Side(self, self._connect_to_server)
        self.server = Side(self, self._join)
        self.upstream = Pipe(self, self.caller, self.server)
        self.downstream = Pipe(self, self.server, self.caller)
        self.caller.attach(out=self.upstream, into=self.downstream)
        self.server.attach(out=self.downstream, into=self.upstream)

    def pipe(self, direction: Direction) -> Pipe:
        """Return the pipe of this direction."""
        return self.upstream if direction is Direction.UPSTREAM else self.downstream

    def side_lost(self) -> None:
        """Note that a side is gone; when it was the last, the link is over."""
        if not self.caller.lost:
            return
        if self._connecting is not None and self.server.transport is None:
            self._connecting.cancel()
        if self.server.lost or self.server.transport is None:
            self._owner.link_closed(self)

    def cut(self) -> None:
        """Close both connections at once; what is still held is dropped."""
        self.caller.abort()
        self.server.abort()

    def reset(self) -> None:
        """Break both connections off with a TCP RST."""
        for side in (self.caller, self.server):
            side.reset_on_close()
        self.cut()

    # Its toxics.

    def meet(self, now_s: float, toxic: InstalledToxic) -> None:
        """Let a toxic work on this link, behind those that do, if the lot falls on it."""
        if isinstance(toxic.toxic, HttpToxic):
            falling = toxic.falling(self.number)
            if falling is not None:
                self._converse(now_s).add(falling)
            return
        for direction, stage in toxic.stages(now_s, self.number):
            self.pipe(direction).add_stage(now_s, toxic.name, stage)

    def change(self, now_s: float, toxic: InstalledToxic) -> None:
        """Let the toxic of this name go on with other settings."""
        if not isinstance(toxic.toxic, HttpToxic):
            for direction, stage in toxic.stages(now_s, self.number):
                self.pipe(direction).replace_stage(now_s, toxic.name, stage)
            self.keep_in_step(now_s)
            return
        hit, felt = toxic.hits(self.number), self.conversation is not None and self.conversation.has(toxic.name)
        if hit and felt and self.conversation is not None:
            self.conversation.replace(now_s, toxic.name, toxic.toxic)
            self.keep_in_step(now_s)
        elif hit:
            self.meet(now_s, toxic)
        else:
            self.part(now_s, toxic)

    def part(self, now_s: float, toxic: InstalledToxic) -> None:
        """Let a toxic go; what it held goes on at once."""
        if not isinstance(toxic.toxic, HttpToxic):
            for direction in toxic.directions:
                self.pipe(direction).remove_stage(now_s, toxic.name)
        elif self.conversation is not None:
            self.conversation.remove(now_s, toxic.name)
        self.keep_in_step(now_s)

    def toxic_names(self) -> list[str]:
        """Return the names of the toxics that work on this link."""
        names = [] if self.conversation is None else [one.name for one in self.conversation.toxics]
        for direction in Direction:
            names += [name for name in self.pipe(direction).stage_names() if name not in names and name != _HTTP]
        return names

    def keep_in_step(self, now_s: float) -> None:
        """Let each direction of a conversation go on after something happened in the other."""
        conversation = self.conversation
        if conversation is None:
            return
        self.downstream.pump(now_s)
        self.upstream.pump(now_s)
        if conversation.over:
            self.conversation = None
            for direction in Direction:
                self.pipe(direction).remove_stage(now_s, _HTTP)

    def _converse(self, now_s: float) -> Conversation:
        if self.conversation is None:
            fresh = not (self.upstream.received_bytes or self.downstream.received_bytes) or not self.joined
            self.conversation = Conversation(now_s, fresh=fresh)
            self.upstream.put_first(now_s, _HTTP, self.conversation.requests)
            self.downstream.put_first(now_s, _HTTP, self.conversation.answers)
        return self.conversation

    # Its beginning.

    def _connect_to_server(self) -> None:
        """Begin to connect. What the caller says meanwhile is kept: one chunk, then it is not read any more.

        (It cannot be paused here and now: uvloop begins to read after this callback whatever is said in it.)
        """
        self.opened_s = monotonic_s()
        self.number = self._owner.link_opened(self)
        if self._owner.refuses(self.number):
            self.reset()
            return
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        connected = False
        try:
            host, port = self._owner.upstream_address()
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: self.server, host, port)
            connected = True
            if not is_loopback(host):
                self.server.keep_alive()
        except (OSError, ValueError, OverflowError):
            # As the real server does: a caller of a server that is down sees its connection accepted and closed.
            self.caller.close()
        finally:
            self._connecting = None
            if not connected and self.server.transport is not None and not self.server.lost:
                # It stood when it was cancelled: uvloop closes such a connection without a word to its protocol.
                self.server.connection_lost(None)

    def _join(self) -> None:
        """The server has answered: let the link meet the toxics before the first byte comes."""
        if self.caller.lost:
            self.cut()
            return
        now_s = monotonic_s()
        early = [(pipe, pipe.begin()) for pipe in (self.upstream, self.downstream)]
        for toxic in self._owner.toxics():
            self.meet(now_s, toxic)
        self.joined = True
        for pipe, items in early:
            pipe.go(items)
