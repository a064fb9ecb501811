"""What can go wrong, who is at fault, and the exit code it becomes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a run ended. Each outcome has an exit code of its own, so that a pipeline can tell them apart."""

    HELD = "held"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    INTERRUPTED = "interrupted"

    @property
    def exit_code(self) -> int:
        """0 held, 1 violated, 3 environment error, 4 inconclusive, 130 interrupted (2 is a usage error)."""
        return _EXIT_CODES[self]

    def beside(self, control: Outcome) -> Outcome:
        """Return what this outcome of an experiment comes to beside its control's.

        A control that did not fail makes a pass inconclusive. One that broke off (error, interrupted) has shown
        nothing, and its outcome is that of both.
        """
        if self is not Outcome.HELD:
            return self
        match control:
            case Outcome.VIOLATED:
                return Outcome.HELD
            case Outcome.HELD | Outcome.INCONCLUSIVE:
                return Outcome.INCONCLUSIVE
            case broken:
                return broken


_EXIT_CODES = {
    Outcome.HELD: 0,
    Outcome.VIOLATED: 1,
    Outcome.ERROR: 3,
    Outcome.INCONCLUSIVE: 4,
    Outcome.INTERRUPTED: 130,
}

NOT_HEALED = "not healed"
"""How the failure begins of a target that is not well although every fault was taken back."""
UNANSWERED = "does not answer its health check"
"""How the complaint ends about an instance that lives and says nothing."""

EXIT_USAGE = 2
"""Exit code for a mistake in the user's file or command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a user's file: where it is, what is wrong, what is allowed.

    ``str(problem)`` is the line shown: ``file:line: key: message``.
    """

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ChaosError(Exception):
    """Base of the framework's own errors. ``exit_code`` is what the command line returns for it."""

    exit_code: int = Outcome.ERROR.exit_code


class UsageError(ChaosError):
    """The user's file or command is wrong; nothing was started. Carries every problem found, not the first."""

    exit_code = EXIT_USAGE

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = () if isinstance(problems, str) else tuple(problems)
        text = problems if isinstance(problems, str) else "\n".join(str(problem) for problem in problems)
        super().__init__(text)


class EnvironmentFailure(ChaosError):  # noqa: N818 - "EnvironmentError" is a builtin with another meaning
    """The machine or the target failed us: a port taken, a service that never became healthy, a dead Locust.

    ``details`` holds the lines that help to find out why (a service's last log lines).
    """

    exit_code = Outcome.ERROR.exit_code

    def __init__(self, message: str, *, details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.details: tuple[str, ...] = tuple(details)


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the allowed name nearest to ``name``, or an empty string."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""
