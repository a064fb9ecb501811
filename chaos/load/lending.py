"""A load that stands: Locust goes on through many runs, and each is lent the baseline that was measured once.

    Locust    ----------------------------------------------------------------------------------------->
              warm-up | baseline |   fault 1  back |   fault 2   back |  fault 3   back |
    run 2                                 [baseline, shifted][lead][fault 2]
                                          0                 b      b + 1.5 s

A run counts its own seconds. Those of the lent baseline come first, as if it had been measured just before; the last
seconds before the fault (the lead) are what really happened, so that plays that were under way are seen to end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from chaos import clock
from chaos.errors import ChaosError, EnvironmentFailure
from chaos.samples import Sample

WARM_UP_S = 1.5
"""From the first arrival until the baseline begins: connections are opened, caches filled."""
BASELINE_S = 3.0
"""How long the baseline is measured."""
LEAD_S = 1.5
"""So much of what went before is in a run, between the baseline it is lent and its fault."""
SETTLE_S = 0.4
"""After so long the outcomes of a healthy system are known here: an attempt takes some tenths of a second, and the
recorders write every 0.2 s."""

_HEAD_START_S = 0.1
_LOOK_EVERY_S = 0.25
_KEPT_S = 2.0
"""Attempts due so long before the baseline may still end within it, and count there for rates."""


class RunLoad(Protocol):
    """What a run asks of its load; ``chaos.load.driver.LoadDriver`` says what each of these does."""

    def go(self, start_at_s: float) -> None:
        """Let the arrivals begin at this moment of the monotonic clock."""

    def read(self) -> list[Sample]:
        """Return the samples written since the last call."""

    def calm(self) -> None:
        """End the surge that is under way."""

    def failure(self) -> str | None:
        """Return in words that the load died; None while it lives."""

    async def finish(self, *, drain_s: float) -> None:
        """Start no new arrivals, wait for open outcomes, end."""


class StandingLoad:
    """A load under way on a target, and the baseline measured on it.

    ``broken`` is asked meanwhile whether what carries the target has failed. ``over`` says that the load has ended, or
    that nobody should be lent it any more.
    """

    def __init__(self, driver: RunLoad, *, broken: Callable[[], ChaosError | None]) -> None:
        self._driver = driver
        self._broken = broken
        self._recent: deque[Sample] = deque()
        self._baseline: tuple[Sample, ...] = ()
        self._baseline_start_s = 0.0
        self._began_s = 0.0
        self.over = False

    @property
    def age_s(self) -> float:
        """For how long the load has been under way."""
        return clock.monotonic_s() - self._began_s

    async def begin(self, *, warm_up_s: float = 0.0) -> None:
        """Let the arrivals begin, wait for the warm-up (at least ``WARM_UP_S``), and measure the baseline."""
        self._began_s = clock.monotonic_s() + _HEAD_START_S
        self._driver.go(self._began_s)
        await self.warm_for(max(warm_up_s, WARM_UP_S))

    async def warm_for(self, warm_up_s: float) -> None:
        """Have a baseline of a load that was at least ``warm_up_s`` old then; measure another where that is not so."""
        if self._baseline_start_s < self._began_s + warm_up_s:
            await self._read_until(self._began_s + warm_up_s)
            await self.measure()

    async def measure(self) -> None:
        """Measure the baseline, from now on. Raises EnvironmentFailure when the load or the target's carriers fail."""
        self.read()
        start_s = clock.monotonic_s()
        end_s = start_s + BASELINE_S
        await self._read_until(end_s + SETTLE_S, keep_from_s=start_s - _KEPT_S)
        self._baseline = tuple(sample for sample in self._recent if sample.scheduled_s < end_s)
        self._baseline_start_s = start_s

    def lend(self) -> LentLoad:
        """Return this load as a run sees it that begins now."""
        self._read(clock.monotonic_s() - LEAD_S)
        now_s = clock.monotonic_s()
        origin_s = now_s - LEAD_S - BASELINE_S
        shift_s = origin_s - self._baseline_start_s
        lent = [
            replace(one, scheduled_s=one.scheduled_s + shift_s, ended_s=one.ended_s + shift_s) for one in self._baseline
        ]
        recent = [sample for sample in self._recent if sample.scheduled_s >= now_s - LEAD_S]
        return LentLoad(self, origin_s=origin_s, samples=[*lent, *recent], since_s=now_s - LEAD_S)

    def read(self) -> list[Sample]:
        """Return the samples written since the last call, and keep the last seconds of them."""
        return self._read(clock.monotonic_s() - _KEPT_S - LEAD_S)

    def failure(self) -> str | None:
        """Return in words that the load died; None while it lives."""
        return self._driver.failure()

    async def finish(self) -> None:
        """End the load; what was due and has no outcome is recorded as failed. ``read`` once more after it."""
        self.over = True
        await self._driver.finish(drain_s=0.0)

    def _read(self, keep_from_s: float) -> list[Sample]:
        new = self._driver.read()
        self._recent.extend(new)
        while self._recent and self._recent[0].ended_s < keep_from_s:
            self._recent.popleft()
        return new

    async def _read_until(self, moment_s: float, *, keep_from_s: float | None = None) -> None:
        while (now_s := clock.monotonic_s()) < moment_s:
            await clock.sleep_until(min(moment_s, now_s + _LOOK_EVERY_S))
            self._read(clock.monotonic_s() - _KEPT_S if keep_from_s is None else keep_from_s)
            if broken := self._broken():  # asked first: when the launcher dies, the load dies of it
                raise broken
            if failure := self._driver.failure():
                raise EnvironmentFailure(failure)


class LentLoad:
    """What one run sees of a load that stands: the baseline before its own seconds, and nothing of other runs."""

    def __init__(self, standing: StandingLoad, *, origin_s: float, samples: list[Sample], since_s: float) -> None:
        self._standing = standing
        self._pending = samples
        self._since_s = since_s
        self.origin_s = origin_s
        """The moment from which the run's seconds are counted: the lent baseline's first one."""

    def go(self, start_at_s: float) -> None:
        """Do nothing: the load is under way."""

    def calm(self) -> None:
        """Do nothing: a load that stands has no surges."""

    def read(self) -> list[Sample]:
        """Return what there is, the lent baseline first; attempts due before the run's lead are other runs'."""
        new = [sample for sample in self._standing.read() if sample.scheduled_s >= self._since_s]
        samples, self._pending = [*self._pending, *new], []
        return samples

    def failure(self) -> str | None:
        """Return in words that the load died; None while it lives."""
        return self._standing.failure()

    async def finish(self, *, drain_s: float) -> None:  # noqa: ARG002 - nothing is waited for here
        """End the whole load: outcomes that are still open are failures."""
        await self._standing.finish()
