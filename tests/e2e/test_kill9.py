"""``kill -9`` of the runner at any moment: within two seconds nothing of it is alive, on disk, or on a Toxiproxy."""

from __future__ import annotations

import json
import random
import sys
import time
import urllib.request

import pytest

from tests.e2e.running import FAST, Chaos
from tests.ports import free_port
from tests.processes import started

pytestmark = pytest.mark.e2e

MOMENTS = 20


def _get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=2) as answer:
        return json.loads(answer.read())


@pytest.fixture
def external_toxiproxy():
    """A proxy server that somebody else started; it has a proxy of its own that must survive."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with started([sys.executable, "-m", "chaos.proxy.embedded", "--host", "127.0.0.1", "--port", str(port)]):
        limit_s = time.monotonic() + 10
        while True:
            try:
                _get(f"{url}/version")
                break
            except OSError:
                assert time.monotonic() < limit_s
                time.sleep(0.05)
        body = json.dumps({"name": "theirs", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}).encode()
        urllib.request.urlopen(
            urllib.request.Request(f"{url}/proxies", data=body, headers={"Content-Type": "application/json"}), timeout=2
        ).close()
        yield url


@pytest.mark.parametrize("half", ["own proxy", "external proxy"])
def test_kill_9_at_random_moments_leaves_nothing(tmp_path, half, external_toxiproxy):
    rng = random.Random(half)
    for number in range(MOMENTS // 2):
        folder = tmp_path / f"tmp-{number}"
        folder.mkdir()
        where = ["--toxiproxy", external_toxiproxy] if half == "external proxy" else []
        moment_s = rng.uniform(0.1, 7.0)
        with Chaos.start(
            folder, "run", "experiments/steering_latency.yaml", "--seed", str(number), *where, *FAST,
            "--set", "phases.warm_up=1s", "--set", "phases.baseline=1s",
        ) as running:  # fmt: skip
            time.sleep(moment_s)
            assert running.process.poll() is None, running.process.communicate()[0]
            running.process.kill()
            running.process.communicate()
            try:
                running.wait_until_nothing_is_left(within_s=2.0)
            except AssertionError as error:
                raise AssertionError(f"killed after {moment_s:.2f} s: {error}") from None
        if where:
            assert list(_get(f"{external_toxiproxy}/proxies")) == ["theirs"], f"killed after {moment_s:.2f} s"
