"""Passwords: what a hash holds, that nothing is told about accounts, and that a flood is turned away."""

from __future__ import annotations

import asyncio
import random

import pytest
from argon2 import extract_parameters

from chaos.resilience import BulkheadFull
from targets.playback import passwords
from targets.playback.passwords import Hasher, HashSettings, Passwords
from targets.playback.service import Context
from tests.unit.playback.little_target import config

CHEAP = HashSettings(memory_kib=64, passes=1)


def hasher(settings=CHEAP, *, seed=1):
    return Hasher(settings, rng=random.Random(seed))


def test_a_password_is_the_right_one_only_when_every_character_is():
    one = hasher()
    hashed = one.hash("correct horse")

    assert one.verify(hashed, "correct horse")
    assert not one.verify(hashed, "correct horse ")
    assert not one.verify(hashed, "")


def test_equal_passwords_have_different_hashes():
    one = hasher()
    assert one.hash("correct horse") != one.hash("correct horse")


def test_the_hash_names_its_parameters_and_never_needs_a_thread():
    claimed = extract_parameters(hasher(HashSettings()).hash("correct horse"))

    assert claimed.type.name == "ID"
    assert (claimed.memory_cost, claimed.time_cost, claimed.parallelism) == (7 * 1024, 5, 1)
    assert (claimed.salt_len, claimed.hash_len) == (16, 32)


def test_a_hash_with_other_parameters_is_outdated_and_still_checked():
    old = hasher()
    new = hasher(HashSettings(memory_kib=128, passes=2))
    hashed = old.hash("correct horse")

    assert not old.outdated(hashed)
    assert new.outdated(hashed)
    assert new.verify(hashed, "correct horse")
    assert not new.outdated(new.hash("correct horse"))


def test_without_an_account_as_much_is_checked_as_with_a_wrong_password(monkeypatch):
    one = hasher()
    hashed = one.hash("correct horse")
    checked = []
    library = one._library

    class Spy:
        def verify(self, password_hash, password):
            checked.append((extract_parameters(password_hash), len(password)))
            return library.verify(password_hash, password)

    monkeypatch.setattr(one, "_library", Spy())

    assert not one.verify(hashed, "wrong horse!")
    assert not one.verify(None, "wrong horse!")
    assert not one.verify(None, "nobody's")
    assert checked[0] == checked[1]


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "nonsense",
        "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
        "$argon2id$v=19$m=64,t=4000,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
        "$argon2id$v=19$m=64,t=1,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
    ],
)
def test_a_hash_that_is_none_or_costs_too_much_matches_nothing(hashed):
    assert not hasher().verify(hashed, "correct horse")


async def test_a_flood_is_turned_away_and_what_is_taken_on_is_done(monkeypatch):
    monkeypatch.setattr(passwords, "INTERVAL_S", 0.001)
    context = Context(config("signup_api"))
    some = Passwords(context, hasher())
    hashed = await some.hash("correct horse")

    outcomes = await asyncio.gather(*(some.verify(hashed, "correct horse") for _ in range(100)), return_exceptions=True)

    again = await some.verify(hashed, "correct horse")
    await context.close()

    # The first one is done before the others come when its turn has come already; else it has one of the places.
    assert outcomes.count(True) - passwords.WAITING_MAX in (1, 2)
    assert outcomes.count(True) + sum(isinstance(one, BulkheadFull) for one in outcomes) == 100
    assert again


async def test_between_two_hashes_the_loop_has_time_for_others(monkeypatch):
    monkeypatch.setattr(passwords, "INTERVAL_S", 0.02)
    context = Context(config("signup_api"))
    some = Passwords(context, hasher())
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    others = 0

    async def other_work():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0.001)

    task = loop.create_task(other_work())
    await asyncio.gather(*(some.verify(None, "wrong") for _ in range(4)))
    task.cancel()

    assert loop.time() - began_s >= 3 * 0.02 * 0.9
    assert others >= 10
    await context.close()
