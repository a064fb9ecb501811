"""What the tests of the isolation layer are made of: a dependency that does as it is told, and a command around it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from contextvars import ContextVar
from enum import Enum

from yarl import URL

from chaos.resilience import (
    BadRequest,
    Breaker,
    BreakerSettings,
    Command,
    CommandSettings,
    DeadlineExceeded,
    FallbackFailed,
    Isolation,
    Refusal,
)
from chaos.resilience.web import isolate

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


class Form(Enum):
    """How a case's command is made: all three must behave the same."""

    OBJECT = "object"
    DECORATOR = "decorator"
    MIDDLEWARE = "middleware"


form = ContextVar("form", default=Form.OBJECT)


@dataclasses.dataclass
class Request:
    """As much of a request as the client middleware looks at; its body is the arguments of the call."""

    args: tuple
    url: URL = dataclasses.field(default_factory=lambda: URL("http://case/"))
    headers: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Response:
    value: object
    status: int = 200


class Requests:
    """Calls of a dependency as requests through the client middleware; looks like the command that stands in it."""

    def __init__(self, isolation, run, fallback, settings):
        self.run = run
        fallbacks = [fallback] if callable(fallback) else list(fallback)
        self.middleware = isolate(
            isolation,
            by=lambda request: "case",
            settings=settings,
            fallback=[self.answering(one) for one in fallbacks],
        )
        self.command = self.middleware.command_for("case")

    def answering(self, fallback):
        async def answer(cause, request, handler):
            value = fallback(cause, *request.args)
            return Response(await value if asyncio.iscoroutine(value) else value)

        return answer

    async def handle(self, request):
        return Response(await self.run(*request.args))

    async def __call__(self, *args):
        return (await self.middleware(Request(args=args), self.handle)).value

    async def execute(self, *args):
        answer = await self.command.execute(Request(args=args), self.handle)
        return dataclasses.replace(answer, value=answer.value.value)

    def __getattr__(self, name):
        return getattr(self.command, name)


def static(cause, outcome="ok", after_s=0.0):
    """A fallback that always answers."""
    return "fallback"


def make_command(
    run=None, *, fallback=(), breaker=BREAKER, shared=None, seed=7, switches=None, cache_key=None, **settings
):
    """A command with Hystrix's test settings (500 ms), where the test says nothing else; in the form that is set."""
    settings = {"timeout_s": 0.5, "breaker": breaker, **settings}
    run = run or Dependency()
    if form.get() is not Form.OBJECT:
        isolation = Isolation(rng=random.Random(seed), switches={"case": switches} if switches else None)
        if form.get() is Form.MIDDLEWARE:
            assert (shared, cache_key) == (None, None), "a client middleware has neither"
            return Requests(isolation, run, fallback, CommandSettings(**settings))
        return isolation.command(
            "case", fallback=fallback, settings=CommandSettings(**settings), breaker=shared, cache_key=cache_key
        )(run)
    return Command(
        "case",
        run,
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
