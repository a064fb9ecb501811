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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import table
from chaos.proxy.server import find_toxiproxy, server_command, server_environment

ROUNDS = 7
SECONDS = "1.5"
CONNECTIONS = 32
BULK_BYTES = 64 << 20
PACED_PER_S = 5_000
"""Well below what either proxy manages, so that latency is not the inverse of throughput."""
IDLE = 2_000
LATE_MS = 100
LATE_PER_S = 1_000
BURST = 200
"""Connections: as many as are at once, and twice as many as LATE_PER_S keeps busy."""
POPULATED = 60
STEADY_BYTES = 10_000_000
EMBEDDED, REAL, DIRECT = "embedded", "Toxiproxy", "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running proxy server."""

    name: str
    url: str
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

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


def usual_command(name: str, host: str, port: int) -> list[str]:
    """Return the command that starts a proxy server of this name."""
    return server_command(find_toxiproxy() if name == REAL else None, host, port)


@contextmanager
def running(
    name: str, command_for: Callable[[str, str, int], list[str]] = usual_command, **settings: Any
) -> Iterator[Server]:
    """Start a proxy server, and end it. ``settings`` are of its process; its streams lead nowhere else."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = command_for(name, "127.0.0.1", port)
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with subprocess.Popen(command, env=server_environment(), text=True, **(nowhere | settings)) as process:
        try:
            deadline_s = time.monotonic() + 10
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if time.monotonic() > deadline_s:
                    raise SystemExit(f"{name} does not listen on port {port}: {' '.join(command)}")
                time.sleep(0.02)
            yield Server(name=name, url=f"http://127.0.0.1:{port}", process=process)
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

    def run(self, what: str, *arguments: object, timeout_s: float = 200.0) -> dict[str, float]:
        """Do one measurement and return its figures."""
        command = [str(self._binary), what, *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout_s, check=True)
        return json.loads(done.stdout)

    @contextmanager
    def holding(self, address: str, connections: int) -> Iterator[Callable[[], int]]:
        """Hold connections open, each used once; what is yielded closes them and returns how many had died."""
        command = [str(self._binary), "hold", address, str(connections)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            if not process.stdout.readline():
                raise SystemExit(f"{connections} connections to {address} could not be opened and used")

            def close() -> int:
                process.stdin.close()
                return int(json.loads(process.stdout.readline())["errors"])

            yield close


CHAINS: dict[str, tuple[dict[str, object], ...]] = {
    "no toxic": (),
    "latency 0 ms": ({"type": "latency", "attributes": {"latency": 0}},),
    "bandwidth, far above": ({"type": "bandwidth", "attributes": {"rate": 100_000_000}},),
}
WORDS: dict[str, tuple[object, ...]] = {
    "requests": (CONNECTIONS, SECONDS),
    "paced": (CONNECTIONS, PACED_PER_S, SECONDS),
    "bulk": (BULK_BYTES,),
    "connects": (8, SECONDS),
}
"""What the program is asked to do, and its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A row: the program's word, the figure in its answer, and the ratio to reach."""

    what: str
    word: str
    figure: str
    added: bool = False
    """Whether it is a latency of which the direct way's, in the same round, is taken off."""
    reach: str
    """Without toxics."""

    def of(self, figures: dict[str, float], direct: dict[str, float]) -> float:
        """Return the value."""
        return figures[self.figure] - (direct[self.figure] if self.added else 0.0)

    def shown(self, values: Sequence[float]) -> str:
        """Return what the table says."""
        return f"{statistics.median(values):,.3g}" if self.added else f"{statistics.median(values):,.0f}"


LITTLE = "0.7 or less"
PACED = f"at {PACED_PER_S:,} requests/s (ms)"
MEASURES = (
    Measure(what="small requests/s, 32 connections", word="requests", figure="per_s", reach="1.2"),
    Measure(what="added latency p50, saturated (ms)", word="requests", figure="p50_ms", added=True, reach=LITTLE),
    Measure(what="added latency p99, saturated (ms)", word="requests", figure="p99_ms", added=True, reach=LITTLE),
    Measure(what=f"added latency p50, {PACED}", word="paced", figure="p50_ms", added=True, reach=LITTLE),
    Measure(what=f"added latency p99, {PACED}", word="paced", figure="p99_ms", added=True, reach=LITTLE),
    Measure(what="bulk, one connection, MiB/s", word="bulk", figure="mib_per_s", reach="1.2"),
    Measure(what="new connections/s", word="connects", figure="per_s", reach="0.8"),
)


def rounds(load: Load, where: dict[str, str]) -> Iterator[dict[tuple[str, str], dict[str, float]]]:
    """Yield the figures of each round, by word and by the way they were measured on; the order is drawn."""
    for _ in range(ROUNDS):
        found = {}
        for word, arguments in WORDS.items():
            for way in random.Random().sample(sorted(where), len(where)):
                found[word, way] = load.run(word, where[way], *arguments)
        yield found


def speeds(load: Load, servers: Sequence[Server]) -> None:
    """Print throughput and latency, with each chain of toxics."""
    rows: list[Sequence[str]] = []
    alone: dict[str, list[dict[str, float]]] = {word: [] for word in WORDS}
    for chain, toxics in CHAINS.items():
        where = {one.name: one.proxy(chain.replace(" ", "-"), load.upstream, *toxics) for one in servers}
        all_rounds = list(rounds(load, where | {DIRECT: load.upstream}))
        for word, figures in alone.items():
            figures += [found[word, DIRECT] for found in all_rounds]
        for measure in MEASURES:
            word = measure.word
            ours, theirs = (
                [measure.of(found[word, name], found[word, DIRECT]) for found in all_rounds]
                for name in (EMBEDDED, REAL)
            )
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            reach = measure.reach if not toxics else ("1.0 or less" if measure.added else "1.0")
            rows.append((chain, measure.what, measure.shown(ours), measure.shown(theirs), f"{ratio:.2f}", reach))
    most, p50_ms, p99_ms = (
        statistics.median(found[figure] for found in alone[word])
        for word, figure in (("requests", "per_s"), ("paced", "p50_ms"), ("paced", "p99_ms"))
    )
    print(
        f"## The embedded proxy beside Toxiproxy (callers and server alone: {most:,.0f} requests/s; "
        f"at {PACED_PER_S:,}/s p50 {p50_ms:.3f} ms, p99 {p99_ms:.3f} ms)\n"
    )
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


def latency_errors_ms(load: Load, server: Server) -> dict[str, float]:
    """Return how far delays are from what the toxic was asked for, in ms.

    Two hundred requests at once take a while by themselves: what they take through the same proxy without a toxic, in
    the same round, is no error of the toxic and is taken off. The paced ones leave the machine idle time.
    """
    ways = {
        "late": server.proxy("late", load.upstream, {"type": "latency", "attributes": {"latency": LATE_MS}}),
        "prompt": server.proxy("prompt", load.upstream),
    }
    words = {"burst": (BURST,), "paced": (BURST, LATE_PER_S, SECONDS)}
    raw: list[float] = []
    corrected: list[float] = []
    paced_p50: list[float] = []
    paced_p99: list[float] = []
    for _ in range(ROUNDS):
        found = {
            (word, way): load.run(word, ways[way], *arguments)
            for word, arguments in words.items()
            for way in random.Random().sample(sorted(ways), len(ways))
        }
        burst_ms, paced_ms = found["burst", "late"], found["paced", "late"]
        raw.append(burst_ms["p50_ms"] - LATE_MS)
        corrected.append(raw[-1] - found["burst", "prompt"]["p50_ms"])
        paced_p50.append(paced_ms["p50_ms"] - LATE_MS - found["paced", "prompt"]["p50_ms"])
        paced_p99.append(paced_ms["p99_ms"] - LATE_MS - found["paced", "prompt"]["p99_ms"])
    return {
        f"{BURST} connections at once: error of the median, raw": statistics.median(raw),
        "the same, without what the burst takes by itself": statistics.median(corrected),
        f"{LATE_PER_S:,} requests/s: error of p50": statistics.median(paced_p50),
        f"{LATE_PER_S:,} requests/s: error of p99": statistics.median(paced_p99),
    }


def exactness(load: Load, servers: Sequence[Server]) -> None:
    """Print how near toxics come to what they were asked for, and what an idle connection and a proxy cost."""
    rows: dict[str, list[str]] = {}
    for one in servers:
        for what, error_ms in latency_errors_ms(load, one).items():
            rows.setdefault(f"latency of {LATE_MS} ms, {what}", []).append(f"{error_ms:+.2f} ms")
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
    near = "1 ms or less, not worse"
    reach = ("", near, near, near, "2 % or less, not worse", "16 KiB", "100 ms")
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
