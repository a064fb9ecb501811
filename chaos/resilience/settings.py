"""What can be set, in frozen records that check themselves: units are in the names, defaults are Hystrix's.

Every mistake is a ``ValueError`` that names the setting, what it was and what is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeAlias


class Force(StrEnum):
    """A breaker that an operator holds in one state, whatever the window says."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a circuit breaker opens, and for how long.

    It opens as soon as the last ``window_s`` seconds hold at least ``minimum_calls`` counted calls of which
    ``error_threshold_percent`` or more failed; ``buckets`` is the window's resolution. With ``slow_call_s`` a call that
    took longer is slow, whatever it answered, and the breaker opens as well when ``slow_call_threshold_percent`` or
    more of the calls were slow.

    After ``open_s`` seconds (each time another length within +/- ``open_jitter`` of it, a fraction, so that many
    processes do not come back at the same moment) ``trials`` calls are let through. It closes when all of them have
    succeeded, and opens again when one fails; each time in a row ``open_growth`` times as long, up to ``open_max_s``.

    ``force`` holds it open or closed. ``strict`` makes it behave as Hystrix's master branch in everything where this
    library knows better: see ``chaos.resilience.strict``.

    The defaults are Hystrix's: 10 s in 20 buckets, 20 calls, 50 %, 5 s, one trial. The jitter is ours.
    """

    window_s: float = 10.0
    buckets: int = 20
    minimum_calls: int = 20
    error_threshold_percent: float = 50.0
    slow_call_s: float | None = None
    slow_call_threshold_percent: float = 100.0
    open_s: float = 5.0
    open_jitter: float = 0.1
    open_growth: float = 1.0
    open_max_s: float = 60.0
    trials: int = 1
    force: Force | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        _positive("window_s", self.window_s)
        _at_least_one("buckets", self.buckets)
        _at_least_one("minimum_calls", self.minimum_calls)
        _percent("error_threshold_percent", self.error_threshold_percent)
        if self.slow_call_s is not None:
            _positive("slow_call_s", self.slow_call_s)
        _percent("slow_call_threshold_percent", self.slow_call_threshold_percent)
        _positive("open_s", self.open_s)
        if not 0 <= self.open_jitter < 1:
            raise ValueError(f"open_jitter is {self.open_jitter!r}; it is a fraction from 0 up to, not including, 1")
        if not (self.open_growth >= 1 and math.isfinite(self.open_growth)):
            raise ValueError(f"open_growth is {self.open_growth!r}; it must be a number of 1 or more")
        _positive("open_max_s", self.open_max_s)
        _at_least_one("trials", self.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class AimdSettings:
    """A limit that finds itself by additive increase and multiplicative decrease.

    It begins at ``initial``, grows by one when a call ends well while at least half of it is in use, and shrinks to
    ``backoff`` of itself when a call fails, or takes longer than ``slow_s``; always within ``minimum`` and
    ``maximum``. The defaults are those of Netflix's concurrency-limits.
    """

    initial: int = 20
    minimum: int = 20
    maximum: int = 200
    backoff: float = 0.9
    slow_s: float = 5.0

    def __post_init__(self) -> None:
        _range_of_limits(self.initial, self.minimum, self.maximum)
        if not 0.5 <= self.backoff < 1:
            raise ValueError(f"backoff is {self.backoff!r}; it is a fraction from 0.5 up to, not including, 1")
        _positive("slow_s", self.slow_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient2Settings:
    """A limit that finds itself from how much longer calls take now than they did over a long time.

    The gradient of the long average to the latest latency, with ``tolerance`` times the average allowed, scales the
    limit, ``queue`` is added to let it grow, and ``smoothing`` is the share of the new value that is taken in. The long
    average covers about ``long_window_calls`` measurements; a measurement is the mean of at least ``sample_calls``
    calls and at least ``sample_s`` seconds. The defaults are those of Netflix's concurrency-limits.
    """

    initial: int = 20
    minimum: int = 20
    maximum: int = 200
    tolerance: float = 1.5
    smoothing: float = 0.2
    queue: int = 4
    long_window_calls: int = 600
    sample_calls: int = 10
    sample_s: float = 0.1

    def __post_init__(self) -> None:
        _range_of_limits(self.initial, self.minimum, self.maximum)
        if not (self.tolerance >= 1 and math.isfinite(self.tolerance)):
            raise ValueError(f"tolerance is {self.tolerance!r}; it must be a number of 1 or more")
        if not 0 < self.smoothing <= 1:
            raise ValueError(f"smoothing is {self.smoothing!r}; it must be over 0 and at most 1")
        _at_least_one("queue", self.queue)
        _at_least_one("long_window_calls", self.long_window_calls)
        _at_least_one("sample_calls", self.sample_calls)
        _not_negative("sample_s", self.sample_s)


AdaptiveSettings: TypeAlias = AimdSettings | Gradient2Settings
"""How a bulkhead finds its limit itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """How many extra calls (retries, hedges) there may be, so that they cannot double the load that made them needed.

    Within ``window_s`` they may number ``floor_per_s`` a second plus ``percent`` of the first attempts. The defaults
    are Finagle's: 20 %, 10 a second, 10 s.
    """

    percent: float = 20.0
    floor_per_s: float = 10.0
    window_s: float = 10.0

    def __post_init__(self) -> None:
        _not_negative("percent", self.percent)
        _not_negative("floor_per_s", self.floor_per_s)
        _positive("window_s", self.window_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """When a failed call is made again.

    At most ``attempts`` attempts; before the n-th retry it waits a random time between 0 and
    ``backoff_s * 2 ** (n - 1)``, at most ``backoff_max_s`` (full jitter, as AWS found best). ``budget`` limits all
    retries together.
    """

    attempts: int = 3
    backoff_s: float = 0.05
    backoff_max_s: float = 1.0
    budget: BudgetSettings = field(default_factory=BudgetSettings)

    def __post_init__(self) -> None:
        _at_least_one("attempts", self.attempts)
        _not_negative("backoff_s", self.backoff_s)
        _not_negative("backoff_max_s", self.backoff_max_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeSettings:
    """When a second replica is asked although the first may still answer.

    After ``quantile`` of the recent latencies (learned from at least ``minimum_calls`` calls of the last ``window_s``
    seconds), never sooner than ``delay_min_s``. Until it has learned enough it does not hedge. ``budget``
    limits hedges; Dean and Barroso took the 99.9th percentile from 1 800 ms to 74 ms for 2 % more requests.
    """

    quantile: float = 0.95
    minimum_calls: int = 20
    window_s: float = 30.0
    delay_min_s: float = 0.001
    budget: BudgetSettings = field(default_factory=lambda: BudgetSettings(percent=5.0, floor_per_s=1.0))

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile is {self.quantile!r}; it is a fraction between 0 and 1, such as 0.95")
        _at_least_one("minimum_calls", self.minimum_calls)
        _positive("window_s", self.window_s)
        _not_negative("delay_min_s", self.delay_min_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """How one command is isolated.

    ``timeout_s`` is the longest that one call may run, time in the queue included (None: as long as the caller's
    deadline allows). With ``minimum_s`` a call is not begun when its caller's deadline leaves less than that.
    ``max_concurrent`` is how many calls may run at once, or ``adaptive`` finds that number itself; ``queue_max`` more
    may wait for a permit. ``fallback_max_concurrent`` is the limit for each of its fallbacks. The timeout does not
    cover the fallbacks. ``retry`` makes ``run`` again when it fails, within the timeout and one permit: the breaker
    sees only how it ended. The defaults are Hystrix's: 1 s, 10, no queue, 10, no retry.
    """

    timeout_s: float | None = 1.0
    minimum_s: float = 0.0
    max_concurrent: int = 10
    adaptive: AdaptiveSettings | None = None
    queue_max: int = 0
    fallback_max_concurrent: int = 10
    fallback_enabled: bool = True
    retry: RetrySettings | None = None
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        if self.timeout_s is not None:
            _positive("timeout_s", self.timeout_s)
        _not_negative("minimum_s", self.minimum_s)
        if self.timeout_s is not None and self.minimum_s >= self.timeout_s:
            raise ValueError(f"minimum_s is {self.minimum_s!r}; it must be less than timeout_s, {self.timeout_s!r}")
        _at_least_one("max_concurrent", self.max_concurrent)
        _whole("queue_max", self.queue_max)
        _at_least_one("fallback_max_concurrent", self.fallback_max_concurrent)


class DeadlineShare(StrEnum):
    """How the attempts of one call share the time that its caller has left."""

    EVEN = "even"
    """Each attempt that may still follow keeps an equal share: a replica that hangs leaves time for the next. Right
    where one hop has replicas; on a path of four services each would halve the time of the next."""
    ALL = "all"
    """Each attempt may use all of it, up to its own timeout."""


class ReplicaChoice(StrEnum):
    """Which replica gets the next call, of those that would take it."""

    TWO_RANDOM = "two_random"
    """The less busy of two at random: nearly as even as ``LEAST_BUSY``, and many callers do not flock together."""
    ROUND_ROBIN = "round_robin"
    """Each in its turn, however busy it is."""
    LEAST_BUSY = "least_busy"
    """The one with the fewest calls in progress; of several, at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """How calls are spread over the replicas of a service, and when another replica is tried.

    A call makes at most ``attempts`` attempts, each at another replica and each at most ``attempt_timeout_s``
    long; ``share`` says how they share the caller's deadline. Second attempts are limited by ``budget``, and ``hedge``
    asks a second replica when the first is slower than usual. A replica that says it is overloaded is passed over,
    where there is another, for the time that it asks for, but at most ``overload_pause_max_s``.
    ``max_concurrent`` is the most calls at once to one replica, and ``choice`` how one of several is chosen.
    """

    attempts: int = 2
    attempt_timeout_s: float | None = 1.0
    share: DeadlineShare = DeadlineShare.EVEN
    max_concurrent: int = 256
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    hedge: HedgeSettings | None = None
    overload_pause_max_s: float = 2.0
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    choice: ReplicaChoice = ReplicaChoice.TWO_RANDOM

    def __post_init__(self) -> None:
        _at_least_one("attempts", self.attempts)
        if self.attempt_timeout_s is not None:
            _positive("attempt_timeout_s", self.attempt_timeout_s)
        _at_least_one("max_concurrent", self.max_concurrent)
        _not_negative("overload_pause_max_s", self.overload_pause_max_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Which protections of one command are on. The controls of experiments switch them off one by one.

    ``enabled=False`` leaves the bare call: nothing is protected, counted or answered by a fallback. Without ``budget``
    retries, second attempts and hedges are as many as they like to be; without ``choice`` each replica is asked in its
    turn, as in ``ReplicaChoice.ROUND_ROBIN``.
    """

    enabled: bool = True
    cache: bool = True
    breaker: bool = True
    bulkhead: bool = True
    deadline: bool = True
    retry: bool = True
    hedge: bool = True
    fallback: bool = True
    failover: bool = True
    budget: bool = True
    choice: bool = True

    @classmethod
    def without(cls, *protections: str) -> Switches:
        """Return all protections but those named; ``ValueError`` for a name that is none of the fields."""
        known = [one.name for one in fields(cls)]
        for name in protections:
            if name not in known:
                raise ValueError(f"{name!r} is no protection of a command; there are {', '.join(known)}")
        return cls(**dict.fromkeys(protections, False))


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}; it must be a number over 0")


def _not_negative(name: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}; it must be 0 or more")


def _at_least_one(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of 1 or more")


def _percent(name: str, value: float) -> None:
    if not 0 < value <= 100:
        raise ValueError(f"{name} is {value!r}; it must be over 0 and at most 100")


def _whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of 0 or more")


def _range_of_limits(initial: int, minimum: int, maximum: int) -> None:
    _at_least_one("minimum", minimum)
    if not minimum <= initial <= maximum:
        raise ValueError(f"initial is {initial!r}; it must be from minimum, {minimum!r}, to maximum, {maximum!r}")
