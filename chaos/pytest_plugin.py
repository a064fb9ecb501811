"""The pytest plugin: ``pytest experiments/`` collects each experiment as a test.

It costs nothing where there are no experiments: all that it needs beyond pytest is imported with the first one
(``chaos.pytest_experiments``). Files are collected in the folders that somebody names, on the command line or as
``testpaths``; a plain ``pytest`` in a project that has neither starts no chaos.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from chaos.pytest_experiments import ExperimentFile

_HEAD_BYTES = 64 * 1024
_KEY = re.compile(rb"^(steady_state|target)[ \t]*:", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of chaos."""
    group = parser.getgroup("chaos", "chaos experiments (*.yaml)")
    group.addoption(
        "--chaos-quick",
        action="store_true",
        help="Experiments share a start, a load and a baseline (chaos gate --quick).",
    )
    group.addoption(
        "--chaos-control", action="store_true", help="Collect each experiment's control as a test: it must be violated."
    )
    group.addoption("--chaos-seed", type=int, metavar="N", help="Decides every random choice. Default: a new one.")
    group.addoption(
        "--chaos-strict", action="store_true", help="An inconclusive experiment fails; otherwise it is skipped."
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ExperimentFile | None:
    """Collect a file that is an experiment."""
    if file_path.suffix not in (".yaml", ".yml") or not _asked_for(parent.config) or not is_experiment(file_path):
        return None
    from chaos.pytest_experiments import ExperimentFile  # noqa: PLC0415 - the first experiment pays for it, nobody else

    return ExperimentFile.from_parent(parent, path=file_path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the experiments that are left into the order in which starts of the target are few."""
    if config.getoption("chaos_quick") and any(item.path.suffix in (".yaml", ".yml") for item in items):
        from chaos.pytest_experiments import in_order  # noqa: PLC0415 - as above

        items[:] = in_order(items)


def is_experiment(file: Path) -> bool:
    """Return whether a YAML file has the top-level keys ``target`` and ``steady_state``; it is not parsed for that."""
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
    except OSError:
        return False
    return {match.group(1) for match in _KEY.finditer(head)} == {b"steady_state", b"target"}


def _asked_for(config: pytest.Config) -> bool:
    return config.args_source is not pytest.Config.ArgsSource.INVOCATION_DIR
