"""A link: one caller's connection joined to one connection to the server behind the proxy.

A link is two pipes, one for each direction. A pipe without toxics writes what it reads straight to the other side:
no queue, no task, no copy. With toxics, what it reads goes through a ``Chain``, and one timer wakes the pipe when
the next thing leaves the chain:

    caller -> Side.data_received -> Pipe upstream   -> (Chain) -> Side.transport.write -> server
    caller <- Side.transport.write <- (Chain) <- Pipe downstream <- Side.data_received <- server

A side that reads slowly stops the other side from being read (backpressure), so memory stays within the chain's
limits. A side that ends its stream gets answers still (half-closed), until both have ended or one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol, cast

from chaos.clock import monotonic_s
from chaos.proxy.toxics import KIB, Chain, Direction, End, InstalledToxic, Item

CONNECT_TIMEOUT_S = 60.0
FLUSH_TIMEOUT_S = 30.0
"""How long a closed connection may take to hand over its last bytes to a side that does not read."""
EARLY_S = 0.0005
"""What is due within this time is due now: event loops round their timers to a millisecond."""
WRITE_BUFFER_BYTES = 512 * KIB
"""When more than this waits for a side that reads slowly, the other side is not read any more. Event loops read up to
256 KiB at once: with a lower limit every single read would stop the stream."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with a time of 0: close() sends RST


@dataclass(slots=True)
class StreamCounters:
    """Bytes of one direction of one proxy, over all its links."""

    received_bytes: int = 0
    """Read from the sender."""
    sent_bytes: int = 0
    """Handed on to the receiver; less than received where toxics hold or drop."""


class LinkOwner(Protocol):
    """What a link needs to know from its proxy."""

    def counters(self, direction: Direction) -> StreamCounters:
        """Return where the bytes of this direction are counted."""

    def installed(self, direction: Direction) -> Sequence[InstalledToxic]:
        """Return the toxics that a new link meets, in order."""

    def upstream_address(self) -> tuple[str, int]:
        """Return where the server is; ValueError when the address cannot be one."""

    def link_opened(self, link: Link) -> int:
        """Note a link; return its number, 1 for the proxy's first."""

    def link_rng(self, number: int) -> random.Random:
        """Return the source of all random choices on the link with this number."""

    def link_closed(self, link: Link) -> None:
        """Forget a link: both its connections are gone."""


class Link:
    """One accepted connection, its connection to the server, and the two pipes between them."""

    __slots__ = ("_connecting", "_owner", "_rng", "caller", "downstream", "joined", "number", "server", "upstream")

    def __init__(self, owner: LinkOwner) -> None:
        self._owner = owner
        self._rng: random.Random | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.number = 0
        self.joined = False
        """Whether the connection to the server stands; before that the link has met no toxic."""
        self.caller = Side(self, self._connect_to_server)
        self.server = Side(self, self._join)
        self.upstream = Pipe(self, self.caller, self.server, owner.counters(Direction.UPSTREAM))
        self.downstream = Pipe(self, self.server, self.caller, owner.counters(Direction.DOWNSTREAM))
        self.caller.attach(out=self.upstream, into=self.downstream)
        self.server.attach(out=self.downstream, into=self.upstream)

    @property
    def rng(self) -> random.Random:
        """The link's random source, made when the first toxic needs it: an untroubled link stays small."""
        if self._rng is None:
            self._rng = self._owner.link_rng(self.number)
        return self._rng

    def pipe(self, direction: Direction) -> Pipe:
        """Return the pipe of this direction."""
        return self.upstream if direction is Direction.UPSTREAM else self.downstream

    def side_lost(self) -> None:
        """Note that a side is gone; when it was the last, the link is over."""
        if not self.caller.lost:
            return
        if self._connecting is not None:
            self._connecting.cancel()
        if self.server.lost or self.server.transport is None:
            self._owner.link_closed(self)

    def cut(self) -> None:
        """Close both connections at once; what is still held is dropped."""
        for side in (self.caller, self.server):
            if side.transport is not None:
                side.transport.abort()

    def reset(self) -> None:
        """Break both connections off with a TCP RST."""
        for side in (self.caller, self.server):
            if side.transport is not None and not side.lost:
                connection = cast("socket.socket | None", side.transport.get_extra_info("socket"))
                if connection is not None:
                    with contextlib.suppress(OSError):  # it may be gone already
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.cut()

    def _connect_to_server(self) -> None:
        """Begin to connect. What the caller says meanwhile is kept: one chunk, then it is not read any more.

        (It cannot be paused here and now: uvloop begins to read after this callback whatever is said in it.)
        """
        self.number = self._owner.link_opened(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            host, port = self._owner.upstream_address()
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: self.server, host, port)
        except (OSError, ValueError, OverflowError):
            # As the real server does: a caller of a server that is down sees its connection accepted and closed.
            self.caller.close()
        finally:
            self._connecting = None

    def _join(self) -> None:
        """The server has answered: let the link meet the toxics before the first byte comes."""
        if self.caller.lost:
            self.cut()
            return
        self.joined = True
        now_s = monotonic_s()
        for direction in Direction:
            self.pipe(direction).open(now_s, self._owner.installed(direction))


class Side(asyncio.Protocol):
    """One of a link's two connections."""

    __slots__ = ("_into", "_link", "_on_made", "_out", "_paused", "lost", "transport")

    _out: Pipe
    _into: Pipe

    def __init__(self, link: Link, on_made: Callable[[], None]) -> None:
        self._link = link
        self._on_made = on_made
        self._paused = False
        self.lost = False
        self.transport: asyncio.Transport | None = None

    def attach(self, *, out: Pipe, into: Pipe) -> None:
        """Say which pipe this side's bytes go into, and which pipe its bytes come from."""
        self._out = out
        self._into = into

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop: the connection stands."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._into.write = self.transport.write
        self._on_made()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: bytes came. This is the path that every byte takes, so it is short."""
        pipe = self._out
        counters = pipe.counters
        counters.received_bytes += len(data)
        if pipe.straight:
            counters.sent_bytes += len(data)
            pipe.write(data)
        else:
            pipe.take(data)

    def eof_received(self) -> bool:
        """Called by the event loop: the peer will send no more. It may still want answers, so the side stays open."""
        self._out.take(End.EOF)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a reset ends the stream like an end does
        """Called by the event loop: the connection is gone."""
        self.lost = True
        self._into.break_off()
        self._out.take(End.EOF)
        self._link.side_lost()

    def pause_writing(self) -> None:
        """Called by the event loop: the peer reads too slowly."""
        self._into.hold()

    def resume_writing(self) -> None:
        """Called by the event loop: the peer has caught up."""
        self._into.go_on()

    def pause(self) -> None:
        """Stop reading from this side."""
        if not self._paused and self._usable():
            self._paused = True
            self._transport().pause_reading()

    def resume(self) -> None:
        """Read from this side again."""
        if self._paused and self._usable():
            self._paused = False
            self._transport().resume_reading()

    def end_stream(self) -> None:
        """Tell this side that nothing more will come (FIN); it may still send."""
        if self._usable():
            with contextlib.suppress(OSError):  # the peer may have gone in this very moment
                self._transport().write_eof()

    def close(self) -> None:
        """Close this side when its last bytes are handed over, at the latest after a while."""
        if not self._usable():
            return
        transport = self._transport()
        transport.close()
        if transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(FLUSH_TIMEOUT_S, transport.abort)

    def _usable(self) -> bool:
        return self.transport is not None and not self.lost and not self.transport.is_closing()

    def _transport(self) -> asyncio.Transport:
        assert self.transport is not None
        return self.transport


class Pipe:
    """One direction of a link."""

    __slots__ = ("_blocked", "_chain", "_dest", "_link", "_source", "_timer", "_timer_s", "counters", "ended",
                 "straight", "write")  # fmt: skip

    def __init__(self, link: Link, source: Side, dest: Side, counters: StreamCounters) -> None:
        self._link = link
        self._source = source
        self._dest = dest
        self._blocked = True  # until the link stands
        self._chain: Chain | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf
        self.counters = counters
        self.ended = False
        """Whether nothing more will leave this pipe."""
        self.straight = False
        """Whether bytes are written as they are read, because no toxic is in the way."""
        self.write: Callable[[bytes], None] = _drop

    def open(self, now_s: float, toxics: Sequence[InstalledToxic]) -> None:
        """Begin to work: the receiver is there. What came before goes first."""
        if self.ended:
            return
        early = [] if self._chain is None else self._chain.drain()
        self._chain = None
        self._blocked = False
        self.straight = True
        for toxic in toxics:
            self.add_toxic(now_s, toxic)
        for item in early:
            self.take(item)
        if self.straight and not self._blocked:
            self._source.resume()

    def take(self, item: Item) -> None:
        """Take what the sender sent, or its end."""
        if self.ended:
            return
        if self.straight:
            self._let_out(item)
            return
        if self._chain is None:
            self._chain = Chain()
        now_s = monotonic_s()
        self._chain.feed(now_s, item)
        self._pump(now_s)

    def hold(self) -> None:
        """The receiver reads too slowly: let nothing out for now."""
        self._blocked = True
        if self.straight:
            self._source.pause()

    def go_on(self) -> None:
        """The receiver reads again."""
        self._blocked = False
        if self.straight:
            self._source.resume()
        else:
            self._pump(monotonic_s())

    def break_off(self) -> None:
        """The receiver is gone or about to go: drop what the sender says, but read it, so that its end is noticed."""
        self.ended = True
        self.straight = False
        self.write = _drop
        self._chain = None
        self._wake_at(inf)
        self._source.resume()

    def add_toxic(self, now_s: float, toxic: InstalledToxic) -> None:
        """Put a toxic at the end of this pipe's chain, if the lot falls on this link."""
        stage = toxic.draw(now_s, self._link.rng)
        if self.ended:
            return
        if self._chain is None:
            self._chain = Chain()
        self._chain.add(toxic.name, stage)
        self._pump(now_s)

    def replace_toxic(self, now_s: float, toxic: InstalledToxic) -> None:
        """Let the toxic of this name go on with other settings; the lot is drawn again."""
        stage = toxic.draw(now_s, self._link.rng)
        if self._chain is not None:
            self._chain.replace(now_s, toxic.name, stage)
            self._pump(now_s)

    def remove_toxic(self, now_s: float, name: str) -> None:
        """Take the toxic of this name out; what it held goes on at once."""
        if self._chain is not None:
            self._chain.remove(now_s, name)
            self._pump(now_s)

    def _pump(self, now_s: float) -> None:
        """Let out what is due, make the sender wait or go on, and set the timer for what comes next."""
        chain = self._chain
        if chain is None:
            return
        while not self._blocked and not self.ended:
            item = chain.pop(now_s + EARLY_S)
            if item is None:
                break
            self._let_out(item)
        if self.ended:
            return
        self.straight = chain.idle
        if chain.full or (self._blocked and self.straight):
            self._source.pause()
        else:
            self._source.resume()
        self._wake_at(inf if self._blocked else chain.wake_s)

    def _let_out(self, item: Item) -> None:
        if isinstance(item, bytes):
            self.counters.sent_bytes += len(item)
            self.write(item)
            return
        self.ended = True
        self.straight = False
        self._wake_at(inf)
        match item:
            case End.EOF if self._source.lost or (self._link.upstream.ended and self._link.downstream.ended):
                self._dest.close()
                self._source.close()
            case End.EOF:
                self._dest.end_stream()
            case End.CLOSE:
                self.break_off()
                self._dest.close()  # once it is gone, the other direction ends as well
            case End.RESET:
                self._link.reset()

    def _wake_at(self, moment_s: float) -> None:
        """See to it that the pipe is pumped at that moment. A timer that is early is left: it will be set again."""
        if self._timer is not None:
            if self._timer_s <= moment_s < inf:
                return
            self._timer.cancel()
            self._timer = None
        if moment_s < inf:
            self._timer_s = moment_s
            delay_s = max(0.0, moment_s - monotonic_s())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump(monotonic_s())


def _drop(data: bytes) -> None:
    """Take bytes that have no way to go."""
