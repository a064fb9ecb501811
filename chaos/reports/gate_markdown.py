"""A gate as Markdown: the answer in a line, what needs a look, and a row for each experiment.

For a merge request's comment, and for the page that GitHub shows beside a workflow's run.
"""

from __future__ import annotations

from collections.abc import Iterator

from chaos.errors import Outcome
from chaos.reports.gate import GateReport, GateRow, clock_time, recovery_in_words, rule_in_words, worst_rule
from chaos.reports.gfm import code, table_row, words
from chaos.topology.model import Unit
from chaos.verdict.units import figure

_REASONS_SHOWN = 5
_SIGNS = {
    Outcome.HELD: "✅",
    Outcome.VIOLATED: "❌",
    Outcome.INCONCLUSIVE: "❔",
    Outcome.ERROR: "⚠️",
    Outcome.INTERRUPTED: "⏹️",
}


def gate_markdown(report: GateReport) -> str:
    """Return the summary. Pure."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: GateReport) -> Iterator[str]:
    yield f"## {_SIGNS[report.outcome]} Resilience: {report.headline}"
    yield ""
    for sentence in report.worse:
        yield f"- **worse than the baseline, all experiments together:** {words(sentence)}"
    for note in report.notes:
        yield f"- {words(note)}"
    if report.not_run:
        yield f"- not run any more: {', '.join(map(code, report.not_run))}"
    yield from _look(report)
    yield ""
    yield from _table(report)
    yield from _searches(report)


def _look(report: GateReport) -> Iterator[str]:
    for row in report.rows:
        if row.outcome is Outcome.HELD:
            continue
        yield ""
        what = f"{words(row.verdict.experiment)} ({code(row.verdict.file)})"
        yield f"### {_SIGNS[row.outcome]} {what}: {row.outcome.value}"
        yield ""
        for reason in row.reasons[:_REASONS_SHOWN]:
            yield f"- {words(reason)}"
        yield ""
        yield "```sh"
        yield row.verdict.replay
        yield "```"


def _table(report: GateReport) -> Iterator[str]:
    if not report.rows:
        return
    controls = any(row.control is not None for row in report.rows)
    headings = [
        "experiment",
        "outcome",
        *(["control"] if controls else []),
        "worst rule (limit)",
        "steady again",
        "time",
    ]
    yield table_row(headings)
    yield f"|{' --- |' * len(headings)}"
    for row in report.rows:
        cells = [
            code(row.verdict.file),
            _outcome(row),
            *([_control(row)] if controls else []),
            words(rule_in_words(worst_rule(row.verdict))),
            recovery_in_words(row.verdict),
            clock_time(row.duration_s),
        ]
        yield table_row(cells)


def _searches(report: GateReport) -> Iterator[str]:
    """Yield the three loads of every search for metastability, and all that was tried."""
    found = [(row, row.verdict.metastability) for row in report.rows if row.verdict.metastability is not None]
    if not found:
        return
    yield ""
    yield "### From which load on it no longer recovers by itself"
    yield ""
    yield "| experiment | recovers up to | stays down from | overloaded from | probes |"
    yield "| --- | --- | --- | --- | --- |"
    for row, one in found:
        loads = (one.recovers_up_to_per_s, one.stays_down_from_per_s, one.overloaded_from_per_s)
        cells = [code(row.verdict.file), *(figure(load, Unit.PER_SECOND) for load in loads), str(len(one.probes))]
        yield table_row(cells)
    for _, one in found:
        yield ""
        yield from (f"- {words(sentence)}" for sentence in one.sentences())


def _outcome(row: GateRow) -> str:
    said = f"{_SIGNS[row.outcome]} {row.outcome.value}"
    return said if len(row.verdicts) == 1 else f"{said} (first {row.verdicts[0].outcome.value})"


def _control(row: GateRow) -> str:
    if row.control is None:
        return "-"
    return "failed, as asked" if row.control.outcome is Outcome.VIOLATED else row.control.outcome.value
