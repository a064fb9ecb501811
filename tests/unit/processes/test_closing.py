"""Closing the launcher's client at an awkward moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chaos.processes.client import Launcher


async def test_a_process_born_for_a_cancelled_spawner_while_closing_ends_without_an_error(tmp_path):
    launcher = await Launcher.open()
    spawning = asyncio.ensure_future(
        launcher.spawn_command(["sleep", "60"], env={}, cwd=tmp_path, log=tmp_path / "sleep.log")
    )
    await asyncio.sleep(0)  # the request is on its way, and its answer is not
    spawning.cancel()
    await asyncio.gather(spawning, return_exceptions=True)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    await launcher.close()
    assert launcher._reading.exception() is None
    assert not children.exists(), "the launcher is gone, and with it all that it started"
