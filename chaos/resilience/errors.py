"""The exceptions of the isolation layer: light to raise, and each one says who is at fault.

There are three families, and the breaker treats them differently:

* ``Refusal``: somebody declined before doing any work. Nothing is known about the dependency, so a refusal that
  comes out of a command's ``run`` is no evidence for or against it.
* ``DeadlineExceeded`` and every other exception: the dependency failed; evidence against it.
* ``BadRequest``: the caller's own mistake, found by a dependency that answered; evidence that it lives.

Exceptions are made new for every refusal and keep no formatted text: a shared instance would collect a traceback
entry each time it is raised, and grow for ever.
"""
# ruff: noqa: N818 - these names are read in sentences: "raises ShortCircuited"; the base says that they are errors

from __future__ import annotations


class IsolationError(Exception):
    """Base of what the isolation layer itself raises; its first argument is the name of the command that raised it.

    (It has no ``__init__``: while a dependency is down one of these is made for every call.)
    """

    @property
    def command(self) -> str:
        """The name of the command that raised it."""
        return str(self.args[0])


class Refusal(IsolationError):
    """Somebody declined before doing any work: the dependency is not to blame, and nothing has happened."""


class ShortCircuited(Refusal):
    """The breaker is open: recent calls failed too often, so this one was not tried."""

    def __str__(self) -> str:
        return f"{self.command}: not called, its circuit breaker is open after too many failures"


class BulkheadFull(Refusal):
    """The command (or its fallback) already runs as often as it may at once."""

    @property
    def limit(self) -> float:
        """How many there are."""
        return float(self.args[1])

    def __str__(self) -> str:
        return f"{self.command}: not called, all {self.limit:g} of its permits are in use"


class Overloaded(Refusal):
    """The callee answered that it has too much to do (HTTP 503 or 429 with Retry-After).

    It is alive and has done nothing, so this is no failure: another replica may take the call, and the breaker does
    not count it. A breaker that opened on it would turn a callee that sheds some calls into one that gets none.
    """

    def __init__(self, command: str, *, retry_after_s: float) -> None:
        super().__init__(command)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.command}: the callee is overloaded and asks to come back in {self.retry_after_s:g} s"


class DeadlineSpent(Refusal, TimeoutError):
    """The caller's deadline was over before the call began, so it was not begun."""

    def __str__(self) -> str:
        return f"{self.command}: not called, the caller's deadline has passed already"


class DeadlineExceeded(IsolationError, TimeoutError):
    """The call was begun and cut off: it did not end within its time. ``allowed_s`` is the time that it had."""

    def __init__(self, command: str, allowed_s: float) -> None:
        super().__init__(command)
        self.allowed_s = allowed_s

    def __str__(self) -> str:
        return f"{self.command}: cut off after {self.allowed_s:.3g} s, its deadline"


class FallbackFailed(IsolationError):
    """The call failed, and so did every fallback.

    ``cause`` is why the call itself gave no answer; ``fallback_errors`` are those of the fallbacks, in order (a
    ``BulkheadFull`` for one that was refused). The last of them is also the exception's ``__cause__``.
    """

    def __init__(self, command: str, cause: Exception, fallback_errors: tuple[Exception, ...]) -> None:
        super().__init__(command)
        self.cause = cause
        self.fallback_errors = fallback_errors

    def __str__(self) -> str:
        failed = "; ".join(repr(error) for error in self.fallback_errors)
        return f"{self.command}: failed with {self.cause!r}, and its fallback with {failed}"


class BadRequest(Exception):
    """Raised inside ``run`` (or a subclass of it is) when the caller is at fault: a wrong argument, a missing right.

    It neither trips the breaker nor calls the fallback, is never retried, and comes out unchanged.
    """
