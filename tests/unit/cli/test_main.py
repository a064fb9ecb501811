"""How errors become exit codes and words."""

from __future__ import annotations

import signal

import click
import pytest

from chaos.cli import main as command_line
from chaos.cli.options import collect_experiments, overrides_of
from chaos.errors import EnvironmentFailure, Problem, UsageError


@pytest.fixture
def handlers():
    """Give back the handlers that ``main`` replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError([Problem(file="a.yaml", line=3, key="faults", message="wrong")]), 2, "a.yaml:3: faults: wrong"),
        (click.UsageError("no such option"), 2, "no such option"),
        (EnvironmentFailure("the port 80 is taken", details=["by nginx"]), 3, "by nginx"),
        (RuntimeError("a mistake"), 3, "a mistake in chaos itself"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_kind_of_error_has_its_exit_code_and_says_what_is_wrong(handlers, monkeypatch, capsys, error, code, said):
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(command_line.cli, "main", fails)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def test_a_run_that_is_told_its_outcome_ends_with_its_code(handlers, monkeypatch):
    monkeypatch.setattr(command_line.cli, "main", lambda **_: 4)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 4


def test_overrides_are_split_at_the_first_equals_sign():
    assert overrides_of(["load.rate=50", "steady_state.0=sps >= 95% of baseline"]) == {
        "load.rate": "50",
        "steady_state.0": "sps >= 95% of baseline",
    }
    with pytest.raises(UsageError, match="KEY=VALUE"):
        overrides_of(["load.rate"])


def test_a_folder_stands_for_all_experiments_in_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("b.yaml", "a.yaml", "deep/c.yml", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in collect_experiments([tmp_path])] == ["a.yaml", "b.yaml", "c.yml"]
    with pytest.raises(UsageError, match="no such file"):
        collect_experiments([tmp_path / "nothing.yaml"])
    with pytest.raises(UsageError, match="no experiment here"):
        collect_experiments([tmp_path / "empty"])
