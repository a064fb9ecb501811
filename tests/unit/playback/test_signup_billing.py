"""Billing beside the Signup API: each account is charged once for each period, and people who wait come first."""

from __future__ import annotations

import asyncio

import pytest

from chaos.resilience.shedding import Priority
from targets.playback.billing import PRICES_CENTS
from targets.playback.validation import Plan
from tests.unit.playback.little_store import Trouble
from tests.unit.playback.little_target import until
from tests.unit.playback.signup_backend import Backend

pytestmark = pytest.mark.usefixtures("cheap_hashes")


async def test_billing_charges_a_new_account_once_for_its_first_period():
    async with Backend() as target:
        await target.build(instances=3)
        account = (await target.sign_up())[1]["account"]
        ledger = target.store.ledger

        async def is_charged():
            return bool(ledger.invoices(account))

        await until(is_charged)

        async def are_settled():
            shown = [(await target.get(api, "/billing"))[1] for api in target.apis]
            return all(one["backlog"] == 0 for one in shown) and sum(one["charged"] for one in shown) == 1

        await until(are_settled)
        status, answer = await target.as_account(account, "GET", "/account/invoices")
        (invoice,) = answer["invoices"]
        assert status == 200
        assert (invoice["account"], invoice["amount_cents"]) == (account, PRICES_CENTS[Plan.STANDARD])
        assert invoice["charged_by"].startswith("signup_api-")


async def test_through_every_trouble_each_account_is_charged_once_for_each_period():
    async with Backend() as target:
        await target.build(instances=2, billing_period_s=0.5)
        ledger = target.store.ledger
        accounts = [(await target.sign_up(email=f"{number}@example.com"))[1]["account"] for number in range(6)]
        for trouble in (Trouble.LOSES_ANSWERS, Trouble.FAILS, Trouble.BUSY):
            target.store.has(trouble)
            await asyncio.sleep(0.35)
            target.store.has(Trouble.NONE)
            await asyncio.sleep(0.2)
        await target.stop(target.apis[1])  # in the middle of whatever it does

        async def are_settled():
            shown = (await target.get(target.api, "/billing"))[1]
            return ledger.backlog(shown["period"]) == 0

        await until(are_settled)
        for account in accounts:
            periods = [invoice.period for invoice in ledger.invoices(account)]
            assert len(periods) >= 3
            assert periods == list(range(periods[0], periods[0] + len(periods)))
        totals = ledger.totals()
        assert totals["missing"] == 0
        assert totals["charged_cents"] == totals["invoices"] * PRICES_CENTS[Plan.STANDARD]


async def test_the_store_serves_billing_after_people_who_wait():
    async with Backend() as target:
        await target.build()
        await target.sign_up()

        async def both_came():
            return len(target.store.priorities) == 2

        await until(both_came)
        assert target.store.priorities == {"sign_up": Priority.NORMAL, "charge": Priority.LOW}


async def test_billing_is_bounded_in_rate():
    async with Backend() as target:
        await target.build(billing_rate_per_s=5)
        for number in range(10):
            await target.sign_up(email=f"{number}@example.com")
        before = target.store.ledger.totals()["invoices"]

        await asyncio.sleep(1.0)

        assert target.store.ledger.totals()["invoices"] - before <= 5 * 1.0 + 2
