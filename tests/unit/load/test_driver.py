"""The driver of a load whose launcher dies. ``sleep`` stands in for Locust, which takes seconds to start."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chaos.errors import EnvironmentFailure
from chaos.experiment.model import Load
from chaos.load import driver as driver_module
from chaos.load.driver import LoadDriver
from chaos.load.order import READY_PREFIX
from chaos.processes.client import Launcher
from tests.unit.load.test_order import order


@pytest.fixture
async def launcher() -> AsyncIterator[Launcher]:
    launcher = await Launcher.open()
    yield launcher
    await launcher.close()


@pytest.fixture
def load(launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadDriver:
    monkeypatch.setattr(driver_module, "locust_command", lambda load, order: ["sleep", "60"])
    return LoadDriver(
        launcher=launcher,
        load=Load(locustfile=tmp_path / "locustfile.py"),
        client=order(tmp_path).client,
        seed=1,
        duration_s=60.0,
        folder=tmp_path,
    )


@pytest.fixture
async def started(load: LoadDriver, tmp_path: Path) -> AsyncIterator[LoadDriver]:
    """The load, waiting at the gate as Locust would."""
    with (tmp_path / f"{READY_PREFIX}1").open("wb") as ready:
        fcntl.flock(ready, fcntl.LOCK_EX)
        await load.start()
        yield load


def kill(launcher: Launcher) -> None:
    os.kill(launcher.pid, signal.SIGKILL)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_load_that_was_lost_with_its_launcher_says_so_and_is_stopped(launcher: Launcher, started: LoadDriver):
    assert started.failure() is None
    kill(launcher)
    await eventually(lambda: not launcher.alive)
    said = "Locust ended with the launcher, which every process of a run depends on, in the middle of the run"
    assert said in (started.failure() or "")
    with pytest.raises(EnvironmentFailure, match="Locust ended with the launcher"):
        await started.finish(drain_s=0.0)
    await started.stop()
    await started.stop()


async def test_a_load_whose_launcher_dies_while_it_is_stopped_is_stopped(launcher: Launcher, started: LoadDriver):
    kill(launcher)
    assert launcher.alive, "nobody has noticed yet"
    await started.stop()
    await started.stop()


async def test_a_launcher_that_dies_while_locust_starts_is_told(launcher: Launcher, load: LoadDriver):
    starting = asyncio.ensure_future(load.start())
    await eventually(lambda: launcher.processes)
    kill(launcher)
    with pytest.raises(EnvironmentFailure, match=r"Locust ended with the launcher.* before it could begin"):
        await starting
