"""The load driver: Locust as a subprocess, from the runner's side.

start()   spawn Locust and wait until all of its processes stand at the gate
go()      name the start moment; arrivals run from there for ``duration_s``
read()    what the recorders have written since the last time
calm()    end the surge that is under way
failure() whether Locust died, in words
finish()  no new arrivals, wait for open outcomes, end Locust      stop()  end it at once
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from chaos import clock
from chaos.errors import EnvironmentFailure, UsageError
from chaos.experiment.model import Load
from chaos.experiment.plan import PlannedSurge
from chaos.load.follower import Follower
from chaos.load.order import (
    CALM_FILE,
    DONE_PREFIX,
    FINISH_FILE,
    LOG_FILE,
    ORDER_VARIABLE,
    READY_PREFIX,
    START_FILE,
    LoadOrder,
    write_moment,
)
from chaos.processes.client import Launcher, ManagedProcess
from chaos.samples import Sample
from chaos.topology.model import InstanceConfig

START_WITHIN_S = 30.0
"""A Locust that is not at the gate by then never will be."""

LOG_LINES_SHOWN = 15

_PLUGIN = Path(__file__).with_name("plugin.py")
_LOOK_EVERY_S = 0.02
_DONE_GRACE_S = 1.5
"""Beyond the drain: for cutting sessions and writing the last samples."""
_END_WITHIN_S = 0.5
_LOG_TAIL_BYTES = 16_384
_PORTS = range(32_000, 32_768)  # below the ephemeral range and above the ports of the target's services


class LoadDriver:
    """Runs one load: ``load.locustfile`` under Locust, calling the target as ``client``.

    ``folder`` is the load's own; it is made when it is not there. All of Locust's processes are in the group of the one
    that ``launcher`` started. Used from one event loop.
    """

    def __init__(
        self,
        *,
        launcher: Launcher,
        load: Load,
        client: InstanceConfig,
        seed: int,
        duration_s: float,
        folder: Path,
        surges: Sequence[PlannedSurge] = (),
    ) -> None:
        self._launcher = launcher
        self._load = load
        self._folder = folder.absolute()
        self._order = LoadOrder(
            folder=self._folder,
            seed=seed,
            rate_per_s=load.rate_per_s,
            duration_s=duration_s,
            processes=max(1, load.workers),
            client=client,
            settings=load.settings,
            surges=tuple(surges),
            control_group=load.control_group,
        )
        self._follower = Follower(self._folder)
        self._process: ManagedProcess | None = None
        self._ending = False

    async def start(self) -> None:
        """Start Locust; return when all of its processes wait for the start moment.

        Raises EnvironmentFailure, with Locust's last log lines, when it does not get there. Use one driver once.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        command = locust_command(self._load, self._order)
        self._process = await self._launcher.spawn_command(
            command, env={ORDER_VARIABLE: self._order.to_json()}, cwd=Path.cwd(), log=self._folder / LOG_FILE
        )
        deadline_s = clock.monotonic_s() + START_WITHIN_S
        while len(self._files(READY_PREFIX)) < self._order.processes:
            if self._process.ended:
                raise self._error(f"Locust ended {_how(self._process.exit_status)} before it could begin")
            if clock.monotonic_s() > deadline_s:
                await self.stop()
                raise self._error(f"Locust did not get ready within {START_WITHIN_S:g} s")
            await asyncio.sleep(_LOOK_EVERY_S)

    def go(self, start_at_s: float) -> None:
        """Let the arrivals begin at ``start_at_s`` (monotonic clock); call it at least 50 ms before that moment."""
        write_moment(self._folder / START_FILE, start_at_s)

    def calm(self) -> None:
        """Let no further arrival of a surge begin; harmless twice, and without one."""
        write_moment(self._folder / CALM_FILE, clock.monotonic_s())

    def read(self) -> list[Sample]:
        """Return the samples written since the last call; never blocks.

        Raises EnvironmentFailure when somebody else has written into the files.
        """
        return self._follower.read()

    def failure(self) -> str | None:
        """Return in words, with Locust's last log lines, that it died; None while it lives or is being ended."""
        return None if self._ending else self._death()

    def _death(self) -> str | None:
        if self._process is None:
            return None
        if self._process.ended:
            return _with_lines(f"Locust ended {_how(self._process.exit_status)} in the middle of the run", self._tail())
        for ready in self._files(READY_PREFIX):
            if not _is_locked(ready):
                pid = ready.name.removeprefix(READY_PREFIX)
                return _with_lines(f"A worker of Locust (pid {pid}) died in the middle of the run", self._tail())
        return None

    async def finish(self, *, drain_s: float) -> None:
        """Start no new arrivals, wait for the outcomes of those under way for at most ``drain_s``, then end Locust.

        What was begun before this call and is not known by then is recorded as failed. Call ``read`` once more after
        it. Raises EnvironmentFailure when Locust dies meanwhile, or does not get done: outcomes are missing then.
        """
        if (failure := self.failure()) is not None:
            raise EnvironmentFailure(failure)
        self._ending = True
        if self._process is None:
            return
        deadline_s = clock.monotonic_s() + max(0.0, drain_s)
        write_moment(self._folder / FINISH_FILE, deadline_s)
        failure = None
        while failure is None and len(self._files(DONE_PREFIX)) < self._order.processes:
            await asyncio.sleep(_LOOK_EVERY_S)
            failure = self._death()
            if failure is None and clock.monotonic_s() > deadline_s + _DONE_GRACE_S:
                failure = _with_lines(f"Locust was not done {_DONE_GRACE_S:g} s after its deadline", self._tail())
        await self.stop()
        if failure is not None:
            raise EnvironmentFailure(failure)

    async def stop(self) -> None:
        """End Locust at once: what is recorded is kept, the outcomes of plays under way are dropped. Harmless twice."""
        self._ending = True
        process = self._process
        if process is None or process.ended:
            return
        try:
            await process.signal(signal.SIGTERM, group=True)
            try:
                await asyncio.wait_for(process.wait(), _END_WITHIN_S)
            except TimeoutError:
                await process.kill_group()
                await process.wait()
        except EnvironmentFailure:
            if not process.ended:  # otherwise the launcher was lost meanwhile, and Locust with it
                raise

    def _files(self, prefix: str) -> Sequence[Path]:
        return [path for path in self._folder.glob(f"{prefix}*") if path.suffix != ".draft"]

    def _tail(self) -> list[str]:
        return last_lines(self._folder / LOG_FILE)

    def _error(self, message: str) -> EnvironmentFailure:
        return EnvironmentFailure(f"{message} (locustfile {self._load.locustfile})", details=self._tail())


def locust_command(load: Load, order: LoadOrder) -> list[str]:
    """Return the command line of Locust for this load.

    Raises UsageError for a setting that is no number, and EnvironmentFailure when a path has a comma in it, by which
    Locust separates locustfiles.
    """
    files = [str(load.locustfile.absolute()), str(_PLUGIN)]
    for file in files:
        if "," in file:
            raise EnvironmentFailure(f"Locust cannot load a file with a comma in its path: {file}; move it elsewhere.")
    users = _number(load, "users", max(1, load.workers))
    command = [
        *(sys.executable, "-m", "locust", "-f", ",".join(files)),
        *("--headless", "--only-summary", "--exit-code-on-error", "0", "--loglevel", "INFO"),
        *("--users", str(int(users)), "--spawn-rate", str(_number(load, "spawn_rate", users))),
    ]
    host = load.settings.get("host") or _first_address(order.client)
    if host:
        command += ["--host", str(host)]
    if load.workers > 0:
        port = str(_free_port())
        command += ["--processes", str(load.workers), "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        command += ["--master-host", "127.0.0.1", "--master-port", port]
    return command


def _number(load: Load, name: str, default: float) -> float:
    value = load.settings.get(name, default)
    if isinstance(value, bool | str) or not value > 0:
        raise UsageError(f"load.settings.{name} is {value!r}; it is a number above 0")
    return value


def last_lines(path: Path, count: int = LOG_LINES_SHOWN) -> list[str]:
    """Return the last ``count`` lines of a log that are not empty; none when there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return list(deque((line for line in text.splitlines() if line.strip()), maxlen=count))


def _first_address(client: InstanceConfig) -> str | None:
    for instances in client.calls.values():
        for called in instances:
            return f"http://{called.address}"
    return None


def _free_port() -> int:
    for port in _PORTS[os.getpid() % 500 :]:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EnvironmentFailure(f"No free port between {_PORTS.start} and {_PORTS.stop} for Locust's master and workers.")


def _is_locked(path: Path) -> bool:
    """Return whether the process that made this ready file still lives: it holds a lock on it until its end."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _how(status: int | None) -> str:
    if status is None:
        return "with the launcher, which every process of a run depends on,"
    if status < 0:
        return f"by {signal.Signals(-status).name}"
    return f"with exit code {status}"


def _with_lines(message: str, lines: Sequence[str]) -> str:
    return "\n".join([message + (". Its last lines:" if lines else "."), *(f"  {line}" for line in lines)])
