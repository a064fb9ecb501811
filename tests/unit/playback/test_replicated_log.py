"""The replicated log over real sockets: who answers what, and that nothing acknowledged is lost when a leader stops."""

from __future__ import annotations

import asyncio
import random
import socket
import sqlite3

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.playback.log_routes import READ_WAIT_S, command_from_json
from targets.playback.raft_journal import Journal
from targets.playback.raft_messages import COMMAND_BYTES_MAX, Entry
from targets.playback.raft_step import Persist, Stored
from targets.playback.replicated_log import PROPOSE_S
from tests.unit.playback.store_replicas import StoreReplicas

SUBSCRIBER = "/subscribers/subscriber-00001"


def command(key: str) -> dict[str, object]:
    return {"id": key, "kind": "count"}


async def test_a_replica_alone_leads_and_keeps_what_it_acknowledged():
    async with StoreReplicas(1) as stores:
        await stores.start()
        assert await stores.leader() == "store-1"
        status, first, _ = await stores.post("store-1", command("a"))
        assert (status, first) == (200, {"number": 1, "first": 2, "index": 2})
        await stores.stop("store-1")
        await stores.start()
        await stores.leader()

        status, again, _ = await stores.post("store-1", command("a"))

        assert (status, again) == (200, {"number": 1, "first": 2, "index": 4})
        assert (await stores.get("store-1", "/leader"))[1] == {
            "leader": "store-1",
            "term": 2,
            "role": "leader",
            "applied": 4,
        }


async def test_every_replica_takes_commands_and_a_reader_can_wait_for_its_own_write():
    async with StoreReplicas() as stores:
        await stores.start()
        await stores.leader()
        for number, name in enumerate(stores.names * 2, start=1):
            result = await stores.write(name, f"{number}")
            assert result["number"] == number
            for reader in stores.names:
                wanted = str(result["index"])
                assert (await stores.get(reader, SUBSCRIBER, X_Applied_At_Least=wanted))[0] == 200
                assert (await stores.get(reader, "/leader"))[1]["applied"] >= result["index"]

        await stores.settled()
        assert len({tuple(tally.kept()) for tally in stores.tallies.values()}) == 1
        leader = await stores.leader()
        roles = {(await stores.get(name, "/leader"))[1]["role"] for name in stores.names if name != leader}
        assert roles == {"follower"}


async def test_a_replica_that_missed_commands_as_large_as_may_be_catches_up():
    async with StoreReplicas() as stores:
        await stores.start()
        behind = (await stores.followers())[0]
        await stores.stop(behind)
        leader = await stores.leader()
        for number in range(30):
            await stores.write(leader, f"{number}", text='"' * 4_000)
        await stores.start(behind)

        assert await stores.settled() > 30
        assert len(stores.tallies[behind].kept()) == 30


async def test_commands_that_come_together_share_a_flush_to_disk(monkeypatch):
    saves = []
    save = Journal.save
    monkeypatch.setattr(Journal, "save", lambda self, persist: (saves.append(persist), save(self, persist))[1])
    async with StoreReplicas(1) as stores:
        await stores.start()
        await stores.leader()
        answers = await asyncio.gather(*(stores.post("store-1", command(f"{number}")) for number in range(100)))

    assert {status for status, _, _ in answers} == {200}
    assert sum(len(persist.entries) for persist in saves) == 101
    assert len(saves) < 60


async def test_a_leader_that_stops_under_load_takes_nothing_acknowledged_with_it():
    async with StoreReplicas() as stores:
        await stores.start()
        rng = random.Random(7)
        acknowledged: dict[str, int] = {}
        over = False

        async def write(writer: int) -> None:
            number = 0
            while not over:
                number += 1
                key = f"{writer}/{number}"
                while True:
                    name = rng.choice(stores.names)
                    try:
                        async with asyncio.timeout(1.0):
                            status, result, headers = await stores.post(name, command(key))
                    except (aiohttp.ClientError, OSError, TimeoutError):
                        status = 0
                    if status == 200:
                        acknowledged[key] = result["first"]
                        break
                    assert status in {0, 503, 504}
                    assert status != 503 or headers["Retry-After"] == "1"
                    if over:
                        return
                    await asyncio.sleep(0.01)

        leader = await stores.leader()
        async with asyncio.TaskGroup() as tasks:
            for writer in range(6):
                tasks.create_task(write(writer))
            await asyncio.sleep(0.3)
            before = len(acknowledged)
            await stores.stop(leader)
            successor = await stores.leader()
            during = len(acknowledged)
            await asyncio.sleep(0.2)
            await stores.start(leader)
            await asyncio.sleep(0.2)
            over = True

        assert successor != leader
        assert 0 < before <= during < len(acknowledged)
        await stores.settled()
        kept = {name: tally.kept() for name, tally in stores.tallies.items()}
        assert kept["store-1"] == kept["store-2"] == kept["store-3"]
        assert acknowledged.items() <= {key: position for _, key, position in kept["store-1"]}.items()


async def test_without_a_majority_writes_are_refused_soon_and_reads_are_answered():
    async with StoreReplicas() as stores:
        await stores.start()
        leader = await stores.leader()
        for name in await stores.followers():
            await stores.stop(name)
        began_s = asyncio.get_running_loop().time()

        status, _, _ = await stores.post(leader, command("a"))
        assert status in {503, 504}, "it was the leader still, and has lost that before it could commit"
        assert asyncio.get_running_loop().time() - began_s < PROPOSE_S
        while (await stores.get(leader, "/leader"))[1]["role"] == "leader":
            await asyncio.sleep(0.01)
        status, answer, headers = await stores.post(leader, command("b"))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "no leader" in answer["error"]
        assert (await stores.get(leader, SUBSCRIBER))[0] == 200
        assert (await stores.get(leader, "/leader"))[1]["leader"] is None


async def test_a_peer_that_never_answers_holds_up_nobody_even_with_isolation_off():
    async with StoreReplicas(disabled=("isolation",)) as stores:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody accepts: whoever calls it waits
            stores.addresses[2] = f"127.0.0.1:{silent.getsockname()[1]}"
            await stores.start("store-1", "store-2")
            assert await stores.leader() in {"store-1", "store-2"}
            began_s = asyncio.get_running_loop().time()
            for number in range(10):
                await stores.write("store-1", f"{number}")

            assert asyncio.get_running_loop().time() - began_s < 3.0


async def test_a_read_that_wants_more_than_there_is_gets_503_and_one_that_wants_nonsense_400():
    async with StoreReplicas(1) as stores:
        await stores.start()
        await stores.leader()
        began_s = asyncio.get_running_loop().time()
        assert (await stores.get("store-1", SUBSCRIBER, X_Applied_At_Least="99"))[0] == 503
        assert READ_WAIT_S * 0.9 < asyncio.get_running_loop().time() - began_s < READ_WAIT_S + 1.0
        began_s = asyncio.get_running_loop().time()
        hurried = {"X_Applied_At_Least": "99", "X_Chaos_Deadline_Ms": "100"}
        assert (await stores.get("store-1", SUBSCRIBER, **hurried))[0] == 503, "while its caller still waits"
        assert asyncio.get_running_loop().time() - began_s < READ_WAIT_S
        for wrong in ("-1", "x", "1.5", "9" * 30, "²"):
            status, answer = await stores.get("store-1", SUBSCRIBER, X_Applied_At_Least=wrong)
            assert status == 400
            assert "whole number" in answer["error"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "Expecting value"),
        (b"[1]", "a command is"),
        (b'{"id": "a"}', "a command is"),
        (b'{"id": "", "kind": "count"}', "1 to 128 characters"),
        (b'{"id": 7, "kind": "count"}', "a command is"),
        (b'{"id": "a", "kind": "count", "n": NaN}', "NaN is no number"),
        (b'{"id": "a", "kind": "count", "n": "\\ud800"}', "surrogates not allowed"),
        (b'{"id": "a", "kind": "count", "n": ' + b"[" * 20 + b"]" * 20 + b"}", "at most 16 deep"),
        (b"[" * 50_000, "at most 16 deep"),
        (b'{"id": "a", "kind": "count", "n": "' + b"x" * COMMAND_BYTES_MAX + b'"}', "at most 8192 are allowed"),
    ],
)
async def test_what_is_no_command_is_refused_with_what_is_allowed(body, error):
    async with StoreReplicas(1) as stores:
        await stores.start()
        await stores.leader()
        status, answer, _ = await stores.post("store-1", body)
        assert status == 400
        assert error in answer["error"]


def test_a_command_as_deep_as_is_allowed_is_taken():
    body = b'{"id": "a", "kind": "count", "n": ' + b"[" * 15 + b"1" + b"]" * 15 + b"}"
    assert command_from_json(body)["id"] == "a"


async def test_only_members_are_listened_to_as_replicas():
    async with StoreReplicas() as stores:
        await stores.start()
        leader = await stores.leader()
        vote = {"kind": "vote", "term": 99, "granted": True, "pre": False}
        for wrong in (b"", [], {"from": "store-9", "message": vote}, {"from": leader, "message": {"kind": "x"}}):
            follower = (await stores.followers())[0]
            assert (await stores.post(follower, wrong, "/raft"))[0] == 400
        await stores.leader()
        for name in stores.names:
            assert (await stores.get(name, "/leader"))[1]["term"] < 99


async def test_a_mistake_in_the_state_machine_ends_the_replica_instead_of_leaving_it_wrong():
    async with StoreReplicas(1) as stores:
        await stores.start()
        await stores.leader()
        status, _, _ = await stores.post("store-1", {"id": "a", "kind": "break"})
        assert status == 504
        with pytest.raises(RuntimeError, match="with a mistake in it"):
            await stores.contexts["store-1"].failed
        assert (await stores.post("store-1", command("b")))[0] == 503


async def test_a_replica_whose_disk_fails_acknowledges_nothing_and_ends_and_the_others_go_on(monkeypatch):
    async with StoreReplicas() as stores:
        await stores.start()
        leader = await stores.leader()
        broken = stores.folder / leader / "raft.sqlite"
        save = Journal.save

        def fail(journal: Journal, persist: Persist) -> None:
            if journal.path == broken:
                raise sqlite3.OperationalError("database or disk is full")
            save(journal, persist)

        monkeypatch.setattr(Journal, "save", fail)
        assert (await stores.post(leader, command("a")))[0] == 504
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            await stores.contexts[leader].failed
        await stores.stop(leader)

        other = await stores.leader()
        assert (await stores.write(other, "b"))["number"] == 1


async def test_a_replica_says_it_is_ready_once_it_knows_a_leader():
    async with StoreReplicas() as stores:
        await stores.start("store-1")
        async with stores.http.get(f"http://{stores.address('store-1')}/healthz") as response:
            assert response.status == 503
        await stores.start("store-2")
        await stores.leader()
        async with stores.http.get(f"http://{stores.address('store-1')}/healthz") as response:
            assert response.status == 200


# The journal


def test_a_journal_belongs_to_one_process_at_a_time(tmp_path):
    journal = Journal(tmp_path / "raft.sqlite")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Journal(tmp_path / "raft.sqlite")
    journal.close()
    Journal(tmp_path / "raft.sqlite").close()


ENTRY = st.builds(Entry, term=st.integers(0, 9), command=st.text("ab{}", max_size=3))


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([None, "a", "b"]), st.floats(0, 1), st.lists(ENTRY, max_size=4))
    )
)
def test_a_journal_gives_back_what_a_list_would(tmp_path_factory, saves):
    path = tmp_path_factory.mktemp("journal") / "raft.sqlite"
    model: list[Entry] = []
    state: tuple[int, str | None] = (0, None)
    journal = Journal(path)
    for term, vote, place, entries in saves:
        first = 1 + int(place * len(model)) if entries else None
        if first is not None:
            model[first - 1 :] = entries
        state = (term, vote)
        journal.save(Persist(term=term, vote=vote, first=first, entries=tuple(entries)))
    journal.close()

    journal = Journal(path)
    assert journal.load(applied=0) == Stored(term=state[0], vote=state[1], entries=model, applied=0)
    journal.close()
