"""Closing the launcher's client at an awkward moment."""

from __future__ import annotations

import asyncio
import secrets
import time

from chaos.processes import host
from chaos.processes.client import Launcher


async def test_a_process_born_for_a_cancelled_spawner_while_closing_ends_without_an_error(tmp_path):
    run = secrets.token_hex(6)
    launcher = await Launcher.open(environment={host.RUN_VARIABLE: run})
    try:
        spawning = asyncio.ensure_future(
            launcher.spawn_command(["sleep", "60"], env={}, cwd=tmp_path, log=tmp_path / "sleep.log")
        )
        await asyncio.sleep(0)  # the request is on its way, and its answer is not
        spawning.cancel()
        await asyncio.gather(spawning, return_exceptions=True)
        # Waited for without the event loop: it must hear of the birth no earlier than while it closes.
        deadline_s = time.monotonic() + 30
        while not set(host.marked_processes(run)) - {launcher.pid}:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    finally:
        await launcher.close()
    assert launcher._reading.exception() is None
    assert host.marked_processes(run) == [], "the launcher is gone, and with it all that it started"
