"""A hundred kills at random moments, and what was acknowledged is there: accounts, plans, invoices, events.

The whole target runs. Writers sign up and change plans at the load balancer, and repeat with the same key what got no
answer; an emitter sends plays to the events' server and notes which were acknowledged. All the while stores, sign-up
APIs (which charge the accounts), the events' server and pipelines are killed with SIGKILL, now and then two at once,
and started again. When all has been worked off, every replica of the store is asked for every account:

* *lost*: acknowledged accounts, plans or events that are not there, periods of an account without an invoice;
* *doubled*: more than one invoice of an account for a period, events that were counted twice.

    python -m benchmarks.kills [KILLS]
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from benchmarks.runs import ROOT, table
from chaos.environment import Backend, Environment
from chaos.topology.model import CalledInstance, InstanceConfig
from chaos.topology.parser import load_topology
from targets.playback.activity import Kind
from targets.playback.activity_emitter import Activity, ActivityCounts
from targets.playback.billing import period_at
from targets.playback.event_stream import TOTALS, Backlog, EventStream
from targets.playback.service import Context
from targets.playback.transport import FAILURES
from targets.playback.validation import Plan, Subscriber

KILLS = 100
WRITERS = 6
PERIOD_S = 15.0
SETTINGS = {"billing_period_s": PERIOD_S, "billing_rate_per_s": 200, "address_rate_per_s": 200, "address_burst": 200}
VICTIMS = ("store-1", "store-2", "store-3", "signup_api-1", "signup_api-2", "events-1", "pipeline-1", "pipeline-2")
EMIT_EVERY_S = 0.01
PAUSE_S = (0.1, 0.8)
AWAY_S = (0.0, 0.4)
WORKED_OFF_S = 120.0
_NO_ANSWER = (aiohttp.ClientError, OSError, TimeoutError)


@dataclass(slots=True)
class Written:
    """What was acknowledged."""

    plans: dict[str, str] = field(default_factory=dict)
    """The plan of each account, by the last answer about it."""
    repeated: int = 0
    """Requests that had to be sent again."""


class Writer:
    """Signs up one account after the other, and changes every second one's plan."""

    def __init__(self, number: int, elb: str, http: aiohttp.ClientSession, written: Written) -> None:
        self._number = number
        self._elb = elb
        self._http = http
        self._written = written
        self.over = False

    async def write(self) -> None:
        """Write until it is over; what has been begun is ended."""
        account = 0
        while not self.over:
            account += 1
            name = f"{self._number}-{account}"
            body = {
                "email": f"{name}@example.com",
                "password": "a long password",
                "plan": "basic",
                "country": "country-01",
            }
            answer = await self._until_answered("/signup", body, key=f"signup-{name}", token=None)
            account_id = str(answer["account"])
            self._written.plans[account_id] = "basic"
            if account % 2:
                token = str(answer["token"])
                await self._until_answered("/account/plan", {"plan": "premium"}, key=f"plan-{name}", token=token)
                self._written.plans[account_id] = "premium"

    async def _until_answered(
        self, path: str, body: dict[str, str], *, key: str, token: str | None
    ) -> dict[str, object]:
        headers = {"Idempotency-Key": key, "X-Forwarded-For": f"10.9.0.{self._number}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        while True:
            try:
                async with (
                    asyncio.timeout(3.0),
                    self._http.post(f"http://{self._elb}{path}", json=body, headers=headers) as response,
                ):
                    if response.status in {200, 201}:
                        return dict(await response.json())
                    if response.status not in {429, 500, 502, 503, 504}:
                        raise RuntimeError(f"{path} was answered {response.status}: {await response.text()}")
            except _NO_ANSWER:
                pass
            self._written.repeated += 1
            await asyncio.sleep(0.05)


class Killer:
    """Kills and starts again, at moments drawn from ``rng``."""

    def __init__(self, environment: Environment, rng: random.Random) -> None:
        self._environment = environment
        self._rng = rng
        self.killed: Counter[str] = Counter()

    async def kill(self, count: int) -> None:
        """Kill ``count`` processes."""
        while self.killed.total() < count:
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            several = 2 if self._rng.random() < 0.2 and self.killed.total() + 2 <= count else 1
            victims = self._rng.sample(VICTIMS, several)
            await asyncio.gather(*map(self._environment.kill, victims))
            self.killed.update(victim.rpartition("-")[0] for victim in victims)
            await asyncio.sleep(self._rng.uniform(*AWAY_S))
            await asyncio.gather(*map(self._environment.start, victims))


async def emit(activity: Activity, rng: random.Random) -> None:
    """Emit plays until cancelled."""
    while True:
        number = rng.randrange(1_000)
        who = Subscriber(id=f"subscriber-{number:05d}", plan=Plan.BASIC, country=f"country-{number % 9:02d}")
        activity.emit(Kind.PLAY_STARTED, who, title=f"title-{rng.randint(1, 500):04d}")
        await asyncio.sleep(EMIT_EVERY_S)


async def worked_off(
    activity: Activity, stream: EventStream, http: aiohttp.ClientSession, stores: Sequence[str], period: int
) -> None:
    """Wait until every event is counted, and no replica knows an account that is due for ``period``."""
    async with asyncio.timeout(WORKED_OFF_S):
        while True:
            try:
                emptied = await stream.backlog() == Backlog(messages=0, pending=0)
                due = [await _json(http, store, f"/billing/due?period={period}&limit=1") for store in stores]
            except (*FAILURES, *_NO_ANSWER):
                emptied, due = False, []
            charged = bool(due) and all(one.get("backlog") == 0 for one in due)
            if emptied and charged and activity.counts.acknowledged == activity.counts.emitted:
                return
            await asyncio.sleep(0.1)


async def _json(http: aiohttp.ClientSession, address: str, path: str) -> dict[str, object]:
    async with http.get(f"http://{address}{path}") as response:
        return dict(await response.json()) if response.status == 200 else {}


@dataclass(slots=True, kw_only=True)
class Found:
    """What a replica has of what was acknowledged."""

    lost_accounts: int = 0
    other_plans: int = 0
    lost_invoices: int = 0
    doubled_invoices: int = 0
    invoices: int = 0


async def look_at(http: aiohttp.ClientSession, store: str, written: Written, period: int) -> Found:
    """Ask one replica for every acknowledged account, and its invoices from its sign-up to ``period``."""
    found = Found()
    for account, plan in written.plans.items():
        known = await _json(http, store, f"/accounts/{account}")
        if not known:
            found.lost_accounts += 1
            continue
        found.other_plans += known["plan"] != plan
        answer = await _json(http, store, f"/accounts/{account}/invoices")
        invoices = answer["invoices"]
        assert isinstance(invoices, list)
        periods = [invoice["period"] for invoice in invoices]
        found.invoices += len(periods)
        found.doubled_invoices += len(periods) - len(set(periods))
        first = period_at(float(str(known["signed_up_at_s"])), PERIOD_S)
        found.lost_invoices += len(set(range(first, period + 1)) - set(periods))
    return found


def _emitter_config(client: InstanceConfig, events: str) -> InstanceConfig:
    return InstanceConfig(
        service="play_api",
        instance="play_api-benchmark",
        index=1,
        host="127.0.0.1",
        port=0,
        labels={},
        calls={"events": (CalledInstance(instance="events-1", address=events, labels={}),)},
        reached_by={},
        settings=client.settings,
        disabled=(),
        seed=1,
        data_dir="",
    )


async def _measure(kills: int) -> list[tuple[str, ...]]:
    topology = load_topology(ROOT / "targets/playback")
    written = Written()
    async with (
        Environment(topology, emit=lambda _: None, backend=Backend.AUTO) as environment,
        aiohttp.ClientSession() as http,
    ):
        await environment.start_target(seed=1, settings=SETTINGS)
        client = environment.client_config("client")
        addresses = {running.instance: running.address for running in environment.addresses()}
        stores = [addresses[name] for name in VICTIMS if name.startswith("store")]
        context = Context(_emitter_config(client, addresses["events-1"]))
        activity, stream = Activity(context), EventStream(addresses["events-1"])
        writers = [Writer(number, client.calls["elb"][0].address, http, written) for number in range(WRITERS)]
        killer = Killer(environment, random.Random(1))
        begun_s = context.now()
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.write())
            emitting = tasks.create_task(emit(activity, random.Random(2)))
            await killer.kill(kills)
            for writer in writers:
                writer.over = True
            emitting.cancel()
        period = period_at(context.now(), PERIOD_S)
        await worked_off(activity, stream, http, stores, period)
        took_s = context.now() - begun_s
        found = [await look_at(http, store, written, period) for store in stores]
        (totals, dates) = await stream.counts(TOTALS, "figures/dates")
        kinds = await stream.counts(*(f"figures/{date}/kinds" for date in dates))
        await context.close()
        await activity.close()
        await stream.close()
    counts: ActivityCounts = activity.counts
    plays = sum(one.get("play_started", 0) for one in kinds)
    return [
        ("kills", ", ".join(f"{count} {service}" for service, count in sorted(killer.killed.items()))),
        ("time", f"{took_s:.0f} s, {written.repeated} requests had to be sent again"),
        ("accounts acknowledged", str(len(written.plans))),
        ("accounts lost, plans wrong", _each(found, "lost_accounts", "other_plans")),
        ("invoices", f"{statistics.median(one.invoices for one in found):.0f} in each of three replicas"),
        ("invoices lost, doubled", _each(found, "lost_invoices", "doubled_invoices")),
        ("events acknowledged", f"{counts.acknowledged} of {counts.emitted}, {counts.dropped} dropped"),
        ("events lost or doubled", f"{counts.acknowledged - plays} ({totals.get('duplicates', 0)} came twice)"),
    ]


def _each(found: Sequence[Found], *names: str) -> str:
    return ", ".join(str(sum(getattr(one, name) for one in found)) for name in names)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    rows = asyncio.run(_measure(int(arguments[0]) if arguments else KILLS))
    print("## What a hundred kills cost\n")
    print(table(("", "measured"), rows))
    print("\nto reach: nothing lost, nothing doubled\n")


if __name__ == "__main__":
    main(sys.argv[1:])
