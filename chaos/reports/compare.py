"""Experiment and control beside each other: the same faults with the protections and without, and what follows."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from chaos.errors import Outcome
from chaos.experiment.model import PhaseName
from chaos.reports.deviation import deviation, names
from chaos.reports.styles import OUTCOME_STYLES, bullet, table
from chaos.topology.model import Metric
from chaos.verdict.model import Verdict
from chaos.verdict.units import figure


def conclusion(verdict: Verdict, control: Verdict) -> tuple[str, ...]:
    """Return in plain sentences what the two verdicts say together."""
    how, what, them = deviation(control.disabled, control.changed), _what(control), _them(control)
    match verdict.of_run, control.outcome:
        case Outcome.HELD, Outcome.VIOLATED:
            said = f"{_reason(control)}: {how} the same faults broke the steady state"
            said += _difference(verdict, control)
        case Outcome.HELD, Outcome.HELD:
            said = f"the control did not fail: the steady state held {how} as well, so that this experiment"
            said += f" proves nothing about {them}; make the faults stronger, or name the protection that carries it"
        case Outcome.HELD, Outcome.INCONCLUSIVE:
            said = f"the control tells nothing, so that this experiment proves nothing about {what}: "
            said += _first(control)
        case Outcome.HELD, _:
            said = f"the control broke off, and nothing is known about {what}: {_first(control)}"
        case Outcome.VIOLATED, Outcome.VIOLATED:
            said = f"the same faults broke the steady state {_as_it_is(control)} and {how}: "
            said += f"they are not enough{_difference(verdict, control)}"
        case Outcome.VIOLATED, Outcome.HELD:
            said = f"the steady state broke {_as_it_is(control)} and held {how}: look at what {them} did"
        case Outcome.VIOLATED, _:
            said = "the faults broke the steady state; the control adds nothing to that"
        case _:
            said = f"the experiment itself gave no answer, so its control cannot be compared with it: {_first(verdict)}"
    return (said,)


def comparison(verdict: Verdict, control: Verdict, metrics: Mapping[str, Metric]) -> RenderableType:
    """Return both runs in two columns, figures of the fault phase, and the conclusion."""
    rules = {rule.metric: rule.rule for rule in reversed(verdict.steady_state)}
    heads = ("as it is", "changed") if control.changed else ("with", "without")
    rows = table("in the fault phase", *heads, "asked")
    rows.columns[0].no_wrap = True
    rows.columns[1].justify = rows.columns[2].justify = "right"
    rows.add_row("outcome", _outcome(verdict), _outcome(control), "")
    for name, metric in metrics.items():
        cells = [_cell(one, metric) for one in (verdict, control)]
        if name not in rules and all(cell.plain == figure(None, metric.unit) for cell in cells):
            continue  # nothing of that kind was to be measured here
        rows.add_row(metric.title, *cells, rules.get(name, "").removeprefix(name).strip())
    within = "" if verdict.recover_within_s is None else f"<= {figure(verdict.recover_within_s, 's')}"
    rows.add_row("steady again after", _recovery(verdict), _recovery(control), within)
    title = Text.assemble(
        ("Experiment and control", "bold"),
        f": {_as_it_is(control)}, and ",
        (deviation(control.disabled, control.changed), "bold magenta"),
    )
    said = [bullet(sentence) for sentence in conclusion(verdict, control)]
    return Group(title, Padding(rows, (0, 0, 0, 2), expand=False), *said)


def _outcome(verdict: Verdict) -> Text:
    return Text(verdict.outcome.value.upper(), style=OUTCOME_STYLES[verdict.outcome])


def _cell(verdict: Verdict, metric: Metric) -> Text:
    value = next((phase.metrics.get(metric.name) for phase in verdict.phases if phase.name == PhaseName.FAULT), None)
    rules = [rule for rule in verdict.steady_state if rule.metric == metric.name]
    if any(rule.control_group is not None for rule in rules):
        value = rules[0].measured  # the rules are about one group, and so is this comparison
    broken = any(rule.outcome is Outcome.VIOLATED for rule in rules)
    return Text(figure(value, metric.unit), style="red" if broken else "")


def _recovery(verdict: Verdict) -> str:
    if verdict.recovery_s is not None:
        return figure(verdict.recovery_s, "s") if verdict.recovery_s else "at once"
    return "never" if any(phase.name == PhaseName.RECOVERY for phase in verdict.phases) else "-"


def _difference(verdict: Verdict, control: Verdict) -> str:
    """Name the first rule that the control broke, rules with another outcome in the experiment before others."""
    pairs = [
        (before, after)
        for before in verdict.steady_state
        for after in control.steady_state
        if before.rule == after.rule and after.outcome is Outcome.VIOLATED
    ]
    if not pairs:
        return f" ({_first(control)})" if control.reasons else ""
    before, after = min(pairs, key=lambda pair: pair[0].outcome is Outcome.VIOLATED)
    there = "without a value" if after.measured is None else figure(after.measured, after.unit)
    name = after.metric.removesuffix("_s").replace("_", " ")  # the figures have their units
    return f" ({name} {there} instead of {figure(before.measured, before.unit)})"


def _first(verdict: Verdict) -> str:
    return verdict.reasons[0] if verdict.reasons else verdict.outcome.value


def _as_it_is(control: Verdict) -> str:
    return "as it is" if control.changed else "with the protections"


def _reason(control: Verdict) -> str:
    return "this is the reason" if control.changed else "the protections are the reason"


def _what(control: Verdict) -> str:
    return names([*control.disabled, *control.changed])


def _them(verdict: Verdict) -> str:
    return "it" if len(verdict.disabled) + len(verdict.changed) == 1 else "them"
