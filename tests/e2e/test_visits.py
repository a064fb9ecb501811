"""The locustfiles of ``docs/load.md``, as they stand there, on the smallest target, and under plain Locust."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.e2e.running import ROOT, chaos, read_json

pytestmark = pytest.mark.e2e

SIMPLE, THOROUGH = re.findall(r"```python\n(.*?)```", (ROOT / "docs/load.md").read_text(), re.DOTALL)
EXPERIMENT = f"""
title: The greeting service becomes slow
target: {ROOT}/targets/hello
phases: {{warm_up: 1s, baseline: 2s, fault: 3s, recovery: 3s}}
load: {{locustfile: locustfile.py, rate: 30/s, max_start_lag: 2s}}
faults: [{{kind: latency, service: greetings, from: front, latency_ms: 2000}}]
steady_state: [availability >= 90%]
verdict: {{max_taken: 100%}}
"""
RATE_PER_S = 30


def written(folder: Path, locustfile: str, experiment: str = EXPERIMENT) -> Path:
    (folder / "locustfile.py").write_text(locustfile)
    file = folder / "experiment.yaml"
    file.write_text(experiment)
    return file


@pytest.fixture
def greeter() -> Iterator[str]:
    """A page, without the target."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<h1>hello, world</h1>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_visits_come_when_they_are_due_and_makeshift_answers_are_counted_apart(tmp_path: Path):
    file, document = written(tmp_path, THOROUGH), tmp_path / "verdict.json"
    code, output = chaos(tmp_path / "tmp", "run", str(file), "--seed", "1", "--json", str(document))
    assert code == 0, output
    verdict = read_json(document)
    for phase in verdict["phases"][1:3]:
        offered = RATE_PER_S * phase["duration_s"]
        assert phase["attempts"]["request"] == pytest.approx(offered, abs=0.1 * offered + 3)
    baseline, fault = (verdict["metrics"][name] for name in ("baseline", "fault"))
    assert baseline["fallback_share"] == pytest.approx(0.0, abs=0.1)
    assert fault["fallback_share"] > 0.5, "the page says hi in place of hello"
    assert fault["latency_p99_s"] > baseline["latency_p50_s"]


def test_without_a_rate_the_locustfile_says_what_to_write(tmp_path: Path):
    file = written(tmp_path, SIMPLE, EXPERIMENT.replace("rate: 30/s, ", ""))
    code, output = chaos(tmp_path / "tmp", "run", str(file), "--seed", "1")
    assert code == 3, output
    assert "write load.rate in the experiment" in " ".join(output.split())


@pytest.mark.parametrize("locustfile", [SIMPLE, THOROUGH], ids=["simple", "thorough"])
def test_the_same_file_is_a_load_test_under_plain_locust(tmp_path: Path, greeter: str, locustfile: str):
    file = tmp_path / "locustfile.py"
    file.write_text(locustfile)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", str(file), "--host", greeter, "--headless", "--users", "5"),
            *("--spawn-rate", "50", "--run-time", "3s", "--json", "--skip-log", "--exit-code-on-error", "0"),
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        env={name: value for name, value in os.environ.items() if name != "CHAOS_LOAD"} | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    (entry,) = json.loads(done.stdout)
    assert entry["name"] == "request"
    assert entry["num_failures"] == 0
    assert 5 <= entry["num_requests"] <= 25, "five users, one visit a second each"
