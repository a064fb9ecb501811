"""A soak of the embedded proxy: a million connections come and go while ten thousand stay open, and nothing is left.

    python -m benchmarks.proxy_soak [--connections 1000000] [--held 10000] [--alone]

One proxy, without toxics. Each connection that comes is used for one request and ends in one of three ways: the caller
resets it, the caller ends it, the server ends it. Ends with exit code 1 and says why when a connection failed or
something leaked. The real Toxiproxy is measured beside it, for comparison only. Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.proxy import EMBEDDED, REAL, Load, Server, running, usual_command
from benchmarks.runs import ROOT, table
from chaos.proxy import embedded
from chaos.proxy.server import find_toxiproxy

CONNECTIONS = 1_000_000
HELD = 10_000
WORKERS = 32
STAGES_PERCENT = (10, 50, 100)
WARM_UP = 2_000
"""Connections before anything is measured: what is imported or cached at first use is there."""
OPEN_FILES_SPARE = 400
"""Of a process's open files: its own, and those of the workers' connections that are open or about to be closed."""
SETTLED_S = 10.0
"""The longest wait for connections to be gone that their callers have closed."""
PER_S_MIN = 1_000
"""Slower than this the churn is given up: the embedded proxy takes several times as many."""

# What counts as a leak.
LEAK_BYTES = 16
"""The memory that a connection may leave behind, over the second half of the churn: no object of Python is smaller, and
what is kept of a connection by mistake (its link, a task, a timer) takes hundreds of bytes."""
SETTLING_BYTES = 4 << 20
"""Growth that says nothing: over the first few hundred thousand connections the heap settles by that much, and then
stays (Python and the C library take memory in arenas of 1 MiB and more)."""
FILES_LEFT = 0
"""File descriptors: each one left over is a connection that was never closed."""
TASKS_LEFT = 0
"""Tasks: at rest a proxy has those that it began with."""
OBJECTS_LEFT = 200
"""Objects that Python's collector knows: a few caches grow at their first use, and a link alone is about ten."""


HEADING = ("", "", "memory (PSS), MiB", "open files", "in TIME_WAIT", "errors", "connections/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A proxy server's process at one moment."""

    moment: str
    memory_bytes: int
    files: int
    time_wait: int
    """Connections of the whole machine whose ports are kept for a while after their end."""
    errors: int
    per_s: float

    def row(self, name: str) -> tuple[str, ...]:
        """Return it as a table's row."""
        memory = f"{self.memory_bytes / (1 << 20):,.1f}"
        rate = f"{self.per_s:,.0f}" if self.per_s else ""
        return name, self.moment, memory, f"{self.files:,}", f"{self.time_wait:,}", f"{self.errors:,}", rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What lives in the embedded proxy's process after a collection of garbage."""

    tasks: int
    objects: int


def read(server: Server, moment: str, files: int | None, *, errors: int = 0, per_s: float = 0.0) -> Reading:
    """Read the process when it has so many files open as it should have, or after a while."""
    folder = Path(f"/proc/{server.pid}/fd")
    deadline_s = time.monotonic() + SETTLED_S
    while files is not None and len(list(folder.iterdir())) > files and time.monotonic() < deadline_s:
        time.sleep(0.05)
    sockets = Path("/proc/net/sockstat").read_text().split()
    return Reading(
        moment=moment,
        memory_bytes=server.memory_bytes(),
        files=len(list(folder.iterdir())),
        time_wait=int(sockets[sockets.index("tw") + 1]),
        errors=errors,
        per_s=per_s,
    )


def soak(server: Server, load: Load, connections: int, held: int) -> Iterator[Reading]:
    """Yield a reading at the start, with the held connections, at each stage, and when everything is closed."""
    address = server.proxy("soak", load.upstream)
    load.run("churn", address, WORKERS, WARM_UP)
    time.sleep(1.0)  # the last ones are closed
    start = read(server, "start", None)
    yield start
    with load.holding(address, held) as close:
        files = start.files + 2 * held
        yield read(server, f"{held:,} held", files)
        done = 0
        for percent in STAGES_PERCENT:
            todo = connections * percent // 100 - done
            figures = load.run("churn", address, WORKERS, todo, timeout_s=60 + todo / PER_S_MIN)
            done += todo
            lost = todo - int(figures["good"])
            yield read(server, f"and {done:,} used", files, errors=lost, per_s=figures["per_s"])
        dead = close()
    yield read(server, "all closed", start.files, errors=dead)


def problems(readings: list[Reading], before: Count, after: Count, connections: int, said: str) -> Iterator[str]:
    """Yield a sentence for each error and each leak."""
    start, held, *stages, end = readings
    if failed := sum(reading.errors for reading in stages):
        yield f"{failed:,} of {connections:,} connections failed"
    if end.errors:
        yield f"{end.errors:,} of the connections held open did not answer any more at the end"
    for reading, files in *((stage, held.files) for stage in stages), (end, start.files):
        if reading.files > files + FILES_LEFT:
            yield (
                f"{reading.files - files:,} file descriptors were left over at {reading.moment!r} "
                f"({reading.files:,}; it should be {files:,})"
            )
    half, full = stages[-2:]
    share = (STAGES_PERCENT[-1] - STAGES_PERCENT[-2]) / 100
    grown, allowed = full.memory_bytes - half.memory_bytes, LEAK_BYTES * share * connections + SETTLING_BYTES
    if grown > allowed:
        yield (
            f"memory grew by {grown / (1 << 20):.1f} MiB between {half.moment!r} and {full.moment!r}, "
            f"{grown / (share * connections):.0f} bytes for each connection (at most {allowed / (1 << 20):.1f} MiB)"
        )
    if after.tasks > before.tasks + TASKS_LEFT:
        yield f"{after.tasks - before.tasks:,} tasks were left over"
    if after.objects > before.objects + OBJECTS_LEFT:
        yield f"{after.objects - before.objects:,} objects were left over (at most {OBJECTS_LEFT})"
    if said:
        yield f"the proxy wrote on its standard error: {said[:500]}"


# The embedded server, in a process that says when asked how much lives in it.

SERVE = "--serve"


def counting_command(name: str, host: str, port: int) -> list[str]:
    """Return the command that starts this server: the usual one, by way of this program."""
    *python, _, _, host_option, host_value, port_option, port_value = usual_command(name, host, port)
    return [*python, "-m", "benchmarks.proxy_soak", SERVE, host_option, host_value, port_option, port_value]


def serve(arguments: list[str]) -> int:
    """Be that server."""
    threading.Thread(target=_answer, daemon=True).start()
    return embedded.main(arguments)


def _answer() -> None:
    # By way of the system's calls: Python, when it ends, wants the buffered streams for itself.
    while os.read(sys.stdin.fileno(), 1):
        gc.collect()
        objects = gc.get_objects()
        tasks = sum(issubclass(type(one), asyncio.Task) for one in objects)
        os.write(sys.stdout.fileno(), json.dumps({"tasks": tasks, "objects": len(objects)}).encode() + b"\n")


def count(server: Server) -> Count:
    """Ask the server what lives in it."""
    assert server.process.stdin is not None
    assert server.process.stdout is not None
    server.process.stdin.write("\n")
    server.process.stdin.flush()
    while not (line := server.process.stdout.readline()).startswith("{"):  # at first it says where it listens
        if not line:
            raise SystemExit("the embedded proxy has ended by itself")
    return Count(**json.loads(line))


@contextmanager
def running_embedded(log: IO[str]) -> Iterator[Server]:
    """Start the embedded server that counts."""
    pipe = subprocess.PIPE
    with running(EMBEDDED, counting_command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=log) as server:
        yield server


def held_within_limits(wanted: int) -> int:
    """Return how many connections can be held: a proxy needs two files for each, and the system limits them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else (hard - OPEN_FILES_SPARE) // 2
    if most < wanted:
        print(
            f"(A process may open {hard:,} files here (`ulimit -Hn`): {most:,} connections are held, not {wanted:,}.)\n"
        )
    return min(wanted, most)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; end with exit code 1 when there was an error or a leak."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy_soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="opened, used once and closed")
    parser.add_argument("--held", type=int, default=HELD, help="open all the while")
    parser.add_argument("--alone", action="store_true", help="without the real Toxiproxy")
    given = parser.parse_args(arguments)
    if given.connections < 1_000 or given.held < 1:
        parser.error("--connections must be 1000 or more, --held 1 or more")
    if shutil.which("go") is None:
        print("(No soak of the embedded proxy: its callers and its server are written in Go, which is not on PATH.)\n")
        return
    held = held_within_limits(given.held)
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "said").open("w+") as log:
        load = Load(Path(folder))
        try:
            with running_embedded(log) as server:
                before = count(server)
                readings = list(soak(server, load, given.connections, held))
                after = count(server)
            log.seek(0)
            found = list(problems(readings, before, after, given.connections, log.read().strip()))
            print(f"## Soak: {given.connections:,} connections come and go while {held:,} stay open\n")
            print(table(HEADING, [reading.row(EMBEDDED) for reading in readings]), flush=True)
            if not given.alone and find_toxiproxy() is not None:
                with running(REAL) as server:
                    rows = [reading.row(REAL) for reading in soak(server, load, given.connections, held)]
                print("\n".join(table(HEADING, rows).splitlines()[2:]))
        finally:
            load.close()
    print(
        f"\nEmbedded: {after.tasks} tasks after {before.tasks}, {after.objects:,} objects after {before.objects:,}.\n"
    )
    if found:
        raise SystemExit("The embedded proxy failed the soak: " + "; ".join(found) + ".")


if __name__ == "__main__":
    sys.exit(serve(sys.argv[2:]) if sys.argv[1:2] == [SERVE] else main())
