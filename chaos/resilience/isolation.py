"""The Isolation: all commands of one service, made in one place, so that they can be seen and switched together."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from chaos.resilience.breaker import Breaker
from chaos.resilience.command import Command, Fallback
from chaos.resilience.events import BreakerChanged, Listener
from chaos.resilience.guard import Guard
from chaos.resilience.metrics import CommandSnapshot
from chaos.resilience.settings import CommandSettings, Switches

P = ParamSpec("P")
T = TypeVar("T")


class MakesCommand(Protocol):
    """A decorator that turns a coroutine function of any type into a command of the same type."""

    def __call__(self, run: Callable[P, Awaitable[T]], /) -> Command[P, T]:
        """Return ``run`` as a command."""


class Isolation:
    """Makes and knows the commands of a service.

    ``rng`` is the source of every random choice below (jitter, the choice of replicas). ``enabled=False`` makes every
    command a bare call: no deadline, bulkhead, breaker, fallback or failover. ``switches`` does the same in parts, for
    the commands named; the name of a ``Replicas`` stands for all its replicas. ``default_switches`` are those of all
    others.

    Example: ``isolation = Isolation(rng=random.Random(seed)); rank = isolation.command("rank", fetch_rank)``.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        enabled: bool = True,
        switches: Mapping[str, Switches] | None = None,
        default_switches: Switches | None = None,
    ) -> None:
        self.rng = rng
        self.enabled = enabled
        self._switches = dict(switches or {})
        self._default_switches = default_switches or Switches()
        self._names: set[str] = set()
        self._shown: list[Command[..., Any]] = []
        self._listeners: list[tuple[Listener, bool]] = []
        self._told: set[tuple[int, int]] = set()

    @overload
    def command(
        self,
        name: str,
        run: Callable[P, Awaitable[T]],
        *,
        fallback: Fallback[P, T] | Sequence[Fallback[P, T]] = (),
        settings: CommandSettings | None = None,
        breaker: Breaker | None = None,
        cache_key: Callable[P, Hashable] | None = None,
    ) -> Command[P, T]: ...

    @overload
    def command(
        self,
        name: str,
        *,
        settings: CommandSettings | None = None,
        breaker: Breaker | None = None,
        cache_key: Callable[..., Hashable] | None = None,
    ) -> MakesCommand: ...

    @overload
    def command(
        self,
        name: str,
        *,
        fallback: Callable[Concatenate[Exception, P], Awaitable[T]]
        | Sequence[Callable[Concatenate[Exception, P], Awaitable[T]]],
        settings: CommandSettings | None = None,
        breaker: Breaker | None = None,
        cache_key: Callable[P, Hashable] | None = None,
    ) -> Callable[[Callable[P, Awaitable[T]]], Command[P, T]]: ...

    @overload
    def command(
        self,
        name: str,
        *,
        fallback: Callable[Concatenate[Exception, P], T] | Sequence[Callable[Concatenate[Exception, P], T]],
        settings: CommandSettings | None = None,
        breaker: Breaker | None = None,
        cache_key: Callable[P, Hashable] | None = None,
    ) -> Callable[[Callable[P, Awaitable[T]]], Command[P, T]]: ...

    def command(
        self,
        name: str,
        run: Callable[..., Awaitable[Any]] | None = None,
        *,
        fallback: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
        settings: CommandSettings | None = None,
        breaker: Breaker | None = None,
        cache_key: Callable[..., Hashable] | None = None,
    ) -> Command[..., Any] | Callable[..., Command[..., Any]]:
        """Return ``run`` as a command; without ``run``, a decorator that makes one. See ``Command``.

        ``ValueError`` when the name is taken: numbers of two commands under one name would mean nothing.
        """

        def make(run: Callable[..., Awaitable[Any]]) -> Command[..., Any]:
            self.claim(name)
            command = Command(
                name,
                run,
                fallback=fallback,
                settings=settings,
                rng=self.rng,
                breaker=breaker,
                cache_key=cache_key,
                switches=self.switches_for(name),
            )
            self.show(command)
            return command

        return make if run is None else make(run)

    def guard(self, name: str, *, settings: CommandSettings | None = None) -> Callable[[], Guard]:
        """Make a command for blocks of a coroutine; ``async with made(): ...`` isolates one. See ``Command.guard``."""
        return self.command(name, _nothing, settings=settings).guard

    def listen(self, listener: Listener, *, calls: bool = True) -> None:
        """Have ``listener`` told of every breaker that changes and, with ``calls``, every call that ends.

        Commands made later are included. Hearing of calls costs each of them some microseconds; of breakers, nothing.
        """
        self._listeners.append((listener, calls))
        for command in self._shown:
            self._tell(command, listener, calls=calls)

    def switches_for(self, name: str) -> Switches:
        """Return which protections the command called ``name`` has."""
        return self._switches.get(name, self._default_switches) if self.enabled else Switches(enabled=False)

    def snapshot(self) -> list[CommandSnapshot]:
        """Return the state and numbers of every command and replica, in the order in which they were made."""
        return [command.snapshot() for command in self._shown]

    def claim(self, name: str) -> None:
        """Take a name; ``ValueError`` when a command of this isolation has it."""
        if name in self._names:
            raise ValueError(f"there is a command called {name!r} already; give this one a name of its own")
        self._names.add(name)

    def show(self, command: Command[..., Any]) -> None:
        """Add a command to the snapshots, and to what listeners are told of."""
        self._shown.append(command)
        for listener, calls in self._listeners:
            self._tell(command, listener, calls=calls)

    def _tell(self, command: Command[..., Any], listener: Listener, *, calls: bool) -> None:
        if calls:
            command.listen(listener)
        breaker = command.breaker
        if (id(breaker), id(listener)) not in self._told:  # commands may share a breaker
            self._told.add((id(breaker), id(listener)))
            breaker.listeners.append(
                lambda breaker, before, after: listener(
                    BreakerChanged(breaker=breaker.name, before=before, after=after)
                )
            )


async def _nothing() -> None:
    """Run of a command that is only used as a guard."""
