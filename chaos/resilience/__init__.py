"""Isolation for asyncio services: a failing dependency must not take its callers down with it.

Usable on its own. A ``Command`` puts a circuit breaker, a bulkhead, a deadline and fallbacks around one call;
``Replicas`` spreads calls over equal servers; an ``Isolation`` makes and shows the commands of a service::

    isolation = Isolation(rng=random.Random(seed))
    rank = isolation.command("rank", fetch_rank, fallback=static_rank, settings=CommandSettings(timeout_s=0.3))
    answer = await rank(title, isp)

Time is the running event loop's. The parts for aiohttp are in ``chaos.resilience.web``, which is imported by name.
"""

from chaos.resilience.attempts import Replicas
from chaos.resilience.breaker import Breaker
from chaos.resilience.budget import RetryBudget
from chaos.resilience.bulkhead import Bulkhead
from chaos.resilience.collapser import Collapser
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
from chaos.resilience.events import BreakerChanged, CallEnded, Listener
from chaos.resilience.isolation import Isolation
from chaos.resilience.metrics import CommandSnapshot, Counts
from chaos.resilience.request import RequestContext
from chaos.resilience.retry import Retry
from chaos.resilience.settings import (
    AimdSettings,
    BreakerSettings,
    BudgetSettings,
    CommandSettings,
    DeadlineShare,
    Force,
    Gradient2Settings,
    HedgeSettings,
    ReplicaChoice,
    ReplicaSettings,
    RetrySettings,
    Switches,
)
from chaos.resilience.window import RollingWindow

__all__ = [
    "DEADLINE_HEADER",
    "AimdSettings",
    "Answer",
    "BadRequest",
    "Breaker",
    "BreakerChanged",
    "BreakerSettings",
    "BudgetSettings",
    "Bulkhead",
    "BulkheadFull",
    "CallEnded",
    "Collapser",
    "Command",
    "CommandSettings",
    "CommandSnapshot",
    "Counts",
    "Deadline",
    "DeadlineExceeded",
    "DeadlineShare",
    "DeadlineSpent",
    "FallbackFailed",
    "Force",
    "Gradient2Settings",
    "HedgeSettings",
    "Isolation",
    "IsolationError",
    "Listener",
    "Overloaded",
    "Refusal",
    "ReplicaChoice",
    "ReplicaSettings",
    "Replicas",
    "RequestContext",
    "Retry",
    "RetryBudget",
    "RetrySettings",
    "RollingWindow",
    "ShortCircuited",
    "Switches",
]
