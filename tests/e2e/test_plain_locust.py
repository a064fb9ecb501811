"""The locustfile of the playback target under Locust alone: on the command line, and in its web interface."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from tests.e2e.backend import PLAYBACK, ROOT, backend, fetch
from tests.ports import free_port

pytestmark = pytest.mark.e2e

CACHED_S = 2.0
"""So long Locust's web interface tells the same figures again (``DEFAULT_CACHE_TIME`` in its ``web.py``)."""


async def test_the_locustfile_works_under_a_plain_locust(tmp_path):
    async with backend() as target:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(PLAYBACK)),
            *("--headless", "--host", f"http://127.0.0.1:{target.elb}"),
            *("--plays-per-second", "10", "--signup-per-play", "0.1", "--login-per-play", "0.1"),
            *("--run-time", "5s", "--json", "--skip-log", "--exit-code-on-error", "0"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "CHAOS_LOAD"} | {"PYTHONPATH": str(ROOT)},
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30.0)
    statistics = {entry["name"]: entry for entry in json.loads(output)}
    assert statistics["first frame"]["num_requests"] >= 15
    assert statistics["/probe"]["num_requests"] > statistics["/play"]["num_requests"]
    assert statistics["/titles/chunk"]["num_failures"] == 0
    for name in ("/home", "/search", "/login", "/signup", "/activity", "browse", "search"):
        assert statistics[name]["num_requests"] > 0, name
        assert statistics[name]["num_failures"] == 0, name


async def test_the_web_interface_starts_and_stops_the_plays(tmp_path):
    async with backend() as target:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(PLAYBACK), "--host", f"http://127.0.0.1:{target.elb}"),
            *("--web-host", "127.0.0.1", "--web-port", str(port), "--plays-per-second", "10"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != "CHAOS_LOAD"} | {"PYTHONPATH": str(ROOT)},
        )
        try:
            web = f"http://127.0.0.1:{port}"
            await until(lambda: fetch(f"{web}/stats/requests"))
            await asyncio.to_thread(fetch, f"{web}/swarm", b"user_count=1&spawn_rate=1")
            await until(lambda: plays_in(told_by(web)) >= 5)
            answer = await asyncio.to_thread(fetch, f"{web}/stop", b"")  # with a body, if an empty one: it is a POST
            assert answer is not None
            assert json.loads(answer)["success"] is True
            # Until the cache runs out the web interface tells what was so before the stop.
            stopped = await until(lambda: told if (told := told_by(web))["state"] == "stopped" else None)
            await asyncio.sleep(CACHED_S + 1.0)  # time for thirty plays, if they went on
            later = await asyncio.to_thread(told_by, web)
            assert (later["state"], plays_in(later)) == ("stopped", plays_in(stopped))
        finally:
            process.terminate()
            await process.wait()


def told_by(web: str) -> dict:
    """Return what the web interface tells of the requests so far; nothing while it does not answer."""
    body = fetch(f"{web}/stats/requests")
    return json.loads(body) if body else {"state": None, "stats": []}


def plays_in(told: dict) -> int:
    """Return how many plays have come to their first frame."""
    return sum(row["num_requests"] for row in told["stats"] if row["name"] == "first frame")


async def until(condition, within_s: float = 20.0):
    """Return the first true answer of ``condition``, which may block a little."""
    for _ in range(int(within_s / 0.1)):
        if answer := await asyncio.to_thread(condition):
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError("it never came true")
