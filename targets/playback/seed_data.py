"""The world the playback target serves, made from a seed: subscribers, titles, licences, networks, and who holds what.

Every process makes the same data from the same seed, and only the parts it asks for. About 4 % of the plays of random
subscribers and titles are refused, half of them by plan and half by licence; of the latter, half were never licensed in
the country, and half are over or have not begun at `dates.EPOCH_DATE`. A run of another ``epoch_date`` is refused other
titles: one in ten licences ends within half a year.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from chaos.topology.model import InstanceConfig
from targets.playback import tokens
from targets.playback.dates import EPOCH_DATE
from targets.playback.licences import ALWAYS, Licences, Window
from targets.playback.networks import PrefixTable
from targets.playback.validation import Plan, Subscriber, Title

ISPS = ("alpha", "beta", "gamma")
"""The Internet providers with OCAs inside their networks."""

IXP = "ixp"
"""The label of OCAs at the Internet exchange point: they reach every network."""

_PLAN_SHARES = {Plan.BASIC: 0.30, Plan.STANDARD: 0.45, Plan.PREMIUM: 0.25}
_MINIMUM_PLAN_SHARES = {Plan.BASIC: 0.95, Plan.STANDARD: 0.03, Plan.PREMIUM: 0.02}
_UNLICENSED_SHARE = 0.02
_NEVER_LICENSED_SHARE = 0.5
"""Of those that are not licensed: there is no window at all; the others have one that is over, or is to come."""

_ENDING_SHARE = 0.1
_DAYS_MAX = 180
_UNKNOWN_NETWORK_SHARE = 0.03
_HOME_ISP_SHARE = 0.5
_ISP_OCA_SLOTS = 9
_MISSING_COPIES_MAX = 2
_COUNTRIES_MAX = 60


def title_index(title: str) -> int | None:
    """Return the position of ``title-0042`` in the catalogue (41), or None when it is no title's name.

    The OCAs' possession of titles is a bitmap over these positions.
    """
    prefix, _, number = title.partition("-")
    if prefix != "title" or len(number) != 4 or not (number.isascii() and number.isdigit()):
        return None
    return int(number) - 1 if number != "0000" else None


@dataclass(frozen=True)
class SeedData:
    """All of the world. Use ``SeedData.generate``, which remembers what it has made."""

    seed: int
    subscriber_count: int
    title_count: int
    country_count: int
    new_title_count: int = 4

    @classmethod
    def generate(
        cls, seed: int, *, subscribers: int = 10_000, titles: int = 500, countries: int = 20, new_titles: int = 4
    ) -> SeedData:
        """Return the world of ``seed``; the same object when asked again. Raises ValueError for an impossible size."""
        return _generate(seed, subscribers, titles, countries, new_titles)

    @classmethod
    def of(cls, config: InstanceConfig) -> SeedData:
        """Return the world of a run: its seed, and the sizes in its settings. Raises ValueError for impossible ones."""
        settings = config.settings
        return cls.generate(
            config.seed,
            subscribers=int(settings.get("subscribers", 10_000)),
            titles=int(settings.get("titles", 500)),
            countries=int(settings.get("countries", 20)),
            new_titles=int(settings.get("new_titles", 4)),
        )

    def _random(self, part: str) -> random.Random:
        return random.Random(f"{self.seed}/{part}")

    @cached_property
    def countries(self) -> tuple[str, ...]:
        """Names of the countries."""
        return tuple(f"country-{number:02d}" for number in range(1, self.country_count + 1))

    @cached_property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """Every subscriber, with plan and country."""
        rng = self._random("subscribers")
        plans = rng.choices(list(_PLAN_SHARES), weights=list(_PLAN_SHARES.values()), k=self.subscriber_count)
        homes = rng.choices(self.countries, k=self.subscriber_count)
        return tuple(
            Subscriber(id=f"subscriber-{number:05d}", plan=plan, country=country)
            for number, (plan, country) in enumerate(zip(plans, homes, strict=True), start=1)
        )

    @cached_property
    def titles(self) -> tuple[Title, ...]:
        """Every title that can be played from the start, with the plan it needs and its licences."""
        rng, dates = self._random("titles"), self._random("licences")
        shares = _MINIMUM_PLAN_SHARES
        plans = rng.choices(list(shares), weights=list(shares.values()), k=self.title_count)
        return tuple(
            Title(
                id=f"title-{number:04d}",
                minimum_plan=plan,
                licences=self._licences({one for one in self.countries if rng.random() >= _UNLICENSED_SHARE}, dates),
            )
            for number, plan in enumerate(plans, start=1)
        )

    def _licences(self, licensed: Collection[str], rng: random.Random) -> Licences:
        """Return the windows of a title that is licensed at the epoch in these countries."""
        epoch = dt.date.fromisoformat(EPOCH_DATE)
        licences: dict[str, tuple[Window, ...]] = {}
        for country in self.countries:
            chance, days = rng.random(), dt.timedelta(days=rng.randint(1, _DAYS_MAX))
            if country in licensed:
                licences[country] = (Window(end=epoch + days) if chance < _ENDING_SHARE else ALWAYS,)
            elif chance >= _NEVER_LICENSED_SHARE:
                over = chance < (1.0 + _NEVER_LICENSED_SHARE) / 2
                licences[country] = (Window(end=epoch - days) if over else Window(begin=epoch + days),)
        return licences

    @cached_property
    def new_titles(self) -> tuple[Title, ...]:
        """The titles that come out during the run, after all others in the catalogue: no OCA has them when it starts.

        They are licensed everywhere and for every plan, so that whoever tries one is stopped by nothing else.
        """
        numbers = range(self.title_count + 1, self.title_count + self.new_title_count + 1)
        return tuple(
            Title(
                id=f"title-{number:04d}",
                minimum_plan=Plan.BASIC,
                licences=dict.fromkeys(self.countries, (ALWAYS,)),
            )
            for number in numbers
        )

    @property
    def catalogue(self) -> tuple[Title, ...]:
        """Every title there is or will be."""
        return self.titles + self.new_titles

    @cached_property
    def _titles_by_id(self) -> Mapping[str, Title]:
        return {title.id: title for title in self.catalogue}

    def licensed(self, title_id: str, country: str, today: dt.date) -> bool:
        """Return whether the title may be shown in ``country`` today. Raises KeyError for an unknown title."""
        return self._titles_by_id[title_id].window_on(country, today) is not None

    @cached_property
    def isps(self) -> Mapping[str, tuple[str, ...]]:
        """IPv4 prefixes of each provider: a /16 in each country, and a /20 leased inside the next provider's /16.

        All lie in 10.0.0.0/8, so that no real address appears. The leased blocks make the longest prefix matter.
        """
        held: dict[str, list[str]] = {isp: [] for isp in ISPS}
        for country in range(self.country_count):
            for position, isp in enumerate(ISPS):
                held[isp].append(f"10.{country * len(ISPS) + position}.0.0/16")
                landlord = (position + 1) % len(ISPS)
                held[isp].append(f"10.{country * len(ISPS) + landlord}.240.0/20")
        return {isp: tuple(prefixes) for isp, prefixes in held.items()}

    @cached_property
    def networks(self) -> PrefixTable:
        """The lookup from a client's address to its provider."""
        return PrefixTable(self.isps)

    def client_ip(self, subscriber: Subscriber) -> str:
        """Return the address ``subscriber`` calls from, always the same one; 3 % come from networks nobody knows.

        Half of a country's subscribers are with its largest provider, which is another one from country to country.
        """
        rng = self._random(f"address/{subscriber.id}")
        country = self.countries.index(subscriber.country)
        host = f"{rng.randrange(256)}.{rng.randrange(1, 255)}"
        if rng.random() < _UNKNOWN_NETWORK_SHARE:
            return f"10.200.{host}"
        position = country % len(ISPS)
        if rng.random() >= _HOME_ISP_SHARE:
            position = (position + rng.randrange(1, len(ISPS))) % len(ISPS)
        return f"10.{country * len(ISPS) + position}.{host}"

    @staticmethod
    def token(subscriber: Subscriber, keys: tokens.Keyring | str) -> str:
        """Return the signed token of ``subscriber``; it never expires."""
        return tokens.issue(subscriber, keys)

    def holdings(self, isp: str, index: int) -> int:
        """Return the titles that OCA number ``index`` (from 1) is delivered with: bit *i* stands for that position.

        OCAs at the exchange hold everything. Of every nine OCAs inside providers at most two lack any one title, so
        that with three OCAs at the exchange ten always hold it, and so that it stays playable when a provider is lost.
        """
        return self.assigned(isp, index) & ((1 << self.title_count) - 1)

    def assigned(self, isp: str, index: int) -> int:
        """Return the titles that an OCA is to hold: its ``holdings``, and by the same rule those that come out."""
        everything = (1 << self.title_count + self.new_title_count) - 1
        if isp == IXP:
            return everything
        slot = (index - 1) % _ISP_OCA_SLOTS
        lacking = sum(1 << position for position, slots in enumerate(self._lacking_slots) if slot in slots)
        return everything & ~lacking

    @cached_property
    def _lacking_slots(self) -> tuple[frozenset[int], ...]:
        """For each title, the slots of OCAs inside providers that lack it."""
        rng = self._random("fill")
        slots = range(_ISP_OCA_SLOTS)
        count = self.title_count + self.new_title_count
        return tuple(frozenset(rng.sample(slots, rng.randint(0, _MISSING_COPIES_MAX))) for _ in range(count))


@lru_cache(maxsize=4)
def _generate(seed: int, subscribers: int, titles: int, countries: int, new_titles: int) -> SeedData:
    for name, value, least, limit in (
        ("subscribers", subscribers, 1, 99_999),
        ("titles", titles, 1, 9_999),
        ("countries", countries, 1, _COUNTRIES_MAX),
        ("new_titles", new_titles, 0, 9_999 - titles),
    ):
        if not least <= value <= limit:
            raise ValueError(f"settings.{name} is {value}; from {least} to {limit} are possible.")
    return SeedData(
        seed=seed,
        subscriber_count=subscribers,
        title_count=titles,
        country_count=countries,
        new_title_count=new_titles,
    )
