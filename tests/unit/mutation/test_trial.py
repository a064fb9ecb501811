"""Trials of mutants: which experiment is run next, and what their outcomes mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.errors import Outcome
from chaos.mutation.model import Fate, Judged, Mutant, score
from chaos.mutation.trial import Trial

HELD, VIOLATED, INCONCLUSIVE, ERROR = Outcome.HELD, Outcome.VIOLATED, Outcome.INCONCLUSIVE, Outcome.ERROR


def mutant(experiments: int = 3) -> Mutant:
    return Mutant(
        disable=("deadlines",),
        noticed_by=tuple(Path(f"folder/e{number}.yaml") for number in range(experiments)),
        title="Nobody lets go.",
    )


def judge(*outcomes: Outcome) -> Judged:
    """Try a mutant on as many experiments as there are outcomes."""
    trial, told = Trial(mutant(len(outcomes))), iter(outcomes)
    while trial.following() is not None:
        outcome = next(told)
        trial.tell(outcome, f"it {outcome}")
    return trial.judged()


@pytest.mark.parametrize(
    ("outcomes", "fate", "runs"),
    [
        ((), Fate.SURVIVED, 0),
        ((HELD, HELD), Fate.SURVIVED, 2),
        ((HELD, VIOLATED, HELD), Fate.KILLED, 2),
        ((INCONCLUSIVE, HELD), Fate.UNDECIDED, 2),
        ((INCONCLUSIVE, VIOLATED), Fate.KILLED, 2),
        ((ERROR, VIOLATED), Fate.BROKEN, 1),
        ((Outcome.INTERRUPTED,), Fate.BROKEN, 1),
    ],
)
def test_the_first_experiment_that_fails_kills(outcomes, fate, runs):
    judged = judge(*outcomes)
    assert (judged.fate, judged.runs) == (fate, runs)


def test_the_killer_and_its_reason_are_told():
    judged = judge(HELD, VIOLATED)
    assert (judged.by, judged.reason) == ("e1", "it violated")


@given(st.lists(st.sampled_from([HELD, VIOLATED, INCONCLUSIVE]), max_size=6))
def test_a_mutant_is_killed_exactly_when_some_experiment_fails(outcomes):
    judged = judge(*outcomes)
    assert (judged.fate is Fate.KILLED) == (VIOLATED in outcomes)
    assert judged.runs == (outcomes.index(VIOLATED) + 1 if VIOLATED in outcomes else len(outcomes))


def test_the_score_counts_everybody_who_was_not_killed_against_it():
    judged = [judge(VIOLATED), judge(VIOLATED), judge(HELD), judge(INCONCLUSIVE)]
    assert score(judged) == 0.5
    with pytest.raises(ValueError, match="no mutants"):
        score([])
