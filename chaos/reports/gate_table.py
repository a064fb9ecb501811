"""A gate on the terminal: a line for each run as it ends, and at the end what needs a look.

::

    [ 3/49] edge/bad_release              HELD           playback availability 100 % (99.5 %)   at once    6 s
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Self

from rich.cells import cell_len
from rich.console import Console
from rich.status import Status
from rich.text import Text

from chaos.errors import Outcome
from chaos.events import Event, FaultApplied, Healed, PhaseStarted, RunEnded, TargetReady, TargetStarting
from chaos.reports.gate import GateReport, GateRow, clock_time, recovery_in_words, rule_in_words, worst_rule
from chaos.reports.styles import OUTCOME_STYLES, bullet
from chaos.verdict.model import Verdict

_REASONS_SHOWN = 4
_NAME_MAX = 36
_OUTCOME_WIDTH = max(len(outcome) for outcome in Outcome)
_RULE_WIDTH = 50
_RECOVERY_WIDTH = 8


class GateTable:
    """Prints lines on ``console``; a terminal also shows what is going on right now. A context manager.

    ``files`` are the experiments that are to be run, as they are shown.
    """

    def __init__(self, console: Console, files: Sequence[str]) -> None:
        self._console = console
        self._total = len(files)
        names = shown_names(files)
        self._names = names
        self._width = min(_NAME_MAX, max(map(cell_len, names.values()), default=0))
        self._now = ""
        self._status: Status | None = console.status("") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, number: int, file: str, what: str = "") -> None:
        """Show that a run begins: the ``number``-th experiment, or something else about it (``its control``)."""
        self._now = f"{number}/{self._total} {self._name(file)}{f', {what}' if what else ''}"
        self._show("")

    def handle(self, event: Event) -> None:
        """Show on a terminal what is going on."""
        match event:
            case TargetStarting():
                self._show("the target is being started")
            case TargetReady():
                self._show("the target is healthy; warm-up and baseline")
            case PhaseStarted(phase=phase):
                self._show(phase.replace("_", " "))
            case FaultApplied(description=description):
                self._show(description)
            case Healed():
                self._show("healed: back to the steady state?")
            case RunEnded():
                self._show("judged")

    def line(self, number: int, file: str, verdict: Verdict, duration_s: float, what: str = "") -> None:
        """Print the line of a run that has ended."""
        name, outcome = self._name(file), verdict.outcome
        shown = f"{name[: self._width - 1]}…" if cell_len(name) > self._width else name
        line = Text(f"[{number:>{len(str(self._total))}}/{self._total}] {shown:<{self._width}}  ")
        line.append(f"{outcome.value.upper():<{_OUTCOME_WIDTH}}", style=OUTCOME_STYLES[outcome])
        line.append(
            f"  {rule_in_words(worst_rule(verdict)):<{_RULE_WIDTH}}  {recovery_in_words(verdict):<{_RECOVERY_WIDTH}}"
        )
        line.append(f" {clock_time(duration_s):>7}")
        if what:
            line.append(f"  {what}", style="dim")
        self._console.print(line, soft_wrap=True)

    def end(self, report: GateReport) -> None:
        """Print what needs a look, the notes, and the whole in a line."""
        for row in report.rows:
            if row.outcome is not Outcome.HELD:
                self._look(row)
        for row in report.rows:
            if row.verdict.metastability is not None:
                for sentence in row.verdict.metastability.sentences():
                    self._console.print(bullet(f"metastability of {self._name(row.verdict.file)}: {sentence}"))
        for sentence in report.worse:
            self._console.print(
                bullet(f"worse than the baseline, all experiments together: {sentence}", style="bold red")
            )
        own = [row for row in report.rows if row.why_not_quick]
        if own:
            reasons = dict.fromkeys(row.why_not_quick for row in own)
            names = ", ".join(self._name(row.verdict.file) for row in own)
            self._console.print(bullet(f"{len(own)} not on the load that stands ({'; '.join(reasons)}): {names}"))
        for note in report.notes:
            self._console.print(bullet(note))
        if report.not_run:
            names = ", ".join(self._name(file) for file in report.not_run)
            self._console.print(bullet(f"{len(report.not_run)} not run any more: {names}"))
        self._console.print(
            Text.assemble(("gate ", "bold"), (report.headline, OUTCOME_STYLES[report.outcome]),
                          f" (exit code {report.outcome.exit_code}, seed {report.seed})"), soft_wrap=True
        )  # fmt: skip

    def _look(self, row: GateRow) -> None:
        title = Text(f"{row.outcome.value.upper()}", style=OUTCOME_STYLES[row.outcome])
        title.append(f": {row.verdict.experiment} ({row.verdict.file})", style="bold")
        self._console.print()
        self._console.print(title)
        for reason in row.reasons[:_REASONS_SHOWN]:
            self._console.print(bullet(reason))
        self._console.print(Text.assemble(("  Replay: ", "bold"), row.verdict.replay), soft_wrap=True)

    def _show(self, what: str) -> None:
        if self._status is not None:
            self._status.update(Text(f"{self._now}{f': {what}' if what else ''}"))

    def _name(self, file: str) -> str:
        return self._names.get(file, PurePath(file).stem)


def shown_names(files: Sequence[str]) -> dict[str, str]:
    """Return for each file its name without its ending and without the folders that all have in common."""
    parts = {file: PurePath(file).with_suffix("").parts for file in files}
    common = 0
    for level in zip(*(one[:-1] for one in parts.values()), strict=False):
        if len(set(level)) > 1:
            break
        common += 1
    return {file: "/".join(one[common:]) for file, one in parts.items()}
