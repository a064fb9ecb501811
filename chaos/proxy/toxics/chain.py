"""Chains of stages, sans-IO: things go in at one end, and come out at the other at moments that the stages choose.

A ``Stage`` is one toxic at work on one direction of one connection. A ``Chain`` is the stages of that direction:

    socket -> Chain.feed -> [Stage latency] -> [Stage bandwidth] -> Chain.pop -> socket

Nothing here reads a clock, sleeps or touches a socket. All times are seconds on one monotonic clock of the caller's
choice. A thing passes from stage to stage at the moment at which it was due, not at the moment at which somebody
looked: a late timer delays one piece, it never adds up.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from math import inf
from typing import ClassVar

from chaos.proxy.toxics.meter import Meter

KIB = 1024
CHUNK_COST_BYTES = 200
"""Memory that a held chunk costs beyond its bytes; without it a flood of one-byte chunks would pass every limit."""


class End(Enum):
    """How one direction of a connection ends."""

    EOF = "eof"
    """The sender has said all it had to say."""
    CLOSE = "close"
    """A toxic closes the connection; what has passed already is still delivered."""
    RESET = "reset"
    """A toxic breaks the connection off with a TCP RST."""


Item = bytes | End
"""What travels through a chain: any number of chunks of bytes, then at most one ``End``."""


class Stage:
    """One toxic at work on one direction of one connection; this base passes everything on at once.

    A subclass says in ``_data`` and ``_end`` when things leave. Things leave in the order in which they came.
    """

    __slots__ = ("_ended", "_last_due_s", "_queue", "held_bytes", "met", "meter", "twin")
    limit_bytes: ClassVar[int] = 64 * KIB
    """When more than this is held, the stage takes no more, and the sender has to wait (backpressure)."""

    def __init__(self, now_s: float) -> None:
        self._queue: deque[tuple[float, float, Item]] = deque()  # (due, arrived, item)
        self._last_due_s = now_s
        self._ended = False
        self.held_bytes = 0
        self.meter: Meter | None = None
        """Where the toxic counts what meets it; None while nothing is to be counted."""
        self.met = False
        """Whether anything has met it."""
        self.twin: Stage | None = None
        """The same toxic at work on the other direction of the connection."""

    @property
    def full(self) -> bool:
        """Whether the stage holds so much that nothing more should be pushed."""
        return self.held_bytes > self.limit_bytes

    @property
    def due_s(self) -> float:
        """The moment at which the next thing leaves; infinity when nothing is going to."""
        return self._queue[0][0] if self._queue else inf

    def push(self, at_s: float, item: Item) -> None:
        """Take an item that arrived at ``at_s``. After an end everything is dropped."""
        if self._ended:
            return
        if isinstance(item, End):
            self._count(at_s, 0)
            self._ended = True
            self._end(at_s, item)
        else:
            self._count(at_s, len(item))
            self._data(at_s, item)

    def passes(self, at_s: float, data: bytes, until_s: float) -> bool:  # noqa: ARG002 - for those that can tell
        """Take a chunk that leaves by ``until_s`` as it came: the short way. False: it was not taken, push it.

        Asked only while nothing is held. A stage that often does nothing overrides it; it must count as ``push`` does.
        """
        return False

    def pop(self) -> tuple[float, Item]:
        """Return the next thing and the moment at which it was due."""
        due_s, _, item = self._queue.popleft()
        if isinstance(item, bytes):
            self.held_bytes -= len(item) + CHUNK_COST_BYTES
        return due_s, item

    def rest(self) -> list[tuple[float, Item]]:
        """Empty the stage because its settings change: what it held, each with its moment of arrival."""
        rest = [(arrived_s, item) for _, arrived_s, item in self._queue]
        self._queue.clear()
        self.held_bytes = 0
        return rest

    def release(self) -> list[Item]:
        """Empty the stage because its toxic is removed: what goes on at once, so that no byte is lost."""
        return [item for _, item in self.rest()]

    def spare(self) -> list[Item]:
        """Empty the stage because its toxic spares this connection from now on: what goes on at once."""
        return self.release()

    def inherit(self, earlier: Stage) -> None:
        """Take over what a stage with other settings remembers of this connection."""

    def _count(self, at_s: float, size_bytes: int) -> None:
        meter = self.meter
        if meter is None:
            return
        if not self.met:
            self.met = True
            meter.touch(at_s, connections=0 if self.twin is not None and self.twin.met else 1)
        meter.last_s = at_s
        meter.bytes += size_bytes

    def _data(self, at_s: float, data: bytes) -> None:
        self._leave(at_s, at_s, data)

    def _end(self, at_s: float, end: End) -> None:
        self._leave(at_s, at_s, end)

    def _leave(self, due_s: float, arrived_s: float, item: Item) -> None:
        """Let the item leave at ``due_s``, or right behind the one before it when that is later."""
        self._last_due_s = max(due_s, self._last_due_s)
        self._queue.append((self._last_due_s, arrived_s, item))
        if isinstance(item, bytes):
            self.held_bytes += len(item) + CHUNK_COST_BYTES


class Chain:
    """The stages of one direction of one connection, in the order in which their toxics were added."""

    __slots__ = ("_active", "_names", "_only", "_out", "_stages")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._stages: list[Stage | None] = []  # None: this connection is spared by that toxic
        self._active: list[Stage] = []
        self._only: Stage | None = None
        self._out: deque[Item] = deque()  # what removed toxics let go

    @property
    def idle(self) -> bool:
        """Whether the chain does nothing and holds nothing: bytes may as well go past it."""
        return not self._active and not self._out

    @property
    def full(self) -> bool:
        """Whether the chain should get no more for now."""
        return self._active[0].full if self._active else bool(self._out)

    @property
    def wake_s(self) -> float:
        """The moment at which ``pop`` will have something next, unless more is fed; infinity for never."""
        if self._out:
            return -inf
        wake_s = inf
        behind_full = False
        for stage in reversed(self._active):
            if not behind_full:
                wake_s = min(wake_s, stage.due_s)
            behind_full = stage.full
        return wake_s

    def passes(self, now_s: float, data: bytes, until_s: float) -> bool:
        """Take a chunk that leaves by ``until_s`` as it came: the short way. False: it was not taken, feed it."""
        only = self._only
        return only is not None and not only._queue and not self._out and only.passes(now_s, data, until_s)  # noqa: SLF001 - asked for every chunk

    def feed(self, now_s: float, item: Item) -> None:
        """Take what came from the sender at ``now_s``."""
        if self._active:
            self._active[0].push(now_s, item)
        else:
            self._out.append(item)

    def pop(self, now_s: float) -> Item | None:
        """Return the next thing that has left the chain by ``now_s``; None when there is none. Call until None."""
        if self._out:
            return self._out.popleft()
        if not self._active:
            return None
        last = self._active[-1]
        moved = len(self._active) > 1
        while moved and last.due_s > now_s:
            moved = False
            for stage, following in zip(self._active, self._active[1:], strict=False):
                while stage.due_s <= now_s and not following.full:
                    following.push(*stage.pop())
                    moved = True
        return last.pop()[1] if last.due_s <= now_s else None

    def active_names(self) -> list[str]:
        """Return the names of the toxics that this connection feels, in order."""
        return [name for name, stage in zip(self._names, self._stages, strict=True) if stage is not None]

    def drain(self) -> list[Item]:
        """Take out everything that has passed all stages, or was fed while there was none."""
        drained = list(self._out)
        self._out.clear()
        return drained

    def add(self, name: str, stage: Stage | None) -> None:
        """Put a toxic at the end of the chain; what is in the chain already will pass it."""
        self._names.append(name)
        self._stages.append(stage)
        self._refresh()

    def put_first(self, name: str, stage: Stage) -> None:
        """Put a stage before all others; what is in the chain already does not pass it."""
        self._names.insert(0, name)
        self._stages.insert(0, stage)
        self._refresh()

    def replace(self, now_s: float, name: str, stage: Stage | None) -> None:
        """Let a toxic go on with other settings; what it held leaves by the new ones."""
        index = self._names.index(name)
        old, self._stages[index] = self._stages[index], stage
        self._refresh()
        if old is None:
            return
        if stage is None:
            self._hand_on(now_s, index, old.spare())
            return
        stage.inherit(old)
        stage.met = old.met
        meter, stage.meter = stage.meter, None  # what met the toxic before is counted already
        for arrived_s, item in old.rest():
            stage.push(arrived_s, item)
        stage.meter = meter

    def remove(self, now_s: float, name: str) -> None:
        """Take a toxic out; what it held goes on at once."""
        index = self._names.index(name)
        old = self._stages.pop(index)
        del self._names[index]
        self._refresh()
        if old is not None:
            self._hand_on(now_s, index, old.release())

    def _hand_on(self, now_s: float, index: int, items: list[Item]) -> None:
        """Give items to the first active stage at or behind ``index``, or let them out."""
        following = next((stage for stage in self._stages[index:] if stage is not None), None)
        for item in items:
            if following is None:
                self._out.append(item)
            else:
                following.push(now_s, item)

    def _refresh(self) -> None:
        self._active = [stage for stage in self._stages if stage is not None]
        self._only = self._active[0] if len(self._active) == 1 else None
