"""Numbered migrations of an SQLite file: each is applied once, in a transaction of its own.

The number of the last one stands in the file itself, in ``PRAGMA user_version``, and changes in the same transaction as
the tables: a process that is killed in the middle leaves the file at the version before, and the next start goes on
from there. A migration that has ever been used is never changed; what is new gets a new number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass


class NewerFile(Exception):  # noqa: N818 - it names what is wrong
    """The file was written by a later version of this program, whose tables this one does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step: the version that the file has after it, and the SQL that brings it there."""

    number: int
    sql: str


def version_of(db: sqlite3.Connection) -> int:
    """Return the number of the last migration of the file; 0 for an empty one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, migrations: Sequence[Migration], *, name: str) -> None:
    """Bring the file to the last of ``migrations``, which are numbered from 1 on without a gap.

    ``db`` must not begin transactions by itself (``isolation_level=None``); ``name`` is the file's, for the error.

    Raises NewerFile when the file is further than that, and leaves it as it is; sqlite3.Error when a step fails, with
    the file at the version before that step.
    """
    assert [one.number for one in migrations] == list(range(1, len(migrations) + 1)), "numbered from 1, without a gap"
    version = version_of(db)
    if version > len(migrations):
        raise NewerFile(
            f"{name} has version {version}; this program knows versions up to {len(migrations)}. "
            "The file was left as it is: use the program that wrote it, or a later one."
        )
    for migration in migrations[version:]:
        try:
            db.executescript(
                f"BEGIN IMMEDIATE; {migration.sql}; PRAGMA user_version = {migration.number:d}; COMMIT;",
            )
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
