"""Several experiments at a glance: a line each, and the worst outcome, which is the command's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from chaos.errors import Outcome
from chaos.reports.document import Result
from chaos.reports.styles import OUTCOME_STYLES, table
from chaos.verdict.model import Verdict
from chaos.verdict.units import figure

_WIDTH_MAX = 28


def print_summary(console: Console, results: Sequence[Result], worst: Outcome) -> None:
    """Print the list; ``worst`` is the outcome of the whole command."""
    console.print(summary(results, worst))


def summary(results: Sequence[Result], worst: Outcome) -> RenderableType:
    """Return the table of all results and the line about the worst of them."""
    with_control = any(result.control is not None for result in results)
    headings = ["experiment", "outcome", *(["control"] if with_control else []), "steady again", "first reason"]
    rows = table(*headings)
    for result in results:
        rows.add_row(
            Path(result.verdict.file).stem,
            _word(result.outcome),
            *([_control(result.control)] if with_control else []),
            _recovery(result.verdict),
            Text(_reason(result), no_wrap=True, overflow="ellipsis"),
        )
    for column in rows.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for column in rows.columns[:-1]:  # a narrow terminal shortens the reason, and never an outcome
        column.min_width = min(_WIDTH_MAX, max(cell_len(str(cell)) for cell in (column.header, *column.cells)))
    last = Text.assemble(
        "The worst outcome of ",
        f"{len(results)} experiments: " if len(results) != 1 else "1 experiment: ",
        _word(worst),
        f" (exit code {worst.exit_code})",
    )
    return Group(Text("All experiments", style="bold"), Padding(rows, (0, 0, 0, 2), expand=False), last)


def _word(outcome: Outcome) -> Text:
    return Text(outcome.value.upper(), style=OUTCOME_STYLES[outcome])


def _control(control: Verdict | None) -> Text:
    """A control is there to fail."""
    if control is None:
        return Text("-")
    if control.outcome is Outcome.VIOLATED:
        return Text("failed, as asked", style="green")
    if control.outcome is Outcome.HELD:
        return Text("did NOT fail", style="bold red")
    return _word(control.outcome)


def _recovery(verdict: Verdict) -> str:
    if verdict.recovery_s is None:
        return "-"
    return figure(verdict.recovery_s, "s") if verdict.recovery_s else "at once"


def _reason(result: Result) -> str:
    if result.control is not None and result.outcome is not result.verdict.outcome:
        return "the control did not fail" if result.control.outcome is Outcome.HELD else "the control gave no answer"
    return result.verdict.reasons[0] if result.verdict.reasons else ""
