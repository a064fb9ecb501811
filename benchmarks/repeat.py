"""Ten runs of each shipped experiment with different seeds: ten times the same outcome?

``python -m benchmarks.repeat [rounds] [experiment ...]``, all of them without a name. It takes about half a minute a
run, so ``make bench`` leaves it out.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from benchmarks.runs import ROOT, chaos_run, table
from chaos.cli.options import collect_experiments


def main(rounds: int, names: list[str]) -> None:
    """Print how often each experiment had which outcome, and the worst figures seen."""
    shipped = collect_experiments([ROOT / "experiments"])
    if unknown := sorted(set(names) - {path.stem for path in shipped}):
        sys.exit(f"no experiment is called {unknown[0]}; there are {', '.join(path.stem for path in shipped)}")
    files = [path for path in shipped if not names or path.stem in names]
    outcomes: dict[str, Counter[str]] = {path.stem: Counter() for path in files}
    availability: dict[str, list[float]] = {path.stem: [] for path in files}
    recovery: dict[str, list[float]] = {path.stem: [] for path in files}
    for seed in range(1, rounds + 1):
        run = chaos_run(*[str(path.relative_to(ROOT)) for path in files], "--seed", str(seed))
        for document in run.document.get("results", [run.document]):
            name = Path(document["file"]).stem
            outcomes[name][document["outcome"]] += 1
            availability[name].append(document["metrics"].get("fault", {}).get("playback_availability") or 0.0)
            recovery[name].append(document["recovery_s"] if document["recovery_s"] is not None else float("inf"))
            if document["outcome"] != "held":
                print(f"seed {seed}: {name}: {document['outcome']}: {'; '.join(document['reasons'])}", flush=True)
        print(f"round {seed} of {rounds} done", file=sys.stderr, flush=True)
    print(f"## {rounds} runs of each experiment, seeds 1 to {rounds}\n")
    rows = [
        (
            name,
            ", ".join(f"{outcome} {count}" for outcome, count in outcomes[name].most_common()),
            f"{min(availability[name]):.2%}",
            f"{max(recovery[name]):.2f} s",
        )
        for name in outcomes
    ]
    print(table(("experiment", "outcomes", "lowest availability under fault", "longest recovery"), rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, sys.argv[2:])
