"""``chaos mutate``: protections are taken away one by one, and the experiments have to notice."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from chaos.cli.options import load_all, overrides_of, set_option
from chaos.cli.untilstopped import until_done_or_told_to_stop
from chaos.errors import Outcome, UsageError
from chaos.experiment.model import Experiment
from chaos.experiment.plan import overlaps
from chaos.experiment.plan import plan as make_plan
from chaos.jobs import Job
from chaos.mutation.model import Fate, Judged, Mutant, score
from chaos.mutation.parser import load_mutants
from chaos.mutation.trial import Trial
from chaos.reports.html.page import check_writable
from chaos.reports.mutation import line_of, mutation_document, mutation_markdown, print_list, print_score
from chaos.reports.plain import QuietView
from chaos.suite import Suite, SuiteOptions
from chaos.topology.model import Topology

SEED = 1


@click.command(short_help="Take protections away one by one: do the experiments notice?")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--list", "only_list", is_flag=True, help="List the mutants and start nothing.")
@click.option("--only", metavar="PATTERN", help="Only mutants whose name fits: --only 'deadlines@*'.")
@click.option("--at-least", default=95.0, show_default=True, metavar="PERCENT", type=click.FloatRange(0, 100),
              help="The exit code is 1 when the score is lower.")  # fmt: skip
@click.option("--seed", default=SEED, show_default=True, help="Decides every random choice.")
@set_option
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the result as JSON.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write the table of mutants.")
@click.option("--no-color", is_flag=True, help="No colours (the variable NO_COLOR does the same).")
def mutate(
    path: Path,
    only_list: bool,
    only: str | None,
    at_least: float,
    seed: int,
    settings: tuple[str, ...],
    json_path: Path | None,
    markdown: Path | None,
    no_color: bool,
) -> None:
    """Take the system's protections away one by one, and see whether an experiment fails.

    PATH is a list of mutants, or a folder with one (mutants.yaml). For each mutant the experiments that should notice
    it are run without its protections, until one of them fails: that kills it. The mutation score is the share of the
    mutants that were killed; who survived is named, with the reason where the list has one.

    \b
    Examples:
      chaos mutate experiments/ --list
      chaos mutate experiments/ --only 'fallbacks@*'
      chaos mutate experiments/ --json mutants.json --markdown mutants.md
    """
    listed, _ = load_mutants(path)
    console = Console(no_color=no_color or None, highlight=False)
    mutants = [one for one in listed.mutants if only is None or fnmatch.fnmatchcase(one.name, only)]
    if not mutants:
        raise UsageError(f"--only {only}: no mutant of {listed.file} fits; see chaos mutate {path} --list")
    changes = {key: json.dumps(value) if not isinstance(value, str) else value for key, value in listed.changes.items()}
    overrides = {**changes, **overrides_of(settings)}
    loaded = load_all((file for mutant in mutants for file in mutant.noticed_by), overrides)
    plans = [make_plan(experiment, topology, seed) for experiment, topology in loaded.values()]
    if problems := [problem for file, plan in zip(loaded, plans, strict=True) for problem in overlaps(plan, file)]:
        raise UsageError(problems)
    if only_list:
        print_list(console, mutants, listed=listed)
        return
    for file in filter(None, (json_path, markdown)):
        check_writable(file)
    suite = Suite(SuiteOptions(), view_for=lambda _: QuietView())
    judged: list[Judged] = []

    def jobs() -> Iterator[Job]:
        for mutant in mutants:
            trial = Trial(mutant)
            while (experiment := trial.following()) is not None:
                yield _job(mutant, *loaded[experiment], seed=seed, overrides=overrides)
                _, verdict = suite.verdicts[-1]
                trial.tell(verdict.outcome, verdict.reasons[0] if verdict.reasons else "")
            judged.append(trial.judged())
            console.print(line_of(judged[-1], len(judged), len(mutants)))

    interrupted = asyncio.run(until_done_or_told_to_stop(lambda: suite.run(jobs()), console))
    print_score(console, judged, len(mutants))
    if json_path is not None:
        json_path.write_text(json.dumps(mutation_document(judged, len(mutants)), indent=2) + "\n")
    if markdown is not None:
        markdown.write_text(mutation_markdown(judged))
    raise click.exceptions.Exit(_outcome(judged, interrupted=interrupted, at_least=at_least / 100.0).exit_code)


def _job(mutant: Mutant, experiment: Experiment, topology: Topology, *, seed: int, overrides: Mapping[str, str]) -> Job:
    replay = ["chaos", "mutate", str(experiment.file.parent), "--only", mutant.name, "--seed", str(seed)]
    replay += [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    return Job(
        experiment=experiment,
        topology=topology,
        plan=make_plan(experiment, topology, seed),
        disabled=mutant.disable,
        replay=shlex.join(replay),
    )


def _outcome(judged: Sequence[Judged], *, interrupted: bool, at_least: float) -> Outcome:
    if interrupted:
        return Outcome.INTERRUPTED
    if any(one.fate is Fate.BROKEN for one in judged):
        return Outcome.ERROR
    return Outcome.HELD if score(judged) >= at_least else Outcome.VIOLATED
