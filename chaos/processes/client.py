"""The runner's end of the launcher: ``Launcher`` starts processes, ``ManagedProcess`` is one of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chaos import clock
from chaos.errors import EnvironmentFailure
from chaos.processes.launcher import LINE_BYTES_MAX

_CLOSE_WITHIN_S = 2.0


class ManagedProcess:
    """One process that the launcher started, in a session and process group of its own (``pgid == pid``)."""

    def __init__(self, launcher: Launcher, pid: int) -> None:
        self.pid = pid
        self.exit_status: int | None = None
        """Exit status, negative for the signal that ended it; None while it lives (or when it was lost)."""
        self.on_worker_death: Callable[[str, int], None] | None = None
        """Told name and exit status of each worker of this process that ended by itself and was replaced."""
        self._launcher = launcher
        self._ended = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the process has ended, or was lost with the launcher."""
        return self._ended.is_set()

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit status (negative: the signal that ended it).

        Raises EnvironmentFailure when the launcher died, and the process with it.
        """
        await self._ended.wait()
        if self.exit_status is None:
            raise self._launcher.failure()
        return self.exit_status

    async def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its whole group; nothing happens when it is gone."""
        if not self._ended.is_set():
            await self._launcher.request("signal", pid=self.pid, number=int(number), group=group)

    async def kill_group(self) -> None:
        """Send SIGKILL to the process and to all that it started; nothing happens when it is gone."""
        if not self._ended.is_set():
            await self._launcher.request("kill_group", pid=self.pid)

    def end(self, exit_status: int | None) -> None:
        """Note the end; called by the launcher's reader."""
        self.exit_status = exit_status
        self._ended.set()


class Launcher:
    """Starts and ends processes, all of which die with this one; use ``await Launcher.open()``.

    Used from one event loop. Raises EnvironmentFailure from every method when the launcher's process died.
    """

    def __init__(
        self, program: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._program = program
        self._writer = writer
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._spawning: set[int] = set()
        self._processes: dict[int, ManagedProcess] = {}
        self._closing = False
        self._lost = False
        self._reading = asyncio.create_task(self._read(reader), name="launcher-reader")

    @classmethod
    async def open(
        cls,
        *,
        python_path: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Launcher:
        """Start the launcher's process; requests may be made at once.

        ``python_path``: folders that the target's modules are imported from, after the usual ones.
        ``environment``: variables added to the runner's own, for the launcher and all it starts.
        ``log``: file for what imports print.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                program = _start_program(theirs, python_path=python_path, environment=environment or {}, log=log)
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES_MAX)
        return cls(program, reader, writer)

    @property
    def pid(self) -> int:
        """The launcher's own pid (and process group)."""
        return self._program.pid

    @property
    def alive(self) -> bool:
        """Whether the launcher still serves."""
        return not (self._lost or self._closing)

    @property
    def processes(self) -> tuple[ManagedProcess, ...]:
        """Every process that is alive."""
        return tuple(self._processes.values())

    async def preload(self, module: str) -> None:
        """Import ``module`` in the launcher, so that services forked later have it at once.

        Raises EnvironmentFailure when the import fails, or leaves threads behind.
        """
        await self.request("preload", module=module)

    async def spawn_command(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> ManagedProcess:
        """Start a program. ``env`` is added to the launcher's environment; stdout and stderr are appended to ``log``.

        Raises EnvironmentFailure when there is no such program or folder.
        """
        return await self._spawn("spawn_command", argv=list(argv), env=dict(env), **_places(cwd, log))

    async def spawn_python(
        self, function: str, argument_json: str, *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> ManagedProcess:
        """Fork a process that calls ``function`` (``module:name``) with the ``InstanceConfig`` in ``argument_json``.

        ``env``, ``cwd`` and ``log`` are as in ``spawn_command``. Raises EnvironmentFailure when there is no such
        module or function, or when the argument is no configuration.
        """
        return await self._spawn(
            "spawn_python", function=function, argument=argument_json, env=dict(env), **_places(cwd, log)
        )

    async def request(self, op: str, **fields: object) -> dict[str, object]:
        """Have the launcher carry out one operation; for the classes of this module."""
        return await self._request(next(self._numbers), op, fields)

    async def close(self) -> None:
        """End everything that is still alive, and the launcher; at most ``_CLOSE_WITHIN_S``. May be called twice."""
        self._closing = True
        with contextlib.suppress(OSError, RuntimeError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
        # The launcher kills what is left, reports each end, and closes its own side last.
        await asyncio.wait([self._reading], timeout=_CLOSE_WITHIN_S)
        if not self._reading.done():
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._bury_program()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def failure(self) -> EnvironmentFailure:
        """Return the error of a launcher that is gone."""
        if self._closing:
            return EnvironmentFailure("the launcher is closed: the environment is being stopped")
        return EnvironmentFailure(
            "the launcher, the process that all others of this run depend on, died; everything was stopped with it. "
            "Was it killed by hand, or by the kernel for want of memory? Free some memory and run again"
        )

    # --- below: the socket ---------------------------------------------------------------------------------------

    async def _spawn(self, op: str, **fields: object) -> ManagedProcess:
        number = next(self._numbers)
        self._spawning.add(number)
        reply = await self._request(number, op, fields)
        process = reply["process"]
        assert isinstance(process, ManagedProcess)
        return process

    async def _request(self, number: int, op: str, fields: Mapping[str, object]) -> dict[str, object]:
        if not self.alive:
            raise self.failure()
        line = json.dumps({"id": number, "op": op, **fields}).encode() + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise EnvironmentFailure(
                f"what a process is to be told takes {len(line)} bytes, and {LINE_BYTES_MAX} are allowed; "
                "make the topology's settings smaller"
            )
        answered: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self._replies[number] = answered
        try:
            self._writer.write(line)
            with contextlib.suppress(ConnectionError):  # The reader finds out, and fails the reply.
                await self._writer.drain()
            reply = await answered
        finally:
            self._replies.pop(number, None)
        if "error" in reply:
            raise EnvironmentFailure(str(reply["error"]))
        return reply

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._handle(json.loads(line))
        except (ConnectionError, ValueError):
            pass  # Cut off in the middle of a line: the launcher is gone.
        finally:
            self._lost = True
            for answered in self._replies.values():
                if not answered.done():
                    answered.set_exception(self.failure())
            for process in self.processes:
                process.end(None)
            self._processes.clear()

    def _handle(self, message: dict[str, object]) -> None:
        match message:
            case {"exited": int(pid), "status": int(status)}:
                if process := self._processes.pop(pid, None):
                    process.end(status)
            case {"worker": str(name), "of": int(pid), "status": int(status)}:
                if (process := self._processes.get(pid)) and process.on_worker_death is not None:
                    process.on_worker_death(name, status)
            case {"id": int(number)}:
                answered = self._replies.get(number)
                wanted = answered is not None and not answered.done()
                if number in self._spawning:
                    self._spawning.discard(number)
                    if isinstance(born := message.get("pid"), int):
                        # Here and not in the caller, because the news of its end may be in the very next line.
                        message["process"] = self._processes[born] = ManagedProcess(self, born)
                        if not wanted and not self._closing:  # once closed, the launcher kills all by itself
                            self._kill_unwanted(born)
                if answered is not None and wanted:
                    answered.set_result(message)

    def _kill_unwanted(self, pid: int) -> None:
        """Kill a process whose spawner was cancelled before it could learn of it; the answer is of no interest."""
        self._writer.write(json.dumps({"id": 0, "op": "kill_group", "pid": pid}).encode() + b"\n")

    async def _bury_program(self) -> None:
        deadline_s = clock.monotonic_s() + 0.5
        while self._program.poll() is None:
            if clock.monotonic_s() > deadline_s:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._program.pid, signal.SIGKILL)
                self._program.wait()
                return
            await asyncio.sleep(0.002)


def _places(cwd: Path, log: Path) -> dict[str, str]:
    """Return the two as the launcher needs them, whose own folder may be another one."""
    return {"cwd": str(cwd.absolute()), "log": str(log.absolute())}


def _start_program(
    theirs: socket.socket, *, python_path: Sequence[Path], environment: Mapping[str, str], log: Path | None
) -> subprocess.Popen[bytes]:
    # The interpreter's folder comes first, as in an activated venv: "python" is then this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "chaos.processes.launcher"]
    command += ["--socket", str(theirs.fileno()), "--runner", str(os.getpid())]
    for folder in python_path:
        command += ["--path", str(folder)]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": path, **environment},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
