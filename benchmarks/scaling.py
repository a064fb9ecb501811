"""What more instances, and more workers, of the services on a play's way bring on this machine, and where the limit is.

    load -> elb -> gateway -> play_api -> playback_apps        all through proxies; 40 plays at once

The three services behind the load balancer have 1, 2 or 4 instances of one process, or one instance of 1, 2 or 4
workers. Each round starts each of these targets alone, in an order that is drawn anew, and asks for the same plays; a
play is done when it is granted or refused. The medians of the rounds are shown, the ratio to one process of each (taken
within each round), and how much of a core every service used meanwhile: what is near 1.00 and is one process, or all
cores together, is the limit.

    python -m benchmarks.scaling                               five rounds, about five minutes
    python -m benchmarks.scaling --rounds 1 --plays 300        to see that it works
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.runs import ROOT, table
from benchmarks.target_cost import ANSWERS, Play, orders, plays_per_s
from chaos.environment import Backend, Environment
from chaos.experiment.target import load_target
from targets.playback.client import PlayOrder

SERVICES = ("gateway", "play_api", "playback_apps")
"""Those that are scaled; there is one load balancer."""

TARGETS: Mapping[str, tuple[int, int]] = {
    "1 process": (1, 1),
    "2 instances": (2, 1),
    "4 instances": (4, 1),
    "1 instance of 2 workers": (1, 2),
    "1 instance of 4 workers": (1, 4),
}
"""Instances and workers of each of ``SERVICES``."""

DISABLED = ("deadlines",)
"""So that a play that waits for its turn is counted, and not cut off: the question is how many can be done."""

SETTLE_S = 5.0
"""Copies are pulled, and what is learned at the start has been."""
WARM_PLAYS = 200
_OTHERS = "the rest"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One target in one round."""

    plays_per_s: float
    """Plays that were granted, or refused for plan or licence: both have gone the whole way."""
    failed: float
    """The share of all plays that got no such answer: who has too much to do turns some away."""
    cores: Mapping[str, float]
    """Cores used by each service, by the proxies, by the load, and by ``_OTHERS``."""
    busiest: tuple[str, float]
    """The process that used most of one core, and how much of it."""


def cpu_s() -> dict[int, tuple[int, float]]:
    """Return the process group and the CPU time of every process, in seconds."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        found[int(entry.name)] = int(fields[2]), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return found


def counting(session: aiohttp.ClientSession, statuses: Counter[int]) -> Play:
    """Return a play that ends when it is answered; what it was answered with is counted."""

    async def play(order: PlayOrder) -> None:
        headers = {"Authorization": f"Bearer {order.token}", "X-Forwarded-For": order.client_ip}
        async with session.post(f"http://{order.elb}/play", json={"title": order.title}, headers=headers) as response:
            await response.read()
            statuses[response.status] += 1

    return play


async def measure(instances: int, workers: int, *, plays: int, seed: int) -> Measured:
    """Start a target, let it settle, and measure the plays."""
    changes = {f"replicas.{service}": str(instances) for service in SERVICES}
    changes |= {f"workers.{service}": str(workers) for service in SERVICES}
    topology, settings = load_target(ROOT / "targets/playback", changes)
    async with (
        Environment(topology, emit=lambda _: None, backend=Backend.AUTO) as environment,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        await environment.start_target(seed=1, disabled=DISABLED, settings=settings)
        config = environment.client_config("client")
        statuses: Counter[int] = Counter()
        play = counting(session, statuses)
        await asyncio.sleep(SETTLE_S)
        await plays_per_s(play, orders(config, WARM_PLAYS, random.Random(seed + 1)))
        asked = orders(config, plays, random.Random(seed))
        services = {one.pid: one.service for one in environment.addresses()}
        proxies = {process.pid for process in environment.launcher.processes} - set(services)
        statuses.clear()
        before, begun_s = cpu_s(), time.monotonic()
        rate = await plays_per_s(play, asked)
        after, took_s = cpu_s(), time.monotonic() - begun_s
    cores: dict[str, float] = {}
    busiest = ("", 0.0)
    for pid, (group, used_s) in after.items():
        used = (used_s - before.get(pid, (group, 0.0))[1]) / took_s
        name = "load" if pid == os.getpid() else "proxies" if group in proxies else services.get(group)
        if name is None:
            continue
        shown = name if name in {*SERVICES, "elb", "proxies", "load"} else _OTHERS
        cores[shown] = cores.get(shown, 0.0) + used
        busiest = max(busiest, (name, used), key=lambda one: one[1])
    answered = sum(statuses[status] for status in ANSWERS) / plays
    return Measured(plays_per_s=rate * answered, failed=1.0 - answered, cores=cores, busiest=busiest)


def rows_of(rounds: Sequence[Mapping[str, Measured]]) -> list[tuple[str, ...]]:
    """Return a row for each target: medians over the rounds."""
    first = next(iter(TARGETS))
    rows = []
    for name in TARGETS:
        runs = [one[name] for one in rounds]
        ratio = statistics.median(one[name].plays_per_s / one[first].plays_per_s for one in rounds)
        parts = ("load", "elb", *SERVICES, _OTHERS, "proxies")
        shares = [statistics.median(run.cores.get(part, 0.0) for run in runs) for part in parts]
        middle = sorted(runs, key=lambda run: run.busiest[1])[len(runs) // 2]
        rows.append(
            (
                name,
                f"{statistics.median(run.plays_per_s for run in runs):.0f}",
                f"{ratio:.2f}",
                f"{statistics.median(run.failed for run in runs):.1%}",
                *(f"{share:.2f}" for share in shares),
                f"{sum(shares):.2f}",
                f"{middle.busiest[0]} {middle.busiest[1]:.2f}",
            )
        )
    return rows


def limit_of(rows: Sequence[tuple[str, ...]], cores: int) -> str:
    """Return a sentence on what the target that did most was limited by."""
    best = max(rows, key=lambda row: float(row[1]))
    used, (service, share) = float(best[-2]), best[-1].rsplit(" ", 1)
    if used >= 0.9 * cores:
        return f"The limit at {best[0]}: all cores together ({used:.2f} of {cores})."
    if float(share) >= 0.85:
        return f"The limit at {best[0]}: one process of {service} ({share} of a core; {used:.2f} of {cores} in all)."
    return (
        f"No limit of its own at {best[0]}: {used:.2f} of {cores} cores, the busiest process {service} with {share}; "
        "other programs had the rest, or plays waited for each other."
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each with every target")
    parser.add_argument("--plays", type=int, default=2_000, help="plays of each target in each round")
    told = parser.parse_args(arguments)
    rng = random.Random(5)
    rounds: list[dict[str, Measured]] = []
    for _ in range(told.rounds):
        seed = rng.randrange(1_000_000)
        rounds.append({})
        for name in rng.sample(list(TARGETS), len(TARGETS)):
            instances, workers = TARGETS[name]
            rounds[-1][name] = asyncio.run(measure(instances, workers, plays=told.plays, seed=seed))
    cores = len(os.sched_getaffinity(0))
    rows = rows_of(rounds)
    print(f"## What more instances and workers bring on {cores} cores\n")
    heading = ("gateway, play_api, playback_apps: each", "plays/s", "ratio", "failed", "cores: load", "elb", *SERVICES)
    print(table((*heading, _OTHERS, "proxies", "in all", "busiest process"), rows))
    print(f"\n{limit_of(rows, cores)}\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
