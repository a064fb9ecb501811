"""A state machine for tests: it keeps every command once, by id, in SQLite, and can say what it has kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path


class Tally:
    """The state machine; ``{"id": ..., "kind": "count"}`` gives back how many it has kept with this one."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS kept (number INTEGER PRIMARY KEY, id TEXT UNIQUE, position INTEGER)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS progress (only INTEGER PRIMARY KEY, applied INTEGER)")
        self._db.execute("INSERT OR IGNORE INTO progress VALUES (1, 0)")

    @property
    def applied(self) -> int:
        """The index of the last command applied."""
        return int(self._db.execute("SELECT applied FROM progress").fetchone()[0])

    def apply(self, index: int, command: Mapping[str, object]) -> dict[str, object]:
        """Keep a command, unless it has been kept before."""
        if index <= self.applied:
            return {}
        if command["kind"] == "break":
            raise RuntimeError("a state machine with a mistake in it")
        self._db.execute("BEGIN")
        self._db.execute("INSERT OR IGNORE INTO kept (id, position) VALUES (?, ?)", (command["id"], index))
        self._db.execute("UPDATE progress SET applied = ?", (index,))
        ((number, first),) = self._db.execute("SELECT number, position FROM kept WHERE id = ?", (command["id"],))
        self._db.execute("COMMIT")
        return {"number": number, "first": first}

    def kept(self) -> list[tuple[int, str, int]]:
        """Everything kept: number, id, and the index at which it was first applied."""
        return self._db.execute("SELECT number, id, position FROM kept ORDER BY number").fetchall()

    def close(self) -> None:
        """Close the file."""
        self._db.close()
