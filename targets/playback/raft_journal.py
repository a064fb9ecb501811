"""A replica's term, vote and log in SQLite: what it may not forget, on disk before anything else is done.

With ``synchronous = FULL`` every save is flushed to the disk before it returns, so it outlives a loss of power too. The
file belongs to one process at a time. A replica that lost it must not come back under its name: it would have forgotten
whom it voted for, and what it had acknowledged.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from targets.playback.raft_messages import Entry
from targets.playback.raft_step import Persist, Stored

_LOCK_WAIT_S = 0.5
"""How long a predecessor that is just ending is waited for."""

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS state (only INTEGER PRIMARY KEY CHECK (only = 1), term INTEGER NOT NULL, vote TEXT);
CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, term INTEGER NOT NULL, command TEXT NOT NULL);
INSERT OR IGNORE INTO state VALUES (1, 0, NULL);
COMMIT;
"""


class Journal:
    """The file at ``path``. Raises sqlite3.Error when it cannot be used, or when another process uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, timeout=_LOCK_WAIT_S)
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error:
            self._db.close()
            raise

    def load(self, *, applied: int) -> Stored:
        """Return what was saved last; ``applied`` is how far the state machine has applied the log."""
        term, vote = self._db.execute("SELECT term, vote FROM state").fetchone()
        rows = self._db.execute("SELECT term, command FROM log ORDER BY position")
        entries = [Entry(term=one, command=command) for one, command in rows]
        return Stored(term=term, vote=vote, entries=entries, applied=applied)

    def save(self, persist: Persist) -> None:
        """Write one step's changes, all or none of them."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("UPDATE state SET term = ?, vote = ?", (persist.term, persist.vote))
        if persist.first is not None:
            self._db.execute("DELETE FROM log WHERE position >= ?", (persist.first,))
            self._db.executemany(
                "INSERT INTO log VALUES (?, ?, ?)",
                ((index, one.term, one.command) for index, one in enumerate(persist.entries, start=persist.first)),
            )
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
