"""``chaos table`` on real files: printed, put into a document, and refused with what to do next."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from chaos.cli.table import table
from chaos.errors import UsageError
from chaos.reports.markdown import BEGIN, END

RESULT = {
    "version": 1,
    "experiment": "A box dies.",
    "file": "experiments/box.yaml",
    "outcome": "held",
    "steady_state": [{"metric": "plays", "measured": 1.0, "unit": "%"}],
    "receipts": [{"kind": "kill", "victims": ["oca-1"]}],
    "recovery_s": 1.5,
    "control": None,
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULT))
    return path


def run(*arguments):
    return CliRunner().invoke(table, [str(argument) for argument in arguments], catch_exceptions=False)


def test_it_is_printed(results):
    done = run(results)

    assert done.exit_code == 0
    assert "| `oca` | [A box dies.](experiments/box.yaml) | kill | held | 100 % | - | 1.5 s |" in done.output


def test_it_is_put_into_a_document_with_links_that_lead_from_there(results, tmp_path):
    document = tmp_path / "docs" / "results.md"
    document.parent.mkdir()
    document.write_text(f"before\n{BEGIN}\n{END}\nafter\n")

    assert run(results, "--into", document).exit_code == 0

    text = document.read_text()
    assert "[A box dies.](../experiments/box.yaml)" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_what_is_wrong_is_said_with_the_file_and_nothing_is_written(results, tmp_path):
    document = tmp_path / "README.md"
    document.write_text("no place here")

    with pytest.raises(UsageError, match=r"README\.md: there is no place for the table"):
        run(results, "--into", document)
    assert document.read_text() == "no place here"

    results.write_text("{")
    with pytest.raises(UsageError, match=r"results\.json: it is not JSON .*chaos run"):
        run(results)
    results.write_text("{}")
    with pytest.raises(UsageError, match="no table can be made of it"):
        run(results)


def test_a_file_that_is_not_there_is_a_mistake_that_says_so(results, tmp_path):
    for arguments in ([tmp_path / "no.json"], [results, "--into", tmp_path / "no.md"], [tmp_path]):
        with pytest.raises(UsageError, match="it cannot be read"):
            run(*arguments)


def test_another_metric_than_those_with_rules_is_a_mistake(results):
    with pytest.raises(UsageError, match="no rule is about 'sps'"):
        run(results, "--metric", "sps")
