"""How long a report of a long journal takes, how much memory, and how large it is: an hour at 1 000 plays a second.

``python -m benchmarks.report [hours]``. The journal is made up, with as many commands, metrics and kinds of samples as
one of the playback target; what is in it does not depend on the number of plays, since it holds seconds and no samples.
"""

from __future__ import annotations

import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.runs import ROOT, table
from chaos.topology.parser import load_topology
from chaos.topology.shape import target_shape

RATE = 1000
KINDS = ("play", "watch", "browse", "search", "login", "signup", "first_play", "session")
COMMANDS_OF_EACH = 5


def main(hours: tuple[float, ...] = (1 / 60, 1.0)) -> None:
    """Print a table: journals of a minute and of an hour, alone and as experiment and control."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for hour in hours:
            for runs in (1, 2):
                journal = Path(folder) / f"{hour:g}-{runs}.jsonl"
                seconds = round(hour * 3600)
                write(journal, seconds=seconds, runs=runs)
                took_s, peak_mb, size = measure(journal)
                rows.append(
                    (
                        f"{seconds} s" + (", with its control" if runs == 2 else ""),
                        f"{journal.stat().st_size / 1e6:.1f} MB",
                        f"{journal.stat().st_size / seconds / runs / 1000:.1f} kB",
                        f"{took_s:.1f} s",
                        f"{peak_mb:.0f} MB",
                        f"{size / 1000:.0f} kB",
                    )
                )
                journal.unlink()
    print(f"## A report of a run at {RATE} plays a second\n")
    print(table(("run", "journal", "each second", "report made in", "peak memory", "report"), rows))


def measure(journal: Path) -> tuple[float, float, int]:
    """Make the report in a process of its own; return seconds of processor time, peak memory in MB, bytes."""
    report = journal.with_suffix(".html")
    code = (
        "import resource, sys\n"
        "from chaos.cli.main import cli\n"
        f"cli(['report', {str(journal)!r}, '--html', {str(report)!r}], standalone_mode=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    waited_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Processor time: on a machine that does something else besides, the wall clock says more of that.
    print(f"{journal.name}: {used_s:.1f} s of processor time, {waited_s:.1f} s in all", file=sys.stderr)
    return used_s, int(done.stdout.splitlines()[-1]) / 1024, report.stat().st_size


def write(path: Path, *, seconds: int, runs: int) -> None:
    """Write the journal, line by line."""
    with path.open("w") as file:
        file.write('{"journal": "chaos", "version": 1}\n')
        for number in range(runs):
            for document in _run(seconds, control=number == 1):
                file.write(json.dumps(document) + "\n")


def _run(seconds: int, *, control: bool) -> Iterator[dict[str, object]]:
    rng = random.Random(7 + control)
    topology = load_topology(ROOT / "targets/playback/topology.yaml")
    shape = target_shape(topology)
    commands = [
        [edge.caller, f"{edge.callee_service}[{edge.callee}]", 0, 0]
        for edge in topology.edges()
        if edge.caller_service in topology.services
    ]
    commands += [
        [one.name, f"route/{number}", 0, 0] for one in topology.instances()[:20] for number in range(COMMANDS_OF_EACH)
    ]
    starts = {name: round(seconds * share) for name, share in (("warm_up", 0), ("baseline", 0.1), ("fault", 0.3))}
    ends = [*list(starts.values())[1:], round(seconds * 0.8)]
    phases = {name: (start, end) for (name, start), end in zip(starts.items(), ends, strict=True)}
    phases["recovery"] = (ends[-1], seconds)
    disabled = ["client_failover"] if control else []
    yield {
        "event": "run_started", "t_s": 0.0, "experiment": "An hour at a thousand plays a second", "seed": 7,
        "file": "experiments/hour.yaml", "backend": "embedded", "disabled": disabled, "changed": [],
        "phases": phases, "started_at": "2026-01-01T00:00:00.000+00:00", "rules": [], "replay": "",
        "target": {
            "name": shape.name, "services": dict(shape.services), "calls": dict(shape.calls),
            "metrics": {
                name: {"title": one.title, "unit": one.unit, "of": one.of, "detail": one.detail}
                for name, one in shape.metrics.items()
            },
        },
    }  # fmt: skip
    for second in range(seconds):
        for name, (start, _) in phases.items():
            if start == second:
                yield {"event": "phase_started", "t_s": float(second), "phase": name}
        phase = next(name for name, (start, end) in phases.items() if start <= second < end)
        yield _tick(second, phase, commands, list(shape.metrics), rng, bad=control and phase == "fault")
    verdict = {"version": 1, "outcome": "violated" if control else "held", "disabled": disabled, "changed": []}
    yield {"event": "run_ended", "t_s": float(seconds), "outcome": verdict["outcome"], "verdict": verdict}


def _tick(
    second: int, phase: str, commands: list[list], metrics: list[str], rng: random.Random, *, bad: bool
) -> dict[str, object]:
    breakers = []
    for command in commands:
        command[2] += rng.randrange(2 * RATE // 10)
        command[3] += rng.randrange(3) if bad else 0
        state = "open" if bad and rng.random() < 0.001 else "closed"
        names = ("instance", "command", "state", "calls", "errors", "fallbacks")
        breakers.append(dict(zip(names, (command[0], command[1], state, command[2], command[3], 0), strict=True)))
    values = {name: 0.9 + 0.1 * rng.random() + 0.01 * math.sin(second / 60) for name in metrics}
    counts = {kind: {"ok": RATE - rng.randrange(9), "failed": rng.randrange(9)} for kind in KINDS}
    return {
        "event": "tick", "t_s": second + 1.0, "phase": phase, "values": values, "counts": counts, "breakers": breakers,
    }  # fmt: skip


if __name__ == "__main__":
    main((float(sys.argv[1]),) if len(sys.argv) > 1 else (1 / 60, 1.0))
