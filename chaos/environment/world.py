"""The environment of a run: the target behind its proxies, what faults may do to it, and an end without traces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from chaos import clock
from chaos.environment.asking import answer_of
from chaos.environment.instances import Instances
from chaos.environment.layout import Conditions, Layout, lay_out
from chaos.environment.probe import isolation_of
from chaos.environment.proxies import Backend, ProxyServer
from chaos.environment.shelter import Shelter
from chaos.errors import EnvironmentFailure, suggest
from chaos.events import BreakerState, Emit, InstanceDied, Note, TargetReady, TargetStarting
from chaos.faults.base import Request, ToxicCount, ToxicSpec, Traffic
from chaos.faults.together import everywhere
from chaos.processes import host, kernel
from chaos.processes.client import Launcher
from chaos.processes.guardian import heal_leftovers
from chaos.processes.logs import ending_in_words, last_lines
from chaos.processes.ports import HOST, PortAllocator
from chaos.proxy.control import ProxyControl
from chaos.topology.model import InstanceConfig, Scalar, Topology

ISOLATION_LIMIT_S = 0.3
LEFTOVERS_LIMIT_S = 1.0
"""How long a start may be held up by a Toxiproxy at which an earlier run has left something, and which is silent."""


class RunningInstance(NamedTuple):
    """One instance that is alive, for people to look at."""

    instance: str
    service: str
    address: str
    pid: int
    workers: tuple[str, ...] = ()
    """The addresses of their own of several workers."""


class Environment:
    """The real world of faults (``chaos.faults.base.World``); an asynchronous context manager.

    Entering starts the guardian, the launcher and the proxy server; ``start_target`` starts the target, as often as
    wanted. Leaving ends all processes and removes the run's folder, whatever happened. ``t_s`` gives the time
    stamped on events; by default the seconds since entering. Every method raises EnvironmentFailure when the machine
    does not obey.
    """

    launcher: Launcher
    run_dir: Path
    """The run's folder: logs, data and what the load writes; gone afterwards."""

    def __init__(
        self,
        topology: Topology,
        *,
        emit: Emit,
        backend: Backend = Backend.AUTO,
        toxiproxy_url: str | None = None,
        t_s: Callable[[], float] | None = None,
    ) -> None:
        self._topology = topology
        self._emit = emit
        self._backend = backend
        self._toxiproxy_url = toxiproxy_url
        self._entered_s = clock.monotonic_s()
        self.t_s: Callable[[], float] = t_s or (lambda: clock.monotonic_s() - self._entered_s)
        """The time stamped on events; the runner may put its own in place."""
        self.deaths: list[InstanceDied] = []
        """Every instance that ended though no fault ended it."""
        self._conditions = Conditions(settings=topology.settings)
        self._ports = PortAllocator()
        self._closing = contextlib.AsyncExitStack()
        self._layout: Layout
        self._proxy_server: ProxyServer
        self._instances: Instances

    async def __aenter__(self) -> Self:
        self._entered_s = clock.monotonic_s()
        try:
            await self._open()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    @property
    def proxies(self) -> ProxyControl:
        """The control of the proxy server."""
        return self._proxy_server.control

    @property
    def backend_name(self) -> str:
        """``toxiproxy 2.12.0`` or ``embedded``."""
        return self._proxy_server.name

    @property
    def has_embedded_proxy(self) -> bool:
        """Whether the proxy server is the embedded one, which can do more than Toxiproxy."""
        return self._proxy_server.embedded

    # --- the target --------------------------------------------------------------------------------------------------

    def prepare(self, *, seed: int, disabled: Sequence[str] = (), settings: Mapping[str, Scalar] | None = None) -> None:
        """Decide what the next start of the target will be told, so that ``client_config`` says the same before it."""
        self._conditions = Conditions(
            seed=seed, disabled=tuple(disabled), settings={**self._topology.settings, **(settings or {})}
        )

    async def start_target(
        self, *, seed: int, disabled: Sequence[str] = (), settings: Mapping[str, Scalar] | None = None
    ) -> float:
        """Start every instance behind its proxies; return after how many seconds all were healthy.

        ``settings`` override the topology's; ``disabled`` names the protections that are off. Raises
        EnvironmentFailure with a service's last log lines when it does not get healthy; then nothing runs.
        """
        started_s = clock.monotonic_s()
        layout = self._layout
        self.prepare(seed=seed, disabled=disabled, settings=settings)
        self._emit(
            TargetStarting(
                t_s=self.t_s(),
                target=self._topology.name,
                instances=len(layout.instances),
                edges=len(layout.edges),
                scaled=self._topology.scaled,
            )
        )
        try:
            await self._instances.start_all(self._conditions, alongside=self._open_edges)
        except BaseException:
            await self._instances.stop_all(gracefully=False)
            raise
        duration_s = clock.monotonic_s() - started_s
        self._emit(TargetReady(t_s=self.t_s(), duration_s=duration_s))
        return duration_s

    async def stop_target(self) -> None:
        """End every instance within 2 s; the proxies stay for the next start."""
        await self._instances.stop_all(gracefully=True)

    def client_config(self, client: str, seed: int | None = None) -> InstanceConfig:
        """Return what the load is told: its proxies to the instances it calls, the settings, the protections."""
        conditions = self._conditions
        if seed is not None:
            conditions = Conditions(seed=seed, disabled=conditions.disabled, settings=conditions.settings)
        return self._layout.client_config(client, conditions, data_dir=self.run_dir / "data" / client)

    def addresses(self) -> list[RunningInstance]:
        """Return every living instance with its own address and pid."""
        return [
            RunningInstance(
                name,
                self._layout.instances[name].service,
                self._layout.instance_address(name),
                pid,
                tuple(f"{HOST}:{port}" for port in self._layout.worker_ports.get(name, ())),
            )
            for name, pid in self._instances.running().items()
        ]

    def reached_by(self, instance: str) -> Mapping[str, str]:
        """Return for each caller of the instance the address of that caller's proxy."""
        return self._layout.reached_by(instance)

    async def isolation_states(self) -> tuple[BreakerState, ...]:
        """Return what the services report of their breakers; those that do not answer within 0.3 s are left out.

        Each worker has breakers of its own and is asked at its own port; their ``instance`` is the worker's name.
        """
        asked = [
            isolation_of(process, HOST, port, path, timeout_s=ISOLATION_LIMIT_S)
            for name in self._instances.running()
            for process, port in self._layout.processes(name)
            if (path := self._topology.services[self._layout.instances[name].service].isolation_path)
            and not self._instances.paused(name)
        ]
        return tuple(state for states in await asyncio.gather(*asked) for state in states)

    def failure(self) -> EnvironmentFailure | None:
        """Return why the run cannot go on: what carries it, and is no part of the target, has ended; else None."""
        if not self.launcher.alive:
            return EnvironmentFailure("the launcher, which starts every process of a run, has ended; run it again")
        process = self._proxy_server.process
        if process is not None and process.ended:
            return EnvironmentFailure(
                f"the proxy server ({self.backend_name}) ended in the middle of the run; run it again, or with the "
                "other of --proxy embedded and --proxy toxiproxy",
                details=last_lines(self._proxy_server.log),
            )
        return None

    async def heal_everything(self) -> None:
        """Remove every toxic, open every edge, let frozen instances go on, start dead ones and wait for these.

        Whether those that live answer is what ``unhealed`` says.
        """
        await asyncio.gather(self._proxy_server.reset(), self._instances.heal())

    async def unhealed(self) -> tuple[str, ...]:
        """Return what is not as it should be, in words; empty when everything is healed."""
        edges, instances = await asyncio.gather(self._proxy_server.left(), self._instances.left())
        return (*edges, *instances)

    # --- what faults may do ------------------------------------------------------------------------------------------

    async def add_toxic(self, edge: str, toxic: ToxicSpec) -> None:
        """Add the toxic to the edge's proxy."""
        await self._proxy_server.add_toxic(edge, toxic)

    async def remove_toxic(self, edge: str, toxic_name: str) -> None:
        """Remove the toxic; nothing happens when it is not there."""
        await self._proxy_server.remove_toxic(edge, toxic_name)

    async def set_edge_enabled(self, edge: str, *, enabled: bool) -> None:
        """Close the edge's listener and cut its connections, or open it again."""
        await self._proxy_server.set_enabled(edge, enabled=enabled)

    async def toxic_counts(self, edges: Sequence[str], toxic_name: str) -> Mapping[str, ToxicCount] | None:
        """Return what this toxic has counted on each edge; None with the real Toxiproxy, whose toxics do not count."""
        if not self._proxy_server.embedded:
            return None
        counted = await self.proxies.toxic_counts(toxic_name)
        nothing = ToxicCount(connections=0, requests=0, bytes=0)
        return {edge: counted.get(edge, nothing) for edge in edges}

    def edges_to(self, instances: Sequence[str]) -> tuple[str, ...]:
        """Return the edges over which these instances are called."""
        return tuple(edge.name for edge in self._layout.edges.values() if edge.callee in instances)

    async def edge_traffic(self, edges: Sequence[str]) -> Mapping[str, Traffic]:
        """Return the traffic of each edge's proxy since it was created.

        The real Toxiproxy adds a connection's bytes when it ends; those of open ones are the kernel's count.
        """
        ports = {edge: self._layout.edge_ports[edge] for edge in edges}
        counted, still_open = await asyncio.gather(
            self.proxies.traffic(), asyncio.to_thread(kernel.bytes_carried, set(ports.values()))
        )
        none = Traffic(connections=0, bytes=0)
        traffic = {edge: counted.get(edge, none) for edge in edges}
        if self._proxy_server.embedded:
            return traffic
        return {
            edge: Traffic(connections=known.connections, bytes=known.bytes + still_open.get(ports[edge], 0))
            for edge, known in traffic.items()
        }

    async def open_connections(self, names: Sequence[str]) -> int:
        """Return how many connections are established now to these edges' proxies or these instances.

        Counted at the side of the proxy or instance; connections it has not accepted yet count too. An instance that
        nobody calls (a worker at a queue) is connected to those that it calls itself: these connections count for it.
        """
        return (await asyncio.to_thread(kernel.port_use, self._port_numbers(names))).connections

    async def waiting_bytes(self, instances: Sequence[str]) -> int:
        """Return the bytes unread in these instances' sockets, plus the connections they have not accepted, now."""
        use = await asyncio.to_thread(kernel.port_use, self._port_numbers(instances))
        return use.waiting_bytes + use.waiting_connections

    async def kill(self, instance: str) -> None:
        """End the instance with SIGKILL, and all it started; return when it is gone."""
        await self._instances.kill(instance)

    async def stop(self, instance: str) -> None:
        """End the instance with SIGTERM (SIGKILL after its ``stop_timeout_s``); return when it is gone."""
        await self._instances.stop(instance)

    async def pause(self, instance: str) -> None:
        """Freeze the instance with SIGSTOP."""
        await self._instances.pause(instance)

    async def resume(self, instance: str) -> None:
        """Let the instance go on (SIGCONT); nothing happens when it is not frozen or not there."""
        await self._instances.resume(instance)

    async def start(self, instance: str) -> None:
        """Start the instance again on its port if it is not running, and wait until it is healthy.

        One that has been up is left as it is, whether it answers or not.
        """
        await self._instances.start(instance)

    def restart_later(self, instance: str, delay_s: float) -> None:
        """Let the supervisor start the instance again after ``delay_s``, as ``start`` does."""
        self._instances.restart_later(instance, delay_s)

    def pid_of(self, instance: str) -> int | None:
        """Return the instance's process; None while it has none."""
        return self._instances.running().get(instance)

    async def ask(self, instance: str, request: Request) -> tuple[bytes, ...]:
        """Send the request to each process of the instance, past all proxies; return the bodies of their 2xx answers.

        Several workers are asked each at its own port: at the one that they share, the kernel would choose one of them.
        """
        config = self._layout.instance_config(instance, self._conditions, data_dir=self.run_dir / "data" / instance)
        processes = [replace(config, instance=name, port=port) for name, port in self._layout.processes(instance)]
        return await everywhere(answer_of(one, request, folder=self._topology.folder) for one in processes)

    # --- opening and leaving -----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Start guardian, launcher and proxy server, each written down as soon as it is there."""
        self._closing.callback(self._ports.close)
        healed = await asyncio.to_thread(heal_leftovers, limit_s=LEFTOVERS_LIMIT_S)
        for words in (*healed.undone, *healed.left):
            self._emit(Note(t_s=self.t_s(), text=f"left behind by an earlier run: {words}"))
        shelter = Shelter()
        self._closing.push_async_callback(shelter.close)
        self.run_dir = shelter.folder
        self._layout = lay_out(
            self._topology,
            free=self._ports.free,
            reserve=lambda port, purpose: self._ports.reserve(port, purpose=purpose),
        )
        self.launcher = await Launcher.open(
            python_path=_import_roots(self._topology),
            environment={host.RUN_VARIABLE: shelter.run},
            log=shelter.folder / "launcher.log",
        )
        self._closing.push_async_callback(self.launcher.close)
        shelter.promise_kill(self.launcher.pid)
        self._instances = Instances(self._layout, launcher=self.launcher, shelter=shelter, on_death=self._note_death)
        await self._open_proxy_server(shelter)
        self._closing.push_async_callback(self._instances.stop_all, gracefully=False)

    async def _open_proxy_server(self, shelter: Shelter) -> None:
        if self._toxiproxy_url is None:
            self._proxy_server = await ProxyServer.choose(self._backend, shelter=shelter, port=self._ports.free())
            if self._backend is Backend.AUTO and self._proxy_server.embedded:
                said = "no Toxiproxy here: the embedded proxy is used (chaos toxiproxy install brings the real one)"
                self._emit(Note(t_s=self.t_s(), text=said))
            return
        self._proxy_server = ProxyServer.attach(self._toxiproxy_url, shelter=shelter)
        # It is asked now: nothing else is worth starting when it does not answer.
        await self._proxy_server.ready()
        self._closing.push_async_callback(self._proxy_server.close)

    async def _open_edges(self) -> None:
        server = self._proxy_server
        if await server.start(self.launcher, seed=self._conditions.seed):
            watching = asyncio.create_task(self._watch_proxy_server(), name="watch-proxy-server")
            self._closing.callback(watching.cancel)
        await server.ready()
        await server.create(self._layout.proxy_specs())

    async def _watch_proxy_server(self) -> None:
        process = self._proxy_server.process
        if process is not None:
            with contextlib.suppress(EnvironmentFailure):
                status = await process.wait()
                self._note_death("the proxy server", ending_in_words(status), last_lines(self._proxy_server.log))

    def _note_death(self, instance: str, status: str, lines: tuple[str, ...]) -> None:
        death = InstanceDied(t_s=self.t_s(), instance=instance, status=status, last_lines=lines)
        self.deaths.append(death)
        self._emit(death)

    async def _leave(self) -> None:
        """End everything; a cancellation while we do so is obeyed afterwards."""
        leaving = asyncio.ensure_future(self._closing.aclose())
        cancelled = False
        while not leaving.done():
            try:
                await asyncio.shield(leaving)
            except asyncio.CancelledError:
                if leaving.done():
                    break
                cancelled = True
            except EnvironmentFailure:
                break  # Everything else was closed nevertheless; the guardian took care of what failed.
        if cancelled:
            raise asyncio.CancelledError

    def _port_numbers(self, names: Sequence[str]) -> Collection[int]:
        ports: set[int] = set()
        for name in names:
            connected = self._layout.ports_of(name)
            if not connected:
                known = (*self._layout.edge_ports, *self._layout.instance_ports)
                raise EnvironmentFailure(f"the target has no edge or instance {name!r}{suggest(name, known)}")
            ports.update(connected)
        return ports


def _import_roots(topology: Topology) -> tuple[Path, ...]:
    """Return where the target's Python modules are looked for, so that a run may be started from any folder.

    The current folder, the topology's, and for each package named in it the nearest folder above that has it.
    """
    roots = [Path.cwd(), topology.folder.absolute()]
    named = [topology.preload, *(service.python for service in topology.services.values())]
    for package in {name.split(".")[0].split(":")[0] for name in named if name}:
        above = topology.folder.absolute().resolve().parents
        roots += [root for root in above if (root / package).is_dir() or (root / f"{package}.py").is_file()][:1]
    return tuple(dict.fromkeys(roots))
