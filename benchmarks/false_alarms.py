"""Does the gate cry wolf? The quick suite of a system that nobody has broken, on a machine that others use as well.

    python -m benchmarks.false_alarms [--runs N] [--seed FIRST] [--into benchmarks/false_alarms.ndjson]

While the gate runs, a busy loop for every processor takes what it can get for 3 seconds of 9; each line says what that
was. Whatever is violated then is a false alarm; what is inconclusive is none, but no answer either. Each run is a line
of the file, to which later calls add theirs: a hundred runs take a night. The file is kept in the repository, so that
nights add up; each line says of which commit it is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.detection_power import print_table
from chaos.statistics.quantiles import binomial_cdf

BUSY_S, QUIET_S = 3.0, 6.0
SURE = 0.95
FILE = Path(__file__).with_suffix(".ndjson")


def be_busy(parent: int) -> None:
    """Use up a processor for a third of the time, for as long as the parent lives."""
    while os.getppid() == parent:
        until_s = time.monotonic() + BUSY_S
        while time.monotonic() < until_s:
            pass
        time.sleep(QUIET_S)


def used_s(pids: Sequence[int]) -> float:
    """Return the processor time that these processes have used so far."""
    ticks = 0
    for pid in pids:
        user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def run_once(seed: int, loops: Sequence[int]) -> dict[str, object]:
    """Run the quick suite beside these busy loops, and return what came out."""
    began_s, used_before_s = time.monotonic(), used_s(loops)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gate.json"
        command = [sys.executable, "-m", "chaos", "gate", "experiments/", "--quick", "--seed", str(seed)]
        ended = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True, check=False)
        if not file.exists():
            raise SystemExit(f"the gate gave no answer (exit code {ended.returncode}):\n{ended.stdout}{ended.stderr}")
        document = json.loads(file.read_text())
    results = document["results"]
    again = [one["file"] for one in results if len(one["runs"]) > 1]
    return {
        "commit": commit(),
        "seed": seed,
        "outcome": document["outcome"],
        "duration_s": document["duration_s"],
        "counts": document["counts"],
        "not_held": {one["file"]: {"outcome": one["outcome"], "reasons": [*one["worse"], *one["reasons"]][:3]}
                     for one in results if one["outcome"] != "held"},
        "worse": document["worse"],
        "longest_recovery_s": max((one["recovery_s"] or 0.0 for one in results), default=0.0),
        "asked_again": len(again),
        "asked_again_of": again,
        "experiments": len(results),
        "busy_share": round((used_s(loops) - used_before_s) / (time.monotonic() - began_s) / len(loops), 3),
    }  # fmt: skip


def commit() -> str:
    """Return the commit that is checked out, in short."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout.strip()


def table_of(runs: Sequence[dict]) -> list[tuple[str, ...]]:
    """Return the figures of all runs as rows of a table."""
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(run["counts"])
    experiments = sum(counts.values())
    suites = Counter(run["outcome"] for run in runs)
    minutes = sorted(run["duration_s"] / 60.0 for run in runs)
    busy = [run["busy_share"] for run in runs if "busy_share" in run]
    taken = f"{statistics.median(busy):.0%} (median of {len(busy)} runs)" if busy else "not measured"
    of_experiments, of_runs = at_most(counts["violated"], experiments), at_most(suites["violated"], len(runs))
    return [
        ("runs of the suite", f"{len(runs)}: {', '.join(f'{number} {name}' for name, number in suites.items())}"),
        ("experiments in them", f"{experiments}: {', '.join(f'{number} {name}' for name, number in counts.items())}"),
        ("false alarms", f"{counts['violated']} experiments, {suites['violated']} runs of the suite"),
        ("so at most, 95 % sure", f"{of_experiments:.2%} of experiments, {of_runs:.1%} of runs"),
        ("asked more than once", f"{sum(run['asked_again'] for run in runs) / len(runs):.1f} experiments of a run"),
        ("of each processor, for the busy loop", taken),
        ("minutes of a run", f"{minutes[0]:.1f} to {minutes[-1]:.1f}, median {statistics.median(minutes):.1f}"),
    ]


def by_commit(runs: Sequence[dict]) -> list[tuple[str, ...]]:
    """Return for each commit, in their order, how many runs it had, how they ended, and what was violated."""
    rows = []
    for commit, some in groupby(runs, key=lambda run: run["commit"]):
        of = list(some)
        outcomes = Counter(run["outcome"] for run in of)
        accused = [file for run in of for file, one in run["not_held"].items() if one["outcome"] == "violated"]
        ended = ", ".join(f"{number} {name}" for name, number in outcomes.items())
        rows.append((commit, str(len(of)), ended, ", ".join(accused) or "-"))
    return rows


def at_most(seen: int, of: int) -> float:
    """Return the upper end of the share, exactly (Clopper and Pearson 1934), by bisection."""
    low, high = seen / of, 1.0
    while high - low > 1e-6:
        share = (low + high) / 2
        low, high = (share, high) if binomial_cdf(seen, of, share) > 1.0 - SURE else (low, share)
    return high


def main(arguments: Sequence[str] = ()) -> None:
    """Make the runs, keep them, and print the table of all that the file has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; each later one has the next")
    parser.add_argument("--into", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    options.into.parent.mkdir(parents=True, exist_ok=True)
    loops = [
        multiprocessing.Process(target=be_busy, args=(os.getpid(),), daemon=True) for _ in range(os.cpu_count() or 1)
    ]
    for loop in loops:
        loop.start()
    try:
        for seed in range(options.seed, options.seed + options.runs):
            run = run_once(seed, [loop.pid for loop in loops if loop.pid is not None])
            with options.into.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            print(f"seed {seed}: {run['outcome']} in {run['duration_s']:.0f} s, {run['counts']}", flush=True)
    finally:
        for loop in loops:
            loop.terminate()
    runs = [json.loads(line) for line in options.into.read_text().splitlines()]
    print_table("Commit by commit", ("commit", "runs", "ended", "false alarms"), iter(by_commit(runs)))
    print_table("The quick gate beside a busy loop", ("what", "measured"), iter(table_of(runs)))


if __name__ == "__main__":
    main(sys.argv[1:])
