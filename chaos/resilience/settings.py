"""What can be set, in frozen records that check themselves: units are in the names, defaults are Hystrix's.

Every mistake is a ``ValueError`` that names the setting, what it was and what is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum


class Force(StrEnum):
    """A breaker that an operator holds in one state, whatever the window says."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a circuit breaker opens, and for how long.

    It opens as soon as the last ``window_s`` seconds hold at least ``minimum_calls`` counted calls of which
    ``error_threshold_percent`` or more failed; ``buckets`` is the window's resolution. After ``open_s`` seconds
    (each time another length within +/- ``open_jitter`` of it, a fraction, so that many processes do not come back
    at the same moment) one call is let through as a trial.

    The defaults are Hystrix's: 10 s in 20 buckets, 20 calls, 50 %, 5 s. The jitter is ours.
    """

    window_s: float = 10.0
    buckets: int = 20
    minimum_calls: int = 20
    error_threshold_percent: float = 50.0
    open_s: float = 5.0
    open_jitter: float = 0.1
    force: Force | None = None

    def __post_init__(self) -> None:
        _positive("window_s", self.window_s)
        _at_least_one("buckets", self.buckets)
        _at_least_one("minimum_calls", self.minimum_calls)
        if not 0 < self.error_threshold_percent <= 100:
            raise ValueError(
                f"error_threshold_percent is {self.error_threshold_percent!r}; it must be over 0 and at most 100"
            )
        _positive("open_s", self.open_s)
        if not 0 <= self.open_jitter < 1:
            raise ValueError(f"open_jitter is {self.open_jitter!r}; it is a fraction from 0 up to, not including, 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """How one command is isolated.

    ``timeout_s`` is the longest that one call may run (None: as long as the caller's deadline allows);
    ``max_concurrent`` is how many calls may run at once, and ``fallback_max_concurrent`` the same for each of its
    fallbacks. The timeout does not cover the fallbacks. The defaults are Hystrix's: 1 s, 10, 10.
    """

    timeout_s: float | None = 1.0
    max_concurrent: int = 10
    fallback_max_concurrent: int = 10
    fallback_enabled: bool = True
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        if self.timeout_s is not None:
            _positive("timeout_s", self.timeout_s)
        _at_least_one("max_concurrent", self.max_concurrent)
        _at_least_one("fallback_max_concurrent", self.fallback_max_concurrent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """How calls are spread over the replicas of a service, and when another replica is tried.

    A call makes at most ``attempts`` attempts, each at another replica and each at most ``attempt_timeout_s``
    long; where the caller has a deadline, the time left is shared evenly between the attempts that remain, so that
    a replica that hangs leaves time for the next one. Second attempts are limited by a budget, or a failure would
    double the load that caused it: within ``retry_window_s`` they may number ``retry_floor_per_s`` a second plus
    ``retry_percent`` of the first attempts (Finagle's figures: 10 a second, 20 %, 10 s).
    A replica that says it is overloaded is passed over, where there is another, for the time that it asks for,
    but at most ``overload_pause_max_s``. ``max_concurrent`` is the most calls at once to one replica.
    """

    attempts: int = 2
    attempt_timeout_s: float | None = 1.0
    max_concurrent: int = 256
    retry_percent: float = 20.0
    retry_floor_per_s: float = 10.0
    retry_window_s: float = 10.0
    overload_pause_max_s: float = 2.0
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        _at_least_one("attempts", self.attempts)
        if self.attempt_timeout_s is not None:
            _positive("attempt_timeout_s", self.attempt_timeout_s)
        _at_least_one("max_concurrent", self.max_concurrent)
        _not_negative("retry_percent", self.retry_percent)
        _not_negative("retry_floor_per_s", self.retry_floor_per_s)
        _positive("retry_window_s", self.retry_window_s)
        _not_negative("overload_pause_max_s", self.overload_pause_max_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Which protections of one command are on. The controls of experiments switch them off one by one.

    ``enabled=False`` leaves the bare call: nothing is protected, counted or answered by a fallback.
    """

    enabled: bool = True
    deadline: bool = True
    bulkhead: bool = True
    breaker: bool = True
    fallback: bool = True
    failover: bool = True


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}; it must be a number over 0")


def _not_negative(name: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}; it must be 0 or more")


def _at_least_one(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of 1 or more")
