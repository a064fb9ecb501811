"""The accounts' ledger: a state machine in SQLite that a replicated log drives, entry by entry.

    log:  1 sign_up ... 2 charge ... 3 charge ...
             |             |            |
             v             v            v
          apply(index, command) --> one transaction: effects + result under the command's id + the entry's index

What it promises, whatever is repeated, in whatever order:

* Each entry takes effect once: its index is stored in the transaction of its effects, so a replica that was killed goes
  on exactly where it was.
* Each command takes effect once: its ``id`` is an idempotency key, under which its first result is kept.
* Each account has exactly one invoice for a period: that is the table's key, and a second charge, under whatever id,
  gets the first one's invoice.

`apply` is deterministic: no clock, no chance. A command that breaks a rule, or is none at all, is answered
``{"refused": ...}`` and never raises, so that replicas with the same log stay the same.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import assert_never

from targets.playback.ledger_commands import (
    Cancel,
    ChangePlan,
    Charge,
    Command,
    Malformed,
    Rehash,
    SignUp,
    id_of,
    parse,
)
from targets.playback.ledger_tables import MIGRATIONS, Account, Due, Invoice
from targets.playback.migrations import migrate
from targets.playback.validation import Plan, Subscriber

RESULTS_KEPT = 100_000
"""For so many entries of the log the result of a command is kept under its id. Later repetitions are still harmless:
the e-mail address of an account and the period of an invoice are unique for ever."""

BACKLOG_MAX = 10_000
"""Accounts that are due are counted up to here."""

_NOT_BEGUN = -1

_ACCOUNT = "id, email, password_hash, plan, country, signed_up_at_s, cancelled_at_s"

_INVOICE = "account, period, amount_cents, at_s, charged_by"

_DUE = "next_period <= ? AND (last_period IS NULL OR next_period <= last_period)"


class _Refused(Exception):  # noqa: N818 - it names what happened
    """A rule does not allow the command."""


class Ledger:
    """The accounts in the file ``path``, which is made or migrated when it is opened.

    Raises NewerFile for a file of a later version, sqlite3.Error when the file cannot be used; the latter out of every
    method, with the transaction undone: the disk's trouble is not the log's, and must stop the replica.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            # With NORMAL a loss of power could take back the last commits: this is money.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            migrate(self._db, MIGRATIONS, name=path.name)
            self._applied = int(self._db.execute("SELECT applied FROM log").fetchone()[0])
        except BaseException:
            self._db.close()
            raise

    @property
    def applied(self) -> int:
        """The index of the last entry of the log that was applied; 0 for none."""
        return self._applied

    def apply(self, index: int, command: Mapping[str, object]) -> dict[str, object]:
        """Apply the entry ``index`` of the log (from 1 on, growing; gaps are allowed) and return its result.

        An entry that was applied already, and a command whose id was, change nothing and get the first result.
        """
        own_id = id_of(command)
        if index <= self._applied:
            return self._result(own_id) or self._past(index, command)
        with self._transaction():
            result = self._result(own_id)
            if result is None:
                result = {"index": index, **self._outcome(command)}
                if own_id is not None:
                    self._db.execute(
                        "INSERT INTO results VALUES (?, ?, ?)",
                        (own_id, index, json.dumps(result, separators=(",", ":"))),
                    )
            self._db.execute("DELETE FROM results WHERE position <= ?", (index - RESULTS_KEPT,))
            self._db.execute("UPDATE log SET applied = ?", (index,))
        self._applied = index
        return result

    def account(self, account: str) -> Account | None:
        """Return an account by its id, or None."""
        return self._find("id", account)

    def account_by_email(self, email: str) -> Account | None:
        """Return an account by its e-mail address, exactly as it was signed up, or None."""
        return self._find("email", email)

    def subscriber(self, account: str) -> Subscriber | None:
        """Return what a play must know of an account; None for one that does not exist or was cancelled."""
        found = self.account(account)
        if found is None or found.cancelled_at_s is not None:
            return None
        return Subscriber(id=found.id, plan=found.plan, country=found.country)

    def invoices(self, account: str, *, latest: int | None = None) -> list[Invoice]:
        """Return the invoices of an account in the order of their periods: all, or the ``latest`` so many."""
        rows = self._db.execute(
            f"SELECT {_INVOICE} FROM invoices WHERE account = ? ORDER BY period DESC LIMIT ?",  # noqa: S608 - a constant
            (account, -1 if latest is None else latest),
        ).fetchall()
        return [_invoice(row) for row in reversed(rows)]

    def due(self, period: int, limit: int) -> list[Due]:
        """Return at most ``limit`` accounts that lack an invoice for ``period`` or an earlier one, the oldest first.

        Each comes with the earliest period that it lacks. So whoever charges what this returns until nothing is left
        has made up for everything that was ever missed.
        """
        rows = self._db.execute(
            f"SELECT id, plan, next_period FROM accounts WHERE {_DUE} ORDER BY next_period, id LIMIT ?",  # noqa: S608
            (period, limit),
        )
        return [
            Due(account=account, plan=Plan(plan), period=period if following == _NOT_BEGUN else following)
            for account, plan, following in rows
        ]

    def backlog(self, period: int) -> int:
        """Return how many accounts are due for ``period`` or an earlier one, counted up to ``BACKLOG_MAX``."""
        counted = f"SELECT COUNT(*) FROM (SELECT 1 FROM accounts WHERE {_DUE} LIMIT ?)"  # noqa: S608 - a constant
        return int(self._db.execute(counted, (period, BACKLOG_MAX)).fetchone()[0])

    def totals(self) -> dict[str, int]:
        """Return counts of everything, for judging a run; it reads all rows.

        ``missing`` is the number of periods without an invoice between the first and the last one of an account.
        """
        accounts, active = self._db.execute(
            "SELECT COUNT(*), COUNT(*) - COUNT(cancelled_at_s) FROM accounts"
        ).fetchone()
        invoices, cents = self._db.execute("SELECT COUNT(*), TOTAL(amount_cents) FROM invoices").fetchone()
        (missing,) = self._db.execute(
            "SELECT TOTAL(gap) FROM "
            "(SELECT MAX(period) - MIN(period) + 1 - COUNT(*) AS gap FROM invoices GROUP BY account)"
        ).fetchone()
        return {
            "applied": self._applied,
            "accounts": accounts,
            "active": active,
            "invoices": invoices,
            "charged_cents": int(cents),
            "missing": int(missing),
        }

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _result(self, own_id: str | None) -> dict[str, object] | None:
        """Return the result that is kept under a command's id."""
        row = self._db.execute("SELECT result FROM results WHERE id = ?", (own_id,)).fetchone()
        if row is None:
            return None
        result: dict[str, object] = json.loads(row[0])
        return result

    def _past(self, index: int, command: object) -> dict[str, object]:
        """Return the answer to an entry of the past whose result is not there."""
        try:
            parse(command)
        except Malformed as error:
            return {"index": index, "refused": f"malformed: {error}"}
        return {"index": index, "refused": f"entry {index} was applied already, and its result is no longer kept"}

    def _outcome(self, data: object) -> dict[str, object]:
        """Carry a command out, if it is one and the rules allow it."""
        try:
            return self._carry_out(parse(data))
        except Malformed as error:
            return {"refused": f"malformed: {error}"}
        except _Refused as refused:
            return {"refused": str(refused)}

    def _carry_out(self, command: Command) -> dict[str, object]:
        match command:
            case SignUp():
                return self._sign_up(command)
            case ChangePlan():
                return self._change_plan(command)
            case Cancel():
                return self._cancel(command)
            case Charge():
                return self._charge(command)
            case Rehash():
                return self._rehash(command)
            case _:
                assert_never(command)

    def _sign_up(self, command: SignUp) -> dict[str, object]:
        plan = _plan(command.plan)
        if self.account_by_email(command.email) is not None:
            raise _Refused("email taken")
        if self.account(command.account) is not None:
            raise _Refused("account taken")
        first = _NOT_BEGUN if command.period is None else command.period
        self._db.execute(
            f"INSERT INTO accounts ({_ACCOUNT}, next_period) VALUES (?, ?, ?, ?, ?, ?, NULL, ?)",  # noqa: S608
            (command.account, command.email, command.password_hash, plan, command.country, command.at_s, first),
        )
        return {"account": command.account, "plan": plan, "country": command.country}

    def _change_plan(self, command: ChangePlan) -> dict[str, object]:
        plan = _plan(command.plan)
        account = self._known(command.account)
        if account.cancelled_at_s is not None:
            raise _Refused("cancelled")
        self._db.execute("UPDATE accounts SET plan = ? WHERE id = ?", (plan, account.id))
        return {"account": account.id, "plan": plan, "country": account.country}

    def _cancel(self, command: Cancel) -> dict[str, object]:
        account = self._known(command.account)
        if account.cancelled_at_s is not None:
            return {"account": account.id, "cancelled_at_s": account.cancelled_at_s}
        following, _ = self._periods(account.id)
        last = command.period if command.period is not None and following != _NOT_BEGUN else following - 1
        self._db.execute(
            "UPDATE accounts SET cancelled_at_s = ?, last_period = ? WHERE id = ?", (command.at_s, last, account.id)
        )
        return {"account": account.id, "cancelled_at_s": command.at_s}

    def _charge(self, command: Charge) -> dict[str, object]:
        account = self._known(command.account)
        first = self._invoice(account.id, command.period)
        if first is not None:
            return first.to_json()
        following, last = self._periods(account.id)
        if last is not None and command.period > last:
            raise _Refused("cancelled")
        if command.period < following:
            raise _Refused("the period is before the account's first")
        invoice = Invoice(
            account=account.id,
            period=command.period,
            amount_cents=command.amount_cents,
            at_s=command.at_s,
            charged_by=command.charged_by,
        )
        self._db.execute(
            f"INSERT INTO invoices ({_INVOICE}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - a constant
            (invoice.account, invoice.period, invoice.amount_cents, invoice.at_s, invoice.charged_by),
        )
        if following in (_NOT_BEGUN, command.period):
            following = command.period + 1
            while self._invoice(account.id, following) is not None:  # later periods may have been charged before
                following += 1
            self._db.execute("UPDATE accounts SET next_period = ? WHERE id = ?", (following, account.id))
        return invoice.to_json()

    def _rehash(self, command: Rehash) -> dict[str, object]:
        account = self._known(command.account)
        if account.password_hash != command.old_hash:
            raise _Refused("the password's hash is another one by now")
        self._db.execute("UPDATE accounts SET password_hash = ? WHERE id = ?", (command.password_hash, account.id))
        return {"account": account.id}

    def _known(self, account: str) -> Account:
        found = self.account(account)
        if found is None:
            raise _Refused("unknown account")
        return found

    def _find(self, column: str, value: str) -> Account | None:
        row = self._db.execute(f"SELECT {_ACCOUNT} FROM accounts WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
        if row is None:
            return None
        account, email, password_hash, plan, country, signed_up_at_s, cancelled_at_s = row
        return Account(
            id=account,
            email=email,
            password_hash=password_hash,
            plan=Plan(plan),
            country=country,
            signed_up_at_s=signed_up_at_s,
            cancelled_at_s=cancelled_at_s,
        )

    def _periods(self, account: str) -> tuple[int, int | None]:
        """Return the first period without an invoice, and the last one that is charged at all."""
        row: tuple[int, int | None] = self._db.execute(
            "SELECT next_period, last_period FROM accounts WHERE id = ?", (account,)
        ).fetchone()
        return row

    def _invoice(self, account: str, period: int) -> Invoice | None:
        row = self._db.execute(
            f"SELECT {_INVOICE} FROM invoices WHERE account = ? AND period = ?",  # noqa: S608 - a constant
            (account, period),
        ).fetchone()
        return None if row is None else _invoice(row)


def _invoice(row: tuple[str, int, int, float, str]) -> Invoice:
    account, period, amount_cents, at_s, charged_by = row
    return Invoice(account=account, period=period, amount_cents=amount_cents, at_s=at_s, charged_by=charged_by)


def _plan(name: str) -> Plan:
    try:
        return Plan(name)
    except ValueError:
        raise _Refused(f"unknown plan {name!a}; there are {', '.join(Plan)}") from None
