"""Migrations: once each, all or nothing, from every version there ever was, and never backwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from targets.playback.ledger import Ledger
from targets.playback.ledger_tables import MIGRATIONS
from targets.playback.migrations import Migration, NewerFile, migrate, version_of

FIRST = Migration(number=1, sql="CREATE TABLE one (a INTEGER); INSERT INTO one VALUES (7)")
SECOND = Migration(number=2, sql="ALTER TABLE one ADD COLUMN b INTEGER NOT NULL DEFAULT 5")
BROKEN = Migration(number=2, sql="CREATE TABLE two (a INTEGER); INSERT INTO nowhere VALUES (1)")


def opened(path):
    return closing(sqlite3.connect(path, isolation_level=None))


def schema(path):
    with opened(path) as db:
        return sorted(row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def test_each_migration_is_applied_once(tmp_path):
    for _ in range(2):
        with opened(tmp_path / "file") as db:
            migrate(db, [FIRST, SECOND], name="file")
            assert version_of(db) == 2
            assert db.execute("SELECT a, b FROM one").fetchall() == [(7, 5)]


def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path):
    with opened(tmp_path / "file") as db:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(db, [FIRST, BROKEN], name="file")
        assert version_of(db) == 1
        assert not db.in_transaction
        assert db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (1,)

        migrate(db, [FIRST, SECOND], name="file")
        assert db.execute("SELECT a, b FROM one").fetchall() == [(7, 5)]


def test_the_file_of_a_later_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with opened(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = schema(path)

    with pytest.raises(
        NewerFile, match=rf"ledger\.sqlite has version {len(MIGRATIONS) + 1}; .* up to {len(MIGRATIONS)}"
    ):
        Ledger(path)

    assert schema(path) == before


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_a_ledger_of_every_earlier_version_is_brought_up_to_date(tmp_path, version):
    fresh, old = tmp_path / "fresh", tmp_path / "old"
    Ledger(fresh).close()
    with opened(old) as db:
        migrate(db, MIGRATIONS[:version], name="old")
        if version >= 1:
            for account, cancelled_at_s in (("a", None), ("b", 9.0)):
                db.execute(
                    "INSERT INTO accounts (id, email, password_hash, plan, country, signed_up_at_s, cancelled_at_s) "
                    "VALUES (?, ?, 'hash', 'basic', 'country-01', 1.5, ?)",
                    (account, f"{account}@example.com", cancelled_at_s),
                )
            db.execute("UPDATE log SET applied = 41")
        if version >= 2:
            db.execute("UPDATE accounts SET last_period = -2 WHERE id = 'b'")
            db.execute("UPDATE accounts SET next_period = 4 WHERE id = 'a'")
            db.execute("INSERT INTO invoices (account, period, amount_cents, at_s) VALUES ('a', 3, 799, 2.0)")

    ledger = Ledger(old)

    assert schema(old) == schema(fresh)
    if version == 0:
        assert ledger.applied == 0
    else:
        assert ledger.applied == 41
        assert ledger.account_by_email("a@example.com").signed_up_at_s == 1.5
        assert [one.period for one in ledger.invoices("a")] == ([3] if version >= 2 else [])
        assert [(one.account, one.period) for one in ledger.due(9, 10)] == [("a", 4 if version >= 2 else 9)]
        charge = {"kind": "charge", "account": "a", "period": 9, "amount_cents": 799, "at_s": 3, "charged_by": "me"}
        assert ledger.apply(42, {**charge, "id": "c"})["charged_by"] == "me"
        assert ledger.apply(43, {**charge, "id": "d", "account": "b"})["refused"] == "cancelled"
    ledger.close()
