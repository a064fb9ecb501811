"""What the tests of the isolation layer are made of: a dependency that does as it is told, and a command around it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random

from chaos.resilience import (
    BadRequest,
    Breaker,
    BreakerSettings,
    Command,
    CommandSettings,
    DeadlineExceeded,
    FallbackFailed,
    Refusal,
)

BREAKER = BreakerSettings(minimum_calls=1, error_threshold_percent=40, open_s=0.2, open_jitter=0.0)
"""As in most of Hystrix's tests: volume 1, threshold 40 %, sleep 200 ms; no jitter, so that moments are exact."""

NEVER_OPENS = BreakerSettings(minimum_calls=1_000_000)


class Broken(Exception):  # noqa: N818 - it is what the dependency is
    """What a dependency raises that fails."""


class Unlicensed(BadRequest):
    """What a dependency raises that says no."""


class Dependency:
    """Does what each call tells it: ``ok``, ``fail``, ``bad`` after ``after_s`` seconds. Counts what it is asked."""

    def __init__(self):
        self.calls = 0
        self.running = 0
        self.most_running = 0

    async def __call__(self, outcome="ok", after_s=0.0):
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if after_s:
                await asyncio.sleep(after_s)
        finally:
            self.running -= 1
        if outcome == "fail":
            raise Broken
        if outcome == "bad":
            raise Unlicensed
        return outcome


def static(cause, outcome="ok", after_s=0.0):
    """A fallback that always answers."""
    return "fallback"


def make_command(
    run=None, *, fallback=(), breaker=BREAKER, shared=None, seed=7, switches=None, cache_key=None, **settings
):
    """A command with Hystrix's test settings (500 ms), where the test says nothing else."""
    settings = {"timeout_s": 0.5, "breaker": breaker, **settings}
    return Command(
        "case",
        run or Dependency(),
        fallback=fallback,
        settings=CommandSettings(**settings),
        rng=random.Random(seed),
        breaker=shared,
        cache_key=cache_key,
        switches=switches,
    )


def make_breaker(settings=BREAKER, seed=7):
    return Breaker("case", settings=settings, rng=random.Random(seed))


def events(command):
    """What a command has counted, without the zeros."""
    return {name: count for name, count in dataclasses.asdict(command.counts).items() if count}


SLOW_S = 0.6
"""Longer than the 500 ms that a case's command has."""

LETTERS = {".": ("ok", 0.0), "x": ("fail", 0.0), "t": ("ok", SLOW_S), "b": ("bad", 0.0)}


async def play(command, script):
    """Call the command once for each letter: ``.`` ok, ``x`` failure, ``t`` timeout, ``b`` bad request."""
    for letter in script:
        with contextlib.suppress(Broken, Unlicensed, DeadlineExceeded, Refusal, FallbackFailed):
            await command(*LETTERS[letter])
