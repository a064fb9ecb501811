"""How long the playback target takes to be ready and to stop, and the memory it uses."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks.runs import ROOT, table
from chaos.environment import Backend, Environment
from chaos.topology.parser import load_topology


def _resident_bytes(pid: int) -> int:
    """Return the proportional set size (shared pages divided among their users) of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


async def _once(backend: Backend) -> tuple[str, float, float, int, int]:
    topology = load_topology(ROOT / "targets/playback")
    start_s = time.monotonic()
    async with Environment(topology, emit=lambda _: None, backend=backend) as environment:
        await environment.start_target(seed=1, disabled=(), settings={})
        ready_s = time.monotonic() - start_s
        name = environment.backend_name
        pids = [running.pid for running in environment.addresses()]
        memory = sum(_resident_bytes(pid) for pid in pids)
        stop_s = time.monotonic()
    return name, ready_s, time.monotonic() - stop_s, memory, len(pids)


def main(rounds: int = 7) -> None:
    """Print medians over several starts."""
    rows = []
    for backend in (Backend.AUTO, Backend.EMBEDDED):
        measured = [asyncio.run(_once(backend)) for _ in range(rounds)]
        rows.append(
            (
                measured[0][0],
                str(measured[0][4]),
                f"{statistics.median(one[1] for one in measured):.2f} s",
                f"{statistics.median(one[2] for one in measured):.2f} s",
                f"{statistics.median(one[3] for one in measured) / (1 << 20):.0f} MiB",
            )
        )
    print("## The playback target\n")
    print(table(("proxy", "processes", "ready after", "stopped after", "memory (PSS)"), rows))
    print("\nto reach: ready in 2.5 s, stopped in 2 s, 1 GiB\n")
