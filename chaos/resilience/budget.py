"""The budget of extra calls: retries and hedges are a share of the first attempts, and cannot double a load."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from chaos.resilience.settings import BudgetSettings, HedgeSettings, ReplicaSettings, RetrySettings, Switches
from chaos.resilience.window import RollingWindow

S = TypeVar("S", RetrySettings, HedgeSettings, ReplicaSettings)

_NO_LIMIT = BudgetSettings(floor_per_s=1e9)
"""More extra calls than anybody makes."""


def budgeted(settings: S, switches: Switches) -> S:
    """Return the settings as they are, or without a limit to extra calls where budgets are switched off."""
    return settings if switches.budget else replace(settings, budget=_NO_LIMIT)


class RetryBudget:
    """How many second attempts there may be: a share of the first ones, plus a floor for quiet times.

    Within ``window_s`` there may be ``floor_per_s * window_s + percent / 100 * first attempts``. No IO, no clock.
    """

    __slots__ = ("_floor", "_share", "_window")

    def __init__(self, settings: BudgetSettings) -> None:
        self._share = settings.percent / 100.0
        self._floor = settings.floor_per_s * settings.window_s
        self._window = RollingWindow(settings.window_s, buckets=10)

    def first_attempt(self, now_s: float) -> None:
        """Count a call, which earns its share of a second attempt."""
        self._window.succeeded(now_s)

    def left(self, now_s: float) -> bool:
        """Whether there may be a second attempt now."""
        first, second = self._window.counts(now_s)
        return second + 1 <= self._floor + self._share * first

    def try_spend(self, now_s: float) -> bool:
        """Take one second attempt out of the budget, if there is one left."""
        if not self.left(now_s):
            return False
        self._window.failed(now_s)
        return True
