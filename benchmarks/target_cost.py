"""What isolation costs the target: plays a second with it and without it, nothing failing, the machine's cores full.

Two targets run side by side, one with isolation switched off. Viewers press Play at the one, then the other, in turn,
so that a noisy machine hits both alike; and each pair of rounds is the same plays, so that both have the same work.
A new play is begun whenever one has come far enough, twelve at a time:

* a *start* is a whole play up to its first frame: granted, its ten OCAs tried, streamed from the best one;
* a *grant* is the first of its twelve requests alone, in which all of the isolation is.

Before that, Locust's viewers play whole sessions on both, at a rate that two cores carry: ``chaos run --control``, of
which the baseline is looked at, when nothing has failed yet.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from benchmarks.runs import ROOT, chaos_run, table
from chaos.environment import Backend, Environment
from chaos.topology.model import InstanceConfig
from chaos.topology.parser import load_topology
from targets.playback.asyncio_player import AsyncioPlayer
from targets.playback.client import ClientConfig, PlaybackClient, PlayOrder
from targets.playback.client_protocol import ClientEvent, Failed, Refused, Started
from targets.playback.seed_data import SeedData

ROUNDS = 12
AT_ONCE = 40
STARTS = 300
GRANTS = 1_200
ANSWERS = {200, 403}
"""A play, or a refusal for plan or licence: both have gone the whole way."""

RATE = 95
"""Whole plays a second asked for in the first row."""

Play = Callable[[PlayOrder], Awaitable[None]]
"""Returns when another play may be begun."""


def orders(config: InstanceConfig, count: int, rng: random.Random) -> list[PlayOrder]:
    """Return plays that random subscribers ask for."""
    data = SeedData.of(config)
    key = str(config.settings["signing_key"])
    chosen = [(rng.choice(data.subscribers), rng.choice(data.titles)) for _ in range(count)]
    return [
        PlayOrder(
            elb=config.calls["elb"][0].address,
            title=title.id,
            token=data.token(subscriber, key),
            client_ip=data.client_ip(subscriber),
            scheduled_s=0.0,
        )
        for subscriber, title in chosen
    ]


async def plays_per_s(play: Play, ordered: Sequence[PlayOrder]) -> float:
    """Do the plays, so many at once, and return how many were done a second."""
    loop = asyncio.get_running_loop()
    waiting = iter(ordered)
    begun_s = loop.time()

    async def viewer() -> None:
        for order in waiting:
            await play(order)

    await asyncio.gather(*(viewer() for _ in range(AT_ONCE)))
    return len(ordered) / (loop.time() - begun_s)


def granting(session: aiohttp.ClientSession) -> Play:
    """Return a play that ends when it is granted or refused."""

    async def play(order: PlayOrder) -> None:
        headers = {"Authorization": f"Bearer {order.token}", "X-Forwarded-For": order.client_ip}
        url = f"http://{order.elb}/play"
        async with session.post(url, json={"title": order.title}, headers=headers) as response:
            await response.read()
            if response.status not in ANSWERS:
                raise SystemExit(f"a play was answered with status {response.status}: {await response.text()}")

    return play


def starting(rng: random.Random, watching: set[asyncio.Task[None]]) -> Play:
    """Return a play that lasts until its first frame; who sees it is then left to watch, in ``watching``."""
    player = AsyncioPlayer(lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

    async def play(order: PlayOrder) -> None:
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[ClientEvent] = loop.create_future()

        def tell(event: ClientEvent) -> None:
            if isinstance(event, Started | Refused | Failed) and not begun.done():
                begun.set_result(event)

        now = PlayOrder(
            elb=order.elb, title=order.title, token=order.token, client_ip=order.client_ip, scheduled_s=loop.time()
        )
        client = PlaybackClient(now, ClientConfig(), rng=random.Random(rng.random()), tell=tell)
        task = loop.create_task(player.play(client))
        watching.add(task)
        task.add_done_callback(watching.discard)
        event = await begun
        if isinstance(event, Failed):
            raise SystemExit(f"a play failed: {event}")

    return play


def whole_plays() -> tuple[str, ...]:
    """Return the row of whole plays: stream starts a second in the baseline of an experiment and of its control."""
    phases = {"baseline": "20s", "fault": "5s", "recovery": "6s"}
    settings = [part for name, length in phases.items() for part in ("--set", f"phases.{name}={length}")]
    run = chaos_run(
        "experiments/playback_apps_kill.yaml", "--control", "--seed", "2", "--set", f"load.rate={RATE}", *settings
    )
    with_it, without = (one["metrics"]["baseline"]["sps"] for one in (run.document, run.document["control"]))
    what = f"plays/s: whole ones, {RATE}/s asked"
    return what, f"{with_it:.1f}", f"{without:.1f}", f"{with_it / without:.3f}", "0.97"


async def _saturated() -> list[tuple[str, ...]]:
    """Return the rows of starts and grants, as many as two full cores can do."""
    topology = load_topology(ROOT / "targets/playback")
    rng = random.Random(5)
    watching: set[asyncio.Task[None]] = set()
    async with (
        Environment(topology, emit=lambda _: None, backend=Backend.AUTO) as isolated,
        Environment(topology, emit=lambda _: None, backend=Backend.AUTO) as bare,
        aiohttp.ClientSession() as session,
    ):
        # A session of one chunk: what follows the first frame is no matter of the isolation.
        settings = {"session_chunks": 1}
        await isolated.start_target(seed=1, settings=settings)
        await bare.start_target(seed=1, disabled=("isolation",), settings=settings)
        configs = {"with": isolated.client_config("client"), "without": bare.client_config("client")}
        await asyncio.sleep(6.0)  # copies are pulled
        measured = {
            "starts/s": (starting(rng, watching), STARTS),
            "grants/s": (granting(session), GRANTS),
        }
        rates: dict[str, dict[str, list[float]]] = {what: {side: [] for side in configs} for what in measured}
        for number in range(ROUNDS + 1):
            for what, (play, count) in measured.items():
                seed = rng.random()
                for side in rng.sample(list(configs), 2):
                    rate = await plays_per_s(play, orders(configs[side], count, random.Random(seed)))
                    if number:  # the first round fills caches and learns latencies
                        rates[what][side].append(rate)
                    if watching:
                        await asyncio.wait(watching)
    rows = []
    for what, sides in rates.items():
        ratio = statistics.median(one / other for one, other in zip(sides["with"], sides["without"], strict=True))
        with_it, without = (f"{statistics.median(sides[side]):.0f}" for side in ("with", "without"))
        rows.append((f"{what}, both cores full", with_it, without, f"{ratio:.3f}", ""))
    return rows


def main() -> None:
    """Print the table."""
    rows = [whole_plays(), *asyncio.run(_saturated())]
    print("## What isolation costs the target\n")
    print(table(("", "with isolation", "without", "ratio", "to reach"), rows))
    print()


if __name__ == "__main__":
    main()
