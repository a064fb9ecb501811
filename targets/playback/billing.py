"""Billing: every account is charged once for every period, whatever fails, however many workers do it.

    ask the store who is due --> charge one after the other, at a bounded rate --> ask again

A worker remembers nothing that matters. Who is due is decided by the store: every account that lacks an invoice for
this period or any earlier one. So a worker that was killed, or a store that was away for whole periods, leaves nothing
behind but a backlog, which the next round works off. A charge has the id ``charge/<account>/<period>``, and the ledger
has one invoice for these two: workers that do the same at the same moment, and charges whose answer was lost and that
are made again, find the invoice that is there.

`Biller` decides and is pure; `Billing` is the loop around it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from chaos.resilience.shedding import Priority, set_priority
from targets.playback.accounts_client import AccountsClient, DueCharge
from targets.playback.service import Context
from targets.playback.transport import FAILURES
from targets.playback.validation import Plan

PRICES_CENTS: Mapping[Plan, int] = {Plan.BASIC: 799, Plan.STANDARD: 1549, Plan.PREMIUM: 2299}
"""What a plan costs for a period. What counts is the plan at the moment when the account is charged."""

PERIOD_S = 30.0
RATE_PER_S = 20.0
"""Charges a second of one worker: few beside what the store can do, so that sign-ups do not wait for them."""

TICK_S = 0.2
ASK_EVERY_S = 1.0
"""How often the store is asked who is due, when nobody was; five times in a period, where that is sooner."""

BATCH_MAX = 50

_PAUSE_S = 0.5
_PAUSE_MAX_S = 5.0


def period_at(now_s: float, period_s: float) -> int:
    """Return the number of the period of a moment.

    All processes of a machine agree on it, for they share its monotonic clock; so a run must not outlive its uptime.
    """
    return int(now_s // period_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """To do: ask the store who is due, and tell the biller."""

    period: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """To do: send this charge, and tell the biller how it ended."""

    account: str
    period: int
    amount_cents: int
    at_s: float
    charged_by: str

    def to_command(self) -> dict[str, object]:
        """Return the ledger's command."""
        return {
            "kind": "charge",
            "id": f"charge/{self.account}/{self.period}",
            "account": self.account,
            "period": self.period,
            "amount_cents": self.amount_cents,
            "at_s": self.at_s,
            "charged_by": self.charged_by,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """To do: nothing, until a moment."""

    until_s: float


ToDo: TypeAlias = Ask | Charge | Wait


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a worker has seen: answers, so a charge whose answer was lost is in none but ``failed``."""

    charged: int = 0
    already: int = 0
    """Charges that had been made before, by another worker or by an attempt whose answer was lost."""
    refused: int = 0
    """Charges that the ledger's rules did not allow: the account was cancelled in the meantime."""
    failed: int = 0
    """Questions and charges that the store did not answer; what they were for is still due, or done."""
    backlog: int = 0
    """Accounts that were due when the store was last asked."""


class Biller:
    """What a billing worker does next. Pure: moments are arguments, in seconds, and ``rng`` is its only chance.

    ``name`` is the worker's, for the invoices. After a failure it pauses, longer each time in a row.
    """

    def __init__(self, *, name: str, period_s: float, rate_per_s: float, rng: random.Random) -> None:
        for setting, value in (("billing_period_s", period_s), ("billing_rate_per_s", rate_per_s)):
            if not 0.01 <= value <= 1e6:
                raise ValueError(f"settings.{setting} is {value!r}; a number from 0.01 to 1 000 000 is needed.")
        self.counts = Counts()
        self._name = name
        self._period_s = period_s
        self._interval_s = 1.0 / rate_per_s
        self._ask_every_s = min(ASK_EVERY_S, period_s / 5)
        self._rng = rng
        self._due: deque[DueCharge] = deque()
        self._ask_at_s = float("-inf")
        self._charge_at_s = float("-inf")
        self._paused_until_s = float("-inf")
        self._pause_s = _PAUSE_S

    def next(self, now_s: float) -> ToDo:
        """Return what is to be done now."""
        if now_s < self._paused_until_s:
            return Wait(until_s=self._paused_until_s)
        if not self._due:
            if now_s < self._ask_at_s:
                return Wait(until_s=self._ask_at_s)
            return Ask(period=period_at(now_s, self._period_s), limit=BATCH_MAX)
        if now_s < self._charge_at_s:
            return Wait(until_s=self._charge_at_s)
        # A loop that wakes up late makes up for the charges of one tick, and no more.
        self._charge_at_s = max(self._charge_at_s, now_s - TICK_S) + self._interval_s
        due = self._due.popleft()
        return Charge(
            account=due.account,
            period=due.period,
            amount_cents=PRICES_CENTS[due.plan],
            at_s=now_s,
            charged_by=self._name,
        )

    def told_due(self, now_s: float, due: Sequence[DueCharge], backlog: int) -> None:
        """Take in who is due. A list that is not full is all there is, and the next is asked for later."""
        self._pause_s = _PAUSE_S
        self.counts.backlog = backlog
        # Several workers get the same list: each begins somewhere else, so that they seldom charge the same account.
        self._due.extend(self._rng.sample(due, len(due)))
        self._ask_at_s = now_s + self._ask_every_s if len(due) < BATCH_MAX else now_s

    def answered(self, charge: Charge, result: Mapping[str, object]) -> None:
        """Take in the ledger's result of a charge: the invoice that there is now, whoever made it."""
        self._pause_s = _PAUSE_S
        self.counts.backlog = max(0, self.counts.backlog - 1)
        if "refused" in result:
            self.counts.refused += 1
        elif (result.get("charged_by"), result.get("at_s")) == (charge.charged_by, charge.at_s):
            self.counts.charged += 1
        else:
            # Somebody else is at the same list. A new one leaves out what they have done since.
            self.counts.already += 1
            self._due.clear()
            self._ask_at_s = float("-inf")

    def failed(self, now_s: float) -> None:
        """Take in that the store did not answer: leave it alone for a while, and then ask anew who is due."""
        self.counts.failed += 1
        self._due.clear()
        self._ask_at_s = now_s
        self._paused_until_s = now_s + self._pause_s * (0.75 + 0.5 * self._rng.random())
        self._pause_s = min(2 * self._pause_s, _PAUSE_MAX_S)


class Billing:
    """The billing worker of a service, running in the background from the beginning."""

    def __init__(self, context: Context, accounts: AccountsClient) -> None:
        self._loop = asyncio.get_running_loop()
        self._accounts = accounts
        self.period_s = context.number("billing_period_s", PERIOD_S)
        # A restarted worker has a new name: the charges of its earlier life are not its own.
        self._biller = Biller(
            name=f"{context.config.instance}/{int(self._loop.time() * 1000):x}",
            period_s=self.period_s,
            rate_per_s=context.number("billing_rate_per_s", RATE_PER_S),
            rng=context.rng,
        )
        context.repeat(self._work, period_s=TICK_S)

    @property
    def period(self) -> int:
        """The number of the period now."""
        return period_at(self._loop.time(), self.period_s)

    def to_json(self) -> dict[str, object]:
        """Return what ``GET /billing`` shows."""
        counts = self._biller.counts
        return {
            "period": self.period,
            "period_s": self.period_s,
            "charged": counts.charged,
            "already": counts.already,
            "refused": counts.refused,
            "failed": counts.failed,
            "backlog": counts.backlog,
        }

    async def _work(self) -> bool:
        """Do what can be done now; return whether the store answered. It is served after people who wait."""
        set_priority(Priority.LOW)
        try:
            while True:
                match self._biller.next(self._loop.time()):
                    case Ask(period=period, limit=limit):
                        due, backlog = await self._accounts.due(period, limit)
                        self._biller.told_due(self._loop.time(), due, backlog)
                    case Charge() as charge:
                        self._biller.answered(charge, await self._accounts.charge(charge.to_command()))
                    case Wait():
                        return True
        except FAILURES:
            self._biller.failed(self._loop.time())
            return False
