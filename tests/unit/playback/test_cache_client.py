"""The cache's client against a real Valkey server: how long what is written lives."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from redis.asyncio import Redis

from chaos.topology.model import CalledInstance
from targets.playback.cache_client import TTL_JITTER, Cache, Entry, Zone
from targets.playback.service import Context
from tests.unit.playback.little_target import config, running_valkey, until
from tests.unit.playback.pipeline_fixtures import client


async def test_entries_written_together_expire_one_after_the_other_and_none_lives_too_long():
    with running_valkey() as address:
        zone = Zone(CalledInstance(instance="cache-1", address=address, labels={}), ttl_s=100.0, rng=random.Random(1))
        host, _, port = address.rpartition(":")
        looking = Redis(host=host, port=int(port))
        try:
            keys = [f"title/{number}" for number in range(200)]
            await zone.write([Entry(key, b"x") for key in keys])
            left_s = [await looking.pttl(key) / 1000 for key in keys]
            assert max(left_s) <= 100.0
            assert min(left_s) > 100.0 * (1 - TTL_JITTER) - 5
            assert max(left_s) - min(left_s) == pytest.approx(100.0 * TTL_JITTER, rel=0.1)
            assert await zone.read([*keys[:2], "nothing"]) == [Entry(keys[0], b"x"), Entry(keys[1], b"x")]
        finally:
            await zone.close()
            await looking.aclose()


@contextlib.asynccontextmanager
async def cache_of(*addresses, ttl_s):
    """The cache as somebody sees it to whom the first zone is near."""
    settings = {"cache_ttl_s": ttl_s}
    context = Context(
        config("discovery_api", labels={"zone": "a"}, calls={"cache": addresses}, zones=("a", "b"), settings=settings)
    )
    cache = Cache(context)
    yield cache
    await context.close()
    await cache.close()


async def test_a_copy_ends_with_what_it_was_copied_from(valkeys):
    _, near, far = valkeys
    with client(near) as a, client(far) as b:
        b.set("title/1", "x", px=5_000)
        b.set("title/2", "x", px=900_000)
        b.set("title/3", "x")
        async with cache_of(near, far, ttl_s=60.0) as cache:
            found = await cache.read_together(["title/1", "title/2", "title/3", "nothing"])
            assert [one.value for one in found] == [b"x", b"x", b"x", None]

            async def copied():
                return a.exists("title/1", "title/2", "title/3") == 3

            await until(copied)
        left_ms = [a.pttl(f"title/{number}") for number in (1, 2, 3)]
    assert 4_000 < left_ms[0] <= 5_000
    assert 59_000 < left_ms[1] <= 60_000, "it is no older than that for those who read it here"
    assert 59_000 < left_ms[2] <= 60_000


async def test_a_copy_that_comes_late_replaces_nothing_and_one_that_is_over_is_not_made(valkeys):
    _, near, _ = valkeys
    now_s = asyncio.get_running_loop().time()
    zone = Zone(CalledInstance(instance="cache-1", address=near, labels={}), ttl_s=60.0, rng=random.Random(1))
    with client(near) as a:
        a.set("title/1", "newer")
        await zone.write([Entry("title/1", b"old", now_s + 9.0), Entry("title/2", b"old", now_s - 0.1)])
        await zone.close()
        assert (a.get("title/1"), a.get("title/2")) == ("newer", None)
