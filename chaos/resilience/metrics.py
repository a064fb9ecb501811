"""What a command counts, and how it is shown: plain numbers that only grow.

A reader that wants a rate takes the difference of two readings; so counting costs one addition a call.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Counts:
    """How many times each thing happened to one command since it was made.

    Each call adds one to exactly one of the first eight; each fallback tried adds one to one of the last three.
    """

    success: int = 0
    failure: int = 0
    timeout: int = 0
    """Cut off at its deadline, its own or its caller's."""
    short_circuited: int = 0
    rejected: int = 0
    """Refused by the bulkhead."""
    refused: int = 0
    """Not done, and the dependency is not to blame: the callee was overloaded, a layer below refused, the deadline
    was over before the call began."""
    bad_request: int = 0
    cancelled: int = 0
    """The caller went away."""
    fallback_success: int = 0
    fallback_failure: int = 0
    fallback_rejected: int = 0

    @property
    def calls(self) -> int:
        """All calls that have ended."""
        return (
            self.success
            + self.failure
            + self.timeout
            + self.short_circuited
            + self.rejected
            + self.refused
            + self.bad_request
            + self.cancelled
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSnapshot:
    """One command (or replica) at one moment. All numbers but ``in_flight`` are counted since it was made."""

    command: str
    state: str
    """closed | open | half-open"""
    calls: int
    errors: int
    """Failures and timeouts."""
    short_circuited: int
    rejected: int
    timeouts: int
    fallbacks: int
    """Calls that a fallback answered."""
    in_flight: int
