"""Start ``chaos`` as a user does, and look for what it may have left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

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
    """One ``chaos`` process, marked by a variable that all it starts inherit."""

    process: subprocess.Popen[str]
    marker: str
    folder: Path
    output: list[str] = field(default_factory=list)

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

    def wait_for_a_fault(self, journals: Path, within_s: float = 60.0) -> None:
        """Fail when no journal in this folder tells of a fault after ``within_s``."""
        limit_s = time.monotonic() + within_s
        while not (journals.exists() and any("fault_applied" in file.read_text() for file in journals.iterdir())):
            assert time.monotonic() < limit_s
            time.sleep(0.02)

    def processes_left(self) -> list[str]:
        """Return the living processes that inherited the marker, as ``pid: command line``."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if f"CHAOS_TEST_MARKER={self.marker}".encode() not in (entry / "environ").read_bytes():
                    continue
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if state not in "ZX":
                found.append(f"{entry.name}: {command}")
        return found

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
    running = Chaos.start(folder, *arguments, env=env)
    code, output = running.wait(timeout_s)
    running.wait_until_nothing_is_left(within_s=2.0)
    return code, output


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())
