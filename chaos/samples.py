"""A sample: one thing that the load saw happen, as the recorder inside Locust writes it and the runner reads it.

One line of JSON each: ``["play", 812.25, 812.31, "ok", {"play_delay_s": 0.06}]``, with the group behind it where the
attempt was one of a group's (`chaos.groups`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from chaos.groups import Group


class SampleOutcome(StrEnum):
    """How one attempt ended."""

    OK = "ok"
    FALLBACK = "fallback"
    """Answered, but by a fallback: available, and degraded."""
    REFUSED = "refused"
    """The system answered no, as it should (a plan without this title): neither success nor failure."""
    FAILED = "failed"


REQUEST_KIND = "request"
"""What attempts are where nobody has given them another kind."""

LAG_KIND = "generator.lag"
"""Samples of this kind carry ``lag_s``: how late the load generator itself started an arrival."""

SURGE_FIELD = "surge"
"""A value that such a sample has when a surge brought its arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One attempt of kind ``kind``.

    ``scheduled_s`` is the moment it was due (monotonic clock), ``ended_s`` the moment its outcome was known;
    ``values`` are the figures that metrics refer to by name, units in the names.
    """

    kind: str
    scheduled_s: float
    ended_s: float
    outcome: SampleOutcome
    values: Mapping[str, float] = field(default_factory=dict)
    group: Group | None = None
    """Whose attempt it was, where accounts are in groups; None: in neither of them."""

    def to_line(self) -> str:
        """Return the JSON line (with its newline) for this sample."""
        group = () if self.group is None else (self.group,)
        fields = (self.kind, self.scheduled_s, self.ended_s, self.outcome, self.values, *group)
        return json.dumps(fields, separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Sample:
        """Read a line written by ``to_line``. Raises ValueError for anything else."""
        match json.loads(line):
            case [
                str(kind),
                int() | float() as scheduled,
                int() | float() as ended,
                str(outcome),
                dict() as values,
                *group,
            ] if len(group) <= 1 and all(isinstance(value, int | float) for value in values.values()):
                return cls(
                    kind=kind,
                    scheduled_s=scheduled,
                    ended_s=ended,
                    outcome=SampleOutcome(outcome),
                    values=values,
                    group=Group(group[0]) if group else None,
                )
            case other:
                raise ValueError(f"not a sample: {other!r}")
