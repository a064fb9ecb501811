"""The ledger: rules, repetition in every form, and the same rows from the same log."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.playback import ledger as ledger_module
from targets.playback.ledger import Ledger
from targets.playback.validation import Plan, Subscriber
from tests.processes import started

MEMORY = Path(":memory:")
ROOT = Path(__file__).resolve().parents[3]


def sign_up(account="a", *, own_id=None, email=None, plan="basic", **more):
    return {
        "kind": "sign_up",
        "id": own_id or f"sign_up/{account}",
        "account": account,
        "email": email or f"{account}@example.com",
        "password_hash": "hash",
        "plan": plan,
        "country": "country-01",
        "at_s": 1.0,
        **more,
    }


def charge(account="a", period=1, *, own_id=None, amount_cents=799, **more):
    return {
        "kind": "charge",
        "id": own_id or f"charge/{account}/{period}",
        "account": account,
        "period": period,
        "amount_cents": amount_cents,
        "at_s": 2.0,
        **more,
    }


def change_plan(account="a", plan="premium", *, own_id="change"):
    return {"kind": "change_plan", "id": own_id, "account": account, "plan": plan, "at_s": 3.0}


def cancel(account="a", *, own_id="cancel", **more):
    return {"kind": "cancel", "id": own_id, "account": account, "at_s": 4.0, **more}


class Driven:
    """A ledger that is given one command after the other."""

    def __init__(self, path=MEMORY):
        self.ledger = Ledger(path)
        self.log = []

    def __call__(self, command):
        self.log.append((self.ledger.applied + 1, command))
        return self.ledger.apply(*self.log[-1])

    def periods(self, account="a"):
        return [invoice.period for invoice in self.ledger.invoices(account)]


@pytest.fixture
def driven():
    driven = Driven()
    yield driven
    driven.ledger.close()


def rows(ledger):
    return list(ledger._db.iterdump())


def test_a_sign_up_makes_an_account(driven):
    assert driven(sign_up(plan="standard")) == {
        "index": 1,
        "account": "a",
        "plan": "standard",
        "country": "country-01",
    }

    found = driven.ledger.account("a")
    assert found == driven.ledger.account_by_email("a@example.com")
    assert (found.plan, found.password_hash, found.signed_up_at_s) == (Plan.STANDARD, "hash", 1.0)
    assert "password_hash" not in found.to_json()
    assert driven.ledger.subscriber("a") == Subscriber(id="a", plan=Plan.STANDARD, country="country-01")
    assert driven.ledger.account("b") is driven.ledger.account_by_email("b@example.com") is None


def test_what_the_rules_do_not_allow_is_refused_and_changes_nothing(driven):
    driven(sign_up())
    before = driven.ledger.totals()

    assert driven(sign_up("b", email="a@example.com"))["refused"] == "email taken"
    assert driven(sign_up("a", own_id="again", email="b@example.com"))["refused"] == "account taken"
    assert driven(sign_up("c", plan="gold"))["refused"] == "unknown plan 'gold'; there are basic, standard, premium"
    for command in (charge("z"), change_plan("z", own_id="1"), cancel("z", own_id="2")):
        assert driven(command)["refused"] == "unknown account"
    assert driven({"kind": "rehash", "id": "r", "account": "a", "old_hash": "x", "password_hash": "y"})["refused"]

    assert driven.ledger.totals() == {**before, "applied": 8}


def test_a_plan_changes_and_a_hash_is_replaced(driven):
    driven(sign_up())

    assert driven(change_plan())["plan"] == "premium"
    assert driven({"kind": "rehash", "id": "r", "account": "a", "old_hash": "hash", "password_hash": "new"}) == {
        "index": 3,
        "account": "a",
    }

    found = driven.ledger.account("a")
    assert (found.plan, found.password_hash) == (Plan.PREMIUM, "new")


def test_a_second_charge_for_a_period_gets_the_first_invoice(driven):
    driven(sign_up())
    first = driven(charge(period=5, charged_by="one"))

    second = driven(charge(period=5, own_id="another", amount_cents=1, charged_by="two"))

    assert second == {**first, "index": 3}
    assert (first["amount_cents"], first["charged_by"]) == (799, "one")
    assert driven.ledger.totals()["charged_cents"] == 799


def test_a_repeated_id_gets_the_first_result_whatever_it_asks_for(driven):
    first = driven(sign_up())
    refused = driven(sign_up("b", email="a@example.com"))

    assert driven(sign_up()) == first
    assert driven(charge(own_id="sign_up/a")) == first
    assert driven(sign_up("b", email="a@example.com")) == refused
    assert driven.periods() == []
    assert driven.ledger.applied == 5


def test_an_entry_that_was_applied_is_not_applied_again(driven):
    results = [driven(sign_up()), driven(charge()), driven({"kind": "?", "id": "x"}), driven({"id": 3})]
    before = rows(driven.ledger)

    assert [driven.ledger.apply(index, command) for index, command in driven.log] == results
    assert driven.ledger.apply(1, charge(own_id="never seen"))["refused"].startswith("entry 1 was applied already")
    assert rows(driven.ledger) == before


def test_a_restarted_ledger_goes_on_where_it_was(tmp_path):
    first = Driven(tmp_path / "ledger.sqlite")
    results = [first(sign_up()), first(charge())]
    first.ledger.close()

    again = Driven(tmp_path / "ledger.sqlite")

    assert again.ledger.applied == 2
    assert [again.ledger.apply(index, command) for index, command in first.log] == results
    assert again.ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert again.ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)
    again.ledger.close()


def test_a_failing_disk_leaves_neither_effects_nor_the_index(driven):
    driven(sign_up())
    before = rows(driven.ledger)
    driven.ledger._db.execute("PRAGMA query_only = ON")

    with pytest.raises(sqlite3.OperationalError):
        driven.ledger.apply(2, charge())

    driven.ledger._db.execute("PRAGMA query_only = OFF")
    assert driven.ledger.applied == 1
    assert rows(driven.ledger) == before
    assert driven(charge())["period"] == 1


def test_results_are_kept_for_a_bounded_number_of_entries_and_repetition_stays_harmless(driven, monkeypatch):
    monkeypatch.setattr(ledger_module, "RESULTS_KEPT", 2)
    driven(sign_up())
    invoice = driven(charge())
    driven(change_plan(own_id="1"))
    driven(change_plan(own_id="2"))

    assert driven.ledger._db.execute("SELECT COUNT(*) FROM results").fetchone() == (2,)
    assert driven(sign_up())["refused"] == "email taken"
    assert driven(charge()) == {**invoice, "index": 6}
    assert driven.periods() == [1]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([], "a command is a JSON object, not a JSON list"),
        ({}, "id is missing"),
        ({"id": "x"}, "kind is missing; there are sign_up, change_plan, cancel, charge, rehash"),
        ({"id": "x", "kind": ["charge"]}, "kind is a JSON list"),
        ({**charge(), "id": "x" * 129}, "id is"),
        ({**charge(), "period": "2026-11"}, "period is '2026-11'; it must be a whole number from 0"),
        ({**charge(), "period": True}, "period is True"),
        ({**charge(), "period": 10**400}, "period is a number too large"),
        ({**charge(), "amount_cents": -1}, "amount_cents is -1"),
        ({**charge(), "amount_cents": 7.5}, "amount_cents is 7.5"),
        ({**charge(), "at_s": float("nan")}, "at_s is nan"),
        ({**charge(), "at_s": 10**400}, "at_s is a number too large"),
        (sign_up(email="\ud800@example.com"), "email is '\\\\ud800@example.com'; it must be a printable text"),
        (sign_up(email="a\0b"), "email is"),
        (sign_up(country=None), "country is missing"),
        (cancel(period=-3), "period is -3"),
    ],
)
def test_a_command_that_is_none_is_an_answer_and_no_exception(driven, command, reason):
    result = driven(command)

    assert result["index"] == 1
    assert result["refused"].startswith("malformed: ")
    assert reason.replace("\\\\", "\\") in result["refused"]
    assert driven.ledger.applied == 1
    assert driven.ledger.totals()["accounts"] == 0


def test_everything_that_was_missed_is_due_the_oldest_first(driven):
    driven(sign_up("a", period=3))
    driven(sign_up("b", period=5))

    def due(period, limit=9):
        return [(one.account, one.period) for one in driven.ledger.due(period, limit)]

    assert due(2) == []
    assert due(4) == [("a", 3)]
    assert due(9) == [("a", 3), ("b", 5)]
    assert due(9, 1) == [("a", 3)]
    assert driven.ledger.backlog(9) == 2
    driven(charge("a", 3))
    driven(charge("a", 5))  # a gap is no reason to forget the period in it
    assert due(9) == [("a", 4), ("b", 5)]
    assert driven.ledger.totals()["missing"] == 1
    driven(charge("a", 4))
    assert due(9) == [("b", 5), ("a", 6)]
    assert driven.ledger.totals()["missing"] == 0
    assert driven(charge("a", 2))["refused"] == "the period is before the account's first"


def test_the_latest_invoices_are_shown_in_order(driven):
    driven(sign_up("a", period=1))
    for period in range(1, 6):
        driven(charge("a", period))

    assert driven.periods() == [1, 2, 3, 4, 5]
    assert [invoice.period for invoice in driven.ledger.invoices("a", latest=2)] == [4, 5]


KILLED = """
import sys
from pathlib import Path
from targets.playback.ledger import Ledger
from tests.unit.playback.test_ledger import long_log
ledger = Ledger(Path(sys.argv[1]))
for index, command in enumerate(long_log(), start=1):
    if index > ledger.applied:
        ledger.apply(index, command)
        print(index, flush=True)
"""


def long_log():
    for number in range(40):
        yield sign_up(f"account-{number}", period=number)
        for period in range(number, number + 20):
            yield charge(f"account-{number}", period)


def test_a_ledger_that_is_killed_again_and_again_ends_with_the_rows_of_one_that_never_was(tmp_path):
    path = tmp_path / "ledger.sqlite"
    told = 0
    for lives in (3, 60, 150):
        command = [sys.executable, "-c", KILLED, str(path)]
        with started(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            for line, _ in zip(process.stdout, range(lives), strict=False):
                told = int(line)
        reopened = Ledger(path)
        assert reopened.applied >= told
        assert reopened.totals()["applied"] == reopened._db.execute("SELECT COUNT(*) FROM results").fetchone()[0]
        reopened.close()

    survivor, never = Ledger(path), Ledger(MEMORY)
    for index, command in enumerate(itertools.islice(long_log(), survivor.applied + 5), start=1):
        assert survivor.apply(index, command) == never.apply(index, command)
    assert rows(survivor) == rows(never)
    survivor.close()
    never.close()


def test_who_is_due_is_found_by_an_index(driven):
    plan = driven.ledger._db.execute(
        f"EXPLAIN QUERY PLAN SELECT id, plan, next_period FROM accounts WHERE {ledger_module._DUE} "
        "ORDER BY next_period, id LIMIT ?",
        (1, 1),
    ).fetchall()
    steps = " ".join(row[-1] for row in plan)
    assert "accounts_due (next_period<?)" in steps
    assert "TEMP B-TREE" not in steps


def test_a_cancelled_account_pays_what_it_owes_and_no_more(driven):
    driven(sign_up("a", period=3))
    driven(charge("a", 3))
    driven(cancel("a", period=5))

    assert [driven(charge("a", period))["index"] for period in (4, 5)] == [4, 5]
    assert driven(charge("a", 6))["refused"] == "cancelled"
    assert driven(change_plan())["refused"] == "cancelled"
    assert driven.ledger.due(99, 9) == []
    assert driven.ledger.subscriber("a") is None
    assert driven(cancel("a", own_id="again"))["cancelled_at_s"] == 4.0


@pytest.mark.parametrize("more", [{}, {"period": 7}])
def test_an_account_that_was_cancelled_before_its_first_charge_owes_nothing(driven, more):
    driven(sign_up())

    driven(cancel(**more))

    assert driven.ledger.due(99, 9) == []
    assert driven(charge())["refused"] == "cancelled"


ACCOUNTS = st.sampled_from(["a", "b", "c"])
PERIODS = st.integers(0, 4)
IDS = st.sampled_from([f"id-{number}" for number in range(12)])
MAYBE_PERIOD = st.one_of(st.just({}), st.builds(lambda period: {"period": period}, PERIODS))

COMMANDS = st.one_of(
    st.builds(
        lambda account, own_id, email, more: sign_up(account, own_id=own_id, email=email, **more),
        ACCOUNTS,
        st.one_of(st.none(), IDS),
        st.sampled_from([None, "shared@example.com"]),
        MAYBE_PERIOD,
    ),
    st.builds(
        lambda account, period, own_id, cents: charge(account, period, own_id=own_id, amount_cents=cents),
        ACCOUNTS,
        PERIODS,
        st.one_of(st.none(), IDS),
        st.integers(1, 5),
    ),
    st.builds(
        lambda account, plan, own_id: change_plan(account, plan, own_id=own_id),
        ACCOUNTS,
        st.sampled_from([*Plan, "gold"]),
        IDS,
    ),
    st.builds(lambda account, own_id, more: cancel(account, own_id=own_id, **more), ACCOUNTS, IDS, MAYBE_PERIOD),
    st.builds(lambda own_id, kind: {"kind": kind, "id": own_id}, IDS, st.sampled_from(["charge", "nothing"])),
    st.sampled_from([{}, {"id": 7}]),
)

LOGS = st.lists(st.one_of(COMMANDS, st.tuples(st.just("repeat"), st.integers(0, 30))), max_size=40)
"""Commands, and repetitions of an entry with the index that it had."""


@settings(max_examples=120)
@given(LOGS)
def test_whatever_is_repeated_in_whatever_order_each_period_is_charged_once(log):
    driven = Driven()
    first_results = {}
    first_invoices = {}
    for step in log:
        if isinstance(step, tuple):
            if driven.log:
                index, command = driven.log[step[1] % len(driven.log)]
                before = rows(driven.ledger)
                result = driven.ledger.apply(index, command)
                assert rows(driven.ledger) == before
                own_id = command.get("id")
                assert result == first_results.get(own_id if isinstance(own_id, str) else index)
            continue
        result = driven(step)
        own_id = step.get("id")
        assert result == first_results.setdefault(own_id if isinstance(own_id, str) else result["index"], result)
        if "period" in result:
            invoice = {key: value for key, value in result.items() if key != "index"}
            assert invoice == first_invoices.setdefault((result["account"], result["period"]), invoice)

    rows_of_invoices = driven.ledger._db.execute("SELECT account, period, amount_cents FROM invoices").fetchall()
    assert sorted(rows_of_invoices) == sorted(
        (account, period, invoice["amount_cents"]) for (account, period), invoice in first_invoices.items()
    )

    replayed = Ledger(MEMORY)
    assert [replayed.apply(index, command) for index, command in driven.log] == [
        driven.ledger.apply(index, command) for index, command in driven.log
    ]
    assert rows(replayed) == rows(driven.ledger)

    # Whoever charges what is due until nothing is left leaves no gap, up to the last period asked for or paid.
    for _ in range(100):
        due = driven.ledger.due(4, 2)
        if not due:
            break
        for one in due:
            assert "refused" not in driven(charge(one.account, one.period, own_id=f"due/{one.account}/{one.period}"))
    assert driven.ledger.due(4, 1) == []
    assert driven.ledger.backlog(4) == 0
    active = [account for account in "abc" if driven.ledger.subscriber(account)]
    for account in active:
        paid = driven.periods(account)
        assert paid == list(range(paid[0], 5))
    replayed.close()
    driven.ledger.close()
