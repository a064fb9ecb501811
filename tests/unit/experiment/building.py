"""A small project on disk, with defaults for everything, so that what a test sets is what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import UsageError
from chaos.experiment.model import Experiment
from chaos.experiment.parser import load_experiment
from chaos.topology.model import Topology

TOPOLOGY = """\
name: shop
settings: {scale: 60, region: north, strict: true}
clients:
  shopper: {calls: [front, box]}
services:
  front: {python: "shop.front:main", calls: [orders], scaling: {workers_most: 4}}
  orders: {command: [run, "--port", "{port}"], instances: 2, calls: [orders]}
  box:
    python: shop.box:main
    instances: [{isp: alpha}, {isp: alpha}, {isp: alpha}, {isp: alpha}, {isp: beta, zone: 1}]
  lonely: {python: "shop.lonely:main"}
protections:
  isolation: calls are isolated
  retry: clients ask again
metrics:
  availability: {title: availability, measure: share, of: order}
  orders_per_s: {title: orders, measure: rate, of: order}
  delay_p99_s: {title: delay p99, measure: quantile, of: order, field: delay_s, quantile: 0.99}
  stalled: {title: stalled, measure: ratio, of: order, field: stalled_s, per: [stalled_s, played_s]}
  size_p50: {title: size, measure: quantile, of: order, field: items, quantile: 0.5}
"""

EXPERIMENT = {
    "title": "title: A box dies",
    "target": "target: target",
    "phases": "phases: {warm_up: 3s, baseline: 8s, fault: 10s, recovery: 8s}",
    "load": "load: {locustfile: load.py, rate: 30/s}",
    "faults": "faults: [{kind: kill, service: box}]",
    "steady_state": 'steady_state: ["availability >= 99.5%"]',
}
"""Each top key and its line; the first line of the file is the title."""


class Project:
    """A folder with a target, a Locust file and one experiment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "x.yaml"
        (folder / "target").mkdir()
        self.topology = folder / "target" / "topology.yaml"
        self.topology.write_text(TOPOLOGY)
        (folder / "load.py").write_text("")

    def write(self, **keys: str) -> Path:
        """Write the experiment, with some of its top keys replaced, added or (when empty) left out."""
        lines = {**EXPERIMENT, **keys}
        self.file.write_text("\n".join(text for text in lines.values() if text) + "\n")
        return self.file

    def load(self, overrides: dict[str, str] | None = None, **keys: str) -> tuple[Experiment, Topology]:
        return load_experiment(self.write(**keys), overrides or {})

    def problems(self, overrides: dict[str, str] | None = None, **keys: str) -> list[str]:
        """Return the problems, without the folder of the files."""
        with pytest.raises(UsageError) as caught:
            self.load(overrides, **keys)
        return [str(problem).replace(f"{self.folder}/", "") for problem in caught.value.problems]
