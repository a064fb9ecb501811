"""``chaos validate``, ``plan``, ``faults`` and ``schema``: everything that can be said without starting anything."""

from __future__ import annotations

import json
import random
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import click

from chaos.cli.options import collect_experiments, overrides_of, set_option
from chaos.errors import Problem, UsageError
from chaos.experiment.model import Experiment
from chaos.experiment.parser import load_experiment
from chaos.experiment.plan import Plan, overlaps
from chaos.experiment.plan import plan as make_plan
from chaos.experiment.schema import experiment_schema, topology_schema
from chaos.faults.base import Fault, Layer
from chaos.faults.hook import Hook
from chaos.faults.registry import FAULTS
from chaos.faults.requests import HttpFault
from chaos.faults.settings import SettingInfo, settings_of
from chaos.faults.trouble import Extension
from chaos.reports.gate import clock_time
from chaos.searching import probes_at_most
from chaos.topology.model import Topology
from chaos.topology.parser import load_topology
from chaos.units import format_percent

SEED_OF_A_CHECK = 1
"""What `chaos validate` draws victims with, for an experiment that names no seed."""


@click.command(short_help="Check files; list every mistake with its line.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@set_option
def validate(paths: tuple[Path, ...], settings: tuple[str, ...]) -> None:
    """Check experiment or topology files and list every mistake with its line.

    \b
    Examples:
      chaos validate experiments/
      chaos validate targets/playback/topology.yaml
    """
    overrides = overrides_of(settings)
    problems: list[Problem] = []
    for path in collect_experiments(paths):
        try:
            click.echo(f"{path}: ok: {_summary(path, overrides)}")
        except UsageError as error:
            if not error.problems:
                raise
            problems += error.problems
    if problems:
        raise UsageError(problems)


def _checked_plan(experiment: Experiment, topology: Topology, seed: int, path: Path) -> Plan:
    """Return the plan; raise UsageError where two of its faults would end each other."""
    made = make_plan(experiment, topology, seed)
    if problems := overlaps(made, path):
        raise UsageError(problems)
    return made


def _summary(path: Path, overrides: dict[str, str]) -> str:
    if path.stem == "topology":
        topology = load_topology(path)
        return f"{len(topology.instances())} instances, {len(topology.edges())} edges"
    experiment, topology = load_experiment(path, overrides)
    seed = SEED_OF_A_CHECK if experiment.seed is None else experiment.seed
    _checked_plan(experiment, topology, seed, path)
    needs = f" (needs the embedded proxy, for {experiment.needs_embedded})" if experiment.needs_embedded else ""
    return f"{experiment.title}{needs}"


@click.command(short_help="Print what a run would do, and when.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seed", type=int, help="Decides every random choice. Default: the experiment's, or a new one.")
@set_option
def plan(path: Path, seed: int | None, settings: tuple[str, ...]) -> None:
    """Print the timed steps of a run, without doing any of them.

    Random choices ("any 2 OCAs of isp alpha") are drawn from the seed here, so what is printed is what will happen.

    \b
    Example:
      chaos plan experiments/oca_outage.yaml --seed 7
    """
    experiment, topology = load_experiment(path, overrides_of(settings))
    if seed is None:
        seed = experiment.seed if experiment.seed is not None else random.SystemRandom().randrange(1, 1_000_000)
    made = _checked_plan(experiment, topology, seed, path)
    click.echo(f"{experiment.title}\nseed {seed}")
    if kind := experiment.needs_embedded:
        click.echo(f"needs the embedded proxy (for {kind})")
    if share := experiment.load.control_group:
        said = format_percent(share)
        click.echo(f"control group: {said} of the accounts; the faults fall on {said} others, in the same seconds")
    for line in made.describe():
        click.echo(line)
    if experiment.metastability is not None:
        click.echo(_search_in_words(experiment))


def _search_in_words(experiment: Experiment) -> str:
    """Say how many runs the search for metastability takes at most, and how long these are."""
    settings = experiment.metastability
    assert settings is not None, "only of an experiment that searches"
    number, each_s = probes_at_most(experiment)
    return (
        f"then, to find the load from which it no longer recovers by itself: at most {number} probes at up to "
        f"{settings.up_to_per_s:g}/s, each {each_s:g} s with {settings.hold_s:g} s of load after healing: at most "
        f"{clock_time(number * each_s)}, and what it takes to start them"
    )


@click.command(short_help="List every kind of fault and its settings.")
def faults() -> None:
    """List every kind of fault and its settings, as they are written in an experiment.

    \b
    Example:
      chaos faults
    """
    for heading, belongs in _GROUPS.items():
        click.echo(click.style(heading, bold=True))
        for kind, fault in FAULTS.items():
            if belongs(fault):
                _show_fault(kind, fault)
        click.echo()
    click.echo(click.style("Every fault on single HTTP requests", bold=True))
    for item in settings_of(HttpFault):
        _show_setting(item)
    click.echo()
    click.echo(click.style("Every fault", bold=True))
    for name, explained in _EVERY_FAULT.items():
        _show(f"      {name:<22}", explained)


_GROUPS: dict[str, Callable[[type[Fault]], bool]] = {
    "On the wire, between processes": lambda fault: fault.layer is Layer.WIRE and not issubclass(fault, Extension),
    "On the wire, as on a bad network (with the embedded proxy, which is taken by itself)": lambda fault: (
        issubclass(fault, Extension) and not issubclass(fault, HttpFault)
    ),
    "On single HTTP requests (with the embedded proxy, which is taken by itself)": lambda fault: issubclass(
        fault, HttpFault
    ),
    "On the host, to processes": lambda fault: fault.layer is Layer.HOST and fault is not Hook,
    "Within the application, by its own doing": lambda fault: fault is Hook,
}

_EVERY_FAULT = {
    "service": "whom it falls on: the instances of this service",
    "where": "only those with these labels: {isp: alpha}",
    "pick": "only so many of them, drawn from the seed",
    "from": "on the wire: only on the way from this service or client",
    "at, for": "when, from the start of the fault phase, and for how long: at: 1s, for: 8s",
}


def _show_fault(kind: str, fault: type[Fault]) -> None:
    _show(f"  {click.style(f'{kind:<17}', fg='cyan')}", _first_line(fault.__doc__), indent=19)
    common = {item.name for item in settings_of(HttpFault)} if issubclass(fault, HttpFault) else set()
    for item in settings_of(fault):
        if item.name not in common:
            _show_setting(item)


def _show_setting(item: SettingInfo) -> None:
    without = item.default is None or item.default == ""
    default = "required" if item.required else "optional" if without else f"default {item.default}"
    _show(f"      {item.name:<22}", f"{item.help} ({default})")


def _show(head: str, text: str, *, indent: int = 28) -> None:
    """Print ``head``, and ``text`` beside it, wrapped under itself."""
    lines = textwrap.wrap(text, width=max(40, min(110, shutil.get_terminal_size().columns) - indent))
    click.echo(head + f"\n{' ' * indent}".join(lines))


@click.command(short_help="Print the JSON Schema of a file, for editors.")
@click.argument("what", type=click.Choice(["experiment", "topology"]), default="experiment")
def schema(what: str) -> None:
    """Print the JSON Schema of experiment or topology files, so that your editor completes and checks them.

    \b
    Example:
      chaos schema experiment > experiment.schema.json
    """
    click.echo(json.dumps(experiment_schema() if what == "experiment" else topology_schema(), indent=2))


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().splitlines()[0]
