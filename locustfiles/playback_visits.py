"""Those who come for something else than a play: one sample for each, of the kind of their visit."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

from chaos import clock
from chaos.groups import Group
from chaos.load.arrivals import Arrival
from chaos.load.dispatcher import Session
from chaos.samples import SampleOutcome
from locustfiles.playback_mix import VisitKind
from locustfiles.playback_viewer import FIRST_PLAY, Viewer
from locustfiles.playback_world import World
from targets.playback import client_visits as visits
from targets.playback.client_account import Account, Visit

SEARCHING_SHARE = 0.25
"""How many of those who look around search for something in the end."""


class Visitor(ABC):
    """Makes one visit, which is over in `visits.VISIT_LIMIT_S`. A `chaos.load.dispatcher.Session`."""

    def __init__(self, world: World, kind: VisitKind, arrival: Arrival, due_s: float, lag_s: float) -> None:
        self._settled = False
        self._world = world
        self._kind = kind
        self._number = arrival.number
        self._due_s = due_s
        self._lag_s = lag_s
        self._rng = random.Random(f"{kind}/{world.seed}/{arrival.number}")
        self._group: Group | None = None

    @property
    def settled(self) -> bool:
        """Whether the outcome is known and recorded."""
        return self._settled

    @property
    def _by_s(self) -> float:
        return self._due_s + visits.VISIT_LIMIT_S

    def run(self) -> None:
        """Make the visit."""
        account = self._who()
        self._group = self._world.group_of(account.name)
        visited = self._world.device(self._group).carry_through(self._visit(account, clock.monotonic_s()))
        self._settle(visited.now_s, visited.outcome, visited.reason)

    def tick(self, now_s: float) -> None:  # noqa: B027 - most visits are too short for it
        """Report what has been going on: nothing."""

    def end(self, now_s: float, reason: str | None) -> None:
        """Cut the visit; without an outcome it has failed, or is dropped when no reason is given."""
        if not self._settled and reason is not None:
            self._settle(now_s, SampleOutcome.FAILED, reason)
        self._settled = True

    def _who(self) -> Account:
        """Return the visitor's account: that of any subscriber."""
        return self._world.account_of(self._world.anybody(self._rng), self._rng)

    @abstractmethod
    def _visit(self, account: Account, now_s: float) -> Visit:
        """Return the visit's requests."""

    def _settle(self, now_s: float, outcome: SampleOutcome, reason: str) -> None:
        if self._settled:
            return
        values = {"lag_s": self._lag_s, "latency_s": now_s - self._due_s}
        self._world.record(self._kind, self._due_s, now_s, outcome, values, self._group)
        failed = outcome is SampleOutcome.FAILED
        self._world.statistics.count("VISIT", self._kind, self._due_s, error=reason if failed else None)
        self._settled = True


class Browsing(Visitor):
    """Opens the home page, and sometimes searches there."""

    def _visit(self, account: Account, now_s: float) -> Visit:
        query = self._world.query(self._rng) if self._rng.random() < SEARCHING_SHARE else None
        return visits.browse(account, now_s=now_s, by_s=self._by_s, query=query)


class Searching(Visitor):
    """Searches for something."""

    def _visit(self, account: Account, now_s: float) -> Visit:
        return visits.search(account, self._world.query(self._rng), now_s=now_s, by_s=self._by_s)


class LoggingIn(Visitor):
    """Logs in to an account that was made in this run; the first who come have to make theirs before.

    The made-up subscribers have no passwords.
    """

    _is_new = False

    def _who(self) -> Account:
        known = self._world.known_customer(self._rng)
        self._is_new = known is None
        return known or self._world.newcomer(self._kind, self._number, self._rng)

    def _visit(self, account: Account, now_s: float) -> Visit:
        if not self._is_new:
            return account.log_in(now_s=now_s, by_s=self._by_s)
        return self._as_newcomer(account, now_s)

    def _as_newcomer(self, account: Account, now_s: float) -> Visit:
        form, key = self._world.form(self._rng), self._world.key(f"{self._kind}-{self._number}")
        joined = yield from account.sign_up(**form, key=key, now_s=now_s, by_s=self._by_s)
        if joined.outcome is not SampleOutcome.OK:
            return replace(joined, reason=f"sign-up before the log-in: {joined.reason}")
        self._world.remember(self._kind, self._number)
        return (yield from account.log_in(now_s=joined.now_s, by_s=self._by_s))


class SigningUp(Visitor):
    """Becomes a customer, and then plays a title: one outcome for each."""

    _viewer: Viewer | None = None

    @property
    def settled(self) -> bool:
        """Whether the outcomes of the visit and, if it comes to that, of the play are known and recorded."""
        return self._settled and (self._viewer is None or self._viewer.settled)

    def run(self) -> None:
        """Sign up, log in, open the home page, and, if all that went well, play."""
        super().run()
        if self._viewer is not None:
            self._viewer.run()

    def tick(self, now_s: float) -> None:
        """Report what has been watched."""
        if self._viewer is not None:
            self._viewer.tick(now_s)

    def end(self, now_s: float, reason: str | None) -> None:
        """Cut what is going on."""
        super().end(now_s, reason)
        if self._viewer is not None:
            self._viewer.end(now_s, reason)

    def _who(self) -> Account:
        return self._world.newcomer(self._kind, self._number, self._rng)

    def _visit(self, account: Account, now_s: float) -> Visit:
        form, key = self._world.form(self._rng), self._world.key(f"{self._kind}-{self._number}")
        visited = yield from visits.become_customer(account, form, key=key, now_s=now_s, by_s=self._by_s)
        if visited.outcome in {SampleOutcome.OK, SampleOutcome.FALLBACK}:
            self._world.remember(self._kind, self._number)
            order = self._world.first_order(account, self._number, visited.now_s, self._rng)
            self._viewer = Viewer(
                self._world,
                order,
                self._rng,
                kind=FIRST_PLAY,
                lag_s=None,
                group=self._group,
                account=account,
            )
        return visited


_VISITORS: dict[VisitKind, type[Visitor]] = {
    VisitKind.BROWSE: Browsing,
    VisitKind.SEARCH: Searching,
    VisitKind.SIGNUP: SigningUp,
    VisitKind.LOGIN: LoggingIn,
}


def visitor(world: World, kind: VisitKind) -> Callable[[Arrival, float, float], Session]:
    """Return what makes the visitors of a kind."""
    return lambda arrival, due_s, lag_s: _VISITORS[kind](world, kind, arrival, due_s, lag_s)
