"""The target's processes: starting, ending, freezing and restarting each, and noticing those that die by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chaos import clock
from chaos.environment.layout import Conditions, Layout, command_line
from chaos.environment.probe import is_healthy
from chaos.environment.shelter import Shelter
from chaos.errors import UNANSWERED, EnvironmentFailure, suggest
from chaos.processes.client import Launcher, ManagedProcess
from chaos.processes.logs import ending_in_words, last_lines
from chaos.processes.ports import HOST
from chaos.topology.model import Service
from chaos.topology.wire import config_to_json

POLL_S = 0.025
"""Between two questions whether a starting instance is healthy."""
STOP_LIMIT_S = 1.5
"""Longest grace when the whole target stops; a single ``stop`` grants the service's own ``stop_timeout_s``."""
KILL_LIMIT_S = 5.0
"""How long the kernel may take to end a process after SIGKILL; far more than it ever should."""

Death = Callable[[str, str, tuple[str, ...]], None]
"""Told the instance, its exit status in words, and its last log lines."""


@dataclass(slots=True)
class _Place:
    """One instance's place: the process in it changes, the rest stays."""

    service: Service
    data_dir: Path
    log: Path
    process: ManagedProcess | None = None
    paused: bool = False
    starting: bool = False
    """Whether its process has not been healthy yet."""
    end_expected: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Instances:
    """Every instance of the target. All methods take instance names and may be called twice without harm."""

    def __init__(self, layout: Layout, *, launcher: Launcher, shelter: Shelter, on_death: Death) -> None:
        self._layout = layout
        self._launcher = launcher
        self._shelter = shelter
        self._on_death = on_death
        self._conditions = Conditions(settings=layout.topology.settings)
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarts: dict[str, asyncio.Task[None]] = {}
        (shelter.folder / "logs").mkdir(exist_ok=True)
        self._places = {
            instance.name: _Place(
                service=layout.topology.services[instance.service],
                data_dir=shelter.folder / "data" / instance.name,
                log=shelter.folder / "logs" / f"{instance.name}.log",
            )
            for instance in layout.instances.values()
        }

    def running(self) -> dict[str, int]:
        """Return the pid of every instance that is alive."""
        return {name: place.process.pid for name, place in self._places.items() if _alive(place) and place.process}

    def paused(self, name: str) -> bool:
        """Return whether the instance is frozen."""
        return self._place(name).paused

    async def start_all(self, conditions: Conditions, *, alongside: Callable[[], Coroutine[None, None, None]]) -> None:
        """Start every instance on empty data folders; return when all are healthy and ``alongside`` is done.

        Raises EnvironmentFailure with the last log lines of the first one that fails; the others are left to
        ``stop_all``.
        """
        self._conditions = conditions
        await asyncio.to_thread(self._empty_data_dirs)
        topology = self._layout.topology
        # The launcher works in order. Programs go first and start up while it imports what Python services need.
        programs = [name for name, place in self._places.items() if place.service.command is not None]
        forked = [name for name, place in self._places.items() if place.service.command is None]
        try:
            async with asyncio.TaskGroup() as group:
                for name in programs:
                    group.create_task(self._bring_up(name))
                group.create_task(alongside())
                if topology.preload is not None:
                    group.create_task(self._preload(topology.preload))
                for name in forked:
                    group.create_task(self._bring_up(name))
        except BaseExceptionGroup as failures:
            # Others fail for the first one's sake; it alone explains.
            raise failures.exceptions[0] from None

    async def stop_all(self, *, gracefully: bool) -> None:
        """End every instance: asked to first (at most ``STOP_LIMIT_S``) or at once; frozen ones are killed."""
        self.cancel_restarts()
        ends = (self._end(name, gracefully, STOP_LIMIT_S) for name in self._places)
        failures = await asyncio.gather(*ends, return_exceptions=True)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        _raise_first(failures)

    async def kill(self, name: str) -> None:
        """End the instance and all it started with SIGKILL; return when it is gone."""
        await self._end(name, gracefully=False, limit_s=0.0)

    async def stop(self, name: str) -> None:
        """End the instance with SIGTERM, and after its ``stop_timeout_s`` with SIGKILL; return when it is gone."""
        await self._end(name, gracefully=True, limit_s=self._place(name).service.stop_timeout_s)

    async def pause(self, name: str) -> None:
        """Freeze the instance and all it started; nothing happens when it is not running."""
        place = self._place(name)
        async with place.changing:
            if place.process is not None and _alive(place):
                place.paused = True
                await place.process.signal(signal.SIGSTOP, group=True)

    async def resume(self, name: str) -> None:
        """Let a frozen instance go on; nothing happens when it is not frozen or not there."""
        place = self._place(name)
        async with place.changing:
            if place.process is not None and _alive(place):
                await place.process.signal(signal.SIGCONT, group=True)
            place.paused = False

    async def start(self, name: str) -> None:
        """Start the instance on its old port and data if it is not running, and wait until it is healthy.

        One that has been up is left as it is: whether it answers is what ``left`` says. Raises EnvironmentFailure when
        it does not get healthy, but not when a fault ends or freezes it on the way.
        """
        self._place(name)
        await self._bring_up(name, forgive_expected_end=True)

    def restart_later(self, name: str, delay_s: float) -> None:
        """Start the instance after ``delay_s``; a second call replaces the first. Failures are reported as deaths."""
        self._place(name)

        async def restart() -> None:
            await asyncio.sleep(delay_s)
            try:
                await self.start(name)
            except EnvironmentFailure as failure:
                self._on_death(name, f"not restarted: {failure}", failure.details)

        if earlier := self._restarts.pop(name, None):
            earlier.cancel()
        self._restarts[name] = self._background(restart(), f"restart-{name}")

    def cancel_restarts(self) -> None:
        """Forget every restart that is still to come."""
        for task in self._restarts.values():
            task.cancel()
        self._restarts.clear()

    async def heal(self) -> None:
        """Let every frozen instance go on and start every dead one; raises the first EnvironmentFailure, at the end."""
        self.cancel_restarts()
        failures = await asyncio.gather(*(self._heal_one(name) for name in self._places), return_exceptions=True)
        _raise_first(failures)

    async def left(self) -> list[str]:
        """Return what is wrong with instances, in words; empty when all are healthy."""
        words = await asyncio.gather(*(self._complaint(name) for name in self._places))
        return [complaint for complaint in words if complaint]

    # --- below: one instance ---------------------------------------------------------------------------------------

    async def _heal_one(self, name: str) -> None:
        await self.resume(name)
        await self.start(name)

    async def _complaint(self, name: str) -> str | None:
        place = self._places[name]
        if not _alive(place):
            return f"{name} is dead"
        if place.paused:
            return f"{name} is frozen"
        return None if await self._is_healthy(name) else f"{name} {UNANSWERED}"

    async def _is_healthy(self, name: str) -> bool:
        """Whether the instance serves: at its port, and each of its workers at its own."""
        check = self._places[name].service.health
        ports = dict.fromkeys((self._layout.instance_ports[name], *(port for _, port in self._layout.processes(name))))
        return all(await asyncio.gather(*(is_healthy(check, HOST, port) for port in ports)))

    async def _preload(self, module: str) -> None:
        try:
            await self._launcher.preload(module)
        except EnvironmentFailure as failure:
            raise EnvironmentFailure(f"{self._layout.topology.file}: preload: {failure}") from failure

    async def _bring_up(self, name: str, *, forgive_expected_end: bool = False) -> None:
        place = self._places[name]
        async with place.changing:
            if _alive(place) and not place.starting:
                return
            if not _alive(place):
                place.end_expected = place.paused = False
                place.process = await self._spawn(name, place)
                place.process.on_worker_death = functools.partial(self._note_worker, place, place.process)
                place.starting = True
                number = self._shelter.promise_kill(place.process.pid)
                self._background(self._watch(name, place, place.process, number), f"watch-{name}")
            process = place.process
        assert process is not None
        failure = None
        try:
            await self._until_healthy(name, place, process)
        except EnvironmentFailure as error:
            failure = error
        if place.process is process:  # not after a cancellation: then it is starting still, and who calls next waits
            place.starting = False
        if failure is not None and not (forgive_expected_end and place.end_expected):
            raise failure

    async def _spawn(self, name: str, place: _Place) -> ManagedProcess:
        place.data_dir.mkdir(parents=True, exist_ok=True)
        config = self._layout.instance_config(name, self._conditions, data_dir=place.data_dir)
        argument = config_to_json(config)
        environment = {**place.service.environment, "CHAOS_INSTANCE": argument}
        try:
            if place.service.python is not None:
                process = await self._launcher.spawn_python(
                    place.service.python, argument, env=environment, cwd=place.data_dir, log=place.log
                )
            else:
                argv = command_line(place.service.command or (), config, folder=self._layout.topology.folder)
                process = await self._launcher.spawn_command(argv, env=environment, cwd=place.data_dir, log=place.log)
        except EnvironmentFailure as failure:
            raise EnvironmentFailure(f"{name} could not be started: {failure}", details=failure.details) from failure
        return process

    async def _until_healthy(self, name: str, place: _Place, process: ManagedProcess) -> None:
        check = place.service.health
        deadline_s = clock.monotonic_s() + check.timeout_s
        while True:
            healthy = place.paused or await self._is_healthy(name)
            if process.ended:
                raise EnvironmentFailure(
                    f"{name} ended while it was being started: {ending_in_words(process.exit_status)}",
                    details=last_lines(place.log),
                )
            if healthy:
                return
            if clock.monotonic_s() > deadline_s:
                asked = f"GET {check.http_path} on" if check.http_path else "a connection to"
                workers = self._layout.worker_ports.get(name, ())
                each = f", or on {', '.join(map(str, workers))}, the workers' own ports," if workers else ""
                raise EnvironmentFailure(
                    f"{name} did not become healthy within {check.timeout_s:g} s "
                    f"({asked} {self._layout.instance_address(name)}{each} does not succeed); "
                    "its last log lines may tell why",
                    details=last_lines(place.log),
                )
            await asyncio.sleep(POLL_S)

    async def _watch(self, name: str, place: _Place, process: ManagedProcess, number: int) -> None:
        try:
            await process.wait()
        except EnvironmentFailure:
            return  # The launcher died: one failure, reported once, by whoever needs it next.
        self._shelter.kept(number)
        if place.process is process and not place.end_expected and not place.starting:
            self._on_death(name, ending_in_words(process.exit_status), last_lines(place.log))

    def _note_worker(self, place: _Place, process: ManagedProcess, worker: str, status: int) -> None:
        if place.process is process and not place.end_expected and not place.starting:
            words = f"{ending_in_words(status)}; another worker took its place"
            self._on_death(worker, words, last_lines(place.log))

    async def _end(self, name: str, gracefully: bool, limit_s: float) -> None:
        place = self._place(name)
        if restart := self._restarts.pop(name, None):
            restart.cancel()
        async with place.changing:
            process = place.process
            if process is None or not _alive(place):
                return
            place.end_expected = True
            if gracefully and not place.paused:
                await process.signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(limit_s, place.service.stop_timeout_s)):
                        await process.wait()
            if not process.ended:
                await process.kill_group()
            try:
                async with asyncio.timeout(KILL_LIMIT_S):
                    await process.wait()
            except TimeoutError:
                raise EnvironmentFailure(f"{name} (pid {process.pid}) is still there after SIGKILL") from None
            place.paused = False

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise EnvironmentFailure(f"the target has no instance {name!r}{suggest(name, self._places)}")
        return self._places[name]

    def _empty_data_dirs(self) -> None:
        for place in self._places.values():
            if place.data_dir.exists():
                shutil.rmtree(place.data_dir)

    def _background(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _alive(place: _Place) -> bool:
    return place.process is not None and not place.process.ended


def _raise_first(results: Iterable[BaseException | None]) -> None:
    for result in results:
        if result is not None:
            raise result
