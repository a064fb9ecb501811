"""The leases of streams, in the memory cache: Playback Apps claim one for each play, and give it back.

    claim ----> home zone (by a hash of the account) --fails--> the other zone --fails--> granted, and not counted
    news -----> every zone: ended streams are forgotten, renewed ones live longer

A lease ends by itself after ``stream_lease_s`` unless it is renewed, so that whoever goes away without a word blocks
nobody for long. A claim is one step on the server; time is the caller's, whose clock all processes of the machine
share. A limit is not worth a play: while the home zone is away an account may have its streams once more in the other
zone, and without both zones nobody is counted. Leases that the cache evicts are not counted any more either.

Settings: ``stream_lease_s``, and ``unlimited_accounts``, names with commas between them. With the protection
``stream_limits`` off nothing is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

from redis.exceptions import RedisError

from chaos.resilience import BreakerSettings, CommandSettings
from chaos.topology.model import CalledInstance
from targets.playback.cache_client import connect_zone
from targets.playback.service import Context
from targets.playback.streams import COMMANDS, STREAMS_MAX, Fate, Stream
from targets.playback.transport import FAILURES, CallFailed
from targets.playback.validation import Subscriber

LEASE_S = 20.0
RELEASE_EVERY_S = 0.2
_RELEASING_MAX = 1_000

_CLAIM_SETTINGS = CommandSettings(
    timeout_s=0.08, max_concurrent=64, fallback_max_concurrent=256, breaker=BreakerSettings(open_s=2.0)
)
_NEWS_SETTINGS = CommandSettings(timeout_s=0.3, max_concurrent=4, breaker=BreakerSettings(open_s=2.0))

_CLAIM = """#!lua
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
if not redis.call('ZSCORE', KEYS[1], ARGV[3]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
"""Take a lease, or keep the one there is: KEYS leases of the account; ARGV now, end, stream, most, milliseconds."""

_TELL = """#!lua
for i, key in ipairs(KEYS) do
  local fate, name, moment = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  if fate == 'ended' then
    local ends = tonumber(redis.call('ZSCORE', key, name) or '-inf')
    if moment == '' or ends == tonumber(moment) then redis.call('ZREM', key, name) end
  elseif tonumber(redis.call('ZSCORE', key, name) or '-inf') > tonumber(ARGV[1]) then
    redis.call('ZADD', key, 'XX', 'GT', moment, name)
    redis.call('PEXPIRE', key, ARGV[2])
  end
end
return 1
"""
"""Forget and renew leases: KEYS leases of each account; ARGV now, milliseconds, then fate, stream and moment of each.

The moment is the end of a renewed lease. Of one that has ended it is the end that it must still have to be forgotten,
or empty: whatever it has. A lease that has run out is not renewed: somebody else may have its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A wish for a lease: whose, how many there may be, and until when on the loop's clock, in whole milliseconds."""

    stream: Stream
    streams_max: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What came of a claim: whether the stream may begin, and the commands that failed on the way."""

    granted: bool
    degraded: tuple[str, ...] = ()


class LeaseZone:
    """The leases on one Valkey server. Raises CallFailed whatever the client library calls its trouble."""

    def __init__(self, called: CalledInstance, *, lease_s: float) -> None:
        self.name = called.labels.get("zone", called.instance)
        self._lease_ms = math.ceil(lease_s * 1000)
        self._redis = connect_zone(called)
        self._claim = self._redis.register_script(_CLAIM)
        self._tell = self._redis.register_script(_TELL)

    async def claim(self, claim: Claim, now_s: float) -> bool:
        """Take a lease, or keep the one this stream has; False when the account has as many as it may."""
        with self._failures():
            taken = await self._claim(
                keys=[_key(claim.stream)],
                args=[_ms(now_s), claim.until_ms, claim.stream.name, claim.streams_max, self._lease_ms],
            )
        return bool(taken == 1)

    async def tell(self, news: Mapping[Stream, Fate], now_s: float) -> None:
        """Forget the leases of streams that have ended, and renew the others."""
        until_ms = _ms(now_s) + self._lease_ms
        await self._change([(one, fate, "" if fate is Fate.ENDED else until_ms) for one, fate in news.items()], now_s)

    async def release(self, claims: list[Claim], now_s: float) -> None:
        """Give back leases that nobody has claimed again, or renewed, since."""
        await self._change([(claim.stream, Fate.ENDED, claim.until_ms) for claim in claims], now_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _change(self, changes: list[tuple[Stream, Fate, int | str]], now_s: float) -> None:
        parts = [part for stream, fate, moment in changes for part in (fate.value, stream.name, moment)]
        with self._failures():
            await self._tell(keys=[_key(stream) for stream, _, _ in changes], args=[_ms(now_s), self._lease_ms, *parts])

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise CallFailed(f"cache zone {self.name}: {error}") from error


class StreamLeases:
    """The leases of all accounts, over the zones. Raises ValueError for a lease of no time."""

    def __init__(self, context: Context) -> None:
        self._now_s = context.now
        self._lease_s = context.number("stream_lease_s", LEASE_S)
        if not 1.0 <= self._lease_s <= 86_400.0:
            raise ValueError(f"settings.stream_lease_s is {self._lease_s!r}; from 1 to 86400 seconds are possible.")
        unlimited = str(context.config.settings.get("unlimited_accounts", ""))
        self._unlimited = frozenset(name.strip() for name in unlimited.split(",") if name.strip())
        # In the same order everywhere: all instances must look for an account in the same zone.
        called = sorted(context.config.calls["cache"], key=lambda one: (one.labels.get("zone", ""), one.instance))
        counted = context.on("stream_limits")
        self._zones = [_IsolatedZone(LeaseZone(one, lease_s=self._lease_s), context) for one in called if counted]
        self._releasing: list[Claim] = []
        if self._zones:
            context.repeat(self._release, period_s=RELEASE_EVERY_S)

    def claim_of(self, subscriber: Subscriber, name: str) -> Claim | None:
        """Return the claim of a subscriber's stream of this name; None when this account is not counted."""
        if not self._zones or subscriber.id in self._unlimited:
            return None
        return Claim(
            stream=Stream(subscriber.id, name),
            streams_max=STREAMS_MAX[subscriber.plan],
            until_ms=_ms(self._now_s() + self._lease_s),
        )

    async def take(self, claim: Claim) -> Claimed:
        """Claim a lease in the account's home zone, or else in another. With isolation off it raises CallFailed."""
        home = crc32(claim.stream.account.encode("utf-8", "surrogateescape")) % len(self._zones)
        degraded: list[str] = []
        for zone in (*self._zones[home:], *self._zones[:home]):
            granted = await zone.claim(claim, self._now_s())
            if granted is not None:
                return Claimed(granted=granted, degraded=tuple(degraded))
            degraded.append(zone.claim.name)
        return Claimed(granted=True, degraded=tuple(degraded))

    def release_later(self, claim: Claim) -> None:
        """Give a lease back soon, for a play that came to nothing; not when another try of it has claimed it since."""
        if len(self._releasing) < _RELEASING_MAX:
            self._releasing.append(claim)

    async def tell(self, news: Mapping[Stream, Fate]) -> None:
        """Tell every zone what became of streams; where that fails leases end by themselves."""
        now_s = self._now_s()
        await asyncio.gather(*(zone.tell(news, now_s) for zone in self._zones if news))

    async def close(self) -> None:
        """Close the connections."""
        for zone in self._zones:
            await zone.close()

    async def _release(self) -> bool:
        claims, self._releasing = self._releasing, []
        now_s = self._now_s()
        await asyncio.gather(*(zone.release(claims, now_s) for zone in self._zones if claims))
        return True


class _IsolatedZone:
    """A zone behind its Commands. A claim that failed is None; news that fail are dropped."""

    def __init__(self, zone: LeaseZone, context: Context) -> None:
        self._zone = zone
        self.claim = context.isolation.command(
            f"{COMMANDS}{zone.name}.claim", self._claim_in, fallback=_not_counted, settings=_CLAIM_SETTINGS
        )
        self._telling = context.isolation.guard(f"{COMMANDS}{zone.name}.tell", settings=_NEWS_SETTINGS)
        self.close = zone.close

    async def _claim_in(self, claim: Claim, now_s: float) -> bool | None:
        return await self._zone.claim(claim, now_s)

    async def tell(self, news: Mapping[Stream, Fate], now_s: float) -> None:
        with contextlib.suppress(*FAILURES):
            async with self._telling():
                await self._zone.tell(news, now_s)

    async def release(self, claims: list[Claim], now_s: float) -> None:
        with contextlib.suppress(*FAILURES):
            async with self._telling():
                await self._zone.release(claims, now_s)


def _key(stream: Stream) -> str:
    return f"streams/{stream.account}"


def _ms(moment_s: float) -> int:
    """Return a moment in whole milliseconds: the server's numbers and ours are then the same to the digit."""
    return round(moment_s * 1000)


def _not_counted(_: Exception, claim: Claim, now_s: float) -> bool | None:  # noqa: ARG001 - takes what the call takes
    """Answer for a zone that failed: nobody knows."""
    return None
