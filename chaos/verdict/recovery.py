"""How long it took, once every fault was healed, until the steady state held again for good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from chaos.experiment.model import PhaseName, Rule
from chaos.topology.model import Topology
from chaos.verdict.briefly import holds_briefly
from chaos.verdict.rules import Baseline, RuleCheck, Span, checks_of
from chaos.verdict.windows import SampleStore

WINDOW_S = 3.0
"""The steady state is looked at over this many seconds at a time."""
STEP_S = 0.25
"""Windows begin this far apart; also the resolution of the answer."""
SILENCE_ATTEMPTS = 5.0
"""Where so many samples are due by the baseline's rate and none comes, that is no chance: of a Poisson count with this
mean, zero has a probability of exp(-5), 0.7 %."""


def recovery_s(
    rules: Sequence[Rule],
    *,
    topology: Topology,
    store: SampleStore,
    phases: Mapping[PhaseName, tuple[float, float]],
    healed_at_s: float,
) -> float | None:
    """Return the seconds from ``healed_at_s`` until the steady state held and went on holding; None when it never did.

    The smallest r, in steps of 0.25 s, such that every window ``[t, t + 3 s)`` with t >= healed + r holds, up to the
    end of the recovery phase. Later windows count too: a system that is well for a second and then falls back has not
    recovered. When a window holds is said at ``steady_in``. One that does not tell is passed over, unless it and its
    neighbours that do not are together so long that their silence does (``is_silent``). Rules "of baseline" refer to
    the baseline phase.

    0.0 means that the first window after healing held already. None also when the recovery phase is shorter than
    one window: then nothing was shown.
    """
    end_s = phases[PhaseName.RECOVERY][1]
    baseline = Baseline.measure(store, topology.metrics, phases.get(PhaseName.BASELINE))
    checks = checks_of(rules, topology.metrics, store, baseline)
    windows = math.floor((end_s - healed_at_s - WINDOW_S) / STEP_S + 1e-9) + 1
    recovered: float | None = None
    untold_until_s: float | None = None
    for step in reversed(range(windows)):  # from the end, as far back as windows hold
        start_s = healed_at_s + step * STEP_S
        steady = steady_in(checks, (start_s, start_s + WINDOW_S))
        if steady is None:
            untold_until_s = start_s + WINDOW_S if untold_until_s is None else untold_until_s
            if any(is_silent(check, (start_s, untold_until_s)) for check in checks):
                break
            continue
        if not steady:
            break
        recovered, untold_until_s = step * STEP_S, None
    return recovered


def last_told(checks: Sequence[RuleCheck], start_s: float, end_s: float) -> Span:
    """Return the end of a recovery phase by which its outcome is told: a window, longer where nothing tells in it."""
    span = (end_s - WINDOW_S, end_s)
    while span[0] - STEP_S >= start_s and all(holds_briefly(one, (span[0] - STEP_S, end_s)) is None for one in checks):
        span = (span[0] - STEP_S, end_s)
    return span


def steady_in(checks: Sequence[RuleCheck], window: Span) -> bool | None:
    """Return whether the steady state holds in a window of a few seconds; None when nothing tells.

    It holds when no rule is broken in it and at least one was measured; how a rule is compared in so few samples (rates
    may miss by two standard errors, one failed attempt alone is no relapse) is said at ``chaos.verdict.briefly``. A
    window without anything to measure tells nothing, unless several were due in it: then the users themselves are
    stuck, as those of a closed load are whose requests hang, or all of them are refused.
    """
    told = [holds_briefly(check, window) for check in checks]
    if False in told:
        return False
    if True in told:
        return True
    return False if any(is_silent(check, window) for check in checks) else None


def is_silent(check: RuleCheck, window: Span) -> bool:
    """Return whether there is nothing for a rule to measure in a window where, by the baseline, there should be."""
    before = check.baseline.span
    if before is None or check.own_samples(window):
        return False
    due = check.own_samples(before) / (before[1] - before[0]) * (window[1] - window[0])
    return due >= SILENCE_ATTEMPTS
