"""How long after a play the recommendation that it makes is seen on the subscriber's home page.

The whole target runs. Subscribers who have no personal row yet press Play, twenty a second, and look at their home page
every 20 ms until it has one: play API, log of events, pipeline, cache, Discovery API, gateway, load balancer, each
with its proxies. Before that, others have watched the same titles, so that there is something to recommend.
"""

from __future__ import annotations

import asyncio
import random

import aiohttp

from benchmarks.runs import ROOT, table
from chaos.environment import Backend, Environment
from chaos.resilience.latency import quantile
from chaos.topology.model import InstanceConfig
from chaos.topology.parser import load_topology
from targets.playback.seed_data import SeedData
from targets.playback.validation import Subscriber

PLAYS = 400
BEFORE = 600
RATE_PER_S = 20.0
LOOK_EVERY_S = 0.02
PATIENCE_S = 10.0
TITLES = 40


class Viewers:
    """Subscribers, each of whom plays once."""

    def __init__(self, http: aiohttp.ClientSession, config: InstanceConfig) -> None:
        self._http = http
        self._elb = config.calls["elb"][0].address
        self._data = SeedData.of(config)
        self._key = str(config.settings["signing_key"])
        self.titles = [title.id for title in self._data.titles[:TITLES]]
        self.subscribers = self._data.subscribers

    def _headers(self, who: Subscriber) -> dict[str, str]:
        token = self._data.token(who, self._key)
        return {"Authorization": f"Bearer {token}", "X-Forwarded-For": self._data.client_ip(who)}

    async def play(self, who: Subscriber, title: str) -> bool:
        """Press Play; whether it was granted."""
        async with self._http.post(
            f"http://{self._elb}/play", json={"title": title}, headers=self._headers(who)
        ) as response:
            await response.read()
            return response.status == 200

    async def has_personal_row(self, who: Subscriber) -> bool:
        """Look at the home page."""
        async with self._http.get(f"http://{self._elb}/home", headers=self._headers(who)) as response:
            page = await response.json()
        return any(row["kind"] == "personal" for row in page["rows"])

    async def delay_s(self, who: Subscriber, title: str) -> float | None:
        """Return how long after the answer to a play its row is seen; None for a play that was refused."""
        loop = asyncio.get_running_loop()
        if not await self.play(who, title):
            return None
        began_s = loop.time()
        while not await self.has_personal_row(who):
            if loop.time() - began_s > PATIENCE_S:
                return float("inf")
            await asyncio.sleep(LOOK_EVERY_S)
        return loop.time() - began_s


async def _measure() -> list[float]:
    topology = load_topology(ROOT / "targets/playback")
    rng = random.Random(3)
    async with (
        Environment(topology, emit=lambda _: None, backend=Backend.AUTO) as environment,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        await environment.start_target(seed=1, settings={"account_rate_per_s": 100, "account_burst": 100})
        viewers = Viewers(http, environment.client_config("client"))
        people = rng.sample(viewers.subscribers, PLAYS + BEFORE // 2)
        for who in people[PLAYS:]:
            for title in rng.sample(viewers.titles, 2):
                await viewers.play(who, title)
        looking = []
        for who in people[:PLAYS]:
            looking.append(asyncio.ensure_future(viewers.delay_s(who, rng.choice(viewers.titles))))
            await asyncio.sleep(1.0 / RATE_PER_S)
        return [delay for delay in await asyncio.gather(*looking) if delay is not None]


def main() -> None:
    """Print the table."""
    delays = sorted(asyncio.run(_measure()))
    row = [f"{quantile(delays, share) * 1000:.0f} ms" for share in (0.5, 0.99)]
    print("## From a play to the home page\n")
    print(table(("plays", "p50", "p99", "longest"), [(str(len(delays)), *row, f"{delays[-1] * 1000:.0f} ms")]))
    print("\nto reach: 2 s at p99\n")


if __name__ == "__main__":
    main()
