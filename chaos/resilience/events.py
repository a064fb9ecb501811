"""What listeners are told: one frozen record for everything that happens, handed over in the moment it happens.

A listener is a plain function, called in the event loop between two steps of a call: it must not raise, nor take long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """A call of a command ended, or was refused. ``outcome`` is one of ``chaos.resilience.metrics.OUTCOMES``.

    ``at_s`` is the moment on the event loop's clock; ``execution_s`` how long ``run`` took, None where it was not begun
    or tells nothing (cancelled, refused by the callee). What a fallback then does is not told.
    """

    command: str
    outcome: str
    at_s: float
    execution_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChanged:
    """A circuit breaker went from one state to another: ``closed``, ``open``, ``half-open``."""

    breaker: str
    before: str
    after: str


Event: TypeAlias = CallEnded | BreakerChanged
"""Everything that listeners are told."""

Listener: TypeAlias = Callable[[Event], None]
"""What is told."""
