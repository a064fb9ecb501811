"""What ``chaos run`` costs beyond the phases it was asked for: starting and stopping everything included."""

from __future__ import annotations

import statistics

from benchmarks.runs import chaos_run, table

PHASES = {"warm_up": 1.0, "baseline": 3.0, "fault": 4.0, "recovery": 5.0}


def main(rounds: int = 5) -> None:
    """Print wall time minus phases for the playback target, per round and as a median."""
    settings = [part for name, seconds in PHASES.items() for part in ("--set", f"phases.{name}={seconds}s")]
    rows = []
    for number in range(1, rounds + 1):
        run = chaos_run("experiments/playback_apps_kill.yaml", "--seed", str(number), *settings)
        rows.append((number, run.wall_s, run.wall_s - sum(PHASES.values()), str(run.document["outcome"])))
    print(f"## Overhead of `chaos run` (phases asked for: {sum(PHASES.values()):g} s)\n")
    print(
        table(
            ("round", "wall time", "overhead", "outcome"),
            [(str(n), f"{wall:.2f} s", f"{over:.2f} s", outcome) for n, wall, over, outcome in rows],
        )
    )
    print(f"\nmedian overhead {statistics.median(row[2] for row in rows):.2f} s (to reach: <= 3 s)\n")
