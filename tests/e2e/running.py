"""Start ``chaos`` as a user does, and look for what it may have left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from tests.e2e.little_target import processes_with
from tests.processes import wait_until_ended

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent.parent
FAST = tuple(
    part
    for setting in (
        "phases.warm_up=2s",
        "phases.baseline=4s",
        "phases.fault=8s",
        "phases.recovery=5s",
        "load.max_start_lag=2s",
        "verdict.max_taken=100%",
    )
    for part in ("--set", setting)
)
"""The shipped experiments, shortened to what 99.5 % needs: 200 plays that are not refused. How late the generator may
be, and how much of the machine others may take, is relaxed: these tests run on busy machines, and whether the
generator keeps its schedule is measured in ``benchmarks/``."""


@dataclass(slots=True)
class Chaos:
    """One ``chaos`` process, marked by a variable that all it starts inherit; a context manager that ends them all."""

    process: subprocess.Popen[str]
    marker: str
    folder: Path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill it if it still runs, and wait until all that it started has ended; nothing is asserted here."""
        with self.process:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        wait_until_ended(self.pids_left)

    @classmethod
    def start(cls, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Chaos:
        marker = uuid.uuid4().hex
        process = subprocess.Popen(
            [sys.executable, "-m", "chaos", *arguments],
            cwd=ROOT,
            env={**os.environ, "CHAOS_TEST_MARKER": marker, "TMPDIR": str(folder), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return cls(process=process, marker=marker, folder=folder)

    def wait(self, timeout_s: float = 180.0) -> tuple[int, str]:
        """Return the exit code and all output; kills what is left of a run that takes too long."""
        try:
            output, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            output, _ = self.process.communicate()
            raise AssertionError(f"still running after {timeout_s} s:\n{output}") from None
        return self.process.returncode, output

    def wait_for_event(self, event: str, journals: Path, within_s: float = 60.0) -> None:
        """Fail when the journal, or none in this folder of them, tells of such an event after ``within_s``."""

        def told() -> bool:
            files = [journals] if journals.is_file() else journals.glob("*.jsonl")
            return any(f'"event": "{event}"' in file.read_text() for file in files)

        self.wait_until(told, within_s)

    def wait_until(self, condition: Callable[[], T], within_s: float = 60.0) -> T:
        """Return the first true answer of ``condition``; fail after ``within_s``, or when the process ends before."""
        limit_s = time.monotonic() + within_s
        while not (answer := condition()):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < limit_s, self.processes_left()
            time.sleep(0.02)
        return answer

    def processes_left(self) -> list[str]:
        """Return the living processes that inherited the marker, as ``pid command line``."""
        return processes_with(f"CHAOS_TEST_MARKER={self.marker}")

    def pids_left(self) -> list[int]:
        """Return the process ids of these."""
        return [int(line.split()[0]) for line in self.processes_left()]

    def wait_until_nothing_is_left(self, within_s: float) -> None:
        """Fail when a process or a file of the run is still there after ``within_s``."""
        limit_s = time.monotonic() + within_s
        while True:
            left = [*self.processes_left(), *(str(path) for path in self.folder.iterdir())]
            if not left:
                return
            if time.monotonic() > limit_s:
                raise AssertionError("left behind:\n" + "\n".join(left))
            time.sleep(0.02)


def chaos(
    folder: Path, *arguments: str, timeout_s: float = 180.0, env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run ``chaos`` to its end and return its exit code and output; nothing may be left behind."""
    folder.mkdir(exist_ok=True)
    with Chaos.start(folder, *arguments, env=env) as running:
        code, output = running.wait(timeout_s)
        running.wait_until_nothing_is_left(within_s=2.0)
    return code, output


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())
