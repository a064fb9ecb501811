"""The two halves of a link: a side is one of its connections, a pipe leads from one side to the other."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol, cast

from chaos.clock import monotonic_s
from chaos.proxy.addresses import address_text, keep_alive
from chaos.proxy.toxics import KIB, Chain, Conversation, End, Item, Stage

FLUSH_TIMEOUT_S = 30.0
"""A closed connection is given up when the side that its last bytes are for has taken none of them for so long."""
EARLY_S = 0.0005
"""What is due within this time is due now: event loops round their timers to a millisecond."""
WRITE_BUFFER_BYTES = 512 * KIB
"""When more than this waits for a side that reads slowly, the other side is not read any more. Event loops read up to
256 KiB at once: with a lower limit every single read would stop the stream."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with a time of 0: close() sends RST


class Whole(Protocol):
    """What the halves need to know from their link."""

    conversation: Conversation | None
    upstream: Pipe
    downstream: Pipe

    def side_lost(self) -> None:
        """Note that a side is gone."""

    def reset(self) -> None:
        """Break both connections off with a TCP RST."""

    def keep_in_step(self, now_s: float) -> None:
        """Let each direction of a conversation go on after something happened in the other."""


class Side(asyncio.Protocol):
    """One of a link's two connections."""

    __slots__ = ("_into", "_link", "_on_made", "_out", "_paused", "lost", "transport")

    _out: Pipe
    _into: Pipe

    def __init__(self, link: Whole, on_made: Callable[[], None]) -> None:
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
        pipe.received_bytes += len(data)
        if pipe.straight:
            pipe.sent_bytes += len(data)
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
        """Close this side when its last bytes are handed over; break it off (RST) when it takes no more of them."""
        if not self._usable():
            return
        self._transport().close()
        self._wait_for_its_last_bytes()

    def _wait_for_its_last_bytes(self) -> None:
        if self._transport().get_write_buffer_size():
            asyncio.get_running_loop().call_later(FLUSH_TIMEOUT_S, self._give_up_or_wait, self._untaken_bytes())

    def _give_up_or_wait(self, untaken_before_bytes: int) -> None:
        if self.lost:
            return
        if self._untaken_bytes() < untaken_before_bytes:
            self._wait_for_its_last_bytes()
            return
        self.reset_on_close()  # bytes are missing, and a clean end would say that there are none
        self.abort()

    def _untaken_bytes(self) -> int:
        """Return how many bytes wait for this side, here and in the system.

        The system takes more from here a megabyte or so at a time, and a slow reader needs longer for that than it has.
        """
        waiting_bytes = self._transport().get_write_buffer_size()
        connection = self._socket()
        if connection is not None:
            with contextlib.suppress(OSError):
                queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
                waiting_bytes += int.from_bytes(queued, sys.byteorder)
        return waiting_bytes

    def abort(self) -> None:
        """Close this side at once; what was not handed over is dropped."""
        if self.transport is not None:
            self.transport.abort()

    def keep_alive(self) -> None:
        """Let the system notice when the peer's machine has vanished."""
        connection = self._socket()
        if connection is not None:
            with contextlib.suppress(OSError):  # it may be gone already
                keep_alive(connection)

    def reset_on_close(self) -> None:
        """See to it that the peer gets a TCP RST when this side is closed."""
        connection = self._socket()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _socket(self) -> socket.socket | None:
        if self.transport is None or self.lost:
            return None
        return cast("socket.socket | None", self.transport.get_extra_info("socket"))

    def peer(self) -> str:
        """Return who is at the other end, as ``host:port``; empty when there is no connection."""
        address = None if self.transport is None else self.transport.get_extra_info("peername")
        return address_text(address) if address else ""

    def _usable(self) -> bool:
        return self.transport is not None and not self.lost and not self.transport.is_closing()

    def _transport(self) -> asyncio.Transport:
        assert self.transport is not None
        return self.transport


class Pipe:
    """One direction of a link."""

    __slots__ = ("_blocked", "_chain", "_dest", "_link", "_source", "_timer", "_timer_s", "ended", "received_bytes",
                 "sent_bytes", "straight", "write")  # fmt: skip

    def __init__(self, link: Whole, source: Side, dest: Side) -> None:
        self._link = link
        self._source = source
        self._dest = dest
        self._blocked = True  # until the link stands
        self._chain: Chain | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf
        self.received_bytes = 0
        """Read from the sender."""
        self.sent_bytes = 0
        """Handed on to the receiver; less than received where toxics hold or drop."""
        self.ended = False
        """Whether nothing more will leave this pipe."""
        self.straight = False
        """Whether bytes are written as they are read, because no toxic is in the way."""
        self.write: Callable[[bytes], None] = _drop

    def begin(self) -> list[Item]:
        """Begin to work, for the receiver is there; return what came before, to be given to ``go``."""
        early = [] if self._chain is None else self._chain.drain()
        self._chain = None
        self._blocked = False
        self.straight = not self.ended
        return early

    def go(self, early: Sequence[Item]) -> None:
        """Take what came before, and let the sender go on."""
        for item in early:
            self.take(item)
        if self.straight and not self._blocked:
            self._source.resume()

    def take(self, item: Item) -> None:
        """Take what the sender sent, or its end."""
        if self.ended:
            if self._source.lost:  # it had ended its stream before, and will not hear any more either
                self._dest.close()
            return
        if self.straight:
            self._let_out(item)
            return
        chain = self._chain
        if chain is None:
            chain = self._chain = Chain()
        now_s = monotonic_s()
        if isinstance(item, bytes) and not self._blocked and chain.passes(now_s, item, now_s + EARLY_S):
            self.sent_bytes += len(item)
            self.write(item)
            return
        chain.feed(now_s, item)
        self.pump(now_s)
        if self._link.conversation is not None:
            self._link.keep_in_step(now_s)

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
            self._pump_now()

    def break_off(self) -> None:
        """The receiver is gone or about to go: drop what the sender says, but read it, so that its end is noticed."""
        self.ended = True
        self.straight = False
        self.write = _drop
        self._chain = None
        self._wake_at(inf)
        self._source.resume()

    def add_stage(self, now_s: float, name: str, stage: Stage | None) -> None:
        """Put a toxic at the end of this pipe's chain; None: this link is spared."""
        if self.ended:
            return
        if self._chain is None:
            self._chain = Chain()
        self._chain.add(name, stage)
        self.pump(now_s)

    def put_first(self, now_s: float, name: str, stage: Stage) -> None:
        """Put a stage before all others."""
        if self.ended:
            return
        if self._chain is None:
            self._chain = Chain()
        self._chain.put_first(name, stage)
        self.pump(now_s)

    def replace_stage(self, now_s: float, name: str, stage: Stage | None) -> None:
        """Let the toxic of this name go on with other settings."""
        if self._chain is not None:
            self._chain.replace(now_s, name, stage)
            self.pump(now_s)

    def remove_stage(self, now_s: float, name: str) -> None:
        """Take the toxic of this name out; what it held goes on at once."""
        if self._chain is not None:
            self._chain.remove(now_s, name)
            self.pump(now_s)

    def stage_names(self) -> list[str]:
        """Return the names of the stages at work."""
        return [] if self._chain is None else self._chain.active_names()

    def pump(self, now_s: float) -> None:
        """Let out what is due, make the sender wait or go on, and set the timer for what comes next."""
        chain = self._chain
        if chain is None or self.ended:
            return
        while not self._blocked:
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
            self.sent_bytes += len(item)
            self.write(item)
            return
        self.ended = True
        self.straight = False
        self._chain = None  # nothing will pass it any more, and toxics that come and go need not ask it
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
        self._pump_now()

    def _pump_now(self) -> None:
        now_s = monotonic_s()
        self.pump(now_s)
        if self._link.conversation is not None:
            self._link.keep_in_step(now_s)


def _drop(data: bytes) -> None:
    """Take bytes that have no way to go."""
