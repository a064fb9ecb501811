"""Fifty plays a second and all other visits, beside Locust, the proxies and all services on this machine."""

from __future__ import annotations

import os

from benchmarks.runs import chaos_run, table

RATES_PER_S = (30, 50, 70)


def main() -> None:
    """Print, for several rates, whether the generator kept its schedule and what its viewers saw."""
    rows = []
    for rate in RATES_PER_S:
        run = chaos_run(
            "experiments/playback_apps_kill.yaml", "--seed", "1", "--set", f"load.rate={rate}",
            "--set", "phases.baseline=15s", "--set", "phases.fault=8s", "--set", "phases.recovery=5s",
        )  # fmt: skip
        baseline = run.document["metrics"]["baseline"]
        lag_s = run.document["start_lag_p99_s"]
        rows.append(
            (
                f"{rate}/s",
                f"{baseline['sps']:.1f}/s",
                f"{baseline['playback_availability']:.2%}",
                f"{baseline['play_delay_p50_s'] * 1000:.0f} / {baseline['play_delay_p99_s'] * 1000:.0f} ms",
                f"{baseline['rebuffer_ratio']:.3%}",
                " / ".join(
                    f"{baseline[f'{kind}_availability']:.1%}" for kind in ("browse", "search", "signup", "login")
                ),
                f"{lag_s * 1000:.1f} ms",
                str(run.document["outcome"]),
            )
        )
    print(f"## Plays sustained on {os.cpu_count()} cores (baseline phase, 15 s)\n")
    print(
        table(
            (
                "asked",
                "stream starts",
                "availability",
                "play delay p50 / p99",
                "rebuffering",
                "home / search / sign-up / log-in",
                "start lag p99",
                "outcome",
            ),
            rows,
        )
    )
    print("\nto reach: 50/s with a start lag p99 below 100 ms\n")
