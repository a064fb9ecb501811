"""What an experiment and its control say together, and which outcome of many counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.errors import Outcome
from chaos.jobs import Result, worst
from chaos.verdict.model import Verdict

HELD, VIOLATED, INCONCLUSIVE, ERROR, INTERRUPTED = (
    Outcome.HELD,
    Outcome.VIOLATED,
    Outcome.INCONCLUSIVE,
    Outcome.ERROR,
    Outcome.INTERRUPTED,
)
VERDICT = Verdict(
    outcome=HELD,
    experiment="an experiment",
    file="experiment.yaml",
    seed=1,
    backend="embedded",
    disabled=(),
    phases=(),
    steady_state=(),
    receipts=(),
    recovery_s=None,
    start_lag_p99_s=None,
    reasons=(),
    replay="chaos run experiment.yaml --seed 1",
)


@pytest.mark.parametrize(
    ("experiment", "control", "together"),
    [
        (HELD, None, HELD),
        (VIOLATED, None, VIOLATED),
        (HELD, VIOLATED, HELD),  # the protections are the reason
        (HELD, HELD, INCONCLUSIVE),  # nothing was at stake
        (HELD, INCONCLUSIVE, INCONCLUSIVE),
        (HELD, ERROR, ERROR),
        (HELD, INTERRUPTED, INTERRUPTED),
        (VIOLATED, VIOLATED, VIOLATED),
        (VIOLATED, HELD, VIOLATED),
        (INCONCLUSIVE, VIOLATED, INCONCLUSIVE),
        (ERROR, VIOLATED, ERROR),
    ],
)
def test_a_pass_counts_only_beside_a_control_that_failed(experiment, control, together):
    result = Result(
        job=None,  # type: ignore[arg-type]
        verdict=replace(VERDICT, outcome=experiment),
        control=None if control is None else replace(VERDICT, outcome=control),
    )
    assert result.outcome is together


def test_the_worst_outcome_is_the_commands():
    assert worst([]) is HELD
    assert worst([HELD, INCONCLUSIVE]) is INCONCLUSIVE
    assert worst([VIOLATED, INCONCLUSIVE, HELD]) is VIOLATED
    assert worst([VIOLATED, ERROR]) is ERROR
    assert worst([ERROR, INTERRUPTED, HELD]) is INTERRUPTED
