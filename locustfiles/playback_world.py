"""What all who come share: whom to call, who they are and what they want, all from the run's seed."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from chaos.groups import Group, group_headers
from chaos.load.dispatcher import Record
from chaos.topology.model import InstanceConfig, Scalar
from locustfiles.playback_device import Device, Statistics
from locustfiles.playback_mix import VisitKind
from targets.playback.client_account import Account
from targets.playback.client_order import ClientConfig, PlayOrder
from targets.playback.client_protocol import HttpRequest
from targets.playback.client_viewing import Viewing
from targets.playback.seed_data import SeedData
from targets.playback.validation import Plan, Subscriber

DEVICES: Mapping[str, float] = {"tv": 0.5, "tv_4k": 0.2, "phone": 0.2, "tablet": 0.1}
"""What people watch on, and which share of them: most on a television, as everywhere."""

KNOWN_ACCOUNTS_MAX = 32
"""So many of the accounts made in this run are kept, for others to log in to."""


class World:
    """All that the arrivals of this process have in common. Call ``begin`` before the first of them."""

    def __init__(
        self,
        fire: Callable[..., Any],
        config: InstanceConfig,
        record: Record,
        *,
        seed: int,
        settings: Mapping[str, Scalar] | None = None,
        group_of: Callable[[str], Group | None] = lambda _: None,
    ) -> None:
        settings = settings or {}
        self.statistics = Statistics(fire)
        self.record = record
        self.group_of = group_of
        """The group of an account, by its name."""
        self.seed = seed  # the run's: who comes and what they watch; the target's, in config, decides who there is
        self.elb = config.calls["elb"][0].address
        self.config = ClientConfig.of(config.settings, config.disabled)
        self.farewells: deque[HttpRequest] = deque()
        """What is to be reported of sessions that were cut off."""
        self._run = f"{seed}"
        self._data = SeedData.of(config)
        self._signing_key = str(config.settings["signing_key"])
        _ = self._data.subscribers, self._data.titles  # made now, and not by the first arrival
        self._known: deque[tuple[str, str]] = deque(maxlen=KNOWN_ACCOUNTS_MAX)
        self._test_account_share = float(settings.get("test_account_share", 0))
        wanted = settings.get("test_account")
        self.test_account = next((one for one in self._data.subscribers if one.id == wanted), None)
        """The one account whose plays are counted apart, as ``test_play``."""
        if self._test_account_share and self.test_account is None:
            raise ValueError(f"load.settings.test_account is {wanted!r}; it is a subscriber, like subscriber-00042")

    def begin(self, start_s: float) -> None:
        """Take the start moment, which all processes of a run share and no other run on the same target has.

        It is in all names that must be new: accounts', plays'.
        """
        self._run = f"{self.seed}-{int(start_s * 1000):x}"

    # ---- people

    def someone(self, number: int, rng: random.Random) -> Subscriber:
        """Return who plays as the arrival of this number: the test account for its share of them, else any subscriber.

        Its turns come at equal distances. Drawn at random they would leave more plays to the others in one phase than
        in another, and the rules that compare phases would see that as a change.
        """
        share = self._test_account_share
        if self.test_account is not None and math.floor((number + 1) * share) > math.floor(number * share):
            return self.test_account
        return self.anybody(rng)

    def anybody(self, rng: random.Random) -> Subscriber:
        """Return any subscriber but the test account: here it would be anybody's, and it is counted apart."""
        subscriber = rng.choice(self._data.subscribers)
        while subscriber is self.test_account:
            subscriber = rng.choice(self._data.subscribers)
        return subscriber

    def account_of(self, subscriber: Subscriber, rng: random.Random) -> Account:
        """Return a made-up subscriber's account: logged in for the whole run."""
        return Account(
            self.elb,
            client_ip=self._data.client_ip(subscriber),
            config=self.config,
            rng=rng,
            name=subscriber.id,
            token=self._data.token(subscriber, self._signing_key),
        )

    def newcomer(self, kind: VisitKind, number: int, rng: random.Random) -> Account:
        """Return an account that is yet to be made; no other arrival of any process or run gets its e-mail address."""
        return self._with_password(f"{kind}-{self._run}-{number}@example.com", f"{self.seed} {kind} {number}", rng)

    def form(self, rng: random.Random) -> Mapping[str, str]:
        """Return what a newcomer chooses."""
        return {"plan": rng.choice(list(Plan)), "country": rng.choice(self._data.countries)}

    def remember(self, kind: VisitKind, number: int) -> None:
        """Note that the newcomer of this arrival has an account now."""
        self._known.append((f"{kind}-{self._run}-{number}@example.com", f"{self.seed} {kind} {number}"))

    def known_customer(self, rng: random.Random) -> Account | None:
        """Return the account of somebody who has signed up in this run, logged out; None while there is nobody."""
        return self._with_password(*rng.choice(self._known), rng) if self._known else None

    def _with_password(self, email: str, password: str, rng: random.Random) -> Account:
        client_ip = self._data.client_ip(rng.choice(self._data.subscribers))
        return Account(
            self.elb, client_ip=client_ip, config=self.config, rng=rng, email=email, password=f"pass {password}"
        )

    # ---- wishes

    def order(self, subscriber: Subscriber, number: int, due_s: float, rng: random.Random) -> PlayOrder:
        """Return this subscriber's wish for a random title, as the play of this number."""
        title = rng.choice(self._data.titles).id
        token = self._data.token(subscriber, self._signing_key)
        return self._order(f"play-{number}", title, token, self._data.client_ip(subscriber), due_s)

    def first_order(self, account: Account, number: int, now_s: float, rng: random.Random) -> PlayOrder:
        """Return what somebody plays who has just signed up."""
        title = rng.choice(self._data.titles).id
        return self._order(f"first-{number}", title, account.token, account.client_ip, now_s)

    def query(self, rng: random.Random) -> str:
        """Return what is searched for: the beginning of a name that about ten titles have."""
        return f"title-{rng.randrange(max(1, len(self._data.titles) // 10)):03d}"

    def key(self, what: str) -> str:
        """Return an ``Idempotency-Key`` that is used for nothing else."""
        return f"{self._run}-{what}"

    def device(self, group: Group | None = None) -> Device:
        """Return a device that nobody has used, of somebody in ``group``: its requests say so."""
        return Device(self.statistics, group_headers(group))

    def _order(self, name: str, title: str, token: str, client_ip: str, due_s: float) -> PlayOrder:
        # Drawn apart, so that who plays what does not depend on how they watch it.
        habits = random.Random(f"viewing/{self.seed}/{name}")
        (device,) = habits.choices(list(DEVICES), weights=list(DEVICES.values()))
        return PlayOrder(
            elb=self.elb,
            title=title,
            token=token,
            client_ip=client_ip,
            scheduled_s=due_s,
            device=device,
            key=self.key(name),
            viewing=Viewing.draw(habits),
        )
