"""A tiny playback backend in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BACKEND = "tests.e2e.tiny_playback"
PLAYBACK = ROOT / "locustfiles" / "playback.py"
SEED = 5


@dataclass
class Backend:
    process: asyncio.subprocess.Process
    elb: int

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", BACKEND, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        ports = json.loads(await asyncio.wait_for(process.stdout.readline(), 15.0))
        yield Backend(process, ports["elb"])
    finally:
        process.kill()
        await process.wait()


def fetch(url: str, data: bytes | None = None) -> bytes | None:
    try:
        with urllib.request.urlopen(url, data=data, timeout=5.0) as answer:
            return answer.read()
    except OSError:
        return None
