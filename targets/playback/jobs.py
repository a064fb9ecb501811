"""The queue of transcoding jobs, on the events' server: a claimed job comes back by itself when nobody finishes it.

             add            claim                      finish
    (nothing) --> queued ---------> running, on a lease ------> done
                    ^                 |          |
                    |  fail: a pause  |          | nobody keeps the lease: whoever
                    '-----------------'          | claims next, gets it
                                      '----------'
    a job that was claimed ``attempts_max`` times and not finished is dead, with its last error, until it is added anew

There is one job for a title, so that asking twice is harmless. Each step is one script: it is done as a whole or not at
all, and by the server's clock. A claim has a token; who lost the lease can neither finish nor fail the job any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from targets.playback.events_server import connect, failures

DUE = "transcode/due"
"""The jobs to be done, each with the moment from which it may be claimed: the end of its pause, or of its lease."""

ALL = "transcode/all"
"""The titles that ever had a job: no more than there are titles."""

ERROR_LENGTH_MAX = 500

_JOB = "transcode/job/"

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

_ADD = f"""#!lua
{_NOW}
local key = '{_JOB}' .. ARGV[1]
local state = redis.call('HGET', key, 'state')
if state == 'queued' or state == 'running' then return 0 end
redis.call('DEL', key)
redis.call('HSET', key, 'state', 'queued', 'chunks', ARGV[2], 'attempts', 0)
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
return 1
"""
"""Add a job, unless the title has one that is not over: KEYS due, all; ARGV title, chunks."""

_CLAIM = f"""#!lua flags=allow-oom
{_NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 10)
for _, title in ipairs(due) do
  local key = '{_JOB}' .. title
  local attempts = redis.call('HINCRBY', key, 'attempts', 1)
  if attempts > tonumber(ARGV[3]) then
    redis.call('ZREM', KEYS[1], title)
    local error = redis.call('HGET', key, 'error') or 'no worker lived to finish it'
    redis.call('HSET', key, 'state', 'dead', 'attempts', attempts - 1, 'error', error)
  else
    redis.call('ZADD', KEYS[1], now + ARGV[2], title)
    redis.call('HSET', key, 'state', 'running', 'worker', ARGV[1], 'token', ARGV[1] .. '/' .. attempts)
    return {{title, redis.call('HGET', key, 'chunks'), attempts}}
  end
end
return false
"""
"""Claim a job, or bury those that were claimed too often: KEYS due; ARGV worker, lease in ms, attempts."""

_MINE = f"""
local key = '{_JOB}' .. ARGV[1]
if redis.call('HGET', key, 'state') ~= 'running' or redis.call('HGET', key, 'token') ~= ARGV[2] then return 0 end
"""

_KEEP = f"""#!lua flags=allow-oom
{_NOW}{_MINE}
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
return 1
"""
"""Keep a lease: KEYS due; ARGV title, token, lease in ms."""

_FINISH = f"""#!lua flags=allow-oom
{_MINE}
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HSET', key, 'state', 'done')
redis.call('HDEL', key, 'error')
return 1
"""
"""Finish a job: KEYS due; ARGV title, token."""

_FAIL = f"""#!lua flags=allow-oom
{_NOW}{_MINE}
redis.call('HSET', key, 'error', ARGV[3])
if tonumber(redis.call('HGET', key, 'attempts')) >= tonumber(ARGV[5]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HSET', key, 'state', 'dead')
else
  redis.call('ZADD', KEYS[1], now + ARGV[4], ARGV[1])
  redis.call('HSET', key, 'state', 'queued')
end
return 1
"""
"""Give a job back: KEYS due; ARGV title, token, error, pause in ms, attempts."""


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job on a lease: what to do, and the token to finish it with."""

    title: str
    chunks: int
    attempt: int
    """From 1."""
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownJob:
    """A job as it is shown."""

    title: str
    state: JobState
    chunks: int
    attempts: int
    worker: str
    """Who claimed it last; empty before."""
    error: str
    """Why it failed last; empty when it did not, or is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRules:
    """How long a worker has a job, how often one is tried, and the pauses between the tries, which double."""

    lease_s: float = 2.0
    attempts_max: int = 8
    pause_s: float = 0.25
    pause_max_s: float = 8.0

    def __post_init__(self) -> None:
        if not (self.lease_s > 0 and self.pause_s > 0 and self.attempts_max >= 1):
            raise ValueError(f"leases and pauses are longer than 0, and attempts at least 1: {self}")

    def pause_after_s(self, attempt: int) -> float:
        """Return how long a job waits after attempt number ``attempt`` (from 1) has failed."""
        return min(self.pause_max_s, self.pause_s * 2.0 ** min(attempt - 1, 30))


class Jobs:
    """The queue on the server at ``address``. Every method raises CallFailed when the server does."""

    def __init__(self, address: str, rules: JobRules) -> None:
        self.rules = rules
        self._redis = connect(address)
        self._add = self._redis.register_script(_ADD)
        self._claim = self._redis.register_script(_CLAIM)
        self._keep = self._redis.register_script(_KEEP)
        self._finish = self._redis.register_script(_FINISH)
        self._fail = self._redis.register_script(_FAIL)

    async def add(self, title: str, chunks: int) -> bool:
        """Add a job; it is on disk when this returns. False: the title has one that is queued or running."""
        with failures():
            return bool(await self._add(keys=[DUE, ALL], args=[title, chunks]))

    async def claim(self, worker: str) -> Claim | None:
        """Return a job that nobody else has, on a lease; None when there is none."""
        rules = self.rules
        with failures():
            found = await self._claim(keys=[DUE], args=[worker, _ms(rules.lease_s), rules.attempts_max])
        if not found:
            return None
        title, chunks, attempt = found
        return Claim(title=title.decode(), chunks=int(chunks), attempt=attempt, token=f"{worker}/{attempt}")

    async def keep(self, claim: Claim) -> bool:
        """Have the lease begin anew. False: it is lost, and somebody else may have the job."""
        with failures():
            return bool(await self._keep(keys=[DUE], args=[claim.title, claim.token, _ms(self.rules.lease_s)]))

    async def finish(self, claim: Claim) -> bool:
        """Note that the job is done. False: the lease is lost."""
        with failures():
            return bool(await self._finish(keys=[DUE], args=[claim.title, claim.token]))

    async def fail(self, claim: Claim, error: str) -> bool:
        """Give the job back, for another try after a pause, or never when this was the last. False: lease lost."""
        pause_ms = _ms(self.rules.pause_after_s(claim.attempt))
        args = [claim.title, claim.token, error[:ERROR_LENGTH_MAX], pause_ms, self.rules.attempts_max]
        with failures():
            return bool(await self._fail(keys=[DUE], args=args))

    async def show(self) -> list[ShownJob]:
        """Return all jobs, by title."""
        with failures():
            titles = sorted(title.decode() for title in await self._redis.smembers(ALL))
            async with self._redis.pipeline(transaction=True) as pipeline:
                for title in titles:
                    pipeline.hgetall(_JOB + title)
                found = await pipeline.execute()
        return [_shown(title, job) for title, job in zip(titles, found, strict=True) if job]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _shown(title: str, job: dict[bytes, bytes]) -> ShownJob:
    return ShownJob(
        title=title,
        state=JobState(job[b"state"].decode()),
        chunks=int(job[b"chunks"]),
        attempts=int(job[b"attempts"]),
        worker=job.get(b"worker", b"").decode(),
        error=job.get(b"error", b"").decode(errors="replace"),
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
