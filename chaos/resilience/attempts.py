"""Replicas: which of several equal servers gets a call, and when another one gets a second try.

A call goes to the less busy of two replicas picked at random (which spreads load almost as well as knowing all of
them, and does not send everybody to the same idle one), among those whose breaker admits it and which have room.
When the attempt fails, another replica is asked, as long as the deadline, the number of attempts and the budget
allow. Only calls that may be done twice should be made this way, or with ``attempts=1``: a call that was cut off
may have been carried out.

How each outcome of an attempt is taken:

=====================  ==================================  ===========================
outcome                evidence against the replica        another replica is asked
=====================  ==================================  ===========================
failure, timeout       yes                                 yes, within the budget
``Overloaded``         no; passed over for a while         yes, within the budget
``BadRequest``         no: it answered                     no: the answer would be the same
cancelled              no                                  no
slow (with ``hedge``)  no, whoever is overtaken            yes, within the hedge's budget
=====================  ==================================  ===========================

Only the first attempt of a call is hedged: a call makes at most one attempt more than ``attempts``. What fails once
its task was cancelled counts as cancelled here, whatever it says: nobody waits for another replica's answer.

``Overloaded`` deserves its row. The replica is alive and says so at little cost, so its breaker has nothing to learn:
opening it would turn "send me less" into "send me nothing", and push all of the load on the next one. It has done
nothing, so another replica may well do it. Yet when all of them are overloaded second attempts only make it worse;
therefore they count against the same budget, and a replica is never asked twice for one call. (``Retry``, which asks
the same callee again, never does so after a refusal.) The pause that it
asked for is a preference and no ban: where every replica pauses, the less busy one is asked all the same, for
``Retry-After`` is in whole seconds, and a bulkhead is often free again after milliseconds.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from chaos.resilience.budget import RetryBudget, budgeted
from chaos.resilience.command import Command
from chaos.resilience.deadline import Deadline, current_scope
from chaos.resilience.errors import BadRequest, BulkheadFull, DeadlineSpent, Overloaded, ShortCircuited
from chaos.resilience.hedge import Hedge
from chaos.resilience.isolation import Isolation
from chaos.resilience.retry import times_cancelled
from chaos.resilience.settings import CommandSettings, DeadlineShare, ReplicaChoice, ReplicaSettings

A = TypeVar("A")
T = TypeVar("T")


class Replica(Generic[A]):
    """One server of several: its address, and the command (breaker, permits, numbers) that isolates it."""

    __slots__ = ("address", "breaker", "bulkhead", "command", "paused_until_s")

    def __init__(self, address: A, command: Command[[Callable[[A], Awaitable[Any]]], Any]) -> None:
        self.address = address
        self.command = command
        self.breaker = command.breaker
        self.bulkhead = command.bulkhead
        self.paused_until_s = float("-inf")


class Replicas(Generic[A]):
    """The replicas of one service, as one caller sees them.

    ``addresses`` are handed to the functions called, whatever they are; ``names`` are what snapshots show (the
    addresses themselves unless given): ``play_api[play_api-2]``. ``healthy`` is what else is known of an address, from
    health checks for example: one that it calls unhealthy is left out, unless it says so of all that could be asked.

    Example: ``replicas = Replicas("play_api", addresses, isolation=isolation); await replicas.call(fetch)``.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[A],
        *,
        isolation: Isolation,
        settings: ReplicaSettings | None = None,
        names: Sequence[str] | None = None,
        healthy: Callable[[A], bool] | None = None,
    ) -> None:
        if not addresses:
            raise ValueError(f"{name}: there must be at least one replica")
        if names is not None and len(names) != len(addresses):
            raise ValueError(f"{name}: {len(names)} names for {len(addresses)} replicas")
        isolation.claim(name)
        settings = settings or ReplicaSettings()
        switches = isolation.switches_for(name)
        self.name = name
        self._settings = settings
        self._rng = isolation.rng
        self._bare = not switches.enabled
        self._shares_evenly = settings.share is DeadlineShare.EVEN and switches.deadline
        self._attempts = settings.attempts if switches.failover else 1
        self._budget = RetryBudget(budgeted(settings, switches).budget)
        hedge = settings.hedge if switches.hedge else None
        self._hedge = None if hedge is None else Hedge(budgeted(hedge, switches))
        self._healthy = healthy
        self._turn = -1
        self._choice: Callable[[Sequence[Replica[A]]], Replica[A]] | None = {
            ReplicaChoice.TWO_RANDOM: None,
            ReplicaChoice.ROUND_ROBIN: self._in_turn,
            ReplicaChoice.LEAST_BUSY: self._least_busy,
        }[settings.choice if switches.choice else ReplicaChoice.ROUND_ROBIN]
        command_settings = CommandSettings(
            timeout_s=settings.attempt_timeout_s, max_concurrent=settings.max_concurrent, breaker=settings.breaker
        )
        self.replicas: tuple[Replica[A], ...] = tuple(
            Replica(
                address,
                Command(
                    f"{name}[{shown}]",
                    _calling(address),
                    settings=command_settings,
                    rng=isolation.rng,
                    switches=switches,
                ),
            )
            for address, shown in zip(addresses, names or [str(address) for address in addresses], strict=True)
        )
        for replica in self.replicas:
            isolation.show(replica.command)

    async def call(self, function: Callable[[A], Awaitable[T]], *, attempts: int | None = None) -> T:
        """Return ``function(address)`` of one replica; on failure of another one.

        ``attempts`` allows fewer than the settings do: 1 for a call that must not be made twice, which is not hedged
        either.

        Raises what the last attempt raised; ``ShortCircuited`` when every replica's breaker refused,
        ``BulkheadFull`` when the others had no room, ``DeadlineSpent`` when there was no time to begin.
        """
        if self._bare:
            self._turn = (self._turn + 1) % len(self.replicas)
            return await function(self.replicas[self._turn].address)
        loop = get_running_loop()
        now_s = loop.time()
        cancellations = times_cancelled()
        if current_scope().at_s <= now_s:
            raise DeadlineSpent(self.name)
        left = self._attempts if attempts is None else min(attempts, self._attempts)
        hedge = self._hedge if attempts != 1 else None
        untried = list(self.replicas)
        replica = self._choose(untried, now_s)
        if replica is None:
            raise self._refusal(now_s)
        self._budget.first_attempt(now_s)  # not before: calls that nobody could take must not save up for later
        while True:
            untried.remove(replica)
            left -= 1
            try:
                if hedge is not None:
                    attempt: Awaitable[T] = self._hedged(hedge, replica, untried, function)
                else:
                    attempt = replica.command(function)
                if not self._shares_evenly:
                    return await attempt
                with self._share_of_deadline(now_s, untried, left):
                    return await attempt
            except (BadRequest, MemoryError):
                raise
            except Exception as failure:
                if times_cancelled() > cancellations:  # the function made something else of its cancellation
                    raise
                now_s = loop.time()
                if isinstance(failure, Overloaded) and hedge is None:
                    self._pause(replica, failure, now_s)
                following = self._choose(untried, now_s) if left > 0 else None
                if following is None or current_scope().at_s <= now_s or not self._budget.try_spend(now_s):
                    raise
                replica, hedge = following, None

    def _pause(self, replica: Replica[A], refusal: Overloaded, now_s: float) -> None:
        """Pass an overloaded replica over for a while."""
        replica.paused_until_s = now_s + min(refusal.retry_after_s, self._settings.overload_pause_max_s)

    async def _attempt(self, replica: Replica[A], function: Callable[[A], Awaitable[T]]) -> T:
        try:
            return await replica.command(function)  # type: ignore[no-any-return] # it is the function's own answer
        except Overloaded as refusal:
            self._pause(replica, refusal, get_running_loop().time())
            raise

    async def _hedged(
        self, hedge: Hedge, first: Replica[A], untried: list[Replica[A]], function: Callable[[A], Awaitable[T]]
    ) -> T:
        """Do an attempt that a second replica may overtake; who is asked is taken out of ``untried``."""

        def another() -> Callable[[], Coroutine[Any, Any, T]] | None:
            second = self._choose(untried, get_running_loop().time())
            if second is None:
                return None
            untried.remove(second)
            return lambda: self._attempt(second, function)

        return await hedge.race(lambda: self._attempt(first, function), another)

    def _share_of_deadline(self, now_s: float, untried: Sequence[Replica[A]], attempts_left: int) -> Deadline:
        """Return the deadline of an attempt that leaves as much time to each that could follow it."""
        following = min(attempts_left, len(_able(untried, now_s))) if self._budget.left(now_s) else 0
        return Deadline(now_s + (current_scope().at_s - now_s) / (1 + following))

    def _choose(self, untried: Sequence[Replica[A]], now_s: float) -> Replica[A] | None:
        """Return one of the replicas that would take a call: healthy ones that do not pause first."""
        able = _able(untried, now_s)
        if self._healthy is not None:
            able = [one for one in able if self._healthy(one.address)] or able
        willing = [one for one in able if one.paused_until_s <= now_s] or able
        count = len(willing)
        if count <= 1:
            return willing[0] if willing else None
        if self._choice is not None:
            return self._choice(willing)
        # Two different ones at random; ``sample`` would do the same at ten times the cost.
        number = int(self._rng.random() * count)
        first = willing[number]
        second = willing[number - 1 - int(self._rng.random() * (count - 1))]
        return second if second.bulkhead.in_use < first.bulkhead.in_use else first

    def _in_turn(self, willing: Sequence[Replica[A]]) -> Replica[A]:
        """Return the one after the last that was chosen."""
        order = self.replicas
        while True:
            self._turn = (self._turn + 1) % len(order)
            if order[self._turn] in willing:
                return order[self._turn]

    def _least_busy(self, willing: Sequence[Replica[A]]) -> Replica[A]:
        fewest = min(one.bulkhead.in_use for one in willing)
        idlest = [one for one in willing if one.bulkhead.in_use == fewest]
        return idlest[int(self._rng.random() * len(idlest))]

    def _refusal(self, now_s: float) -> ShortCircuited | BulkheadFull:
        full = any(one.breaker.admits(now_s) for one in self.replicas)
        return BulkheadFull(self.name, self._settings.max_concurrent) if full else ShortCircuited(self.name)


def _able(replicas: Sequence[Replica[A]], now_s: float) -> list[Replica[A]]:
    """Return those that would take a call."""
    return [
        one
        for one in replicas
        if one.bulkhead.in_use < one.bulkhead.limit and (one.breaker.closed is not None or one.breaker.admits(now_s))
    ]


def _calling(address: A) -> Callable[[Callable[[A], Awaitable[Any]]], Awaitable[Any]]:
    """Return the ``run`` of one replica's command: it calls a function with the replica's address."""

    def run(function: Callable[[A], Awaitable[Any]]) -> Awaitable[Any]:
        return function(address)

    return run
