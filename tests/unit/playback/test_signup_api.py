"""The Signup API with a store that works, fails, loses answers and comes back: nothing is done twice."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from targets.playback import passwords, signup_api, tokens
from targets.playback.activity import Kind
from targets.playback.passwords import HashSettings
from targets.playback.service import Context
from targets.playback.validation import Plan, Subscriber
from tests.unit.playback.little_store import LittleStore, Trouble
from tests.unit.playback.little_target import config, until
from tests.unit.playback.pipeline_fixtures import client, received
from tests.unit.playback.signup_backend import FORM, KEY, Backend

pytestmark = pytest.mark.usefixtures("cheap_hashes")


async def test_who_signs_up_gets_an_account_and_a_token_that_needs_nobody_to_be_verified():
    async with Backend() as target:
        await target.build()

        status, answer = await target.sign_up(email=" Ann@Example.com ")

        assert status == 201
        assert (answer["email"], answer["plan"], answer["cancelled"]) == ("ann@example.com", "standard", False)
        assert answer["expires_in_s"] == 900.0
        await target.stop(target.store_address)
        assert tokens.verify(answer["token"], KEY) == Subscriber(
            id=answer["account"], plan=Plan.STANDARD, country="country-01"
        )
        with pytest.raises(tokens.ExpiredToken):
            tokens.verify(answer["token"], KEY, now_s=asyncio.get_running_loop().time() + 901.0)


async def test_the_password_is_kept_as_a_hash_and_shown_to_nobody():
    async with Backend() as target:
        await target.build()

        _, answer = await target.sign_up()

        kept = target.store.ledger.account(answer["account"])
        assert kept.password_hash.startswith("$argon2id$")
        _, shown = await target.as_account(answer["account"], "GET", "/account")
        assert "hash" not in f"{answer}{shown}"
        assert shown.keys() == {"account", "email", "plan", "country", "cancelled"}


async def test_logging_in_takes_the_right_password_and_tells_nothing_about_accounts():
    async with Backend() as target:
        await target.build()
        _, signed_up = await target.sign_up()

        status, answer = await target.log_in(email="ANN@example.com")
        assert (status, answer["account"]) == (200, signed_up["account"])
        assert tokens.verify(answer["token"], KEY).id == signed_up["account"]

        wrong = await target.log_in(password="wrong horse")
        unknown = await target.log_in(email="bob@example.com")
        assert wrong == unknown == (401, {"error": "e-mail address or password are wrong"})


async def test_a_second_account_with_the_same_address_is_refused():
    async with Backend() as target:
        await target.build()
        await target.sign_up()

        assert (await target.sign_up(email="ANN@EXAMPLE.COM"))[0] == 409
        assert (await target.sign_up(key="k"))[0] == 409
        assert target.accounts == 1


async def test_a_repeated_sign_up_with_its_key_is_the_same_account_for_who_knows_the_password():
    async with Backend() as target:
        await target.build()

        first = await target.sign_up(key="key-1")
        again = await target.sign_up(key="key-1")
        stranger = await target.sign_up(key="key-1", password="another password")
        other = await target.sign_up(key="key-1", email="bob@example.com")

        assert first[0] == again[0] == other[0] == 201
        assert first[1]["account"] == again[1]["account"] != other[1]["account"]
        assert tokens.verify(again[1]["token"], KEY).id == first[1]["account"]
        assert stranger == (401, {"error": "e-mail address or password are wrong"})
        assert target.accounts == 2


async def test_of_sign_ups_with_one_address_at_the_same_moment_one_succeeds():
    async with Backend() as target:
        await target.build(instances=2)

        answers = await asyncio.gather(*(target.sign_up() for _ in range(6)))

        assert sorted(status for status, _ in answers) == [201, 409, 409, 409, 409, 409]
        assert target.accounts == 1


async def test_equal_sign_ups_with_one_key_at_the_same_moment_are_one():
    async with Backend() as target:
        await target.build()

        answers = await asyncio.gather(*(target.sign_up(key="key-1") for _ in range(6)))

        assert {status for status, _ in answers} == {201}
        assert len({answer["account"] for _, answer in answers}) == 1
        assert target.accounts == 1


async def test_a_replica_that_is_behind_is_not_believed_and_another_one_is_asked():
    async with Backend() as target:
        await target.build()
        behind = LittleStore()
        behind.commands = target.store.ledger
        addresses = [await target.serve(behind.app), target.store_address]
        target.api = await target.start_api(2, stores=addresses)
        await target.sign_up(key="key-1")

        for _ in range(20):
            assert (await target.log_in())[0] == 200
        assert behind.requests["GET /accounts/by-email"] >= 1

        await target.stop(target.store_address)
        status, answer = await target.log_in()
        assert (status, answer.keys()) == (503, {"error"})


async def test_with_isolation_off_people_still_sign_up_and_a_dead_store_is_still_a_polite_answer():
    async with Backend(disabled=["isolation"]) as target:
        await target.build()

        assert (await target.sign_up())[0] == 201
        await target.stop(target.store_address)
        assert (await target.log_in())[0] == 503


@pytest.mark.parametrize("trouble", [Trouble.LOSES_ANSWERS, Trouble.ANSWERS_LATE])
async def test_a_sign_up_whose_answer_was_lost_is_found_by_its_key(trouble):
    async with Backend() as target:
        await target.build()
        target.store.has(trouble)

        status, answer = await target.sign_up(key="key-1")
        assert (status, answer.keys()) == (503, {"error"})
        assert target.accounts == 1
        target.store.has(Trouble.NONE)

        status, answer = await target.sign_up(key="key-1")
        assert status == 201
        assert target.store.ledger.account_by_email("ann@example.com").id == answer["account"]
        assert target.accounts == 1


@pytest.mark.parametrize("lost", [True, False])
async def test_a_sign_up_is_told_of_once_whichever_of_its_answers_was_lost(events_server, lost):
    with client(events_server) as valkey:
        valkey.flushall()
    async with Backend() as target:
        await target.build(events=[events_server])
        if lost:
            target.store.has(Trouble.LOSES_ANSWERS)
            assert (await target.sign_up(key="key-1"))[0] == 503
            target.store.has(Trouble.NONE)

        (_, answer), (again, _) = [await target.sign_up(key="key-1") for _ in range(2)]
        assert again == 201

        async def told():
            return (await target.get(target.api, "/activity"))[1]["acknowledged"] == 2

        await until(told)
    found = received(events_server)
    assert [(one.kind, one.subscriber, one.plan) for one in found] == [
        (Kind.SIGNED_UP, answer["account"], Plan.STANDARD)
    ] * 2
    assert found[0].id == found[1].id, "so it counts once"


async def test_one_lost_answer_is_asked_for_again_without_anybody_noticing():
    async with Backend() as target:
        await target.build()
        target.store.has(Trouble.LOSES_ANSWERS, times=1, path="/commands")

        status, answer = await target.sign_up()

        assert status == 201
        assert target.store.requests["POST /commands"] >= 2
        assert target.store.ledger.account_by_email("ann@example.com").id == answer["account"]


@pytest.mark.parametrize("trouble", [Trouble.FAILS, Trouble.BUSY, Trouble.HANGS, None])
async def test_without_the_store_every_answer_is_polite_and_quick_and_afterwards_all_is_well(trouble):
    async with Backend() as target:
        await target.build()
        _, signed_up = await target.sign_up()
        account = signed_up["account"]
        loop = asyncio.get_running_loop()
        if trouble is None:
            await target.stop(target.store_address)
        else:
            target.store.has(trouble)
        began_s = loop.time()

        answers = await asyncio.gather(
            target.sign_up(email="bob@example.com"),
            target.log_in(),
            target.as_account(account, "GET", "/account"),
            target.as_account(account, "POST", "/account/plan", {"plan": "basic"}),
            target.as_account(account, "POST", "/account/cancel"),
            target.as_account(account, "GET", "/account/invoices"),
        )

        assert {status for status, _ in answers} == {503}
        assert all("same Idempotency-Key" in body["error"] for _, body in answers)
        assert loop.time() - began_s < 3.0
        async with target.http.post(f"http://{target.api}/login", json=FORM) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
        if trouble is not None:
            target.store.has(Trouble.NONE)

            async def is_well():
                return (await target.log_in())[0] == 200

            await until(is_well)
            assert target.store.ledger.account(account).cancelled_at_s is None


async def test_a_flood_of_log_ins_is_shed_and_the_rest_is_served(monkeypatch):
    monkeypatch.setattr(passwords, "INTERVAL_S", 0.01)
    async with Backend() as target:
        await target.build()
        await target.sign_up()

        async def attempt():
            async with target.http.post(f"http://{target.api}/login", json=FORM) as response:
                return response.status, response.headers.get("Retry-After"), await response.json()

        answers = await asyncio.gather(*(attempt() for _ in range(60)))

        shed = [(after, body) for status, after, body in answers if status == 503]
        assert {status for status, _, _ in answers} == {200, 503}
        assert sum(status == 200 for status, _, _ in answers) >= 1 + passwords.WAITING_MAX
        assert shed[0] == ("1", {"error": "too many people are signing up or logging in right now"})
        assert (await target.log_in())[0] == 200


async def test_an_outdated_hash_is_replaced_at_a_log_in(monkeypatch):
    async with Backend() as target:
        await target.build()
        _, answer = await target.sign_up()
        before = target.store.ledger.account(answer["account"]).password_hash
        monkeypatch.setattr(signup_api, "HashSettings", lambda: HashSettings(memory_kib=128, passes=1))
        target.api = await target.start_api(2)

        assert (await target.log_in())[0] == 200

        after = target.store.ledger.account(answer["account"]).password_hash
        assert "m=64," in before
        assert "m=128," in after
        assert (await target.log_in())[0] == 200
        assert target.store.ledger.account(answer["account"]).password_hash == after


async def test_a_plan_is_changed_and_the_new_token_says_so():
    async with Backend() as target:
        await target.build()
        account = (await target.sign_up())[1]["account"]

        status, answer = await target.as_account(account, "POST", "/account/plan", {"plan": "premium"})

        assert (status, answer["plan"]) == (200, "premium")
        assert tokens.verify(answer["token"], KEY).plan is Plan.PREMIUM
        assert (await target.as_account(account, "GET", "/account"))[1]["plan"] == "premium"


async def test_an_old_key_brings_no_token_for_a_plan_that_was_given_up():
    async with Backend() as target:
        await target.build()
        account = (await target.sign_up())[1]["account"]
        upgrade = ("POST", "/account/plan", {"plan": "premium"})
        await target.as_account(account, *upgrade, Idempotency_Key="key-1")
        await target.as_account(account, "POST", "/account/plan", {"plan": "basic"})

        status, answer = await target.as_account(account, *upgrade, Idempotency_Key="key-1")

        assert (status, answer["plan"]) == (200, "basic")
        assert tokens.verify(answer["token"], KEY).plan is Plan.BASIC


async def test_a_cancelled_account_can_neither_log_in_nor_change():
    async with Backend() as target:
        await target.build()
        account = (await target.sign_up())[1]["account"]

        for _ in range(2):
            status, answer = await target.as_account(account, "POST", "/account/cancel")
            assert (status, answer["cancelled"]) == (200, True)

        assert (await target.log_in())[0] == 403
        assert (await target.as_account(account, "POST", "/account/plan", {"plan": "basic"}))[0] == 403
        assert (await target.as_account(account, "GET", "/account"))[1]["cancelled"] is True
        assert (await target.sign_up())[0] == 409


async def test_the_subscribers_of_the_seed_have_no_account_here():
    async with Backend() as target:
        await target.build()
        for method, path in (
            ("GET", "/account"),
            ("GET", "/account/invoices"),
            ("POST", "/account/cancel"),
            ("POST", "/account/plan"),
        ):
            answer = await target.as_account("subscriber-00001", method, path, {"plan": "basic"})
            assert answer == (404, {"error": "there is no such account"})
        for path in ("/account", "/account/invoices"):
            assert (await target.get(target.api, path))[0] == 400


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"email": "nobody"}, "email must be an address such as name@example.com"),
        ({"email": "a@b"}, "email must be an address"),
        ({"email": "a b@example.com"}, "email must be an address"),
        ({"email": f"{'x' * 65}@example.com"}, "email must be an address"),
        ({"email": 7}, "email must be an address"),
        ({"password": "short"}, "password must be a text of 8 to 128 characters"),
        ({"password": "x" * 129}, "password must be a text of 8 to 128 characters"),
        ({"password": "\ud800-and-more"}, "password holds half of a surrogate pair"),
        ({"password": None}, "password must be a text"),
        ({"plan": "gold"}, "plan must be one of basic, standard, premium"),
        ({"plan": []}, "plan must be one of"),
        ({"country": "country-99"}, "country must be one of the 3 countries served, such as country-01"),
    ],
)
async def test_a_form_that_is_wrong_is_sent_back_with_the_reason(change, reason):
    async with Backend() as target:
        await target.build()

        status, answer = await target.sign_up(**change)

        assert status == 400
        assert reason in answer["error"]
        assert str(change.get("password")) not in answer["error"]
        assert target.accounts == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 50_000])
@pytest.mark.parametrize("path", ["/signup", "/login"])
async def test_a_body_that_is_no_json_object_is_sent_back(path, body):
    async with Backend() as target:
        await target.build()
        async with target.http.post(f"http://{target.api}{path}", data=body) as response:
            assert response.status == 400
            assert "the body must be" in (await response.json())["error"]


@pytest.mark.parametrize("key", ["", "x" * 129, "schlüssel"])
async def test_an_idempotency_key_that_is_none_is_sent_back(key):
    async with Backend() as target:
        await target.build()
        async with target.http.post(
            f"http://{target.api}/signup", json=FORM, headers={"Idempotency-Key": key}
        ) as response:
            assert response.status == 400
            assert "Idempotency-Key must be 1 to 128" in (await response.json())["error"]
        assert target.accounts == 0


async def test_a_restarted_instance_makes_no_account_under_an_old_name():
    async with Backend() as target:
        await target.build()
        first = await target.sign_up()
        await asyncio.sleep(0.002)
        await target.stop(target.api)
        target.api = await target.start_api()

        second = await target.sign_up(email="bob@example.com")

        assert (first[0], second[0]) == (201, 201)
        assert first[1]["account"] != second[1]["account"]


async def test_keys_are_rotated_while_people_are_logged_in():
    async with Backend() as target:
        await target.build(signing_keys="k1=secret1")
        old = (await target.sign_up())[1]["token"]
        target.api = await target.start_api(2, signing_keys="k2=secret2,k1=secret1")
        new = (await target.log_in())[1]["token"]
        both = tokens.Keyring.parse("k2=secret2,k1=secret1")

        assert [tokens.claims(token, both).key_id for token in (old, new)] == ["k1", "k2"]
        assert tokens.verify(old, both) == tokens.verify(new, both)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("billing_period_s", 0), ("billing_rate_per_s", -1), ("token_lifetime_s", 0), ("signing_keys", "nonsense")],
)
async def test_a_setting_that_cannot_be_stops_the_start(setting, value):
    async with Backend() as target:
        await target.build()
        context = Context(config("signup_api", calls={"store": [target.store_address]}, settings={setting: value}))
        with pytest.raises(ValueError, match=setting):
            signup_api.build(context)
        await context.close()


async def test_the_store_answers_for_accounts_and_says_what_a_question_must_be():
    async with Backend() as target:
        await target.build()
        email = "o'ann+1/2@example.com"
        account = (await target.sign_up(email=email))[1]["account"]
        store = target.store_address

        status, found = await target.get(store, f"/accounts/by-email?email={quote(email, safe='')}")
        assert (status, found["account"]) == (200, account)
        assert found["password_hash"].startswith("$argon2id$")
        assert "password_hash" not in (await target.get(store, f"/accounts/{account}"))[1]
        assert (await target.get(store, "/accounts/nobody"))[0] == 404
        assert (await target.get(store, "/accounts/by-email?email=nobody"))[0] == 404
        assert (await target.get(store, "/accounts/by-email"))[0] == 400
        for query in ("", "?period=1", "?period=-1&limit=1", "?period=1&limit=501", "?period=x&limit=1"):
            status, answer = await target.get(store, f"/billing/due{query}")
            assert status == 400
            assert "must be a whole number from" in answer["error"]
        assert (await target.get(store, "/billing/totals"))[1]["accounts"] == 1
