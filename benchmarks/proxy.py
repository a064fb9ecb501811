"""The embedded proxy beside the real Toxiproxy: the same callers and the same server, both proxies in one run.

Callers and server are a small Go program (``proxyload/main.go``) that costs next to nothing, so that the proxies are
what is measured. Needs Go, as the real Toxiproxy does.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runs import table
from chaos.proxy.server import find_toxiproxy, server_command, server_environment

ROUNDS = 7
SECONDS = "1.5"
CONNECTIONS = 32
BULK_BYTES = 64 << 20
IDLE = 2_000
POPULATED = 60
STEADY_BYTES = 10_000_000
EMBEDDED, REAL = "embedded", "Toxiproxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running proxy server."""

    name: str
    url: str
    pid: int

    def call(self, path: str, body: object) -> dict[str, object]:
        """POST to its API."""
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def proxy(self, name: str, upstream: str, *toxics: dict[str, object]) -> str:
        """Make a proxy with toxics; return where it listens."""
        made = self.call("/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": upstream})
        for toxic in toxics:
            self.call(f"/proxies/{name}/toxics", toxic)
        return str(made["listen"])

    def memory_bytes(self) -> int:
        """Return the memory that is its own."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@contextmanager
def running(name: str) -> Iterator[Server]:
    """Start a proxy server, and end it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = server_command(find_toxiproxy() if name == REAL else None, "127.0.0.1", port)
    with subprocess.Popen(
        command, env=server_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline_s = time.monotonic() + 10
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if time.monotonic() > deadline_s:
                    raise SystemExit(f"{name} does not listen on port {port}: {' '.join(command)}")
                time.sleep(0.02)
            yield Server(name=name, url=f"http://127.0.0.1:{port}", pid=process.pid)
        finally:
            process.terminate()


class Load:
    """The Go program: built once, its server running."""

    def __init__(self, folder: Path) -> None:
        self._binary = folder / "proxyload"
        source = Path(__file__).parent / "proxyload" / "main.go"
        subprocess.run(["go", "build", "-o", str(self._binary), str(source)], check=True)
        self._server = subprocess.Popen(
            [self._binary, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.upstream = self._server.stdout.readline().strip()

    def close(self) -> None:
        """End the server."""
        self._server.stdin.close()
        self._server.wait()

    def run(self, what: str, *arguments: object) -> dict[str, float]:
        """Do one measurement and return its figures."""
        command = [str(self._binary), what, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
        return json.loads(done.stdout)

    @contextmanager
    def holding(self, address: str, connections: int) -> Iterator[None]:
        """Hold connections open."""
        command = [str(self._binary), "hold", address, str(connections)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            yield


CHAINS: dict[str, tuple[dict[str, object], ...]] = {
    "no toxic": (),
    "latency 0 ms": ({"type": "latency", "attributes": {"latency": 0}},),
    "bandwidth, far above": ({"type": "bandwidth", "attributes": {"rate": 100_000_000}},),
}
MEASURES = {
    "small requests/s, 32 connections": ("requests", "per_s", (CONNECTIONS, SECONDS), "1.2"),
    "added latency p50": ("requests", "p50_ms", (CONNECTIONS, SECONDS), "0.7 or less"),
    "added latency p99": ("requests", "p99_ms", (CONNECTIONS, SECONDS), "0.7 or less"),
    "bulk, one connection, MiB/s": ("bulk", "mib_per_s", (BULK_BYTES,), "1.2"),
    "new connections/s": ("connects", "per_s", (8, SECONDS), "0.8"),
}
"""What is measured: the program's word, the figure in its answer, its arguments, and the ratio to reach."""


def speeds(load: Load, servers: Sequence[Server]) -> None:
    """Print throughput and latency, with each chain of toxics."""
    direct = load.run("requests", load.upstream, CONNECTIONS, SECONDS)
    rows = []
    for chain, toxics in CHAINS.items():
        where = {one.name: one.proxy(chain.replace(" ", "-"), load.upstream, *toxics) for one in servers}
        found: dict[str, dict[str, list[float]]] = {what: {name: [] for name in where} for what in MEASURES}
        for _ in range(ROUNDS):
            for word in ("requests", "bulk", "connects"):
                arguments = next(one[2] for one in MEASURES.values() if one[0] == word)
                for name in random.Random().sample(sorted(where), len(where)):
                    figures = load.run(word, where[name], *arguments)
                    for what, (used, figure, _, _) in MEASURES.items():
                        if used == word:
                            found[what][name].append(figures[figure] - (direct[figure] if "added" in what else 0.0))
        for what, values in found.items():
            ratio = statistics.median(a / b for a, b in zip(values[EMBEDDED], values[REAL], strict=True))
            reach = MEASURES[what][3] if chain == "no toxic" else ("1.0 or less" if "added" in what else "1.0")
            shown = [f"{statistics.median(values[name]):,.3g}" if "added" in what else
                     f"{statistics.median(values[name]):,.0f}" for name in (EMBEDDED, REAL)]  # fmt: skip
            unit = " (ms)" if "added" in what else ""
            rows.append((chain, what + unit, *shown, f"{ratio:.2f}", reach))
    print(f"## The embedded proxy beside Toxiproxy (callers and server alone: {direct['per_s']:,.0f} requests/s)\n")
    print(table(("toxics", "", EMBEDDED, REAL, "ratio", "to reach"), rows))


def idle_kib(load: Load, name: str) -> float:
    """Return the memory that an idle connection takes in a new server, which has none to use again."""
    with running(name) as new:
        idle = new.proxy("idle", load.upstream)
        load.run("burst", idle, 1)
        before = new.memory_bytes()
        with load.holding(idle, IDLE):
            time.sleep(1.0)  # the last ones are through as well
            return (new.memory_bytes() - before) / IDLE / 1024


def exactness(load: Load, servers: Sequence[Server]) -> None:
    """Print how near toxics come to what they were asked for, and what an idle connection and a proxy cost."""
    rows: dict[str, list[str]] = {}
    for one in servers:
        slow = one.proxy("late", load.upstream, {"type": "latency", "attributes": {"latency": 100}})
        late = statistics.median(load.run("burst", slow, 200)["p50_ms"] for _ in range(ROUNDS))
        rows.setdefault("latency of 100 ms, 200 connections at once: error of the median", []).append(
            f"{late - 100:+.2f} ms"
        )
        narrow = one.proxy("narrow", load.upstream, {"type": "bandwidth", "attributes": {"rate": 1_000}})
        rate = STEADY_BYTES / load.run("bulk", narrow, STEADY_BYTES)["seconds"] / 1_000
        rows.setdefault("bandwidth of 1 000 KB/s for 10 s: error", []).append(f"{rate / 10 - 100:+.2f} %")
        rows.setdefault(f"memory for each of {IDLE:,} idle connections", []).append(
            f"{idle_kib(load, one.name):.1f} KiB"
        )
        many = [
            {"name": f"many-{number}", "listen": "127.0.0.1:0", "upstream": load.upstream}
            for number in range(POPULATED)
        ]
        begun_s = time.monotonic()
        one.call("/populate", many)
        rows.setdefault(f"{POPULATED} proxies made by /populate", []).append(
            f"{(time.monotonic() - begun_s) * 1000:.0f} ms"
        )
    reach = ("1 ms or less, not worse", "2 % or less, not worse", "16 KiB", "100 ms")
    print()
    print(
        table(
            ("", *(one.name for one in servers), "to reach"),
            [(what, *values, wanted) for (what, values), wanted in zip(rows.items(), reach, strict=True)],
        )
    )
    print()


def main() -> None:
    """Print both tables."""
    if find_toxiproxy() is None or shutil.which("go") is None:
        print("(The proxies are not compared: that takes Go on PATH, and `chaos toxiproxy install`.)\n")
        return
    with tempfile.TemporaryDirectory() as folder, running(EMBEDDED) as embedded, running(REAL) as real:
        load = Load(Path(folder))
        try:
            speeds(load, (embedded, real))
            exactness(load, (embedded, real))
        finally:
            load.close()


if __name__ == "__main__":
    main()
