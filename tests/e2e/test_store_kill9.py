"""``kill -9`` of the store's replicas at any moment: nothing acknowledged is lost or done twice, and all are equal."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import aiohttp
import pytest

from chaos.processes import host
from chaos.topology.wire import config_to_json
from tests.e2e.running import ROOT
from tests.ports import dead_address
from tests.processes import wait_until_ended
from tests.unit.playback.little_target import config
from tests.unit.playback.store_replicas import TIMING

pytestmark = pytest.mark.e2e

NAMES = ("store-1", "store-2", "store-3")
KILLS = 15
WRITERS = 8
UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)


class Processes:
    """Three replicas, each a process of its own that may be killed and started again with its data."""

    def __init__(self, folder: Path, starter: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.http = http
        self.addresses = {name: dead_address() for name in NAMES}
        self._starter = starter
        self._pids: dict[str, int] = {}
        self._begun = {starter.pid: host.start_ticks(starter.pid)}
        """When each process started that there ever was, by which it is told from a stranger with its pid."""

    async def start(self, name: str) -> None:
        """Start a replica."""
        index = NAMES.index(name) + 1
        (self.folder / name).mkdir(exist_ok=True)
        told = config(
            "store",
            index=index,
            calls={"store": list(self.addresses.values())},
            settings=TIMING,
            data_dir=str(self.folder / name),
            port=int(self.addresses[name].rpartition(":")[2]),
        )
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        self._starter.stdin.write(config_to_json(told).encode() + b"\n")
        pid = int(await self._starter.stdout.readline())
        self._pids[name] = pid
        self._begun[pid] = host.start_ticks(pid)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a replica a signal."""
        os.kill(self._pids[name], number)

    def kill(self, name: str) -> None:
        """Kill a replica where it stands."""
        os.kill(self._pids.pop(name), signal.SIGKILL)

    async def end(self) -> None:
        """End them all, frozen or not; when this returns, none has its files open any more."""
        for pid in self._alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert self._starter.stdin is not None
        self._starter.stdin.close()  # with its end they all end
        await asyncio.to_thread(wait_until_ended, self._alive)
        await self._starter.wait()

    def _alive(self) -> list[int]:
        # One without a start was gone before we could ask for it.
        return [pid for pid, start in self._begun.items() if start is not None and host.is_alive(pid, start)]

    async def status(self, name: str) -> dict[str, object] | None:
        """What a replica says of itself; None where it does not answer."""
        try:
            async with (
                asyncio.timeout(0.5),
                self.http.get(f"http://{self.addresses[name]}/leader") as response,
            ):
                return await response.json()
        except UNREACHABLE:
            return None

    async def leader(self) -> str | None:
        """Who leads, as far as anybody says."""
        for name in NAMES:
            status = await self.status(name)
            if status is not None and status["role"] == "leader":
                return name
        return None

    async def until_led(self) -> None:
        """Wait until all know the same leader."""
        await self._until_alike("leader", "term")

    async def until_equal(self) -> None:
        """Wait until all know the same leader and have applied the same; nobody may write meanwhile."""
        await self._until_alike("leader", "term", "applied")

    async def _until_alike(self, *keys: str) -> None:
        async with asyncio.timeout(5.0):
            while True:
                said = [await self.status(name) for name in NAMES]
                known = {tuple(one[key] for key in keys) if one else None for one in said}
                if len(known) == 1 and None not in known and said[0]["leader"] is not None:
                    return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def processes(folder: Path):
    """Three replicas that know a leader."""
    starter = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.e2e.store_processes",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with aiohttp.ClientSession() as http:
        stores = Processes(folder, starter, http)
        try:
            for name in NAMES:
                await stores.start(name)
            await stores.until_equal()
            yield stores
        finally:
            await stores.end()


class Writers:
    """Callers who write all the time, and repeat what was not acknowledged with the same id."""

    def __init__(self, stores: Processes, rng: random.Random) -> None:
        self._stores = stores
        self._rng = rng
        self.acknowledged: dict[str, int] = {}
        """The index in the log at which each command was carried out, as the answer said."""
        self.repeated = 0
        self.over = False

    async def write(self, writer: int) -> None:
        """Write one command after the other."""
        number = 0
        while not self.over:
            number += 1
            while not await self.post(f"{writer}/{number}"):
                self.repeated += 1
                if self.over:
                    return
                await asyncio.sleep(0.01)

    async def post(self, key: str) -> bool:
        """Write one command, at any replica; whether it was acknowledged."""
        address = self._stores.addresses[self._rng.choice(NAMES)]
        body = {
            "id": key,
            "kind": "sign_up",
            "account": f"account/{key}",
            "email": f"{key}@example.com",
            "password_hash": "none",
            "plan": "basic",
            "country": "country-01",
            "at_s": 1.0,
        }
        try:
            async with (
                asyncio.timeout(1.0),
                self._stores.http.post(f"http://{address}/commands", json=body) as response,
            ):
                answer = await response.json()
        except UNREACHABLE:
            return False
        assert response.status in {200, 503, 504}
        if response.status == 200:
            self.acknowledged[key] = answer["index"]
        return response.status == 200


async def test_no_acknowledged_write_is_lost_whoever_is_killed(tmp_path):
    rng = random.Random(11)
    async with processes(tmp_path) as stores:
        writers = Writers(stores, random.Random(12))
        progress = []
        async with asyncio.TaskGroup() as tasks:
            for writer in range(WRITERS):
                tasks.create_task(writers.write(writer))
            for number in range(KILLS):
                await asyncio.sleep(rng.uniform(0.05, 0.2))
                leader = await stores.leader()
                # Every third time the leader; now and then two at once, so that no majority is left.
                victims = {leader if leader and number % 3 == 0 else rng.choice(NAMES)}
                if number % 5 == 4:
                    victims.add(rng.choice(NAMES))
                for victim in sorted(victims):
                    stores.kill(victim)
                await asyncio.sleep(rng.uniform(0.0, 0.2))
                for victim in sorted(victims):
                    await stores.start(victim)
                progress.append(len(writers.acknowledged))
            await stores.until_led()
            await asyncio.sleep(0.2)
            writers.over = True
        while not await writers.post("end"):  # once it is applied, so is everything that was still under way
            await asyncio.sleep(0.01)
        await stores.until_equal()

    assert progress[-1] > progress[KILLS // 2] > 0, "there was progress all along"
    assert writers.repeated > 0, "kills were felt"
    check(tmp_path, writers)


async def test_a_leader_that_is_paused_and_goes_on_acknowledges_nothing_that_is_lost(tmp_path):
    async with processes(tmp_path) as stores:
        writers = Writers(stores, random.Random(13))
        async with asyncio.TaskGroup() as tasks:
            for writer in range(WRITERS):
                tasks.create_task(writers.write(writer))
            for _ in range(2):
                await asyncio.sleep(0.2)
                while (paused := await stores.leader()) is None:
                    await asyncio.sleep(0.01)
                stores.signal(paused, signal.SIGSTOP)
                await asyncio.sleep(0.6)
                before = len(writers.acknowledged)
                stores.signal(paused, signal.SIGCONT)
            await stores.until_led()
            writers.over = True
        while not await writers.post("end"):
            await asyncio.sleep(0.01)
        await stores.until_equal()

    assert 0 < before < len(writers.acknowledged)
    check(tmp_path, writers)


def check(folder: Path, writers: Writers) -> None:
    """Look at what the replicas have on disk: the same, with every acknowledged sign-up in it, once."""
    tables: dict[str, list[list[tuple]]] = {}
    for name in NAMES:
        with closing(sqlite3.connect(folder / name / "ledger.sqlite")) as ledger:
            tables[name] = [
                ledger.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("accounts", "results")
            ]
        with closing(sqlite3.connect(folder / name / "raft.sqlite")) as journal:
            tables[name].append(journal.execute("SELECT * FROM log ORDER BY position").fetchall())
    assert tables["store-1"] == tables["store-2"] == tables["store-3"]
    accounts, results, log = tables["store-1"]
    carried_out = {key: position for key, position, _ in results}
    lost = {key for key, index in writers.acknowledged.items() if carried_out.get(key) != index}
    assert lost == set()
    assert {account for account, *_ in accounts} == {f"account/{key}" for key in carried_out}
    assert {json.loads(command)["id"] for _, _, command in log if command} == carried_out.keys()
