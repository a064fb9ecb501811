"""Run ``chaos run`` as a user does and read its verdict document."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRun:
    """One run: its exit code, its wall time in seconds, and its verdict document."""

    exit_code: int
    wall_s: float
    document: dict[str, object]


def chaos_run(*arguments: str) -> TimedRun:
    """Run ``chaos run --quiet`` with these arguments in the project's folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "verdict.json"
        start_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "chaos", "run", *arguments, "--quiet", "--json", str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        wall_s = time.monotonic() - start_s
        if not path.exists():
            raise SystemExit(
                f"chaos run {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return TimedRun(exit_code=done.returncode, wall_s=wall_s, document=json.loads(path.read_text()))


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
