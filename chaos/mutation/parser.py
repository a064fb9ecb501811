"""Reads a list of mutants, or reports every mistake in it with its line.

::

    target: ../targets/playback
    set: {phases.warm_up: 2s, phases.baseline: 4s}      # of all runs, as --set
    mutants:
      - {disable: [fallbacks@steering.rank], noticed_by: [steering_latency, play/steering_dead]}
      - {disable: [request_cache], survives: Nobody asks twice within a request here; it saves work and no play.}

``noticed_by`` are experiments, by their path from the list's folder, with ``.yaml`` or without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chaos.errors import Problem, UsageError
from chaos.experiment.tables import CHANGES, DISABLE, TARGET
from chaos.fields import Field, ListOf, Section, Table, Where, one_of
from chaos.kinds import Text
from chaos.mutation.model import Mutant, MutantList
from chaos.topology.model import Topology
from chaos.topology.parser import load_topology
from chaos.yamlfile import is_there, load_yaml

LIST_FILE = "mutants.yaml"
"""What a folder's list is called."""

MUTANTS_MAX = 500
EXPERIMENTS_MAX = 20

WITHOUT = Field(DISABLE.key, DISABLE.kind, "the protections that the system does without", required=True)
NOTICED_BY = Field(
    "noticed_by",
    ListOf(item=Text(what="the path of an experiment", longest=200), least=1, most=EXPERIMENTS_MAX, unique=True),
    "the experiments that should fail then, by their paths from this folder, with .yaml or without",
)
SURVIVES = Field("survives", Text(what="a sentence", longest=600), "why nothing notices it, where that is accepted")
_MUTANTS = ListOf(item=Table(WITHOUT, NOTICED_BY, SURVIVES), least=1, most=MUTANTS_MAX)
MUTANTS = Field("mutants", _MUTANTS, "the mutants, each without some protections", required=True)
LIST = Table(TARGET, CHANGES, MUTANTS)


def load_mutants(path: Path) -> tuple[MutantList, Topology]:
    """Return the list in a file, or in a folder's ``mutants.yaml``, and its target.

    Raises UsageError, with every problem.
    """
    file = path / LIST_FILE if path.is_dir() else path
    problems: list[Problem] = []
    section = LIST.read(load_yaml(file), Where(problems=problems))
    topology = None if section is None else _topology(file, section, problems)
    mutants = () if section is None or topology is None else _mutants(file, section, topology)
    if problems or section is None or topology is None:
        raise UsageError(sorted(dict.fromkeys(problems), key=lambda one: (one.file != str(file), one.line or 0)))
    changes: Mapping[str, str | int | float | bool] = section.get_or(CHANGES, {})
    return MutantList(file=file, mutants=mutants, changes=changes), topology


def _topology(file: Path, section: Section, problems: list[Problem]) -> Topology | None:
    written = section.get(TARGET)
    if written is None:
        return None
    target = file.parent / written.expanduser()
    if not is_there(target):
        section.report(TARGET, f"there is no {target}; write the path of a folder with a topology.yaml")
        return None
    try:
        return load_topology(target)
    except UsageError as error:
        problems.extend(error.problems)
        return None


def _mutants(file: Path, section: Section, topology: Topology) -> tuple[Mutant, ...]:
    mutants: list[Mutant] = []
    for part in section.get_or(MUTANTS, ()):
        disable = part.get_or(WITHOUT, ())
        for name in disable:
            if not topology.protects_by(name):
                part.report(WITHOUT, one_of(name, tuple(topology.protections), noun="protection of the target"))
        noticed_by = tuple(_experiment(file, part, name) for name in part.get_or(NOTICED_BY, ()))
        survives = part.get_or(SURVIVES, "")
        if not noticed_by and not survives:
            part.report(NOTICED_BY, f"missing; {NOTICED_BY.help}. Or say under {SURVIVES.key} why there is none")
        mutant = Mutant(
            disable=disable, noticed_by=noticed_by, title=_title(disable, topology), survives=" ".join(survives.split())
        )
        if mutant.name in {other.name for other in mutants}:
            part.report(WITHOUT, f"{mutant.name} stands in the list twice")
        mutants.append(mutant)
    return tuple(mutants)


def _experiment(file: Path, part: Section, name: str) -> Path:
    path = file.parent / name
    if path.suffix not in {".yaml", ".yml"}:
        path = path.with_name(f"{path.name}.yaml")
    if not path.is_file():
        part.report(NOTICED_BY, f"there is no experiment {path}")
    return path


def _title(disable: tuple[str, ...], topology: Topology) -> str:
    """Return what the topology says that is lost."""
    said = []
    for name in disable:
        kind, _, command = name.partition("@")
        sentence = topology.protections.get(kind, "")
        said.append(f"{command}: {sentence}" if command else sentence)
    return " ".join(said)
