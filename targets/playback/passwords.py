"""Passwords: hashed with Argon2id by the library argon2-cffi, a few at a time, so that log-ins cannot take the loop.

A hash is slow on purpose and cannot be interrupted, and services have no threads to do it in. Three things keep it from
stopping everything else:

    flood of log-ins --> bulkhead: one at a time, some wait, the rest is refused --> its turn: one every 60 ms --> hash

* The parameters make one hash take about 15 ms.
* Between the beginnings of two hashes lie at least ``INTERVAL_S``, in which the loop does its other work.
* More log-ins than that rate and a short queue can take are refused at once (503 with Retry-After), not kept waiting.

Whether an account exists cannot be told from the time that an answer takes: without one, a hash of nothing is checked.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from chaos.resilience import BreakerSettings, CommandSettings, Force
from targets.playback.service import Context

LENGTH_MIN = 8
LENGTH_MAX = 128
"""Characters of a password. The upper limit is far above any real one; it bounds what a request may have hashed."""

INTERVAL_S = 0.06
WAITING_MAX = 8
"""With one hash every 60 ms the last in the queue waits 0.48 s, two thirds of the 0.75 s of a gateway's attempt. Were
the queue longer than that, its last ones would give up just before their turn, and the gateway would ask the other
server for them, whose queue grows by that: then a flood stays after its cause is gone."""

_SALT_BYTES = 16
_MEMORY_KIB_MAX = 64 * 1024
_PASSES_MAX = 16

_SETTINGS = CommandSettings(
    timeout_s=1.2,
    max_concurrent=1,
    queue_max=WAITING_MAX,
    # Hashing depends on nobody and cannot be down: calls that ran out of time in the queue must not stop the next.
    breaker=BreakerSettings(force=Force.CLOSED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HashSettings:
    """What a hash costs: memory in KiB, and passes over it. There is one lane: a second one would need a thread.

    The defaults are the fastest of the equally strong combinations that OWASP's Password Storage Cheat Sheet names as
    the least to use: 7 MiB and 5 passes took 15 ms where 19 MiB and 2 passes took 18 ms, for they stay in the cache.
    """

    memory_kib: int = 7 * 1024
    passes: int = 5


class Hasher:
    """Hashes and checks passwords, blocking for the time of one hash. ``rng`` makes salts, which must not repeat."""

    def __init__(self, settings: HashSettings, *, rng: random.Random) -> None:
        self._library = PasswordHasher(
            time_cost=settings.passes,
            memory_cost=settings.memory_kib,
            parallelism=1,
            salt_len=_SALT_BYTES,
            type=Type.ID,
        )
        self._rng = rng
        self._nobodys_hash = self.hash("nobody's")

    def hash(self, password: str) -> str:
        """Return the hash of ``password`` with its parameters and a new salt in it."""
        return self._library.hash(password, salt=self._rng.randbytes(_SALT_BYTES))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether ``password`` is the one of ``password_hash``; None, for no account, costs the same."""
        if password_hash is not None and not _affordable(password_hash):
            return False
        try:
            self._library.verify(self._nobodys_hash if password_hash is None else password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    def outdated(self, password_hash: str) -> bool:
        """Return whether a hash was made with other parameters than today's, and should be made anew."""
        return self._library.check_needs_rehash(password_hash)


class Passwords:
    """A `Hasher` for a service: one hash at a time, at a bounded rate.

    Both methods raise BulkheadFull when too many wait already, and DeadlineExceeded or DeadlineSpent when the caller's
    time is over.
    """

    def __init__(self, context: Context, hasher: Hasher) -> None:
        self._loop = asyncio.get_running_loop()
        self._hasher = hasher
        self._guard = context.isolation.guard("passwords", settings=_SETTINGS)
        self._next_s = self._loop.time()
        self.outdated = hasher.outdated

    async def hash(self, password: str) -> str:
        """Return the hash of ``password``."""
        async with self._guard():
            await self._turn()
            return self._hasher.hash(password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether ``password`` is the one of ``password_hash``; never for None, which costs the same."""
        async with self._guard():
            await self._turn()
            return self._hasher.verify(password_hash, password)

    async def _turn(self) -> None:
        """Wait until ``INTERVAL_S`` have passed since the last hash began."""
        now_s = self._loop.time()
        begin_s = max(now_s, self._next_s)
        self._next_s = begin_s + INTERVAL_S
        if begin_s > now_s:
            await asyncio.sleep(begin_s - now_s)


def _affordable(password_hash: str) -> bool:
    """Return whether checking a hash takes bounded time and memory, whatever parameters it claims."""
    try:
        claimed = extract_parameters(password_hash)
    except InvalidHashError:
        return False
    return claimed.memory_cost <= _MEMORY_KIB_MAX and claimed.time_cost <= _PASSES_MAX and claimed.parallelism == 1
