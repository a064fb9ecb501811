"""``kill -9`` of the process that opened an environment, at any moment: within two seconds nothing of it is left."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.processes.guardian import LIMIT_S
from chaos.processes.ledger import LEDGER_NAME
from tests.e2e.little_target import assert_nothing_left, processes_with
from tests.ports import free_port
from tests.processes import started

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent.parent
RUNNER = """
import asyncio, signal, sys
from pathlib import Path
from chaos.environment import Backend, Environment, proxies
from chaos.faults.base import Stream, ToxicSpec
from tests.e2e.little_target import little_topology

async def run(folder, url):
    toxic = ToxicSpec(
        name="1-latency", type="latency", stream=Stream.DOWNSTREAM, toxicity=1.0, attributes={"latency": 9}
    )
    topology = little_topology(Path(folder))
    proxies.LEASE_S, proxies.RENEW_EVERY_S = 5.0, 0.2
    print("begins", flush=True)
    async with Environment(topology, emit=print, backend=Backend.EMBEDDED, toxiproxy_url=url) as environment:
        await environment.start_target(seed=1)
        await environment.add_toxic("users.front-1", toxic)
        await environment.set_edge_enabled("users.front-2", enabled=False)
        await environment.pause("back-2")
        await environment.launcher.spawn_command(
            ["sh", "-c", "setsid sleep 600 & exec sleep 601"], env={}, cwd=environment.run_dir, log=Path("/dev/null")
        )
        print("ready", flush=True)
        await asyncio.sleep(600)

# A shell that starts the tests in the background has SIGINT ignored, and that would be inherited down to here.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
"""


@dataclass
class Runner:
    """A process that opened an environment, and what tells its children from others."""

    process: subprocess.Popen
    marker: str
    temporary: Path

    def wait_for(self, word):
        for line in self.process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"the runner ended without saying {word!r}")

    def child(self, name):
        """Return the pid of the runner's process whose command line holds ``name``."""
        return next(int(line.split()[0]) for line in processes_with(self.marker) if name in line)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def heal(self, **environment):
        """Run ``chaos heal`` where the runner had its folder; return the process, which has ended."""
        return subprocess.run(
            [sys.executable, "-m", "chaos", "heal"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.temporary), **environment},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def assert_nothing_left(self, within_s=2.0):
        assert_nothing_left(self.marker, self.temporary, within_s=within_s)


@pytest.fixture
def start_runner(tmp_path):
    runners = []

    def start(*arguments):
        number = len(runners)
        temporary = tmp_path / f"tmp-{number}"
        temporary.mkdir()
        marker = f"CHAOS_TEST={temporary}"
        process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(tmp_path / "target"), *arguments],
            cwd=ROOT,
            env={**os.environ, "CHAOS_TEST": str(temporary), "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        runners.append(Runner(process, marker, temporary))
        return runners[-1]

    yield start
    for runner in runners:
        runner.kill()
        runner.process.stdout.close()


TOKEN = "open sesame"


@pytest.fixture(params=["", TOKEN], ids=["for everybody", "with a token"])
def external(request, monkeypatch):
    """A proxy server that somebody else started, with a proxy of its own; perhaps with a token."""
    if request.param:
        monkeypatch.setenv("CHAOS_PROXY_TOKEN", request.param)
    port = free_port()
    command = [sys.executable, "-m", "chaos", "proxy", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with started(command, cwd=ROOT) as process:
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            with suppress(OSError):
                proxies_at(url)
                break
            time.sleep(0.02)
        body = json.dumps({"name": "theirs", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}).encode()
        urllib.request.urlopen(to(f"{url}/proxies", body), timeout=5).close()
        yield url, process


def to(url, body=None):
    return urllib.request.Request(url, body, {"Authorization": f"Bearer {TOKEN}"})


def proxies_at(url):
    with urllib.request.urlopen(to(f"{url}/proxies"), timeout=5) as answer:
        return json.load(answer)


def lease_left_ms(url):
    """Return how much longer the toxic of a runner lasts when nobody renews its lease."""
    (toxic,) = proxies_at(url)["users.front-1"]["toxics"]
    assert toxic["name"] == "1-latency"
    return toxic["left_ms"]


def test_a_killed_runner_leaves_nothing(start_runner):
    runner = start_runner()
    runner.wait_for("ready")
    assert len(processes_with(runner.marker)) >= 10
    runner.kill()
    runner.assert_nothing_left()


def test_a_runner_killed_at_any_moment_leaves_nothing(start_runner):
    rng = random.Random(20)
    for _ in range(8):
        runner = start_runner()
        runner.wait_for("begins")
        time.sleep(rng.uniform(0.0, 0.7))
        runner.kill()
        runner.assert_nothing_left()


@pytest.mark.parametrize("victim", ["chaos.processes.guardian", "chaos.processes.launcher"])
def test_a_runner_killed_together_with_a_helper_leaves_no_process(start_runner, victim):
    runner = start_runner()
    runner.wait_for("ready")
    helper = runner.child(victim)
    runner.process.send_signal(signal.SIGSTOP)  # so that it cannot notice
    os.kill(helper, signal.SIGKILL)
    runner.kill()
    deadline_s = time.monotonic() + 2.0
    while (left := processes_with(runner.marker)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert left == []


def test_what_is_left_when_the_guardian_is_killed_too_is_healed_by_the_next_run(start_runner, external):
    url, _ = external
    runner = start_runner(url)
    runner.wait_for("ready")
    os.kill(runner.child("chaos.processes.guardian"), signal.SIGKILL)
    runner.kill()
    assert len(proxies_at(url)) == 9
    if os.environ.get("CHAOS_PROXY_TOKEN"):
        told = runner.heal(CHAOS_PROXY_TOKEN="")
        assert told.returncode == 3
        assert f"the Toxiproxy at {url} answered 401; set CHAOS_PROXY_TOKEN to its token" in told.stderr
    healed = runner.heal()
    assert healed.returncode == 0
    assert f"undid the proxy users.front-1 at {url}" in healed.stdout
    assert "removed" in healed.stdout
    assert list(proxies_at(url)) == ["theirs"]
    runner.assert_nothing_left(within_s=0.0)


def test_toxics_on_an_embedded_proxy_of_others_go_by_themselves_when_nobody_is_left_to_heal(start_runner, external):
    url, _ = external
    runner = start_runner(url)
    runner.wait_for("ready")
    least_ms = lease_left_ms(url)
    deadline_s = time.monotonic() + 20
    while (left_ms := lease_left_ms(url)) <= least_ms:  # until it is renewed
        assert time.monotonic() < deadline_s
        least_ms = left_ms
        time.sleep(0.05)
    os.kill(runner.child("chaos.processes.guardian"), signal.SIGKILL)
    runner.kill()
    deadline_s = time.monotonic() + 20
    while proxies_at(url)["users.front-1"]["toxics"] and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert proxies_at(url)["users.front-1"]["toxics"] == []


def test_an_external_toxiproxy_is_as_it_was_after_the_runner_was_killed(start_runner, external):
    url, _ = external
    runner = start_runner(url)
    runner.wait_for("ready")
    found = proxies_at(url)
    assert [toxic["name"] for toxic in found["users.front-1"]["toxics"]] == ["1-latency"]
    assert found["users.front-2"]["enabled"] is False
    runner.kill()
    runner.assert_nothing_left()
    assert list(proxies_at(url)) == ["theirs"]


def test_what_an_external_toxiproxy_that_hangs_still_holds_can_be_healed_when_it_goes_on(start_runner, external):
    url, server = external
    runner = start_runner(url)
    runner.wait_for("ready")
    server.send_signal(signal.SIGSTOP)
    runner.kill()
    deadline_s = time.monotonic() + LIMIT_S + 2.0
    while (alive := processes_with(runner.marker)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert alive == [], "the guardian waits for a while, and not for ever"
    (folder,) = runner.temporary.iterdir()
    assert [path.name for path in folder.iterdir()] == [LEDGER_NAME]
    told = runner.heal()
    assert told.returncode == 3
    assert f"the Toxiproxy at {url} did not answer in time" in told.stderr
    server.send_signal(signal.SIGCONT)
    healed = runner.heal()
    assert healed.returncode == 0, healed.stderr
    assert list(proxies_at(url)) == ["theirs"]
    runner.assert_nothing_left(within_s=0.0)


def test_the_guardian_is_deaf_to_what_ends_others_while_the_runner_lives(start_runner):
    runner = start_runner()
    runner.wait_for("ready")
    guardian = runner.child("chaos.processes.guardian")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guardian, number)
    time.sleep(0.1)
    assert runner.child("chaos.processes.guardian") == guardian
    runner.kill()
    runner.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ordinary_end_leaves_nothing_either(start_runner, number):
    runner = start_runner()
    runner.wait_for("ready")
    runner.process.send_signal(number)
    runner.process.wait(10)
    runner.assert_nothing_left()
