"""The trial of one mutant: experiments are tried until one of them fails; what they said decides its fate. Pure."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from chaos.errors import Outcome
from chaos.mutation.model import Fate, Judged, Mutant


class Trial:
    """Says which experiment is to be run next, and takes what it said.

    ::

        trial = Trial(mutant)
        while (experiment := trial.following()) is not None:
            trial.tell(*run(experiment))
        trial.judged()
    """

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._left = deque(mutant.noticed_by)
        self._outcomes: list[Outcome] = []
        self._current: Path | None = None
        self._killer = self._reason = ""

    def following(self) -> Path | None:
        """Return the next experiment; None when the mutant's fate is known."""
        if self._killer or Outcome.ERROR in self._outcomes or not self._left:
            return None
        self._current = self._left.popleft()
        return self._current

    def tell(self, outcome: Outcome, reason: str) -> None:
        """Take the outcome of the experiment that `following` has returned last, and the first of its reasons."""
        assert self._current is not None, "an experiment is asked for before its outcome is told"
        self._outcomes.append(outcome)
        self._reason = reason
        if outcome is Outcome.VIOLATED:
            self._killer = self._current.stem

    def judged(self) -> Judged:
        """Return the mutant's fate, as far as it is known."""
        if self._killer:
            fate = Fate.KILLED
        elif {Outcome.ERROR, Outcome.INTERRUPTED} & set(self._outcomes):
            fate = Fate.BROKEN
        elif Outcome.INCONCLUSIVE in self._outcomes:
            fate = Fate.UNDECIDED
        else:
            fate = Fate.SURVIVED
        return Judged(mutant=self._mutant, fate=fate, by=self._killer, reason=self._reason, runs=len(self._outcomes))
