"""Mutants, what became of them, and the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from chaos.topology.model import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """The system without some protections: usually one."""

    disable: tuple[str, ...]
    noticed_by: tuple[Path, ...]
    """The experiments that should fail without them, in the order in which they are tried."""
    title: str
    """What is lost, in a sentence."""
    survives: str = ""
    """Why nothing notices it, where that is known and accepted."""

    @property
    def name(self) -> str:
        """What it is called in lists."""
        return " + ".join(self.disable)


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantList:
    """The mutants of a system, as a file lists them."""

    file: Path
    mutants: tuple[Mutant, ...]
    changes: Mapping[str, Scalar]
    """What is different in all their runs, by dotted key of the experiments, as of ``--set``."""


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    """An experiment failed."""
    SURVIVED = "survived"
    """Every experiment that should have noticed it held, or none should."""
    UNDECIDED = "undecided"
    """None failed, and at least one could not tell."""
    BROKEN = "broken"
    """The target could not be run like that; nothing can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A mutant and its fate."""

    mutant: Mutant
    fate: Fate
    by: str = ""
    """The experiment that failed."""
    reason: str = ""
    """Why it failed; otherwise, why the last one that was tried did not."""
    runs: int = 0


def score(judged: Sequence[Judged]) -> float:
    """Return the mutation score: the share of mutants that were killed, 0 to 1. Raises ValueError for none at all.

    All others count against it, those too whose survival is explained: an explanation is for the reader to believe.
    """
    if not judged:
        raise ValueError("there are no mutants: a score says nothing")
    return sum(one.fate is Fate.KILLED for one in judged) / len(judged)
