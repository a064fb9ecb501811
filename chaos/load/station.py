"""A Locust process's side of the folder it shares with the runner: ready, wait for the start, record, done.

Used by locustfiles that make their own arrivals (``locustfiles/playback.py``), and by the plugin for those that know
nothing of us. Runs under gevent.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from chaos import clock
from chaos.load.order import DONE_PREFIX, FINISH_FILE, READY_PREFIX, START_FILE, LoadOrder, read_moment
from chaos.load.recorder import FLUSH_EVERY_S, Recorder

_LOOK_EVERY_S = 0.02
_CLAIM = "chaos_station"  # attribute of Locust's environment: this process has somebody who talks to the runner

logger = logging.getLogger(__name__)


def order_for(environment: Environment) -> LoadOrder | None:
    """Return the runner's order for this process; None under a plain ``locust``, and in a master: it makes no load."""
    if isinstance(environment.runner, MasterRunner):
        return None
    return LoadOrder.from_environment()


def part_of(environment: Environment) -> int:
    """Return which part of the arrivals, counted from 0, falls to this process."""
    runner = environment.runner
    return max(0, runner.worker_index) if isinstance(runner, WorkerRunner) else 0


def is_claimed(environment: Environment) -> bool:
    """Return whether a station has been opened in this process."""
    return hasattr(environment, _CLAIM)


def listen(hook: Any, listener: Callable[..., None]) -> None:
    """Add a listener to one of Locust's event hooks (which have no types of their own)."""
    hook.add_listener(listener)


def run_or_die(main: Callable[[], None]) -> None:
    """Run ``main`` in a greenlet; when it raises, log that and end this process: a load that is half there misleads."""

    def guarded() -> None:
        try:
            main()
        except Exception:
            logger.exception("The load broke; this Locust process ends")
            os._exit(1)

    gevent.spawn(guarded)


def when_settled(environment: Environment, main: Callable[[], None]) -> None:
    """Run ``main`` as `run_or_die` does, once Locust leaves this process alone. Call it from an ``init`` listener.

    The master's order to spawn users stops a worker for some tenths of a second, because Locust builds its command
    line parser anew for each option; arrivals must not have begun by then. Without workers nothing of the kind comes.
    """
    if isinstance(environment.runner, WorkerRunner):
        listen(environment.events.test_start, lambda **_: run_or_die(main))
    else:
        run_or_die(main)


class Station:
    """The ready file, the recorder and the view of the runner's two signals of this process; one for each process.

    A locustfile that makes its own arrivals opens it in its ``init`` listener, so that the plugin keeps out.
    """

    def __init__(self, environment: Environment, order: LoadOrder) -> None:
        assert not is_claimed(environment), "a Locust process has one station"
        setattr(environment, _CLAIM, self)
        self._folder: Path = order.folder
        self._lock: int | None = None
        self.recorder = Recorder(order.folder)
        listen(environment.events.quitting, self._on_quitting)
        run_or_die(self._keep_flushing)

    def wait_for_start(self) -> float:
        """Say that this process is ready; return the start moment once the runner has named it."""
        ready = self._folder / f"{READY_PREFIX}{os.getpid()}"
        draft = ready.with_name(ready.name + ".draft")
        # The lock ends with this process, however it ends: that is how the runner learns of its death.
        self._lock = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(ready)
        gc.collect()
        gc.freeze()  # what is there now stays; searching it for garbage would stop all greenlets in mid-run
        return self._wait_for(START_FILE)

    def wait_for_finish(self) -> float:
        """Return, once the runner wants the load to end, the moment by which everything must be over."""
        return self._wait_for(FINISH_FILE)

    def done(self) -> None:
        """Write the last samples out and say so; what is recorded from now on is dropped."""
        self.recorder.close()
        (self._folder / f"{DONE_PREFIX}{os.getpid()}").touch()

    def _wait_for(self, name: str) -> float:
        path = self._folder / name
        while (moment_s := read_moment(path)) is None:
            gevent.sleep(_LOOK_EVERY_S)
        return moment_s

    def _keep_flushing(self) -> None:
        due_s = clock.monotonic_s()
        while not self.recorder.closed:
            due_s = max(due_s + FLUSH_EVERY_S, clock.monotonic_s())
            gevent.sleep(due_s - clock.monotonic_s())
            self.recorder.flush()

    def _on_quitting(self, **_: object) -> None:
        self.recorder.close()
