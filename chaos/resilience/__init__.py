"""Isolation for asyncio services: a failing dependency must not take its callers down with it.

Usable on its own. A ``Command`` puts a circuit breaker, a bulkhead, a deadline and fallbacks around one call;
``Replicas`` spreads calls over equal servers; an ``Isolation`` makes and shows the commands of a service::

    isolation = Isolation(rng=random.Random(seed))
    rank = isolation.command("rank", fetch_rank, fallback=static_rank, settings=CommandSettings(timeout_s=0.3))
    answer = await rank(title, isp)

Time is the running event loop's. The parts for aiohttp are in ``chaos.resilience.web``, which is imported by name.
"""

from chaos.resilience.attempts import Replicas, RetryBudget
from chaos.resilience.breaker import Breaker
from chaos.resilience.bulkhead import Bulkhead
from chaos.resilience.command import Answer, Command
from chaos.resilience.deadline import DEADLINE_HEADER, Deadline
from chaos.resilience.errors import (
    BadRequest,
    BulkheadFull,
    DeadlineExceeded,
    DeadlineSpent,
    FallbackFailed,
    IsolationError,
    Overloaded,
    Refusal,
    ShortCircuited,
)
from chaos.resilience.isolation import Isolation
from chaos.resilience.metrics import CommandSnapshot, Counts
from chaos.resilience.settings import BreakerSettings, CommandSettings, Force, ReplicaSettings, Switches
from chaos.resilience.window import RollingWindow

__all__ = [
    "DEADLINE_HEADER",
    "Answer",
    "BadRequest",
    "Breaker",
    "BreakerSettings",
    "Bulkhead",
    "BulkheadFull",
    "Command",
    "CommandSettings",
    "CommandSnapshot",
    "Counts",
    "Deadline",
    "DeadlineExceeded",
    "DeadlineSpent",
    "FallbackFailed",
    "Force",
    "Isolation",
    "IsolationError",
    "Overloaded",
    "Refusal",
    "ReplicaSettings",
    "Replicas",
    "RetryBudget",
    "RollingWindow",
    "ShortCircuited",
    "Switches",
]
