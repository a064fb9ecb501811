"""The launcher: the one process that starts, signals and buries every other process of a run.

It is a program (``python -m chaos.processes.launcher``), single-threaded and small. The runner talks to it over a
socket in lines of JSON; requests are carried out in order::

    {"id": 1, "op": "spawn_command", "argv": [...], "env": {...}, "cwd": "...", "log": "..."}
    {"id": 2, "op": "preload", "module": "targets.playback.service"}
    {"id": 3, "op": "spawn_python", "function": "module:name", "argument": "{...}", "env": ..., "cwd": ..., "log": ...}
    {"id": 4, "op": "signal", "pid": 4711, "number": 19, "group": true}
    {"id": 5, "op": "kill_group", "pid": 4711}

It answers ``{"id": 1, "pid": 4711}`` or ``{"id": 1, "error": "..."}``, and reports ``{"exited": 4711, "status": -9}``
unasked, and ``{"worker": "play_api-1-w2", "of": 4711, "status": -9}`` when an instance replaced one of its workers.

A Python service is forked from the launcher itself, which has imported everything already: it runs within milliseconds
and shares the launcher's memory. One that is to have several workers forks these (``workers``).

Nothing outlives the launcher: each child asks the kernel to be killed with it, and at the end of the socket (the
runner is gone) it kills every group it started and every orphan it adopted. Signals go only to children that it has
not yet reaped, so a pid that was given to a stranger is never hit.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from chaos import clock
from chaos.processes import host
from chaos.processes.child import run_and_exit
from chaos.processes.workers import run_as, serve_with_workers
from chaos.topology.wire import config_from_json

LINE_BYTES_MAX = 4 * 1024 * 1024
"""Longest request; the configuration of an instance in a large topology has some ten thousand bytes."""
OPEN_FILES = 65_536
"""Open files a process may have, where the machine allows it: proxies hold two for each connection."""
_END_WITHIN_S = 1.5
_BURY_S = 0.5


class _BadRequest(Exception):  # noqa: N818 - it is answered, not raised further
    """The request cannot be carried out; the text goes back to the runner."""


class _Launcher:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received = bytearray()
        self._children: set[int] = set()
        self._wake_read, self._wake_write = os.pipe()
        self._news_read, self._news_write = os.pipe()
        """What the parents of workers tell of them, in lines of JSON."""
        self._news = bytearray()
        for fd in (self._news_read, self._news_write):
            os.set_blocking(fd, False)
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._operations: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, object]]] = {
            "preload": self._preload,
            "spawn_command": self._spawn_command,
            "spawn_python": self._spawn_python,
            "signal": self._signal,
            "kill_group": self._kill_group,
        }

    def run(self) -> None:
        """Serve until the runner closes its end, then end everything."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._news_read, select.POLLIN)
        serving = True
        while serving:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
            if self._news_read in ready:
                self._pass_news_on()
            if self._channel.fileno() in ready:
                serving = self._receive()
        self.end_all()

    def end_all(self) -> None:
        """Kill every group and every adopted orphan, and bury them; at most ``_END_WITHIN_S``."""
        deadline_s = clock.monotonic_s() + _END_WITHIN_S
        while clock.monotonic_s() < deadline_s:
            for pid in (*self._children, *host.descendants(os.getpid())):
                _send(os.killpg, pid, signal.SIGKILL)
                _send(os.kill, pid, signal.SIGKILL)
            self._reap()
            if not self._has_children():
                return
            clock.sleep_blocking(0.002)

    # --- the runner's requests ---------------------------------------------------------------------------------

    def _receive(self) -> bool:
        """Read what there is and carry out every whole line; False when the runner is gone."""
        try:
            data = self._channel.recv(1 << 16)
        except ConnectionError:
            return False
        if not data:
            return False
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = bytearray(rest)
        if len(rest) > LINE_BYTES_MAX:
            print(f"launcher: a request is longer than {LINE_BYTES_MAX} bytes", file=sys.stderr)  # noqa: T201
            return False
        return all(self._answer(bytes(line)) for line in lines)

    def _answer(self, line: bytes) -> bool:
        request = json.loads(line)
        try:
            reply = self._operations[request["op"]](request)
        except _BadRequest as error:
            reply = {"error": str(error)}
        except OSError as error:
            reply = {"error": f"{error.strerror or error}: {error.filename or request['op']}"}
        return self._write({"id": request["id"], **reply})

    def _pass_news_on(self) -> None:
        self._news += os.read(self._news_read, 1 << 16)
        *lines, rest = self._news.split(b"\n")
        self._news = rest
        for line in lines:
            self._write(json.loads(line))

    def _write(self, message: Mapping[str, object]) -> bool:
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            return False
        return True

    def _preload(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        _import(request["module"])
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
            raise _BadRequest(
                f"importing {request['module']} starts threads ({names}); services cannot be forked from a process "
                "with threads: start them in the service's function instead"
            )
        # What the import left is kept for ever: freeing it in every child would cost time, and freezing it keeps
        # the collector from touching (and so copying) the pages that all children share.
        gc.freeze()
        return {}

    def _spawn_command(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        argv: list[str] = request["argv"]
        environment = {**os.environ, **request["env"]}
        failed_read, failed_write = os.pipe()  # Closed by the exec; carries the reason when that fails.
        try:

            def execute() -> None:
                try:
                    os.chdir(request["cwd"])
                    os.execvpe(argv[0], argv, environment)  # noqa: S606 - it is the trade
                except OSError as error:
                    os.write(failed_write, (error.strerror or str(error)).encode())

            pid = self._fork(execute, log=request["log"], python=False)
            os.close(failed_write)
            failed_write = -1
            reason = os.read(failed_read, 4096).decode()
        finally:
            os.close(failed_read)
            if failed_write >= 0:
                os.close(failed_write)
        if reason:
            self._children.discard(pid)
            os.waitpid(pid, 0)
            raise _BadRequest(f"cannot start {argv[0]!r} in {request['cwd']}: {reason}")
        return {"pid": pid}

    def _spawn_python(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        module_name, _, name = request["function"].partition(":")
        function = getattr(_import(module_name), name, None) if name else None
        if not callable(function):
            raise _BadRequest(
                f"{request['function']!r} is not a function: 'module:name' is wanted, as in 'targets.app.service:main'"
            )
        try:
            config = config_from_json(request["argument"])
        except ValueError as error:
            raise _BadRequest(str(error)) from error
        if not os.path.isdir(request["cwd"]):  # noqa: PTH112 - one call, and no object for it
            raise _BadRequest(f"no such folder: {request['cwd']}")

        def call() -> None:
            os.chdir(request["cwd"])
            os.environ.update(request["env"])
            if config.worker_ports:
                serve_with_workers(config, function, news=self._news_write)
            os.close(self._news_write)
            run_as(config, function)

        return {"pid": self._fork(call, log=request["log"], python=True)}

    def _signal(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        pid, number = request["pid"], request["number"]
        if pid not in self._children:
            return {"sent": False}
        # A child that has not reached its setsid yet has no group of its own.
        sent = (request["group"] and _send(os.killpg, pid, number)) or _send(os.kill, pid, number)
        return {"sent": sent}

    def _kill_group(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        pid = request["pid"]
        if pid not in self._children:
            return {"sent": False}
        # First what it started outside of its group: once it is dead, nothing tells whose child that was.
        outside = host.descendants(pid)
        sent = self._signal({"pid": pid, "number": signal.SIGKILL, "group": True})
        for descendant in outside:
            _send(os.kill, descendant, signal.SIGKILL)
        return sent

    # --- children ----------------------------------------------------------------------------------------------

    def _fork(self, body: Callable[[], None], *, log: str, python: bool) -> int:
        """Fork a child in a session of its own that runs ``body`` and exits; return its pid."""
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        launcher_pid = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        # Our SIGTERM handler must not run in a child that still looks like us.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
        try:
            pid = os.fork()
            if pid == 0:
                self._be_child(body, log_fd=log_fd, launcher_pid=launcher_pid, mask=mask, python=python)
            self._children.add(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(log_fd)
        return pid

    def _be_child(
        self,
        body: Callable[[], None],
        *,
        log_fd: int,
        launcher_pid: int,
        mask: set[int | signal.Signals],
        python: bool,
    ) -> NoReturn:
        try:
            os.setsid()
            host.die_with_parent(signal.SIGKILL, launcher_pid)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            if not python:
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it; other programs expect it.
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.dup2(log_fd, 1)
            os.dup2(log_fd, 2)
            os.close(log_fd)
            self._channel.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            os.close(self._news_read)
            if python:
                gc.enable()
                sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        except BaseException:  # noqa: BLE001 - whatever it is, this child must not go on as a second launcher
            traceback.print_exc()
            os._exit(1)
        run_and_exit(body)

    def _reap(self) -> None:
        """Bury the dead, and report those that the runner knows."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid in self._children:
                # What it leaves behind in its group ends with it. While it is not reaped, the number is still its own.
                _send(os.killpg, pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if pid in self._children:
                self._children.discard(pid)
                self._bury_group(pid)
                self._write({"exited": pid, "status": os.waitstatus_to_exitcode(status)})

    def _bury_group(self, group: int) -> None:
        """Wait until what an ended child left in its group, killed by now and adopted by us, is gone as well.

        Only then its ports are free: whoever is told of the end may start the next one there. At most ``_BURY_S``.
        """
        deadline_s = clock.monotonic_s() + _BURY_S
        while clock.monotonic_s() < deadline_s:
            try:
                ended = os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None:
                clock.sleep_blocking(0.001)

    def _has_children(self) -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _on_sigterm(self, *_: object) -> None:
        # The kernel's word that the runner died, which comes through even in the middle of a long import.
        self.end_all()
        os._exit(0)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        # The last frame is where the user's module went wrong; the frames above are importlib's.
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if "importlib" in where.filename else f" (at {where.filename}:{where.lineno})"
        raise _BadRequest(f"cannot import {module!r}: {type(error).__name__}: {error}{place}") from error


def _send(function: Callable[[int, int], None], pid: int, number: int) -> bool:
    try:
        function(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """Serve the runner that started us, over the socket it handed down."""
    parser = argparse.ArgumentParser(description="Started by `chaos run`; not to be started by hand.")
    parser.add_argument("--socket", type=int, required=True, help="inherited file descriptor of the runner's socket")
    parser.add_argument("--runner", type=int, required=True, help="pid of the runner")
    parser.add_argument("--path", action="append", default=[], help="folder to import the target's modules from")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    host.adopt_orphans()
    channel = socket.socket(fileno=arguments.socket)
    channel.set_inheritable(False)
    launcher = _Launcher(channel)
    host.die_with_parent(signal.SIGTERM, arguments.runner)
    sys.path += [folder for folder in arguments.path if folder not in sys.path]
    _allow_open_files()
    # Collections while importing cost time and free nothing.
    gc.disable()
    launcher.run()


if __name__ == "__main__":
    main()
