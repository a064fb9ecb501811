"""Which view a run gets, and what is printed when all runs are over: the choice between terminal, log and silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from rich.console import Console
from rich.text import Text

from chaos.errors import Outcome
from chaos.events import Event
from chaos.experiment.model import Experiment
from chaos.experiment.plan import Plan
from chaos.reports.compare import comparison
from chaos.reports.document import Result
from chaos.reports.live import LiveView
from chaos.reports.plain import PlainView, QuietView
from chaos.reports.progress import metrics_to_show
from chaos.reports.summary import print_summary
from chaos.reports.text import print_verdict
from chaos.topology.model import Topology


class View(Protocol):
    """Shows one run while it goes on. A context manager: it takes the terminal and gives it back."""

    def __enter__(self) -> Self:
        """Take the terminal."""

    def __exit__(self, *exception: object) -> None:
        """Give it back as it was."""

    def handle(self, event: Event) -> None:
        """Show one event."""


class Job(Protocol):
    """What a view needs to know of a run that is to be made."""

    @property
    def experiment(self) -> Experiment:
        """The experiment."""

    @property
    def topology(self) -> Topology:
        """Its target."""

    @property
    def plan(self) -> Plan:
        """What will happen, and when."""


class JobResult(Result, Protocol):
    """A result that still knows its job."""

    @property
    def job(self) -> Job:
        """The job."""


class Views:
    """Makes the view of each run, and prints the verdicts at the end.

    A terminal gets the live view, anything else one plain line a second; ``quiet`` gets neither and the verdict all
    the same.
    """

    def __init__(self, *, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet

    def view_for(self, job: Job) -> View:
        """Return the view of one run."""
        if self._quiet:
            return QuietView()
        faults = [(one.name, one.description, one.at_s, one.until_s) for one in job.plan.events]
        if LiveView.usable(self._console):
            return LiveView(job.experiment, job.topology, faults, console=self._console)
        return PlainView(job.experiment, job.topology, faults, output=self._console.file)

    def show_results(self, results: Sequence[JobResult], outcome: Outcome | None = None) -> None:
        """Print every verdict, each control beside its experiment, and the list where there are several.

        A control's own verdict is printed where it did not fail as it should, to say why. ``outcome`` is that of
        the whole command; the caller's, because an interruption is in no verdict.
        """
        for number, result in enumerate(results):
            if number:
                self._console.rule(style="dim")
            metrics = metrics_to_show(result.job.experiment, result.job.topology)
            print_verdict(self._console, result.verdict, metrics)
            if result.control is not None:
                self._console.print()
                if result.control.outcome is not Outcome.VIOLATED:
                    self._console.print(Text("The control's own verdict", style="bold"))
                    print_verdict(self._console, result.control, metrics)
                    self._console.print()
                self._console.print(comparison(result.verdict, result.control, metrics))
        if len(results) > 1:
            self._console.rule(style="dim")
            print_summary(self._console, results, outcome if outcome is not None else _worst(results))


def _worst(results: Sequence[Result]) -> Outcome:
    """Return the outcome of the list, by the order in which one hides another."""
    order = (Outcome.HELD, Outcome.INCONCLUSIVE, Outcome.VIOLATED, Outcome.ERROR, Outcome.INTERRUPTED)
    return max((result.outcome for result in results), key=order.index, default=Outcome.HELD)
