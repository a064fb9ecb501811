"""A service as a process of its own, for tests that kill it: ``python -m tests.unit.playback.service_process``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from chaos.topology.model import InstanceConfig
from chaos.topology.wire import config_from_json, config_to_json
from targets.playback.main import SERVICES
from targets.playback.service import serve

ROOT = Path(__file__).resolve().parents[3]
VARIABLE = "CHAOS_INSTANCE"


class ServiceProcess:
    """The service that ``config`` describes, to be started and killed again and again."""

    def __init__(self, config: InstanceConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it takes part as soon as it is up."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.playback.service_process"],
            cwd=ROOT,
            env={**os.environ, VARIABLE: config_to_json(self._config)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    told = config_from_json(os.environ[VARIABLE])
    asyncio.run(serve(told, SERVICES[told.service], asyncio.Event()))
