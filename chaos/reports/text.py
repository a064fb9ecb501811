"""The verdict in words: what held, what did not, by how much and when, the receipts, and how to run it again."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from chaos.errors import Outcome
from chaos.experiment.model import PhaseName
from chaos.reports.deviation import deviation
from chaos.reports.metastability import finding_table
from chaos.reports.styles import OUTCOME_STYLES, bullet, table
from chaos.samples import SampleOutcome
from chaos.topology.model import Metric, Unit
from chaos.verdict.machine import MachinePhase
from chaos.verdict.model import RuleResult, Verdict
from chaos.verdict.units import figure

_SAYS = {
    Outcome.HELD: "the steady state held through the faults",
    Outcome.VIOLATED: "the steady state did not hold",
    Outcome.INCONCLUSIVE: "this run does not tell",
    Outcome.ERROR: "the environment failed; nothing can be said about the system",
    Outcome.INTERRUPTED: "healed and stopped before the end",
}
_SEARCH_SAYS = {
    **_SAYS,
    Outcome.VIOLATED: "the system does not recover by itself up to the load that it must recover up to",
    Outcome.INCONCLUSIVE: "the probes do not tell up to which load the system recovers by itself",
}
"""Where it was not the run that decided, but the search behind it."""
_OUTCOMES = {
    SampleOutcome.OK: "full answers",
    SampleOutcome.FALLBACK: "by fallback",
    SampleOutcome.REFUSED: "refused",
    SampleOutcome.FAILED: "failed",
}
_VICTIMS_SHOWN = 6


def print_verdict(console: Console, verdict: Verdict, metrics: Mapping[str, Metric]) -> None:
    """Print the verdict; ``metrics`` are the topology's, for their titles and units.

    The replay command is printed as one line however long it is, so that it can be copied.
    """
    console.print(verdict_in_words(verdict, metrics))
    console.print(Text.assemble(("Replay: ", "bold"), verdict.replay), soft_wrap=True)


def verdict_in_words(verdict: Verdict, metrics: Mapping[str, Metric]) -> RenderableType:
    """Return the whole verdict but the replay command."""
    sections: list[RenderableType] = [_headline(verdict)]
    sections += [bullet(reason) for reason in verdict.reasons]
    if verdict.steady_state:
        sections += [_title("Steady state in the fault phase"), _indented(_rules(verdict.steady_state))]
    if verdict.must_break:
        sections += [_title("What the faults had to break"), _indented(_rules(verdict.must_break))]
    if verdict.phases:
        sections += [_title("Phases"), _indented(_phases(verdict, metrics))]
    if verdict.receipts:
        sections += [_title("Faults and what they touched"), _indented(_receipts(verdict))]
    if verdict.metastability is not None:
        heading = "Metastability: from which load on it no longer recovers by itself"
        sections += [_title(heading), _indented(finding_table(verdict.metastability))]
    sections.append(Text())
    sections.append(_recovery(verdict))
    if verdict.start_lag_p99_s is not None:
        lag = figure(verdict.start_lag_p99_s, "s")
        sections.append(Text.assemble(("Load generator: ", "bold"), f"99 of 100 arrivals began at most {lag} late"))
    sections += [_machine(phase) for phase in verdict.machine if phase.name == PhaseName.FAULT]
    return Group(*sections)


def _machine(phase: MachinePhase) -> Text:
    """Return a line on the machine in the fault phase."""
    said = []
    if phase.left_share is not None:
        said.append(f"{figure(phase.left_share, Unit.PERCENT)} of its processors left over")
    if phase.taken_share is not None:
        said.append(f"{figure(phase.taken_share, Unit.PERCENT)} taken by others")
    if phase.canary_s is not None:
        said.append(f"an edge without a fault answered within {figure(phase.canary_s, 's')}")
    line = Text.assemble(("Machine: ", "bold"), ", ".join(said) or "it does not tell")
    return line.append(" (starved)", style="bold yellow") if phase.starved else line


def _headline(verdict: Verdict) -> RenderableType:
    line = Text(verdict.outcome.value.upper(), style=OUTCOME_STYLES[verdict.outcome])
    says = _SAYS if verdict.run_outcome is None else _SEARCH_SAYS
    line.append(f": {says[verdict.outcome]}", style="bold")
    about = Text(f"{verdict.experiment} ({verdict.file}), seed {verdict.seed}, {verdict.backend}")
    if verdict.disabled or verdict.changed:
        about.append(", ")
        about.append(f"control {deviation(verdict.disabled, verdict.changed)}", style="bold magenta")
    if verdict.scaled:
        return Group(line, about, Text(f"scaled: {'; '.join(verdict.scaled)}"))
    return Group(line, about)


def _title(words: str) -> RenderableType:
    return Group(Text(), Text(words, style="bold"))


def _indented(what: RenderableType) -> RenderableType:
    return Padding(what, (0, 0, 0, 2), expand=False)


def _rules(rules: tuple[RuleResult, ...]) -> RenderableType:
    rows = table("rule", "measured", "limit", "verdict")
    rows.columns[1].justify = rows.columns[2].justify = "right"
    for rule in rules:
        rows.add_row(
            rule.rule,
            _measured(rule),
            figure(rule.limit, rule.unit),
            _outcome(rule),
        )
    return rows


def _measured(rule: RuleResult) -> Text:
    """Return what was measured, and below it between what the true figure lies, and what the control group measured.

    ``98.9 % to 100 %``, ``control group 99.6 %``.
    """
    text = _with_interval(rule)
    if rule.control_group is None:
        return text
    return text.append(f"\ncontrol group {figure(rule.control_group, rule.unit)}", style="dim")


def _with_interval(rule: RuleResult) -> Text:
    text = Text(figure(rule.measured, rule.unit, apart_from=rule.limit))
    match rule.interval:
        case None | (None, None):
            return text
        case (None, high):
            sure = f"<= {figure(high, rule.unit)}"
        case (low, None):
            sure = f">= {figure(low, rule.unit)}"
        case (low, high):
            sure = f"{figure(low, rule.unit)} to {figure(high, rule.unit)}"
    return text.append(f"\n{sure}", style="dim")


def _outcome(rule: RuleResult) -> Text:
    text = Text(rule.outcome.value, style=OUTCOME_STYLES[rule.outcome])
    return text.append(f"\n{rule.needs_s} s more would tell", style="dim") if rule.needs_s is not None else text


def _phases(verdict: Verdict, metrics: Mapping[str, Metric]) -> RenderableType:
    rows = table("", *(phase.name.replace("_", " ") for phase in verdict.phases))
    for column in rows.columns[1:]:
        column.justify, column.no_wrap = "right", True
    rows.add_row("seconds", *(f"{phase.start_s:.0f} to {phase.end_s:.0f}" for phase in verdict.phases), style="dim")
    for kind in dict.fromkeys(kind for phase in verdict.phases for kind in phase.attempts):
        attempts = (str(phase.attempts.get(kind, 0)) for phase in verdict.phases)
        rows.add_row(f"attempts: {kind}", *attempts, style="dim")
        for outcome, words in _OUTCOMES.items():
            numbers = [phase.outcomes.get(kind, {}).get(outcome, 0) for phase in verdict.phases]
            if any(numbers):
                rows.add_row(f"  {words}", *map(str, numbers), style="dim")
    for name, metric in metrics.items():
        values = [phase.metrics.get(name) for phase in verdict.phases]
        if any(value is not None for value in values):
            rows.add_row(metric.title, *(figure(value, metric.unit) for value in values))
    return rows


def _receipts(verdict: Verdict) -> RenderableType:
    rows = table("fault", "on", "seconds", "touched")
    for receipt in verdict.receipts:
        more = len(receipt.victims) - _VICTIMS_SHOWN
        victims = ", ".join(receipt.victims[:_VICTIMS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        touched = Text(receipt.evidence or f"{receipt.connections} connections")
        if not receipt.touched:
            touched = Text(f"NOTHING {f'({receipt.evidence})' if receipt.evidence else ''}".strip(), style="bold red")
        span = f"{receipt.applied_at_s:.1f} to {receipt.healed_at_s:.1f}"
        rows.add_row(receipt.fault, victims, span, touched)
    return rows


def _recovery(verdict: Verdict) -> Text:
    line = Text.assemble(("Recovery: ", "bold"))
    allowed = "" if verdict.recover_within_s is None else f" (allowed: {figure(verdict.recover_within_s, 's')})"
    if verdict.recovery_s is not None:
        when = f"{figure(verdict.recovery_s, 's')} after healing" if verdict.recovery_s else "at once"
        return line.append(f"steady again {when}{allowed}")
    if not any(phase.name == "recovery" for phase in verdict.phases):
        return line.append("not observed")
    return line.append(f"the steady state did not hold again{allowed}")
