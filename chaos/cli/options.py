"""Options and arguments that several subcommands share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from chaos.errors import Problem, UsageError
from chaos.experiment.model import Experiment
from chaos.experiment.parser import load_experiment
from chaos.mutation.parser import LIST_FILE
from chaos.topology.model import Topology

set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override anything in the file: --set load.rate=50 --set phases.fault=20s; or scale the target: "
    "--set replicas.playback_apps=4 (instances of a service), --set workers.play_api=2 (processes of each instance). "
    "May be repeated.",
)


def overrides_of(settings: Iterable[str]) -> dict[str, str]:
    """Split the ``--set`` options into keys and values. Raises UsageError for one without ``=``."""
    overrides: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise UsageError(f"--set {setting}: write KEY=VALUE, for example --set load.rate=50")
        overrides[key.strip()] = value.strip()
    return overrides


def collect_experiments(paths: Sequence[Path]) -> list[Path]:
    """Return the files named, and for each folder its experiments (``*.yaml``, nested folders too), sorted.

    A folder's list of mutants (``mutants.yaml``) is no experiment.

    Raises UsageError for a path that does not exist and for a folder without any.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in (*path.rglob("*.yaml"), *path.rglob("*.yml")) if file.name != LIST_FILE)
            if not found:
                raise UsageError(f"{path}: no experiment here; a folder's experiments are its *.yaml files")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder; write one (README: how to write an experiment)")
    return files


def load_all(paths: Iterable[Path], overrides: Mapping[str, str]) -> dict[Path, tuple[Experiment, Topology]]:
    """Read every experiment before anything is started. Raises UsageError with the mistakes of all of them."""
    loaded: dict[Path, tuple[Experiment, Topology]] = {}
    problems: list[Problem] = []
    for path in dict.fromkeys(paths):
        try:
            loaded[path] = load_experiment(path, overrides)
        except UsageError as error:
            if not error.problems:
                raise
            problems += error.problems
    if problems:
        raise UsageError(problems)
    return loaded
