"""Environments with real processes, and what is seen of them."""

import asyncio
import json
from pathlib import Path

from chaos.environment import Backend, Environment
from chaos.environment.probe import http_get
from chaos.faults.base import Stream, ToxicSpec
from tests.e2e.little_target import little_topology

LATENCY = ToxicSpec(name="1-latency", type="latency", stream=Stream.DOWNSTREAM, toxicity=1.0, attributes={"latency": 1})


class Harness:
    """Environments of one test: their events, and the check that nothing is left of them."""

    def __init__(self, folder: Path, temporary: Path, marker: str) -> None:
        self.folder, self.temporary, self.marker = folder, temporary, marker
        self.events = []

    def environment(self, *, backend=Backend.EMBEDDED, toxiproxy_url=None, **topology) -> Environment:
        return Environment(
            little_topology(self.folder, **topology),
            emit=self.events.append,
            backend=backend,
            toxiproxy_url=toxiproxy_url,
        )

    def seen(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


async def ask(address, path="/whoami", *, timeout_s=5.0):
    where, port = address.split(":")
    _, body = await http_get(where, int(port), path, timeout_s=timeout_s)
    return json.loads(body)


def address_of(environment, instance):
    return next(one.address for one in environment.addresses() if one.instance == instance)


def pid_of(environment, instance):
    return next(one.pid for one in environment.addresses() if one.instance == instance)


def run_of(environment):
    return environment.run_dir.name.rpartition("-")[2]


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def eventually(condition, *, within_s=5.0):
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
