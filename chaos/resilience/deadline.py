"""The deadline: the moment after which nobody waits for the answer any more; it travels along with the work.

A deadline is an absolute moment on the running event loop's clock, held in a context variable: what runs below
inherits it, and can only shorten it. Between processes it travels as the milliseconds left, in ``DEADLINE_HEADER``.
Clocks of different processes need not agree for that; the time on the wire is the sender's loss.

The context variable holds the innermost *scope*, and each scope knows the one around it. A scope that is over is
skipped by its readers rather than taken out by its owner: setting a context variable costs a quarter of a
microsecond, and this way a call pays it once. It also frees a task that was started inside a call and outlives it.
"""

from __future__ import annotations

import asyncio
import math
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

DEADLINE_HEADER = "X-Chaos-Deadline-Ms"
"""Name of the HTTP header: whole milliseconds left."""

MILLISECONDS_MAX = 3_600_000
"""The longest deadline that a header may carry: an hour."""


class Scope:
    """A stretch of work that must end by ``at_s``, on the event loop's clock; infinity: at no particular time.

    ``holder`` is what keeps it alive (the task of a running call), and None once it is over; ``outer`` is the scope
    around it. (It has no ``__init__``, which would cost each call a sixth of a microsecond.)
    """

    __slots__ = ("at_s", "holder", "outer")

    at_s: float
    holder: Any
    outer: Scope


def _outermost() -> Scope:
    scope = Scope()
    scope.at_s = math.inf
    scope.holder = scope.outer = scope
    return scope


innermost: ContextVar[Scope] = ContextVar("innermost", default=_outermost())  # noqa: B039 - nothing changes the default
"""The scope of the work in progress, or one inside it that is over: see ``current_scope``."""

innermost_get = innermost.get
innermost_set = innermost.set
"""Its methods, for a caller in a hurry: since Python 3.12 calling a method of an imported name makes a bound method
each time, which costs as much as the method does."""


def current_scope() -> Scope:
    """Return the scope of the work in progress."""
    scope = innermost.get()
    while scope.holder is None:
        scope = scope.outer
    return scope


def to_header(left_s: float) -> str:
    """Return the header's value for a deadline ``left_s`` seconds from now, rounded down."""
    return str(max(0, math.floor(min(left_s * 1000.0, MILLISECONDS_MAX))))


def from_header(value: str) -> float:
    """Return the seconds left that a header's value means; ``ValueError`` when it is no number of milliseconds.

    Values over an hour are taken as an hour; negative ones mean a deadline that has passed.
    """
    text = value.strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise ValueError(f"{DEADLINE_HEADER} is {text[:40]!r}; it must be a whole number of milliseconds")
    return min(int(text), MILLISECONDS_MAX) / 1000.0


class Deadline:
    """A moment on the event loop's clock, in seconds; ``with`` makes it the current one for what runs inside.

    A deadline inside another one never lasts longer than that. It cancels nothing by itself: commands end their
    calls at it, and begin none after it. A task started inside inherits it, but is free of it when the ``with`` is over
    or when it was started under ``with Deadline.none():``.

    Example: ``with Deadline.within(0.5): answer = await command()``.
    """

    __slots__ = ("_entered", "_frees", "at_s")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self._frees = False
        self._entered: list[Scope] = []

    @classmethod
    def within(cls, duration_s: float) -> Deadline:
        """Return the deadline ``duration_s`` seconds from now."""
        return cls(asyncio.get_running_loop().time() + duration_s)

    @classmethod
    def none(cls) -> Deadline:
        """Return no deadline at all: ``with Deadline.none():`` frees what runs inside from the current one."""
        deadline = cls(math.inf)
        deadline._frees = True
        return deadline

    @classmethod
    def current(cls) -> Deadline | None:
        """Return the deadline of the work in progress, or None where it has none."""
        at_s = current_scope().at_s
        return None if at_s == math.inf else cls(at_s)

    @classmethod
    def from_header(cls, value: str) -> Deadline:
        """Return the deadline that a header's value means; see the function of this name."""
        return cls.within(from_header(value))

    def to_header(self) -> str:
        """Return the whole milliseconds left, rounded down: the next service must not get more than there is."""
        return to_header(self.remaining_s())

    def remaining_s(self) -> float:
        """Return the seconds left; 0 when it has passed."""
        return max(0.0, self.at_s - asyncio.get_running_loop().time())

    @property
    def spent(self) -> bool:
        """Whether it has passed."""
        return asyncio.get_running_loop().time() >= self.at_s

    def __enter__(self) -> Self:
        scope = Scope()
        scope.holder = self
        scope.outer = current_scope()
        scope.at_s = self.at_s if self._frees or self.at_s < scope.outer.at_s else scope.outer.at_s
        self._entered.append(scope)
        innermost.set(scope)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered.pop().holder = None

    def __repr__(self) -> str:
        return f"Deadline(at_s={self.at_s!r})"
