"""The cache's client against a real Valkey server: how long what is written lives."""

from __future__ import annotations

import random

import pytest
from redis.asyncio import Redis

from chaos.topology.model import CalledInstance
from targets.playback.cache_client import TTL_JITTER, Zone
from tests.unit.playback.little_target import running_valkey


async def test_entries_written_together_expire_one_after_the_other_and_none_lives_too_long():
    with running_valkey() as address:
        zone = Zone(CalledInstance(instance="cache-1", address=address, labels={}), ttl_s=100.0, rng=random.Random(1))
        host, _, port = address.rpartition(":")
        looking = Redis(host=host, port=int(port))
        try:
            keys = [f"title/{number}" for number in range(200)]
            await zone.write([(key, b"x") for key in keys])
            left_s = [await looking.pttl(key) / 1000 for key in keys]
            assert max(left_s) <= 100.0
            assert min(left_s) > 100.0 * (1 - TTL_JITTER) - 5
            assert max(left_s) - min(left_s) == pytest.approx(100.0 * TTL_JITTER, rel=0.1)
            assert await zone.read([*keys[:2], "nothing"]) == {keys[0]: b"x", keys[1]: b"x"}
        finally:
            await zone.close()
            await looking.aclose()
