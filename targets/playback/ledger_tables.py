"""The tables of the accounts' ledger, version by version, and the records that are read from them."""

from __future__ import annotations

from dataclasses import dataclass

from targets.playback.migrations import Migration
from targets.playback.validation import Plan

MIGRATIONS = (
    Migration(
        number=1,
        sql="""
        CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), applied INTEGER NOT NULL);
        INSERT INTO log VALUES (1, 0);
        CREATE TABLE results (id TEXT PRIMARY KEY, position INTEGER NOT NULL, result TEXT NOT NULL) WITHOUT ROWID;
        CREATE INDEX results_by_position ON results (position);
        CREATE TABLE accounts (
            id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, password_hash TEXT NOT NULL, plan TEXT NOT NULL,
            country TEXT NOT NULL, signed_up_at_s REAL NOT NULL, cancelled_at_s REAL
        ) WITHOUT ROWID;
        """,
    ),
    Migration(
        number=2,
        # next_period: the first one without an invoice; -1 before the first charge of an account that named no period.
        # last_period: the last one that is charged, for an account that was cancelled.
        sql="""
        CREATE TABLE invoices (
            account TEXT NOT NULL REFERENCES accounts (id), period INTEGER NOT NULL, amount_cents INTEGER NOT NULL,
            at_s REAL NOT NULL, PRIMARY KEY (account, period)
        ) WITHOUT ROWID;
        ALTER TABLE accounts ADD COLUMN next_period INTEGER NOT NULL DEFAULT -1;
        ALTER TABLE accounts ADD COLUMN last_period INTEGER;
        UPDATE accounts SET last_period = -2 WHERE cancelled_at_s IS NOT NULL;
        CREATE INDEX accounts_due ON accounts (next_period, id) WHERE last_period IS NULL OR next_period <= last_period;
        """,
    ),
    Migration(
        number=3,
        sql="ALTER TABLE invoices ADD COLUMN charged_by TEXT NOT NULL DEFAULT '';",
    ),
)
"""All versions of the file, from the empty one on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as it is now."""

    id: str
    email: str
    password_hash: str
    plan: Plan
    country: str
    signed_up_at_s: float
    cancelled_at_s: float | None

    def to_json(self) -> dict[str, object]:
        """Return what may be shown: everything but the password's hash."""
        return {
            "account": self.id,
            "email": self.email,
            "plan": self.plan,
            "country": self.country,
            "signed_up_at_s": self.signed_up_at_s,
            "cancelled_at_s": self.cancelled_at_s,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What an account was charged for a period."""

    account: str
    period: int
    amount_cents: int
    at_s: float
    charged_by: str

    def to_json(self) -> dict[str, object]:
        """Return the form in which it travels."""
        return {
            "account": self.account,
            "period": self.period,
            "amount_cents": self.amount_cents,
            "at_s": self.at_s,
            "charged_by": self.charged_by,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A charge that is to be made: the first period for which the account has no invoice."""

    account: str
    plan: Plan
    period: int

    def to_json(self) -> dict[str, object]:
        """Return the form in which it travels."""
        return {"account": self.account, "plan": self.plan, "period": self.period}
