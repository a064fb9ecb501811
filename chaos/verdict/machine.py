"""Whether the machine itself was starved, so that what broke on it proves nothing about the system.

The system under test runs on the machine too, and may use up all of it: that is the system's own doing, and no excuse.
So a machine is starved when two things come together, in the same seconds: *others* took a good part of it, and there
was nothing left over. It is seconds and not a mean over the phase that count: three busy seconds of somebody else, in
the middle of a surge, are little of a minute, and all that a system at its limit needs to fall over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.events import MachineMeasured
from chaos.topology.model import Unit
from chaos.verdict.units import figure

EXHAUSTED_SHARE_MAX = 0.10
"""Of a phase's seconds. Less than one in ten cannot make a p99 or a share of some percent by themselves."""
EXHAUSTED_SECONDS_MIN = 2
"""In a short phase, one second alone is an accident."""
LEFT_SHARE_MIN = 0.05
"""Below, somebody has to wait for a processor at nearly any moment."""
CANARY_S_MAX = 0.1
"""An edge without a fault answers within a millisecond. This much is also how late a load generator may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePhase:
    """The machine during one phase; shares are of all its processors' time. None: this system does not tell."""

    name: str
    left_share: float | None
    """Idle, or used by processes that make way for everybody."""
    steal_share: float | None
    """Taken by the hypervisor for other machines."""
    foreign_share: float | None
    """Used by processes that are not this run's, and make no way for it."""
    waiting_share: float | None
    """Share of the time in which somebody was ready to run and had no processor (PSI)."""
    queue_delay_share: float | None
    """How long ready processes waited in all, over the processors' time (1: always one waiting for each)."""
    canary_s: float | None
    """The slowest answer of the canary edge."""
    seconds: int
    exhausted_seconds: int
    """Seconds in which nothing was left over, or the canary was slow."""
    starved_seconds: int
    """Those of them in which others took more than ``max_taken``."""

    max_taken: float
    """Which share of the processors others may take."""

    @property
    def is_exhausted(self) -> bool:
        """Whether there was nothing left over for a good part of it, whoever used it all."""
        return (
            self.exhausted_seconds >= EXHAUSTED_SECONDS_MIN
            and self.exhausted_seconds > EXHAUSTED_SHARE_MAX * self.seconds
        )

    @property
    def starved(self) -> bool:
        """Whether for a good part of it others took more than they may, and nothing was left over."""
        return self.starved_seconds > EXHAUSTED_SHARE_MAX * self.seconds

    @property
    def taken_share(self) -> float | None:
        """What others took, on this machine and beside it."""
        return _sum(self.foreign_share, self.steal_share)


def summary(name: str, seconds: Sequence[MachineMeasured], *, max_taken: float) -> MachinePhase:
    """Return a phase's figures: means over its seconds, and the canary's slowest answer.

    ``max_taken`` is which share of the processors others may take.
    """
    exhausted = [one for one in seconds if is_exhausted(one)]
    return MachinePhase(
        name=name,
        left_share=_mean([one.left_share for one in seconds]),
        steal_share=_mean([one.steal_share for one in seconds]),
        foreign_share=_mean([one.foreign_share for one in seconds]),
        waiting_share=_mean([one.waiting_share for one in seconds]),
        queue_delay_share=_mean([one.queue_delay_share for one in seconds]),
        canary_s=max((one.canary_s for one in seconds if one.canary_s is not None), default=None),
        seconds=len(seconds),
        exhausted_seconds=len(exhausted),
        starved_seconds=sum((_sum(one.foreign_share, one.steal_share) or 0.0) > max_taken for one in exhausted),
        max_taken=max_taken,
    )


def is_exhausted(second: MachineMeasured) -> bool:
    """Return whether nothing was left over in a second, or the canary was slow."""
    left, canary_s = second.left_share, second.canary_s
    return (left is not None and left < LEFT_SHARE_MIN) or (canary_s is not None and canary_s > CANARY_S_MAX)


def starved(phases: Sequence[MachinePhase]) -> str | None:
    """Return in words that the machine was starved in one of these phases, and what to do; None when it was not."""
    worst = max((one for one in phases if one.starved), key=lambda one: one.starved_seconds, default=None)
    if worst is None:
        return None
    stolen = f", {figure(worst.steal_share, Unit.PERCENT)} by the hypervisor" if worst.steal_share else ""
    canary = f"; the slowest answer of an edge without a fault took {figure(worst.canary_s, 's')}"
    return (
        f"the machine was starved in the {worst.name.replace('_', ' ')} phase, so that what broke may be its doing: "
        f"in {worst.starved_seconds} of {worst.seconds} seconds nothing was left over while others took more than "
        f"{figure(worst.max_taken, Unit.PERCENT)} of its processors ({figure(worst.taken_share, Unit.PERCENT)} over "
        f"the whole phase{stolen})"
        f"{canary if worst.canary_s is not None else ''}; end what else runs here and run it again, "
        "or use a machine of its own"
    )


def worn_out(phases: Sequence[MachinePhase], *, rate_per_s: float, own_rate_per_s: float) -> str | None:
    """Return in words that a load which is not the experiment's own left nothing over; None when it left something.

    Whoever chose that rate chose too much for this machine, with what the faults cost; that says nothing of the system.
    """
    worst = max((one for one in phases if one.is_exhausted), key=lambda one: one.exhausted_seconds, default=None)
    if worst is None or rate_per_s <= own_rate_per_s:
        return None
    return (
        f"in {worst.exhausted_seconds} of {worst.seconds} seconds of the {worst.name.replace('_', ' ')} phase nothing "
        f"was left over of the machine, at {figure(rate_per_s, Unit.PER_SECOND)} where the experiment asks for "
        f"{figure(own_rate_per_s, Unit.PER_SECOND)}: what broke may be that load's doing; its own rate tells"
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
