"""Retry: the same call again after a pause, because many failures are over in a moment.

The pause before the n-th retry is a random time between 0 and ``backoff_s * 2 ** (n - 1)`` ("full jitter": callers
that failed together must not come back together). Not repeated are

* a ``BadRequest``, whose answer would be the same;
* a ``Refusal``: an overloaded callee, a full bulkhead or an open breaker need fewer calls, not more;
* anything whose pause would end after the deadline, or for which the budget has nothing left;
* what fails after its task was cancelled, by a deadline or by its caller: nobody waits for it any more.

Only calls that may be done twice should be retried: one that failed may have been carried out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Generic, ParamSpec, TypeVar

from chaos.resilience.budget import RetryBudget
from chaos.resilience.deadline import current_scope
from chaos.resilience.errors import BadRequest, Refusal
from chaos.resilience.settings import RetrySettings

P = ParamSpec("P")
T = TypeVar("T")


class Retry(Generic[P, T]):
    """``run``, made again when it fails. ``budget`` may be shared by several; else it is made from the settings.

    ``CommandSettings.retry`` puts one inside a command, where it is best: within its deadline and one permit.

    Example: ``fetch = Retry(fetch_once, settings=RetrySettings(attempts=3), rng=rng); await fetch(url)``.
    """

    __slots__ = ("_budget", "_rng", "_run", "_settings", "retries")

    def __init__(
        self,
        run: Callable[P, Awaitable[T]],
        *,
        settings: RetrySettings,
        rng: random.Random,
        budget: RetryBudget | None = None,
    ) -> None:
        self._run = run
        self._settings = settings
        self._rng = rng
        self._budget = budget or RetryBudget(settings.budget)
        self.retries = 0
        """How many there have been."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``run``, again on failure; raise what the last attempt raised."""
        loop = asyncio.get_running_loop()
        cancellations = times_cancelled()
        self._budget.first_attempt(loop.time())
        attempt = 1
        while True:
            try:
                return await self._run(*args, **kwargs)
            except (BadRequest, Refusal, MemoryError):
                raise
            except Exception:
                pause_s = self._pause_s(attempt)
                now_s = loop.time()
                if (
                    attempt >= self._settings.attempts
                    or times_cancelled() > cancellations  # ``run`` made something else of its cancellation
                    or now_s + pause_s >= current_scope().at_s
                    or not self._budget.try_spend(now_s)
                ):
                    raise
            attempt += 1
            self.retries += 1
            await asyncio.sleep(pause_s)

    def _pause_s(self, attempt: int) -> float:
        settings = self._settings
        longest_s = min(settings.backoff_max_s, settings.backoff_s * 2.0 ** min(attempt - 1, 60))
        return self._rng.uniform(0.0, longest_s)


def times_cancelled() -> int:
    """Return how often the running task has been asked to end; more than before means that nobody waits any more.

    (Whoever asks does not keep the task itself: a failure refers to the frames that it came through, and a task to its
    failure, which would make a cycle.)
    """
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
