"""``chaos run``: experiments in, verdicts out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from chaos.cli.options import collect_experiments, load_all, overrides_of, set_option
from chaos.cli.untilstopped import until_done_or_told_to_stop
from chaos.environment import Backend
from chaos.environment.proxies import parse_url
from chaos.errors import Outcome, UsageError
from chaos.events import Event
from chaos.experiment.model import Experiment
from chaos.experiment.parser import load_experiment
from chaos.experiment.plan import overlaps
from chaos.experiment.plan import plan as make_plan
from chaos.jobs import Job, pair_results, worst
from chaos.reports.document import suite_document
from chaos.reports.html.page import check_writable, make_page, write_page
from chaos.reports.html.record import RunReader
from chaos.reports.journal import JournalWriter
from chaos.reports.views import Views
from chaos.searching import run_all
from chaos.suite import Suite, SuiteOptions
from chaos.topology.model import Topology

LOG_WIDTH = 120


@click.command(short_help="Run experiments and judge them.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--seed", type=int, help="Decides every random choice. Default: the experiment's own, or "
              "a new one for all.")  # fmt: skip
@click.option("--control", is_flag=True, help="Also run each experiment without its protections: that must fail.")
@set_option
@click.option("--journal", type=click.Path(path_type=Path, dir_okay=False), help="Append every event, as JSON lines.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a report to look at, as one file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the verdict as JSON.")
@click.option("--proxy", type=click.Choice([str(one) for one in Backend]), default="auto", show_default=True,
              help="The real Toxiproxy, the embedded one, or the real one where it is installed.")  # fmt: skip
@click.option("--toxiproxy", "toxiproxy_url", metavar="URL", help="Use a Toxiproxy that runs already.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
@click.option("--no-color", is_flag=True, help="No colours (the variable NO_COLOR does the same).")
def run(
    paths: tuple[Path, ...],
    seed: int | None,
    control: bool,
    settings: tuple[str, ...],
    journal: Path | None,
    html_path: Path | None,
    json_path: Path | None,
    proxy: str,
    toxiproxy_url: str | None,
    quiet: bool,
    no_color: bool,
) -> None:
    """Run experiments and say with numbers whether the steady state held.

    A folder stands for all experiments in it. Several experiments run one after the other on one start of the
    target, and the exit code is the worst one's.

    \b
    Examples:
      chaos run experiments/oca_outage.yaml
      chaos run experiments/oca_outage.yaml --control --seed 7
      chaos run experiments/ --quiet --json verdict.json --html report.html
      chaos run experiments/steering_latency.yaml --set faults.0.latency_ms=500
      chaos run experiments/playback_apps_kill.yaml --set replicas.playback_apps=4 --set workers.play_api=2
    """
    for file in filter(None, (html_path, json_path)):
        check_writable(file)
    _check_proxies(proxy, toxiproxy_url)
    how = [] if proxy == Backend.AUTO else ["--proxy", proxy]
    how += [] if toxiproxy_url is None else ["--toxiproxy", toxiproxy_url]
    jobs = jobs_of(paths, seed=seed, control=control, settings=settings, how=how, proxy=Backend(proxy))
    console = Console(no_color=no_color or None, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH  # a log has no width of its own; at rich's 80 columns the tables would be folded
    views = Views(console=console, quiet=quiet)
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(JournalWriter(journal)).handle] if journal else []
        runs = RunReader()
        sinks += [runs.handle] if html_path else []
        suite = Suite(
            SuiteOptions(backend=Backend(proxy), toxiproxy_url=toxiproxy_url),
            view_for=views.view_for,
            sinks=sinks,
        )

        def emit(event: Event) -> None:
            for sink in sinks:
                sink(event)

        def tell(line: str) -> None:
            if not quiet:
                console.print(Text(line, style="bold"))

        interrupted = asyncio.run(
            until_done_or_told_to_stop(lambda: run_all(suite, jobs, emit=emit, tell=tell), console)
        )
    results = pair_results(suite.verdicts)
    outcomes = [result.outcome for result in results]
    if interrupted:
        outcomes.append(Outcome.INTERRUPTED)  # also when it came between two runs
    outcome = worst(outcomes)
    views.show_results(results, outcome)
    if interrupted:
        console.print("[bold yellow]interrupted[/]: every fault was healed and every process stopped")
    runs.finish()
    if html_path is not None and runs.runs:
        write_page(html_path, make_page(runs))
    if json_path is not None:
        json_path.write_text(json.dumps(suite_document(results, outcome), indent=2) + "\n")
    raise click.exceptions.Exit(outcome.exit_code)


def jobs_of(
    paths: tuple[Path, ...],
    *,
    seed: int | None,
    control: bool,
    settings: tuple[str, ...],
    how: list[str],
    proxy: Backend,
) -> list[Job]:
    """Read every file before anything is started; raises UsageError with the mistakes of all of them.

    ``how`` are the options that a replay needs besides.
    """
    overrides = overrides_of(settings)
    files = collect_experiments(paths)
    read = load_all(files, overrides)
    loaded = [(path, *read[path]) for path in files]
    if proxy == Backend.TOXIPROXY:
        _check_that_toxiproxy_will_do(loaded)
    # One for all, for they share a start of the target, which is made from it.
    common = seed if seed is not None else random.SystemRandom().randrange(1, 1_000_000)
    jobs: list[Job] = []
    for path, experiment, topology in loaded:
        used = common if seed is not None or experiment.seed is None else experiment.seed
        replay = ["chaos", "run", str(path), "--seed", str(used)]
        replay += [part for setting in settings for part in ("--set", setting)]
        replay += how
        plan = make_plan(experiment, topology, used)
        jobs.append(
            Job(
                experiment=experiment,
                topology=topology,
                plan=plan,
                disabled=(),
                replay=shlex.join(replay),
            )
        )
        if control:
            jobs.append(_control_of(jobs[-1], overrides))
    if problems := [problem for job in jobs for problem in overlaps(job.plan, job.experiment.file)]:
        raise UsageError(list(dict.fromkeys(problems)))
    # Those that need another proxy server, another scale or another seed come together, so that it is changed once.
    return sorted(
        jobs,
        key=lambda job: (
            str(job.topology.file),
            job.is_control,
            bool(job.experiment.needs_embedded),
            job.topology.scaled,
            job.plan.seed != common,
            job.plan.seed,
        ),
    )


def _check_proxies(proxy: str, toxiproxy_url: str | None) -> None:
    """Raise UsageError for a Toxiproxy's URL that is none, or beside which a proxy server is asked for."""
    if toxiproxy_url is None:
        return
    parse_url(toxiproxy_url)
    if proxy != Backend.AUTO:
        raise UsageError(f"--proxy {proxy} starts a server, and --toxiproxy uses one that runs; leave one of them out")


def _check_that_toxiproxy_will_do(loaded: Sequence[tuple[Path, Experiment, Topology]]) -> None:
    """Raise UsageError for the first experiment with a fault that Toxiproxy does not have."""
    for path, experiment, _ in loaded:
        if kind := experiment.needs_embedded:
            raise UsageError(
                f"{path}: the fault {kind} needs the embedded proxy, which --proxy toxiproxy rules out; "
                "leave that option out, and the embedded proxy is taken where it is needed"
            )


def _control_of(job: Job, overrides: Mapping[str, str]) -> Job:
    """Return the control of an experiment. Raises UsageError when it names none, or what it changes cannot be read."""
    experiment, topology, path = job.experiment, job.topology, job.experiment.file
    if experiment.control is None:
        raise UsageError(
            f"{path}: --control: this experiment names no control; add control: {{disable: [...]}} with one of "
            f"{', '.join(topology.protections) or '(the topology declares no protections)'}"
        )
    changes = {key: json.dumps(value) for key, value in experiment.control.changes.items()}
    if changes:
        experiment, topology = load_experiment(path, {**overrides, **changes})
    return Job(
        experiment=experiment,
        topology=topology,
        plan=make_plan(experiment, topology, job.plan.seed),
        disabled=job.experiment.control.disable if job.experiment.control else (),
        changed=tuple(f"{key}={value}" for key, value in changes.items()),
        replay=f"{job.replay} --control",
        control_of=job,
    )
