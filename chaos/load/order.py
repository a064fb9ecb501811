"""What the runner orders from Locust, and the files in one folder through which the two talk.

    load.log         Locust's own output
    ready-<pid>      a Locust process waits at the start gate; it keeps the file locked for as long as it lives
    start            written by the runner: the moment at which the arrivals begin
    calm             written by the runner when it heals early: a surge under way ends, none begins any more
    finish           written by the runner: no new arrivals; the moment by which open plays must have ended
    done-<pid>       this Locust process has written its last sample
    <pid>.samples    the samples, a line each (see `chaos.samples`)

Files, and not a pipe: a full pipe would block every greenlet of the load generator.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chaos.experiment.plan import PlannedSurge
from chaos.groups import Group, group_of
from chaos.load.arrivals import Arrival, arrivals
from chaos.topology.model import InstanceConfig, Scalar
from chaos.topology.wire import config_from_json, config_to_json

ORDER_VARIABLE = "CHAOS_LOAD"
"""The environment variable that carries the order, as JSON."""

LOG_FILE = "load.log"
START_FILE = "start"
CALM_FILE = "calm"
FINISH_FILE = "finish"
READY_PREFIX = "ready-"
DONE_PREFIX = "done-"
SAMPLES_SUFFIX = ".samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOrder:
    """All that a Locust process is told by the runner."""

    folder: Path
    seed: int
    rate_per_s: float
    """Arrivals a second, of all processes together."""
    duration_s: float
    """From the start moment to the last arrival."""
    processes: int
    """How many Locust processes share the arrivals."""
    client: InstanceConfig
    """Whom the load calls, and the settings of the target."""
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """The experiment's own ``load:`` settings."""
    surges: tuple[PlannedSurge, ...] = ()
    control_group: float = 0.0
    """Share of the accounts that are the experiment group, and of those that are its control group; 0: none are."""

    def group_of(self, account: str) -> Group | None:
        """Return the group of an account: its requests carry ``groups.group_headers``, its samples are marked."""
        return group_of(account, share=self.control_group, seed=self.seed)

    def arrivals(self, part: int) -> Iterator[Arrival]:
        """Return the arrivals that fall to the process that has this ``part`` of them, counted from 0.

        Those of surges end when the runner asks for calm.
        """
        calm = self.folder / CALM_FILE
        schedule = arrivals(
            self.seed, self.rate_per_s, self.duration_s, part=part, parts=self.processes, surges=self.surges
        )
        return (arrival for arrival in schedule if not (arrival.surge and calm.exists()))

    def to_json(self) -> str:
        """Return the order as one line of JSON."""
        return json.dumps(
            {
                "folder": str(self.folder),
                "seed": self.seed,
                "rate_per_s": self.rate_per_s,
                "duration_s": self.duration_s,
                "processes": self.processes,
                "client": config_to_json(self.client),
                "settings": dict(self.settings),
                "surges": [asdict(surge) for surge in self.surges],
                "control_group": self.control_group,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> LoadOrder:
        """Read what ``to_json`` wrote. Raises ValueError for anything else."""
        try:
            fields = json.loads(text)
            return cls(
                folder=Path(fields["folder"]),
                seed=int(fields["seed"]),
                rate_per_s=float(fields["rate_per_s"]),
                duration_s=float(fields["duration_s"]),
                processes=int(fields["processes"]),
                client=config_from_json(fields["client"]),
                settings=dict(fields["settings"]),
                surges=tuple(PlannedSurge(**surge) for surge in fields["surges"]),
                control_group=float(fields["control_group"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{ORDER_VARIABLE} does not hold an order of the runner: {error}") from error

    @classmethod
    def from_environment(cls) -> LoadOrder | None:
        """Return the order this process was started with, or None under a plain ``locust``."""
        text = os.environ.get(ORDER_VARIABLE)
        return None if text is None else cls.from_json(text)


def write_moment(path: Path, moment_s: float) -> None:
    """Write a moment of the monotonic clock to ``path`` in one step, so that no reader sees half of it."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(repr(moment_s))
    draft.replace(path)


def read_moment(path: Path) -> float | None:
    """Return the moment in ``path``, or None while there is no such file."""
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return None
