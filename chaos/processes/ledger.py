"""The ledger: what has to be undone if the runner dies now, written down before it is done.

A file of JSON lines in the run's folder. An entry is added before its deed, and marked done once the deed is undone;
what remains is for the guardian, and what that cannot undo for ``chaos heal`` and the next runs. A line that was cut
off by a crash is passed over: its deed was not begun.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

LEDGER_NAME = "ledger.jsonl"


class Undo(StrEnum):
    """Ways of undoing something, in the order in which the guardian goes about them."""

    KILL_GROUP = "kill_group"
    """Kill process group ``pid``, if its leader is still the process that started at ``start_ticks``."""
    KILL_MARKED = "kill_marked"
    """Kill every process that carries ``CHAOS_RUN=<run>``."""
    RESUME = "resume"
    """Let process ``pid`` (started at ``start_ticks``) go on."""
    DELETE_TOXIC = "delete_toxic"
    """Delete ``toxic`` of ``proxy`` on the Toxiproxy at ``url``."""
    ENABLE_PROXY = "enable_proxy"
    """Enable ``proxy`` on the Toxiproxy at ``url``."""
    DELETE_PROXY = "delete_proxy"
    """Delete ``proxy`` on the Toxiproxy at ``url``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing to be undone; which fields matter depends on ``undo``."""

    undo: Undo
    pid: int = 0
    start_ticks: int | None = None
    run: str = ""
    url: str = ""
    proxy: str = ""
    toxic: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The runner that a ledger belongs to."""

    pid: int
    start_ticks: int | None


class Ledger:
    """The writing end, held by the runner. Every line is one ``write``: a killed runner leaves whole lines."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._number = 0
        self._write({"owner": asdict(owner)})

    def add(self, entry: Entry) -> int:
        """Write down what will have to be undone; returns the number to mark it done with."""
        self._number += 1
        self._write({"number": self._number, **asdict(entry)})
        return self._number

    def done(self, number: int) -> None:
        """Note that entry ``number`` is undone, or was never done."""
        self._write({"done": number})

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, fields: dict[str, object]) -> None:
        if self._fd is not None:
            os.write(self._fd, json.dumps(fields).encode() + b"\n")


def read_ledger(path: Path) -> tuple[Owner | None, list[Entry]]:
    """Return the ledger's owner and what is still to be undone, in the order of ``Undo``, the latest first.

    A missing file is an empty ledger; lines that are no entries are passed over.
    """
    owner: Owner | None = None
    pending: dict[int, Entry] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            fields = json.loads(line)
            if "owner" in fields:
                owner = Owner(**fields["owner"])
            elif "done" in fields:
                pending.pop(fields["done"], None)
            else:
                number = fields.pop("number")
                pending[number] = Entry(**{**fields, "undo": Undo(fields["undo"])})
        except (ValueError, TypeError, KeyError):
            continue
    order = list(Undo)
    left = sorted(pending.items(), key=lambda item: (order.index(item[1].undo), -item[0]))
    return owner, [entry for _, entry in left]
