"""The memory cache as its callers see it: two zones, each a Valkey server, read near zone first and written behind.

    read:  near zone -> what is missing there: far zone -> what is missing there too: the caller asks the store
    write: into a bounded buffer, from which each zone is filled; never waited for, dropped when the buffer is full

Every call is a Command of its own zone. A zone that fails answers, by its fallback, that it has nothing. What only the
far zone had is copied to the near one, where it ends with what it was copied from: else an answer could go to and fro
between the zones and grow older than its time to live. A copy that comes late never replaces what is newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.exceptions import RedisError

from chaos.resilience import BreakerSettings, Collapser, CommandSettings
from chaos.topology.model import CalledInstance
from targets.playback import valkey_client
from targets.playback.service import Context
from targets.playback.transport import FAILURES, CallFailed

TTL_S = 60.0
TTL_JITTER = 0.1
"""Each entry lives shorter than that by up to this share, at random: what was written together does not expire
together, and the store is not asked for all of it in one moment. Never longer: it is also how old an answer may be."""
WRITE_EVERY_S = 0.2
_WRITES_WAITING_MAX = 1_000
_WRITES_AT_ONCE = 100
_READS_AT_ONCE = 2
"""A home page reads two rows: with both asked for there is nothing more to wait for."""

_NO_END = -1
"""What the server says is left of a value that lives until it is evicted."""

_CONNECTIONS_MAX = 64
_SOCKET_TIMEOUT_S = 0.5

_READ_SETTINGS = CommandSettings(
    timeout_s=0.08, max_concurrent=64, fallback_max_concurrent=256, breaker=BreakerSettings(open_s=2.0)
)
_WRITE_SETTINGS = CommandSettings(timeout_s=0.3, max_concurrent=2, breaker=BreakerSettings(open_s=2.0))


def connect_zone(called: CalledInstance) -> Any:
    """Return a client of one zone's server."""
    return valkey_client.connect(called.address, socket_timeout_s=_SOCKET_TIMEOUT_S, connections_max=_CONNECTIONS_MAX)


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies under a key of a zone, or is to be written there.

    ``ends_s`` is for what is copied from another zone: the moment at which it ends, on the event loop's clock, as what
    it was copied from does. None: it is new.
    """

    key: str
    value: bytes
    ends_s: float | None = None


class Zone:
    """One Valkey server. Raises CallFailed whatever the client library calls its trouble."""

    def __init__(self, called: CalledInstance, *, ttl_s: float, rng: random.Random) -> None:
        self.name = called.labels.get("zone", called.instance)
        self._ttl_ms = ttl_s * 1000
        self._rng = rng
        self._redis = connect_zone(called)

    async def read(self, keys: Sequence[str]) -> Sequence[Entry] | None:
        """Return those of ``keys`` that are there, without saying when they end: what is read most costs least."""
        try:
            values = cast("list[bytes | None]", await self._redis.mget(list(keys)))
        except RedisError as error:
            raise CallFailed(f"cache zone {self.name}: {error}") from error
        return [Entry(key, value) for key, value in zip(keys, values, strict=True) if value is not None]

    async def read_to_copy(self, keys: Sequence[str]) -> Sequence[Entry] | None:
        """Return those of ``keys`` that are there, as they may be copied to another zone."""
        asked_s = asyncio.get_running_loop().time()
        try:
            # In one step: else a value could be given the time that is left to the one which has just replaced it.
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.mget(list(keys))
                for key in keys:
                    pipeline.pttl(key)
                values, *left_ms = cast("list[Any]", await pipeline.execute())
        except RedisError as error:
            raise CallFailed(f"cache zone {self.name}: {error}") from error
        return [
            Entry(key, value, asked_s + (self._ttl_ms if left == _NO_END else min(left, self._ttl_ms)) / 1000)
            for key, value, left in zip(keys, values, left_ms, strict=True)
            if value is not None
        ]

    async def write(self, entries: Sequence[Entry]) -> None:
        """Write ``entries``: new ones for the time to live, less a share of ``TTL_JITTER``, copies where nothing is."""
        now_s = asyncio.get_running_loop().time()
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for entry in entries:
                    if entry.ends_s is None:
                        shortened = 1.0 - TTL_JITTER * self._rng.random()
                        pipeline.set(entry.key, entry.value, px=max(1, int(self._ttl_ms * shortened)))
                    elif (left_ms := int((entry.ends_s - now_s) * 1000)) > 0:
                        pipeline.set(entry.key, entry.value, px=left_ms, nx=True)
                await pipeline.execute()
        except RedisError as error:
            raise CallFailed(f"cache zone {self.name}: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """What the cache has for a key, None for nothing, and the names of the commands that failed on the way."""

    value: bytes | None
    degraded: tuple[str, ...]


class Cache:
    """Both zones, the near one first: the one with this instance's own label ``zone``."""

    def __init__(self, context: Context) -> None:
        ttl_s = context.number("cache_ttl_s", TTL_S)
        zone = context.config.labels.get("zone")
        near_first = sorted(context.config.calls["cache"], key=lambda called: called.labels.get("zone") != zone)
        zones = [Zone(called, ttl_s=ttl_s, rng=context.rng) for called in near_first]
        self._zones = [
            _IsolatedZone(zone, zone.read_to_copy if farther else zone.read, context)
            for farther, zone in enumerate(zones)
        ]
        for one in self._zones:
            context.repeat(one.write_waiting, period_s=WRITE_EVERY_S)
        self.read: Collapser[str, Cached] = Collapser("cache.read", self.read_together, batch_max=_READS_AT_ONCE)
        """``await cache.read(key)``: reads of one request go to the zones together."""

    async def read_together(self, keys: Sequence[str]) -> list[Cached]:
        """Return what the zones hold of ``keys``. Raises CallFailed when a zone fails and isolation is off."""
        found: dict[str, bytes] = {}
        degraded: list[str] = []
        nearer: list[_IsolatedZone] = []
        for zone in self._zones:
            missing = [key for key in keys if key not in found]
            if not missing:
                break
            entries = await zone.read(missing)
            if entries is None:
                degraded.append(zone.read.name)
                continue
            for other in nearer:
                other.write_later(entries)
            nearer.append(zone)
            found.update((entry.key, entry.value) for entry in entries)
        return [Cached(value=found.get(key), degraded=tuple(degraded)) for key in keys]

    def write_later(self, key: str, value: bytes) -> None:
        """Have a value written to every zone soon."""
        for zone in self._zones:
            zone.write_later([Entry(key, value)])

    async def close(self) -> None:
        """Close the connections."""
        for zone in self._zones:
            await zone.close()


class _IsolatedZone:
    """A zone behind its Commands, with the writes that wait for it. A read that failed is None."""

    def __init__(
        self, zone: Zone, read: Callable[[Sequence[str]], Awaitable[Sequence[Entry] | None]], context: Context
    ) -> None:
        self.read = context.isolation.command(
            f"cache.{zone.name}.read", read, fallback=_nothing, settings=_READ_SETTINGS
        )
        self._zone = zone
        self._writing = context.isolation.guard(f"cache.{zone.name}.write", settings=_WRITE_SETTINGS)
        self._waiting: deque[Entry] = deque(maxlen=_WRITES_WAITING_MAX)
        self.close = zone.close

    def write_later(self, entries: Sequence[Entry]) -> None:
        """Keep ``entries`` for the next write; the oldest ones are dropped when too many wait."""
        self._waiting.extend(entries)

    async def write_waiting(self) -> bool:
        """Write some of what waits; what cannot be written is dropped, for it is only a copy."""
        entries = [self._waiting.popleft() for _ in range(min(_WRITES_AT_ONCE, len(self._waiting)))]
        if entries:
            with contextlib.suppress(*FAILURES):
                async with self._writing():
                    await self._zone.write(entries)
        return True


def _nothing(_: Exception, keys: Sequence[str]) -> Sequence[Entry] | None:  # noqa: ARG001 - a fallback takes what the call takes
    """Answer for a zone that failed: nothing, not even that the keys are missing."""
    return None
