"""The store of record."""

from __future__ import annotations

import asyncio

from targets.playback import passwords, signup_api
from targets.playback.passwords import HashSettings
from targets.playback.seed_data import SeedData
from targets.playback.service import Context
from targets.playback.store import Store
from targets.playback.validation import Subscriber, Title, titles_from_json
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, config
from tests.unit.playback.store_replicas import StoreReplicas

DATA = SeedData.generate(1, subscribers=60, titles=30, countries=3)


def test_the_store_gives_back_what_it_was_filled_with(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    store.fill(DATA)

    assert store.subscriber(DATA.subscribers[9].id) == DATA.subscribers[9]
    assert store.title(DATA.titles[9].id) == DATA.titles[9]
    assert store.titles() == list(DATA.catalogue)
    assert store.subscriber("nobody") is None
    assert store.title("nothing") is None
    store.close()


def test_a_restarted_store_keeps_its_data(tmp_path):
    for _ in range(2):
        store = Store(tmp_path / "store.sqlite")
        store.fill(DATA)
        assert store.version() == 1
        assert len(store.titles()) == 30 + 4
        store.close()


async def test_subscribers_and_titles_are_found_by_id():
    async with LittleTarget() as target:
        store = await target.start("store")
        subscriber, title = target.data.subscribers[3], target.data.titles[4]

        status, found = await target.get(store, f"/subscribers/{subscriber.id}")
        assert (status, Subscriber.from_json(found)) == (200, subscriber)
        status, found = await target.get(store, f"/titles/{title.id}")
        assert (status, Title.from_json(found)) == (200, title)
        assert (await target.get(store, "/subscribers/nobody"))[0] == 404
        assert (await target.get(store, "/titles/title-9999"))[0] == 404


async def test_the_copy_of_the_licences_is_sent_once_for_each_version():
    async with LittleTarget() as target:
        store = await target.start("store")
        async with target.http.get(f"http://{store}/licences") as response:
            tag = response.headers["ETag"]
            titles = titles_from_json((await response.json())["titles"])

        assert titles == {title.id: title for title in target.data.catalogue}
        assert (await target.get(store, "/licences", **{"If-None-Match": tag}))[0] == 304


async def test_a_store_alone_leads_itself_and_refuses_commands_of_kinds_that_it_does_not_know():
    async with LittleTarget() as target:
        store = await target.start("store")

        assert (await target.get(store, "/leader"))[1]["leader"] == "store-1"
        status, answer = await target.post(store, "/commands", {"id": "a", "kind": "no such kind"})
        assert (status, answer["index"]) == (200, 2)
        assert "refused" in answer
        assert (await target.get(store, "/leader"))[1]["applied"] == 2


async def test_a_store_that_calls_nobody_but_itself_is_alone_too():
    async with LittleTarget() as target:
        store = await target.start("store", calls={"store": [dead_address()]})

        assert (await target.get(store, "/leader"))[1]["role"] == "leader"


async def test_an_account_is_known_to_every_replica_and_outlives_the_leader():
    async with StoreReplicas(tallied=False) as stores:
        await stores.start()
        leader, (follower, *_) = await stores.leader(), await stores.followers()
        ann = {"account": "ann", "email": "ann@example.com", "password_hash": "x", "plan": "basic", "at_s": 1.0}
        signed_up = await stores.write(follower, "1", kind="sign_up", country="country-01", **ann)
        await stores.write(follower, "2", kind="change_plan", account="ann", plan="premium", at_s=2.0)
        newest = await stores.write(follower, "3", kind="charge", account="ann", period=7, amount_cents=5, at_s=3.0)
        wanted = {"X_Applied_At_Least": str(newest["index"])}

        for name in stores.names:
            status, subscriber = await stores.get(name, "/subscribers/ann", **wanted)
            assert (status, subscriber) == (200, {"id": "ann", "plan": "premium", "country": "country-01"})
        await stores.stop(leader)
        for name in await stores.followers():
            status, totals = await stores.get(name, "/billing/totals", **wanted)
            assert (status, totals["accounts"], totals["charged_cents"]) == (200, 1, 5)
            again = await stores.write(name, "1", kind="sign_up", country="country-01", **ann)
            assert again == signed_up, "repeated, it is the answer of the first time"


async def test_signing_up_through_a_change_of_leader_makes_each_account_once(monkeypatch):
    monkeypatch.setattr(signup_api, "HashSettings", lambda: HashSettings(memory_kib=64, passes=1))
    monkeypatch.setattr(passwords, "INTERVAL_S", 0.002)
    async with StoreReplicas(tallied=False) as stores, LittleTarget() as target:
        await stores.start()
        told = config("signup_api", calls={"store": stores.addresses}, settings={"billing_period_s": 1_000_000})
        api = await target.serve(signup_api.build(Context(told)))

        async def sign_up(number: int) -> str:
            form = {"email": f"{number}@example.com", "password": "correct horse", "country": "country-01"}
            for _ in range(200):
                status, answer = await target.post(
                    api, "/signup", {**form, "plan": "basic"}, Idempotency_Key=f"key-{number}"
                )
                if status == 201:
                    return answer["account"]
                assert status == 503
                await asyncio.sleep(0.05)
            raise AssertionError("nobody could sign up for ten seconds")

        leader = await stores.leader()
        signing_up = [asyncio.create_task(sign_up(number)) for number in range(10)]
        await asyncio.sleep(0.02)
        await stores.stop(leader)
        accounts = await asyncio.gather(*signing_up)
        accounts.append(await sign_up(3))

        assert len(set(accounts)) == 10
        await stores.settled()
        for name in await stores.followers():
            assert (await stores.get(name, "/billing/totals"))[1]["accounts"] == 10
