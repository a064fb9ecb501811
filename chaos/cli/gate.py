"""``chaos gate``: a suite of experiments as one answer, for merges and for nights."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from chaos.cli.options import set_option
from chaos.cli.run import LOG_WIDTH, jobs_of
from chaos.cli.untilstopped import until_done_or_told_to_stop
from chaos.environment import Backend
from chaos.errors import UsageError, suggest
from chaos.gate import baseline_file
from chaos.gate.baseline import Figures, ResilienceBaseline, Worse, compare, merge, updated
from chaos.gate.forms import (
    QUICK_FAULT_S,
    QUICK_RATE_PER_S,
    QUICK_TOGETHER,
    Entry,
    Quick,
    entries_of,
    groups_of,
    quick_backend,
)
from chaos.gate.gate import Gate, repeated
from chaos.jobs import Job
from chaos.reports.gate import GateReport, gate_document
from chaos.reports.gate_markdown import gate_markdown
from chaos.reports.gate_table import GateTable
from chaos.reports.junit import junit_xml
from chaos.suite import SuiteOptions
from chaos.units import format_duration, read_duration_s, read_rate_per_s
from chaos.verdict.units import plural

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""Names the file that GitHub shows beside a workflow's run."""
REPEAT_MOST = 20
QUICK_MOST = 3600.0
TOGETHER_MOST = 10


def _read(read: Callable[[str], float]) -> Callable[[click.Context, click.Parameter, str], float]:
    """Return a callback that reads an option's number with its unit."""

    def number(_context: click.Context, _option: click.Parameter, value: str) -> float:
        try:
            found = read(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is {error}") from None
        if not 0.0 < found <= QUICK_MOST:
            raise click.BadParameter(f"{value!r} is not above 0 and at most {QUICK_MOST:g}")
        return found

    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The files that a gate writes."""

    junit: Path | None
    markdown: Path | None
    json: Path | None
    journals: Path | None
    html: Path | None

    def check(self) -> None:
        """Make the folder of the journals, and raise UsageError for a file that could not be written."""
        if self.html is not None and _report_command() is None:
            raise UsageError("--html: this chaos has no command `report`, which makes it")
        for file in (self.junit, self.markdown, self.json, self.html):
            if file is not None and not file.absolute().parent.is_dir():
                raise UsageError(f"{file}: there is no folder {file.parent}; make it first")
        if self.journals is not None:
            try:
                self.journals.mkdir(parents=True, exist_ok=True)
            except OSError as failure:
                raise UsageError(f"{self.journals}: cannot be made: {failure.strerror}") from failure

    def write(self, report: GateReport) -> None:
        """Write what was asked for, and the summary where a CI server wants one."""
        if self.junit is not None:
            self.junit.write_text(junit_xml(report), encoding="utf-8")
        if self.markdown is not None:
            self.markdown.write_text(gate_markdown(report), encoding="utf-8")
        if self.json is not None:
            self.json.write_text(json.dumps(gate_document(report), indent=2) + "\n", encoding="utf-8")
        if summary := os.environ.get(SUMMARY_VARIABLE):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(gate_markdown(report))
        journals = list(dict.fromkeys(journal for row in report.rows for journal in row.journals))
        command = _report_command()
        if self.html is not None and command is not None and journals:
            command.main([*journals, "--html", str(self.html)], standalone_mode=False)


def _report_command() -> click.Command | None:
    """Return ``chaos report``, which makes one HTML file of journals."""
    root = click.get_current_context().find_root()
    return root.command.get_command(root, "report") if isinstance(root.command, click.Group) else None


@click.command(short_help="Run a suite of experiments as one answer, for CI.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="For merges: experiments share a start, a load and a baseline.")
@click.option("--quick-rate", default=f"{QUICK_RATE_PER_S:g}/s", show_default=True, callback=_read(read_rate_per_s),
              help="Arrivals a second of the quick form; fewer where load.quick_rate says so.")  # fmt: skip
@click.option("--quick-fault", default=format_duration(QUICK_FAULT_S), show_default=True,
              callback=_read(read_duration_s), help="How long its fault phases last at least.")  # fmt: skip
@click.option("--quick-together", type=click.IntRange(1, TOGETHER_MOST), default=QUICK_TOGETHER, show_default=True,
              help="How many experiments it runs at the same time where nobody meets two of their faults.")  # fmt: skip
@click.option("--control", is_flag=True, help="Also run the control of each experiment that held: it must fail.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only experiments with this tag. May be repeated.")
@click.option("--not-tag", "not_tags", multiple=True, metavar="TAG", help="None with this tag. May be repeated.")
@click.option("--seed", type=int, help="Decides every random choice. Default: a new one, shown at the end.")
@set_option
@click.option("--fail-fast", is_flag=True, help="Stop at the first experiment that is violated or fails to run.")
@click.option("--retry/--no-retry", default=True, help="Run what is inconclusive, or looks worse than the baseline, "
              "once more.  [default: retry]")  # fmt: skip
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write a Markdown summary.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write everything as JSON.")
@click.option("--journal", type=click.Path(path_type=Path, file_okay=False), help="A folder for a journal of each run.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write an HTML report of all runs.")
@click.option("--baseline", type=click.Path(path_type=Path, dir_okay=False), help="The resilience baseline. Default: "
              f"{baseline_file.FILE_NAME} beside the experiments or in this folder.")  # fmt: skip
@click.option("--update-baseline", is_flag=True, help="Write what is measured now as the resilience baseline.")
@click.option("--repeat", type=click.IntRange(1, REPEAT_MOST), help="How often to run everything for it.  [default: 3]")
@click.option("--proxy", type=click.Choice([str(one) for one in Backend]), default="auto", show_default=True,
              help="As of chaos run; in the quick form auto is one proxy for all that need the same.")  # fmt: skip
@click.option("--no-color", is_flag=True, help="No colours (the variable NO_COLOR does the same).")
def gate(
    paths: tuple[Path, ...],
    quick: bool,
    quick_rate: float,
    quick_fault: float,
    quick_together: int,
    control: bool,
    tags: tuple[str, ...],
    not_tags: tuple[str, ...],
    seed: int | None,
    settings: tuple[str, ...],
    fail_fast: bool,
    retry: bool,
    junit: Path | None,
    markdown: Path | None,
    json_path: Path | None,
    journal: Path | None,
    html: Path | None,
    baseline: Path | None,
    update_baseline: bool,
    repeat: int | None,
    proxy: str,
    no_color: bool,
) -> None:
    """Run a suite of experiments and answer with one exit code: the worst one's.

    A folder stands for all experiments in it. The table shows each of them as it ends. An experiment that is
    inconclusive is run once more. Where there is a resilience baseline, what has become significantly worse than it
    fails the gate, even where every rule holds.

    \b
    Examples:
      chaos gate experiments/ --quick                             for a merge
      chaos gate experiments/ --control --junit build/gate.xml    for a night
      chaos gate experiments/ --quick --tag gateway --fail-fast
      chaos gate experiments/ --quick --update-baseline           keep what is measured as the baseline
    """
    if repeat is not None and not update_baseline:
        raise UsageError("--repeat: only a baseline is made from several runs; add --update-baseline")
    given = click.get_current_context().get_parameter_source
    for name in ("quick_rate", "quick_fault", "quick_together"):
        if not quick and given(name) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{name.replace('_', '-')}: is about the quick form; add --quick")
    if update_baseline and (control or fail_fast):
        raise UsageError("--update-baseline: measures what is well, without --control and --fail-fast")
    used = seed if seed is not None else random.SystemRandom().randrange(1, 1_000_000)
    how = [] if proxy == Backend.AUTO else ["--proxy", proxy]
    jobs = jobs_of(paths, seed=used, control=control, settings=settings, how=how, proxy=Backend(proxy))
    jobs = chosen(jobs, tags, not_tags)
    if html is not None and journal is None:  # it is made of journals
        journal = Path(click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="chaos-gate-")))
    outputs = Outputs(junit=junit, markdown=markdown, json=json_path, journals=journal, html=html)
    outputs.check()
    known, file = _baseline(paths, baseline, update=update_baseline)
    options = quick_options(quick_rate, quick_fault, quick_together) if quick else None
    groups = groups_of(entries_of(jobs, options), options)
    if update_baseline:
        groups = repeated(groups, repeat or 3)
    entries = [entry for group in groups for entry in group]
    console = Console(no_color=no_color or None, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    table = GateTable(console, [str(entry.job.experiment.file) for entry in entries])
    form = "quick" if quick else "full"
    running = Gate(
        SuiteOptions(backend=quick_backend(jobs, Backend(proxy)) if quick else Backend(proxy)),
        groups,
        table=table,
        retry=retry,
        looks_worse=None if known is None or update_baseline else partial(_looks_worse, known, file, form=form),
        fail_fast=fail_fast,
        journals=journal,
    )
    with table:
        interrupted = asyncio.run(until_done_or_told_to_stop(running.run, console))
    figures = running.figures()
    notes = left_out_notes(entries)
    worse = None
    if update_baseline:
        notes.append(_update(known or ResilienceBaseline(), file, figures, form=form, interrupted=interrupted))
    elif known is None:
        notes.append(f"no resilience baseline: nothing to compare with; make {file} with --update-baseline")
    else:
        worse = _compare(known, file, figures, form=form)
        notes += _comparison_notes(worse, file, form)
    report = running.report(
        form=form,
        seed=used,
        interrupted=interrupted,
        worse=worse,
        names={path: baseline_file.name_of(path, file) for path, _ in figures},
        notes=notes,
    )
    table.end(report)
    outputs.write(report)
    raise click.exceptions.Exit(report.outcome.exit_code)


def quick_options(rate_per_s: float, fault_s: float, together: int) -> Quick:
    """Return how the quick form is made, and what a command line needs to make it again."""
    options = ["--quick"]
    options += [] if rate_per_s == QUICK_RATE_PER_S else ["--quick-rate", f"{rate_per_s:g}/s"]
    options += [] if fault_s == QUICK_FAULT_S else ["--quick-fault", format_duration(fault_s)]
    options += [] if together == QUICK_TOGETHER else ["--quick-together", f"{together}"]
    return Quick(rate_per_s=rate_per_s, fault_s=fault_s, together=together, options=tuple(options))


def left_out_notes(entries: Sequence[Entry]) -> list[str]:
    """Say which rules the quick form has not judged and what it has not searched for, and of how many experiments."""
    texts = Counter(text for entry in entries for text in entry.left_out)
    said = [
        f"left to the full form, because a few seconds do not decide a rate: {text} ({number} experiments)"
        for text, number in sorted(texts.items())
    ]
    searching = sum(entry.leaves_search_out for entry in entries)
    if searching:
        said.append(
            "left to the full form, because it takes many runs: the search for the load that the system no longer "
            f"recovers from ({plural('experiment', searching)})"
        )
    return said


def chosen(jobs: Sequence[Job], tags: Sequence[str], not_tags: Sequence[str]) -> list[Job]:
    """Return the jobs with one of ``tags`` (all when there are none) and none of ``not_tags``.

    Raises UsageError for a tag that no experiment has, and when nothing is left.
    """
    known = sorted({tag for job in jobs for tag in job.experiment.tags})
    for tag in (*tags, *not_tags):
        if tag not in known:
            raise UsageError(
                f"no experiment here has the tag {tag!r}{suggest(tag, known)}; there are: {', '.join(known)}"
            )
    left = [
        job
        for job in jobs
        if (not tags or set(tags) & set(job.experiment.tags)) and not set(not_tags) & set(job.experiment.tags)
    ]
    if not left:
        raise UsageError("no experiment is left: every one with these tags has one of --not-tag as well")
    return left


def _baseline(paths: Sequence[Path], given: Path | None, *, update: bool) -> tuple[ResilienceBaseline | None, Path]:
    """Return the baseline and its file: where there is none, where it would be. Raises UsageError for a broken one."""
    file = given if given is not None else baseline_file.find(paths)
    if file is None:
        return None, baseline_file.place_for(paths)
    if update and not file.exists():
        return None, file
    return baseline_file.read(file), file


def _by_name(figures: Sequence[tuple[Path, Figures]], file: Path) -> dict[str, list[Figures]]:
    named: dict[str, list[Figures]] = {}
    for path, one in figures:
        named.setdefault(baseline_file.name_of(path, file), []).append(one)
    return named


def _compare(known: ResilienceBaseline, file: Path, figures: Sequence[tuple[Path, Figures]], *, form: str) -> Worse:
    return compare(known, {name: merge(runs) for name, runs in _by_name(figures, file).items()}, form=form)


def _looks_worse(
    known: ResilienceBaseline, file: Path, figures: Sequence[tuple[Path, Figures]], *, form: str
) -> dict[Path, tuple[str, ...]]:
    """Return what is worse in single experiments, by the experiment's own file."""
    worse = _compare(known, file, figures, form=form).experiments
    named = {path: baseline_file.name_of(path, file) for path, _ in figures}
    return {path: worse[name] for path, name in named.items() if name in worse}


def _comparison_notes(worse: Worse, file: Path, form: str) -> list[str]:
    notes = [f"compared with {file}: {worse.tests} figures, {sum(map(len, worse.experiments.values()))} worse"]
    if worse.unknown:
        names = ", ".join(worse.unknown[:5]) + (f" and {len(worse.unknown) - 5} more" if len(worse.unknown) > 5 else "")
        notes.append(f"not in the baseline in the {form} form, so not compared: {names}")
    return notes


def _update(
    known: ResilienceBaseline,
    file: Path,
    figures: Sequence[tuple[Path, Figures]],
    *,
    form: str,
    interrupted: bool,
) -> str:
    if interrupted:
        return f"interrupted: {file} was left as it is"
    named = _by_name(figures, file)
    baseline_file.write(file, updated(known, named, form=form))
    return (
        f"{file}: written for {len(named)} experiments in the {form} form; those that did not hold keep what they had"
    )
