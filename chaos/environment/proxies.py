"""The proxy server of a run: which one is taken, that it answers, and that our proxies on it do not outlive us.

Three kinds: a Toxiproxy that we start, the embedded server that we start, or a Toxiproxy that runs already (its URL is
given). On the last one everything we do is written down first, so that the guardian can undo it.
"""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from chaos import clock
from chaos.environment import embedded_server
from chaos.environment.probe import is_healthy
from chaos.environment.shelter import Shelter
from chaos.errors import EnvironmentFailure, UsageError
from chaos.faults.base import ToxicSpec
from chaos.processes.client import Launcher, ManagedProcess
from chaos.processes.ledger import Entry, Undo
from chaos.processes.logs import ending_in_words, last_lines
from chaos.processes.ports import HOST
from chaos.proxy.control import Lease, ProxyControl, ProxySpec
from chaos.proxy.server import TOXIPROXY_VERSION, find_toxiproxy, server_command, server_environment
from chaos.proxy.token import from_environment
from chaos.topology.model import HealthCheck
from chaos.topology.wire import config_to_json

READY_WITHIN_S = 10.0
LEASE_S = 15.0
"""On an embedded server that is not ours a toxic goes by itself this long after we and the guardian have died."""
RENEW_EVERY_S = 3.0


class Backend(StrEnum):
    """Which proxy server is started."""

    AUTO = "auto"
    """The real Toxiproxy where there is one, else the embedded server."""
    TOXIPROXY = "toxiproxy"
    EMBEDDED = "embedded"


def parse_url(url: str) -> tuple[str, int]:
    """Return host and port of an external Toxiproxy's URL; raises UsageError when it is none, or not on this machine.

    ``http://`` may be left out, and the port too (8474). Our services listen on loopback, so a Toxiproxy on
    another machine could not reach them.
    """
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 8474
    except ValueError as error:
        raise UsageError(f"--toxiproxy {url}: not a URL ({error}); it looks like http://127.0.0.1:8474") from error
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"--toxiproxy {url}: not a URL of a Toxiproxy; it looks like http://127.0.0.1:8474")
    if parts.hostname not in {"localhost", "::1"} and not parts.hostname.startswith("127."):
        raise UsageError(
            f"--toxiproxy {url}: a Toxiproxy on another machine cannot reach the target's services, which listen on "
            f"{HOST} alone; start one on this machine, or leave --toxiproxy out"
        )
    return parts.hostname, port


class ProxyServer:
    """The proxy server and our proxies on it; made by ``choose`` or ``attach``."""

    def __init__(
        self, *, host: str, port: int, shelter: Shelter, binary: Path | None = None, external: bool = False
    ) -> None:
        self.control = ProxyControl(host, port, token=from_environment() if external else "")
        self.log = shelter.folder / "proxy-server.log"
        self.external = external
        """Whether the server was there before us and stays after us."""
        self.name = "embedded" if binary is None else f"toxiproxy {TOXIPROXY_VERSION}"
        """``toxiproxy 2.12.0`` or ``embedded``; for a server that we did not start, what it says when it is ready."""
        self._host, self._port = host, port
        self._url = self.control.url
        self._shelter = shelter
        self._binary = binary
        self._process: ManagedProcess | None = None
        self._created: dict[str, int] = {}
        self._promised: dict[tuple[str, str], int] = {}
        self._lease: Lease | None = None
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    async def choose(cls, backend: Backend, *, shelter: Shelter, port: int) -> ProxyServer:
        """Choose the server that ``start`` will start at ``port``."""
        binary = None if backend is Backend.EMBEDDED else await asyncio.to_thread(find_toxiproxy)
        if backend is Backend.TOXIPROXY and binary is None:
            raise EnvironmentFailure(
                "no Toxiproxy was found on this machine (CHAOS_TOXIPROXY, PATH, the cache folder); "
                "`chaos toxiproxy install` brings it, and `--proxy embedded` does without"
            )
        return cls(host=HOST, port=port, shelter=shelter, binary=binary)

    @classmethod
    def attach(cls, url: str, *, shelter: Shelter) -> ProxyServer:
        """Use the Toxiproxy that runs at ``url``."""
        host, port = parse_url(url)
        return cls(host=host, port=port, shelter=shelter, external=True)

    @property
    def embedded(self) -> bool:
        """Whether it is the embedded server. Its traffic includes connections still open; the real one's does not."""
        return "embedded" in self.name

    @property
    def process(self) -> ManagedProcess | None:
        """The server's process; None when we did not start one, or not yet."""
        return self._process

    async def start(self, launcher: Launcher, *, seed: int) -> bool:
        """Have the launcher start the server unless it runs; return whether it did. ``seed`` decides its chances."""
        if self.external or (self._process is not None and not self._process.ended):
            return False
        self._created.clear()
        folder = self._shelter.folder
        if self._binary is not None:
            command = server_command(self._binary, HOST, self._port)
            self._process = await launcher.spawn_command(command, env=server_environment(), cwd=folder, log=self.log)
        else:
            config = embedded_server.config(host=HOST, port=self._port, seed=seed, data_dir=str(folder))
            self._process = await launcher.spawn_python(
                embedded_server.FUNCTION, config_to_json(config), env={}, cwd=folder, log=self.log
            )
        return True

    async def ready(self) -> None:
        """Wait until the server answers. Raises EnvironmentFailure when it ends, or does not within 10 s."""
        deadline_s = clock.monotonic_s() + (0.0 if self.external else READY_WITHIN_S)
        while not await is_healthy(HealthCheck(), self._host, self._port):
            if self._process is not None and self._process.ended:
                status = ending_in_words(self._process.exit_status)
                raise EnvironmentFailure(f"the proxy server ended: {status}", details=last_lines(self.log))
            if clock.monotonic_s() > deadline_s:
                what = f"the Toxiproxy at {self._url}" if self.external else "the proxy server that we started"
                raise EnvironmentFailure(f"{what} does not answer", details=last_lines(self.log))
            await asyncio.sleep(0.01)
        if self.external:
            identity = await self.control.identity()
            kind = "embedded" if identity.embedded else f"toxiproxy {identity.version}"
            self.name = f"{kind} at {self._url}"
            if identity.embedded and self._renewing is None:
                self._lease = Lease(owner=self._shelter.run, ttl_s=LEASE_S)
                self._renewing = asyncio.create_task(self._keep_renewing(self._lease), name="renew-leases")

    async def create(self, specs: Sequence[ProxySpec]) -> None:
        """Create a proxy for each spec, free of toxics; those created by us before are taken as they are."""
        if self._created:
            await self.reset()
        wanted = [spec for spec in specs if spec.name not in self._created]
        if not wanted:
            return
        if self.external:
            taken = sorted({spec.name for spec in wanted} & set(await self.control.enabled()))
            if taken:
                raise EnvironmentFailure(
                    f"the Toxiproxy at {self._url} already has proxies named like ours: {', '.join(taken[:5])}"
                    f"{' and more' if len(taken) > 5 else ''}; delete them (`toxiproxy-cli delete {taken[0]}`), "
                    "or end the run that uses them"
                )
        for spec in wanted:
            self._created[spec.name] = self._promise(Entry(undo=Undo.DELETE_PROXY, url=self._url, proxy=spec.name))
        try:
            await self.control.create_all(wanted)
        except EnvironmentFailure:
            # It leaves none of them behind; what is there now under these names is somebody else's.
            for spec in wanted:
                self._shelter.kept(self._created.pop(spec.name))
            raise

    async def reset(self) -> None:
        """Remove every toxic from our proxies and open those that are closed."""
        if not self._created:
            return
        for edge, names in (await self.control.toxics()).items():
            if edge in self._created:
                for name in names:
                    await self.remove_toxic(edge, name)
        for edge, enabled in (await self.control.enabled()).items():
            if edge in self._created and not enabled:
                await self.set_enabled(edge, enabled=True)

    async def left(self) -> list[str]:
        """Return what still disturbs our proxies, in words; empty when all is healed."""
        if self._process is not None and self._process.ended:
            return ["the proxy server is dead"]
        if not self._created:
            return []
        toxics = await self.control.toxics()
        enabled = await self.control.enabled()
        words = [
            f"edge {edge} still has the toxic {name}"
            for edge, names in toxics.items()
            if edge in self._created
            for name in names
        ]
        words += [f"edge {edge} is still closed" for edge in self._created if not enabled.get(edge, False)]
        return words

    async def add_toxic(self, edge: str, toxic: ToxicSpec) -> None:
        """Add a toxic, written down first."""
        number = self._promise(Entry(undo=Undo.DELETE_TOXIC, url=self._url, proxy=edge, toxic=toxic.name))
        self._promised[edge, toxic.name] = number
        await self.control.add_toxic(edge, toxic, lease=self._lease)

    async def remove_toxic(self, edge: str, name: str) -> None:
        """Remove a toxic; nothing happens when it is not there."""
        await self.control.remove_toxic(edge, name)
        self._kept(edge, name)

    async def set_enabled(self, edge: str, *, enabled: bool) -> None:
        """Close or open a proxy; closing is written down first."""
        if not enabled and (edge, "") not in self._promised:
            self._promised[edge, ""] = self._promise(Entry(undo=Undo.ENABLE_PROXY, url=self._url, proxy=edge))
        await self.control.set_enabled(edge, enabled=enabled)
        if enabled:
            self._kept(edge, "")

    async def close(self) -> None:
        """Delete our proxies from an external server; what fails is left to the guardian. Our own just ends."""
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        if not self.external or not self._created:
            return
        with contextlib.suppress(EnvironmentFailure):
            await self.control.delete_all(tuple(self._created))
            for number in (*self._created.values(), *self._promised.values()):
                self._shelter.kept(number)
            self._created.clear()
            self._promised.clear()

    async def _keep_renewing(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            with contextlib.suppress(EnvironmentFailure):  # a server that is gone is noticed by whoever needs it
                await self.control.renew(lease)

    def _promise(self, entry: Entry) -> int:
        # What we do to our own server ends with it.
        return self._shelter.promise(entry) if self.external else 0

    def _kept(self, edge: str, name: str) -> None:
        number = self._promised.pop((edge, name), 0)
        if number:
            self._shelter.kept(number)
