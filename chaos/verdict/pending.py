"""Which rules are not decided yet, while the fault phase still goes on."""

from __future__ import annotations

from chaos.errors import Outcome
from chaos.experiment.model import Experiment
from chaos.topology.model import Topology
from chaos.verdict.rules import Baseline, Span, checks_of
from chaos.verdict.ruling import has_enough, rule_on
from chaos.verdict.windows import SampleStore


def undecided(
    experiment: Experiment, *, topology: Topology, store: SampleStore, baseline: Baseline, span: Span
) -> tuple[str, ...]:
    """Return the rules of the steady state, as they are written, that the part ``span`` of the phase leaves open."""
    checks = checks_of(experiment.steady_state, topology.metrics, store, baseline)
    results = [rule_on(check, span, experiment.verdict) for check in checks]
    return tuple(result.rule for result in results if result.outcome is Outcome.INCONCLUSIVE)


def has_too_few(
    experiment: Experiment, *, topology: Topology, store: SampleStore, baseline: Baseline, span: Span
) -> bool:
    """Return whether a rule of the experiment lacks the samples that it takes.

    To go on until there are enough errs no more often than to ask for so many from the start: the number of samples
    says nothing about what they are.
    """
    checks = checks_of((*experiment.steady_state, *experiment.must_break), topology.metrics, store, baseline)
    return not all(has_enough(check, span, experiment.verdict) for check in checks)
