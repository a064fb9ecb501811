"""The store of record."""

from __future__ import annotations

from targets.playback.seed_data import SeedData
from targets.playback.store import Store
from targets.playback.validation import Subscriber, Title, titles_from_json
from tests.unit.playback.little_target import LittleTarget, dead_address

DATA = SeedData.generate(1, subscribers=60, titles=30, countries=3)


def test_the_store_gives_back_what_it_was_filled_with(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    store.fill(DATA)

    assert store.subscriber(DATA.subscribers[9].id) == DATA.subscribers[9]
    assert store.title(DATA.titles[9].id) == DATA.titles[9]
    assert store.titles() == list(DATA.titles)
    assert store.subscriber("nobody") is None
    assert store.title("nothing") is None
    store.close()


def test_a_restarted_store_keeps_its_data(tmp_path):
    for _ in range(2):
        store = Store(tmp_path / "store.sqlite")
        store.fill(DATA)
        assert store.version() == 1
        assert len(store.titles()) == 30
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

        assert titles == {title.id: title for title in target.data.titles}
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
