"""The resilience baseline: what experiments measured when all was well, and whether it has become worse. Pure.

Three comparisons, each of what a gate measured with what the baseline did:

- **a share in one experiment** (availability): two proportions. Failures come in bursts, so a binomial variance would
  be too small; it is multiplied by a factor, at least ``BURSTS_LEAST``, that the baseline's own runs have shown.
- **a share over all experiments together**: the difference of the two sums of failures over sums of attempts, its
  variance by the jackknife with an experiment as the unit that is left out, whatever bursts there are within one.
- **the time to recover**: its difference from the mean of the baseline's runs, by their spread; and whether the system
  recovered at all, where it did in all of them.

That is more than a hundred tests in one gate. ``alpha`` is the risk of a false alarm of *all of them together*, kept by
Holm's procedure ("A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6,
1979). And what is worse must be worse by an amount that somebody would care about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, pvariance, variance

from chaos.topology.model import Measure, Topology, Unit
from chaos.verdict.model import Verdict
from chaos.verdict.units import figure, plural

BURSTS_LEAST = 2.0
"""By how much the variance of a share is larger than a binomial one, at least (failures come in pairs, say)."""
RECOVERY_STEP_S = 0.25
"""The resolution of a time to recover, and so the least that its standard deviation can be known to be."""
TOGETHER_LEAST = 8
"""Fewer experiments than this are not compared all together: a jackknife over few units is a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFigures:
    """What one rule measured, run by run."""

    metric: str
    unit: str
    share: bool
    """Whether it is a share of successes, of which more is better: what is compared."""
    attempts: tuple[int, ...]
    measured: tuple[float, ...]

    @property
    def failed(self) -> tuple[int, ...]:
        """Failures of each run, of a share: what was measured times the attempts."""
        return tuple(round((1.0 - one) * number) for one, number in zip(self.measured, self.attempts, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one experiment measured, run by run."""

    rules: Mapping[str, RuleFigures]
    """By the text of the rule."""
    recovery_s: tuple[float, ...] = ()
    """Of the runs in which the steady state was seen to hold again."""

    @property
    def runs(self) -> int:
        """How many runs these are of, as far as their rules show it."""
        return max((len(rule.attempts) for rule in self.rules.values()), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When something is worse; kept in the baseline's file, so that a team decides it by review."""

    alpha: float = 0.01
    """Risk of a false alarm in a whole gate."""
    share: float = 0.01
    """So much lower a share must be in one experiment, to matter."""
    share_together: float = 0.002
    """So much lower a share must be over all experiments together."""
    recovery_s: float = 1.0
    """So much longer a recovery must take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResilienceBaseline:
    """All that the file holds: by experiment (its path from the file's folder), and by form, ``quick`` or ``full``."""

    experiments: Mapping[str, Mapping[str, Figures]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worse:
    """What has become worse."""

    experiments: Mapping[str, tuple[str, ...]]
    """Sentences by experiment."""
    together: tuple[str, ...]
    """Sentences about all of them."""
    unknown: tuple[str, ...]
    """Experiments that the baseline does not know in this form."""
    tests: int
    """How many comparisons were made."""


def figures_of(verdict: Verdict, topology: Topology) -> Figures:
    """Return what one run measured in its fault phase, and how long its recovery took."""
    rules = {}
    for rule in verdict.steady_state:
        metric = topology.metrics[rule.metric]
        if rule.measured is None:
            continue
        rules[rule.rule] = RuleFigures(
            metric=rule.metric,
            unit=rule.unit,
            share=metric.measure is Measure.SHARE and ">" in rule.rule,
            attempts=(rule.attempts,),
            measured=(rule.measured,),
        )
    return Figures(rules=rules, recovery_s=() if verdict.recovery_s is None else (verdict.recovery_s,))


def merge(runs: Sequence[Figures]) -> Figures:
    """Return several runs of one experiment as one; only rules that all of them measured."""
    rules = {}
    for text, first in runs[0].rules.items():
        same = [run.rules[text] for run in runs if text in run.rules]
        if len(same) == len(runs):
            rules[text] = RuleFigures(
                metric=first.metric,
                unit=first.unit,
                share=first.share,
                attempts=tuple(number for one in same for number in one.attempts),
                measured=tuple(value for one in same for value in one.measured),
            )
    return Figures(rules=rules, recovery_s=tuple(value for run in runs for value in run.recovery_s))


def updated(
    baseline: ResilienceBaseline, measured: Mapping[str, Sequence[Figures]], *, form: str
) -> ResilienceBaseline:
    """Return the baseline with these experiments' figures of this form replaced; everything else stays."""
    experiments = {name: dict(forms) for name, forms in baseline.experiments.items()}
    for name, runs in measured.items():
        if runs:
            experiments.setdefault(name, {})[form] = merge(runs)
    return ResilienceBaseline(experiments=experiments, limits=baseline.limits)


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation of one run (n - 1 in the denominator); None of fewer than two."""
    return math.sqrt(variance(values)) if len(values) > 1 else None


# -- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison: its one-sided p-value, whether the difference matters, and what there would be to say."""

    experiment: str | None
    p: float
    matters: bool
    sentence: str


def compare(baseline: ResilienceBaseline, measured: Mapping[str, Figures], *, form: str) -> Worse:
    """Return what is significantly worse in ``measured`` (one run of each experiment, by name) than in the baseline.

    Rules whose text has changed are other rules, and are not compared.
    """
    known = {
        name: (forms[form], measured[name])
        for name, forms in baseline.experiments.items()
        if form in forms and name in measured
    }
    bursts = _bursts([before for before, _ in known.values()])
    recovery_sd_s = _pooled_sd([before.recovery_s for before, _ in known.values()])
    limits = baseline.limits
    tests = [test for name, pair in known.items() for test in _shares(name, *pair, limits, bursts)]
    tests += [test for name, pair in known.items() for test in _recovery(name, *pair, limits, recovery_sd_s)]
    tests += _together(list(known.values()), limits, bursts)
    found = [test for test in rejected(tests, limits.alpha) if test.matters]
    by_name: dict[str, list[str]] = {}
    for test in found:
        if test.experiment is not None:
            by_name.setdefault(test.experiment, []).append(test.sentence)
    return Worse(
        experiments={name: tuple(sentences) for name, sentences in by_name.items()},
        together=tuple(test.sentence for test in found if test.experiment is None),
        unknown=tuple(sorted(name for name in measured if name not in known)),
        tests=len(tests),
    )


def rejected(tests: Sequence[Comparison], alpha: float) -> list[Comparison]:
    """Return the tests that are significant at ``alpha`` for all of them together (Holm's procedure)."""
    found = []
    for done, test in enumerate(sorted(tests, key=lambda test: test.p)):
        if test.p > alpha / (len(tests) - done):
            break
        found.append(test)
    return found


def share_p(failed: int, attempts: int, failed_before: int, attempts_before: int, bursts: float) -> float:
    """Return the one-sided p-value of "more failures than before".

    Two proportions, with one success and one failure added to the pooled one, so that no failure is not taken for
    certainty, and the variance multiplied by ``bursts``.
    """
    if attempts <= 0 or attempts_before <= 0:
        return 1.0
    pooled = (failed + failed_before + 1) / (attempts + attempts_before + 2)
    se = math.sqrt(bursts * pooled * (1.0 - pooled) * (1.0 / attempts + 1.0 / attempts_before))
    return _upper(failed / attempts - failed_before / attempts_before, se)


def _shares(name: str, before: Figures, now: Figures, limits: Limits, bursts: float) -> Iterator[Comparison]:
    for text, old, new in _pairs(before, now):
        lost = sum(new.failed) / sum(new.attempts) - sum(old.failed) / sum(old.attempts)
        yield Comparison(
            experiment=name,
            p=share_p(sum(new.failed), sum(new.attempts), sum(old.failed), sum(old.attempts), bursts),
            matters=lost >= limits.share,
            sentence=f"{_words(new.metric)} is worse than the resilience baseline's: "
            f"{_share(new)} now, {_share(old)} then (rule {text!r})",
        )


def _recovery(
    name: str, before: Figures, now: Figures, limits: Limits, pooled_sd_s: float | None
) -> Iterator[Comparison]:
    if not now.recovery_s and len(before.recovery_s) == before.runs > 1:
        yield Comparison(
            experiment=name,
            p=0.0,  # no time is long enough to be compared with never
            matters=True,
            sentence="the steady state was not seen to hold again after healing, as it did in the resilience "
            f"baseline's {plural('run', before.runs)}",
        )
        return
    if not before.recovery_s or not now.recovery_s or pooled_sd_s is None:
        return
    mean_s, took_s, runs = fmean(before.recovery_s), fmean(now.recovery_s), len(before.recovery_s)
    sd_s = max(spread(before.recovery_s) or 0.0, pooled_sd_s, RECOVERY_STEP_S)
    yield Comparison(
        experiment=name,
        p=_upper(took_s - mean_s, sd_s * math.sqrt(1.0 + 1.0 / runs)),
        matters=took_s - mean_s >= limits.recovery_s,
        sentence=f"recovery is slower than the resilience baseline's: {figure(took_s, Unit.SECONDS)} now, "
        f"{figure(mean_s, Unit.SECONDS)} on average of {runs} {'run' if runs == 1 else 'runs'} then",
    )


def _together(pairs: Sequence[tuple[Figures, Figures]], limits: Limits, bursts: float) -> Iterator[Comparison]:
    by_metric: dict[str, list[tuple[RuleFigures, RuleFigures]]] = {}
    for before, now in pairs:
        for _, old, new in _pairs(before, now):
            by_metric.setdefault(new.metric, []).append((old, new))
    for metric, rules in by_metric.items():
        if len(rules) < TOGETHER_LEAST:
            continue
        units = [(sum(new.failed), sum(new.attempts), sum(old.failed), sum(old.attempts)) for old, new in rules]
        lost, p = together_p(units, bursts)
        share, share_before = (
            1.0 - sum(unit[at] for unit in units) / sum(unit[at + 1] for unit in units) for at in (0, 2)
        )
        yield Comparison(
            experiment=None,
            p=p,
            matters=lost >= limits.share_together,
            sentence=f"{_words(metric)} over {len(units)} experiments is worse than the resilience baseline's: "
            f"{figure(share, Unit.PERCENT, apart_from=share_before)} now, {figure(share_before, Unit.PERCENT)} then",
        )


def together_p(units: Sequence[tuple[int, int, int, int]], bursts: float) -> tuple[float, float]:
    """Return by how much the share of failures has grown over all units, and the one-sided p-value of that.

    A unit is (failed, attempts, failed before, attempts before). With d the difference of the two ratios of sums and
    d_(-j) the same without unit j, ``se^2 = (S - 1) / S * sum((d_(-j) - mean)^2)``: the delete-one jackknife (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11). Never less than what bursts alone would do.
    """
    sums = [sum(unit[at] for unit in units) for at in range(4)]
    number = len(units)

    def difference(without: Sequence[int] = (0, 0, 0, 0)) -> float:
        failed, attempts, before, attempts_before = (whole - part for whole, part in zip(sums, without, strict=True))
        return failed / max(1, attempts) - before / max(1, attempts_before)

    lost = difference()
    jackknife = (number - 1) * pvariance([difference(unit) for unit in units])
    pooled = (sums[0] + sums[2] + 1) / (sums[1] + sums[3] + 2)
    least = bursts * pooled * (1.0 - pooled) * (1.0 / max(1, sums[1]) + 1.0 / max(1, sums[3]))
    return lost, _upper(lost, math.sqrt(max(jackknife, least)), degrees=number - 1)


def _bursts(known: Sequence[Figures]) -> float:
    """Return by how much shares of the baseline's runs vary more than a binomial count would, at least the least.

    Pearson's statistic over its degrees of freedom, of all rules together.
    """
    statistic, degrees = 0.0, 0
    for rule in (rule for figures in known for rule in figures.rules.values() if rule.share):
        share = sum(rule.failed) / max(1, sum(rule.attempts))
        if len(rule.attempts) < 2 or share in (0.0, 1.0):
            continue
        for failed, number in zip(rule.failed, rule.attempts, strict=True):
            if number:
                statistic += (failed - number * share) ** 2 / (number * share * (1.0 - share))
        degrees += len(rule.attempts) - 1
    return max(BURSTS_LEAST, statistic / degrees) if degrees else BURSTS_LEAST


def _pooled_sd(samples: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation within the samples, pooled; None when none of them has two values."""
    repeated = [sample for sample in samples if len(sample) > 1]
    degrees = sum(len(sample) - 1 for sample in repeated)
    squares = math.fsum(pvariance(sample) * len(sample) for sample in repeated)
    return math.sqrt(squares / degrees) if degrees else None


def _upper(difference: float, se: float, *, degrees: int | None = None) -> float:
    """Return the probability of so large a difference by chance.

    With ``degrees`` by Student's distribution, through Wallace's approximation ("Bounds on normal approximations to
    Student's and the chi-square distributions", Annals of Mathematical Statistics 30, 1959).
    """
    if difference <= 0.0:
        return 1.0
    if se <= 0.0:
        return 0.0
    z = difference / se
    if degrees is not None:
        z = (8 * degrees + 1) / (8 * degrees + 3) * math.sqrt(degrees * math.log1p(z * z / degrees))
    return NormalDist().cdf(-z)


def _pairs(before: Figures, now: Figures) -> Iterator[tuple[str, RuleFigures, RuleFigures]]:
    for text, new in now.rules.items():
        old = before.rules.get(text)
        if old is not None and old.share and new.share and sum(old.attempts) > 0 and sum(new.attempts) > 0:
            yield text, old, new


def _share(rule: RuleFigures) -> str:
    failed, attempts = sum(rule.failed), sum(rule.attempts)
    return f"{figure(1.0 - failed / attempts, Unit.PERCENT)} ({failed} of {attempts} failed)"


def _words(metric: str) -> str:
    return metric.replace("_", " ")
