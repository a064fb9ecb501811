"""What isolation costs the target: plays granted a second with it and without it, nothing failing.

Two targets run side by side, one with isolation switched off. A closed loop of clients asks one of them for plays for
a while, then the other, in turn, so that a noisy machine hits both alike.
"""

from __future__ import annotations

import asyncio
import random
import statistics

import aiohttp

from benchmarks.runs import ROOT
from chaos.environment import Backend, Environment
from chaos.topology.model import InstanceConfig
from chaos.topology.parser import load_topology
from targets.playback import tokens
from targets.playback.seed_data import SeedData

ROUNDS = 14
ROUND_S = 2.5
CLIENTS = 12
ANSWERS = {200, 403}
"""A play, or a refusal for plan or licence: both have gone the whole way."""


async def _plays(config: InstanceConfig, session: aiohttp.ClientSession, rng: random.Random) -> float:
    """Return how many plays a second the target answers."""
    data = SeedData.of(config)
    address = config.calls["elb"][0].address
    key = str(config.settings["signing_key"])
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    answered = 0

    async def client() -> None:
        nonlocal answered
        while loop.time() < begun_s + ROUND_S:
            subscriber = rng.choice(data.subscribers)
            headers = {
                "Authorization": f"Bearer {tokens.issue(subscriber, key)}",
                "X-Forwarded-For": data.client_ip(subscriber),
            }
            body = {"title": rng.choice(data.titles).id}
            async with session.post(f"http://{address}/play", json=body, headers=headers) as response:
                await response.read()
                if response.status not in ANSWERS:
                    raise SystemExit(f"a play was answered with status {response.status}: {await response.text()}")
                answered += 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answered / (loop.time() - begun_s)


async def _main() -> None:
    topology = load_topology(ROOT / "targets/playback")
    rng = random.Random(5)
    rates: dict[str, list[float]] = {"with": [], "without": []}
    async with (
        Environment(topology, emit=lambda _: None, backend=Backend.AUTO) as isolated,
        Environment(topology, emit=lambda _: None, backend=Backend.AUTO) as bare,
        aiohttp.ClientSession() as session,
    ):
        await isolated.start_target(seed=1)
        await bare.start_target(seed=1, disabled=("isolation",))
        targets = {"with": isolated.client_config("client"), "without": bare.client_config("client")}
        await asyncio.sleep(6.0)  # copies are pulled, caches of the first plays filled
        for config in targets.values():
            await _plays(config, session, rng)
        for _ in range(ROUNDS):
            for name in rng.sample(list(targets), 2):
                rates[name].append(await _plays(targets[name], session, rng))
    ratio = statistics.median(one / other for one, other in zip(rates["with"], rates["without"], strict=True))
    print("## What isolation costs the target\n")
    print("| plays/s with isolation | without | ratio | to reach |")
    print("|---|---|---|---|")
    print(
        f"| {statistics.median(rates['with']):.0f} | {statistics.median(rates['without']):.0f} | {ratio:.3f} | 0.97 |"
    )
    print()


def main() -> None:
    asyncio.run(_main())


if __name__ == "__main__":
    main()
