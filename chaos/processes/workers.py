"""Several workers behind one port: an instance's process forks them, names their logs, and replaces those that die.

    play_api-1 (this process; leads the process group)
      |-- play_api-1-w1   serves its socket of the shared port, and a port of its own
      '-- play_api-1-w2   the same

Each worker has a listening socket of its own on the instance's port (SO_REUSEPORT), bound here before the fork. So
the kernel spreads connections by their addresses, and evenly: with one socket for all, the worker that wakes up first
takes all that wait, for an event loop accepts until there is nothing left. And since this process keeps every socket,
those who wait for a worker that died are served by the one that takes its place, instead of being cut off.

By its own port the framework asks each worker alone: how it is, and what its circuit breakers do.

The instance is one unit: the workers are in its process group, so that signals to the group reach them all, and the
kernel kills them with this process. A worker that ends by itself is replaced, and the log and the run's report say so;
when too many ended in a short time, the instance ends with the last one's status. SIGTERM is passed on, and this
process ends last.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from chaos import clock
from chaos.processes import host
from chaos.processes.child import run_and_exit
from chaos.processes.logs import ending_in_words
from chaos.topology.model import InstanceConfig
from chaos.topology.wire import config_to_json

DEATHS_MAX = 5
"""So many workers of an instance may end within ``DEATHS_WINDOW_S`` seconds and be replaced; one more ends it."""
DEATHS_WINDOW_S = 10.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_LINE_BYTES_MAX = 8_192
_READ_BYTES = 65_536
_READS_MAX = 64

Function = Callable[[InstanceConfig], object]


def run_as(config: InstanceConfig, function: Function) -> None:
    """Call a service's function in this process, which gets the instance's (or worker's) name."""
    host.set_process_name(config.instance)
    sys.argv = [config.instance]
    function(config)


def serve_with_workers(config: InstanceConfig, function: Function, *, news: int) -> NoReturn:
    """Fork the workers that ``config.worker_ports`` asks for, and end when they have ended.

    ``news`` is the writing end of a pipe: for each worker that was replaced it gets a line of JSON with the worker's
    name, this process's pid and the worker's exit status, ``{"worker": ..., "of": ..., "status": ...}``. To be
    called in a process that leads its group and has no threads. Raises OSError when the port is taken.
    """
    host.set_process_name(config.instance)
    sys.exit(_Parent(config, function, news).run())


class DeathCount:
    """Says whether a worker that died may be replaced. Pure: moments are arguments."""

    def __init__(self) -> None:
        self._deaths_s: deque[float] = deque()

    def may_be_replaced(self, now_s: float) -> bool:
        """Count a death; whether there were few enough lately."""
        self._deaths_s.append(now_s)
        while now_s - self._deaths_s[0] > DEATHS_WINDOW_S:
            self._deaths_s.popleft()
        return len(self._deaths_s) <= DEATHS_MAX


@dataclass(slots=True)
class _Worker:
    number: int
    config: InstanceConfig
    pid: int
    output: int
    """The reading end of the pipe that its output goes into."""
    unread: bytearray
    """The beginning of a line whose end has not come yet."""


class _Parent:
    def __init__(self, config: InstanceConfig, function: Function, news: int) -> None:
        self._config = config
        self._news = news
        self._function = function
        self._pid = os.getpid()
        self._sockets = [_bind(config.host, config.port) for _ in config.worker_ports]
        self._workers: dict[int, _Worker] = {}
        self._deaths = DeathCount()
        self._status = 0
        self._stopping = False
        self._told: list[int] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> int:
        """Serve until every worker has ended; return the exit status of the instance."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for asked in (signal.SIGTERM, signal.SIGINT):
            signal.signal(asked, lambda told, _: self._told.append(told))
        for number in range(1, len(self._sockets) + 1):
            self._start(number)
        while self._workers:
            self._wait()
            self._copy_output()
            if self._told and not self._stopping:
                self._stop()
            self._bury()
        return self._status

    def _start(self, number: int) -> None:
        shared = self._sockets[number - 1]
        config = self._config.for_worker(number, shared_fd=shared.fileno())
        output, into = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        # Our handlers must not run in a child that still looks like us.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                run_and_exit(lambda: self._be_worker(config, shared, into=into, mask=mask))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(into)
        os.set_blocking(output, False)
        self._workers[pid] = _Worker(number=number, config=config, pid=pid, output=output, unread=bytearray())

    def _be_worker(
        self, config: InstanceConfig, shared: socket.socket, *, into: int, mask: set[int | signal.Signals]
    ) -> None:
        host.die_with_parent(signal.SIGKILL, self._pid)
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.dup2(into, 1)
        os.dup2(into, 2)
        outputs = (worker.output for worker in self._workers.values() if worker.output >= 0)
        for fd in (into, self._news, self._wake_read, self._wake_write, *outputs):
            os.close(fd)
        for other in self._sockets:
            if other is not shared:
                other.close()
        shared.detach()  # from here on the descriptor is the service's
        os.makedirs(config.data_dir, exist_ok=True)  # noqa: PTH103 - as in the launcher
        os.chdir(config.data_dir)
        os.environ["CHAOS_INSTANCE"] = config_to_json(config)
        run_as(config, self._function)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        for worker in self._workers.values():
            if worker.output >= 0:
                poll.register(worker.output, select.POLLIN)
        poll.poll()
        try:
            while os.read(self._wake_read, _READ_BYTES):
                pass
        except BlockingIOError:
            pass

    def _stop(self) -> None:
        """Pass SIGTERM on. Our copies of the sockets go first: when a worker closes its own, it is closed."""
        self._stopping = True
        for shared in self._sockets:
            shared.close()
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)

    def _bury(self) -> None:
        for pid, worker in tuple(self._workers.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                continue
            self._copy_rest(worker)
            del self._workers[pid]
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                self._status = self._status or _as_status(code)
                continue
            said = f"worker {worker.config.instance} (pid {pid}) ended by itself: {ending_in_words(code)}"
            if self._deaths.may_be_replaced(clock.monotonic_s()):
                _write(f"{said}; another one takes its place\n".encode())
                self._start(worker.number)
                self._tell(worker.config.instance, code)
            else:
                lately = f"more than {DEATHS_MAX} ended within {DEATHS_WINDOW_S:g} s"
                _write(f"{said}; {lately}, so the instance ends\n".encode())
                self._status = _as_status(code) or 1
                self._stop()

    def _tell(self, name: str, code: int) -> None:
        line = json.dumps({"worker": name, "of": self._pid, "status": code}).encode() + b"\n"
        with contextlib.suppress(BlockingIOError):  # nobody reads, and the log has it
            os.write(self._news, line)

    # --- output ------------------------------------------------------------------------------------------------------

    def _copy_output(self) -> None:
        for worker in self._workers.values():
            self._copy(worker)

    def _copy(self, worker: _Worker) -> bool:
        """Copy what a worker has written, line by line, each with its name; whether there may be more."""
        if worker.output < 0:
            return False
        try:
            data = os.read(worker.output, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            os.close(worker.output)
            worker.output = -1
            return False
        worker.unread += data
        *lines, rest = bytes(worker.unread).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            lines.append(rest)
            rest = b""
        worker.unread = bytearray(rest)
        name = worker.config.instance.encode()
        _write(b"".join(b"%s: %s\n" % (name, line) for line in lines))
        return True

    def _copy_rest(self, worker: _Worker) -> None:
        for _ in range(_READS_MAX):  # what it forked itself may go on writing
            if not self._copy(worker):
                break
        if worker.unread:
            _write(b"%s: %s\n" % (worker.config.instance.encode(), bytes(worker.unread)))
        if worker.output >= 0:
            os.close(worker.output)


def _bind(address: str, port: int) -> socket.socket:
    """Bind a socket of the shared port. It listens when its worker does: until then nobody is sent there."""
    shared = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind((address, port))
    return shared


def _as_status(code: int) -> int:
    """Return an exit status for what ``os.waitstatus_to_exitcode`` gives, as a shell would: 137 for SIGKILL."""
    return code if code >= 0 else 128 - code


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]
