"""Load shedding on the server's side: what cannot be done in time is turned away at once, the least important first.

A server with more to do than it can do serves nobody: every request waits until its caller has given up. So a request
is refused at the door when

* the server is as full as requests of its priority may make it: bulk work stops first, then recommendations, and
  what is critical (a play, a payment) has the whole limit to itself at the end;
* its caller's deadline leaves less time than requests of its kind usually take: its answer would come too late.

Pure: the moment is an argument. The part for aiohttp is ``chaos.resilience.web.shedding``.
"""

from __future__ import annotations

import math
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from chaos.resilience.latency import LearnedQuantile
from chaos.resilience.limits import Limit, make_limit
from chaos.resilience.settings import AdaptiveSettings

PRIORITY_HEADER = "X-Chaos-Priority"
"""Name of the HTTP header that carries a request's priority to the next service: ``critical``, ``normal``, ..."""

_ROUTES_MAX = 256
_OTHER_ROUTES = "(others)"
_BUCKETS = 10
_SAMPLES_MAX = 30
"""Durations kept in each bucket: 300 are plenty for a median, and take some 25 us to sort."""

_ROUNDING = 1e-9
"""Added to a share of the limit: 0.7 * 90 is a hair less than 63 in binary."""


class Priority(IntEnum):
    """How important a request is; the smaller, the more."""

    CRITICAL = 0
    """Somebody waits for it and nothing else will do: a play, a payment."""
    NORMAL = 1
    LOW = 2
    """Nice to have: recommendations."""
    BULK = 3
    """Nobody waits for it: reports, copies."""

    @classmethod
    def from_header(cls, value: str | None) -> Priority:
        """Return what a header says; ``NORMAL`` where it says nothing that is known."""
        return cls.__members__.get((value or "").strip().upper(), cls.NORMAL)

    def to_header(self) -> str:
        """Return how it is written in a header."""
        return self.name.lower()


_priority: ContextVar[Priority] = ContextVar("priority", default=Priority.NORMAL)


current_priority = _priority.get
"""Returns the priority of the request in progress; ``NORMAL`` outside of one."""


def set_priority(priority: Priority) -> None:
    """Make ``priority`` that of the request in progress: of this task, and of those that it starts."""
    _priority.set(priority)


class ShedReason(StrEnum):
    """Why a request was turned away."""

    OVERLOADED = "overloaded"
    CANNOT_FINISH = "cannot_finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """A request that is turned away: why, and after how many seconds it may be tried again."""

    reason: ShedReason
    retry_after_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SheddingSettings:
    """How much a server takes on.

    ``max_concurrent`` is the most requests at once, or ``adaptive`` finds that number itself. ``shares`` are the parts
    of it that requests of each priority may fill, from ``CRITICAL`` to ``BULK``. How long requests of a route take is
    learned from at least ``learn_calls`` that succeeded within the last ``learn_window_s`` seconds; what is older is
    forgotten, so that a route that was refused is tried again.
    """

    max_concurrent: int = 100
    adaptive: AdaptiveSettings | None = None
    shares: tuple[float, float, float, float] = (1.0, 0.9, 0.7, 0.5)
    retry_after_s: int = 1
    learn_calls: int = 10
    learn_window_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_concurrent", "retry_after_s", "learn_calls"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of 1 or more")
        falling = sorted(self.shares, reverse=True) == list(self.shares)
        if not (falling and len(self.shares) == len(Priority) and all(0 < one <= 1 for one in self.shares)):
            raise ValueError(
                f"shares is {self.shares!r}; it must be {len(Priority)} fractions over 0 and at most 1, none larger "
                "than the one before it"
            )
        if not (self.learn_window_s > 0 and math.isfinite(self.learn_window_s)):
            raise ValueError(f"learn_window_s is {self.learn_window_s!r}; it must be a number over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedderSnapshot:
    """A shedder at one moment; the counts are since it was made."""

    in_flight: int
    limit: int
    admitted: dict[str, int]
    """By priority."""
    shed: dict[str, int] = field(default_factory=dict)
    """By priority and reason: ``low/overloaded``."""


class _Fixed:
    """A limit that does not change."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def observe(self, now_s: float, duration_s: float, in_flight: int, *, failed: bool) -> None:
        """Learn nothing."""


class Shedder:
    """Decides which requests a server takes on. Every admitted request must be ``ended`` once."""

    def __init__(self, settings: SheddingSettings | None = None) -> None:
        self._settings = settings = settings or SheddingSettings()
        self._limit: Limit = (
            _Fixed(settings.max_concurrent) if settings.adaptive is None else make_limit(settings.adaptive)
        )
        self._routes: dict[str, LearnedQuantile] = {}
        self._admitted = [0] * len(Priority)
        self._shed: Counter[tuple[Priority, ShedReason]] = Counter()
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """The most requests at once, now."""
        return self._limit.value

    def admit(self, now_s: float, *, route: str, priority: Priority, remaining_s: float | None) -> Shed | None:
        """Take a request on (None), or say why not. ``remaining_s`` is what its caller's deadline leaves, if any."""
        reason: ShedReason | None = None
        # One request is always taken on, whatever its priority: a small limit must not shut anybody out for good.
        if self.in_flight and self.in_flight + 1 > self._limit.value * self._settings.shares[priority] + _ROUNDING:
            reason = ShedReason.OVERLOADED
        elif remaining_s is not None:
            usual_s = self._learned(route).value(now_s)
            if usual_s is not None and remaining_s < usual_s:
                reason = ShedReason.CANNOT_FINISH
        if reason is not None:
            self._shed[priority, reason] += 1
            return Shed(reason=reason, retry_after_s=self._settings.retry_after_s)
        self._admitted[priority] += 1
        self.in_flight += 1
        return None

    def ended(self, now_s: float, *, route: str, duration_s: float | None, failed: bool) -> None:
        """Note that a request ended.

        ``duration_s`` is None for one that tells nothing: its caller went away, or it was answered that it is wrong.
        """
        assert self.in_flight > 0, "a request ended that had not been admitted"
        if duration_s is not None:
            self._limit.observe(now_s, duration_s, self.in_flight, failed=failed)
            if not failed:
                learned = self._learned(route)
                if now_s >= learned.full_until_s:
                    learned.record(now_s, duration_s)
        self.in_flight -= 1

    def usual_s(self, now_s: float, route: str) -> float | None:
        """Return the median of what requests of ``route`` took lately; None while too little is known."""
        return self._learned(route).value(now_s)

    def snapshot(self) -> ShedderSnapshot:
        """Return its numbers as they are now."""
        return ShedderSnapshot(
            in_flight=self.in_flight,
            limit=self.limit,
            admitted={
                priority.to_header(): self._admitted[priority] for priority in Priority if self._admitted[priority]
            },
            shed={
                f"{priority.to_header()}/{reason}": count for (priority, reason), count in sorted(self._shed.items())
            },
        )

    def _learned(self, route: str) -> LearnedQuantile:
        learned = self._routes.get(route)
        if learned is None:
            if len(self._routes) >= _ROUTES_MAX:
                route = _OTHER_ROUTES
            learned = self._routes[route] = self._routes.get(route) or self._new_route()
        return learned

    def _new_route(self) -> LearnedQuantile:
        settings = self._settings
        samples_max = max(_SAMPLES_MAX, settings.learn_calls)
        return LearnedQuantile(
            settings.learn_window_s,
            buckets=_BUCKETS,
            samples_max=samples_max,
            fraction=0.5,
            minimum_calls=settings.learn_calls,
        )
