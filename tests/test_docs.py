"""What the documents say is true: commands parse or run, code blocks run, quoted files are the files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from chaos.cli.main import cli
from chaos.cli.options import collect_experiments
from chaos.experiment.parser import load_experiment
from chaos.reports.markdown import BEGIN, END

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "experiments/README.md",
    ROOT / "targets/playback/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
QUICK = {"plan", "validate", "faults", "schema", "heal"}


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def chaos_lines() -> list[str]:
    return sorted(
        {
            line.split(" #")[0].split(" > ")[0].strip()
            for document in DOCUMENTS
            for block in blocks(document, "sh")
            for line in block.splitlines()
            if line.startswith("chaos ")
        }
    )


@pytest.mark.parametrize("line", chaos_lines())
def test_a_documented_command_is_accepted(line: str):
    arguments = shlex.split(line)[1:]
    if arguments[0] in QUICK:
        done = ran("-m", "chaos", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    context = click.Context(cli)
    command = cli.get_command(context, arguments[0])
    assert command is not None, f"no such command: {line}"
    while isinstance(command, click.Group):
        arguments = arguments[1:]
        command = command.get_command(context, arguments[0])
        assert command is not None, f"no such command: {line}"
    command.make_context("chaos", arguments[1:])


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.exists() and blocks(path, "python")], ids=lambda path: path.name
)
def test_the_python_blocks_run(document: Path):
    for block in blocks(document, "python"):
        done = ran("-W", "error", "-c", block)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        for expected in re.findall(r"print\(.*\)  # ([^,\n]+)", block):
            assert expected.strip() in done.stdout


def test_quoted_yaml_files_are_the_files():
    quoted = blocks(ROOT / "README.md", "yaml")
    for path in ("experiments/steering_latency.yaml", "targets/hello/topology.yaml"):
        assert (ROOT / path).read_text() in quoted, f"README.md quotes {path} as it was"


def test_every_shipped_experiment_has_its_row_among_the_experiments():
    folder = ROOT / "experiments"
    text = (folder / "README.md").read_text()
    shipped = [path.relative_to(folder).as_posix() for path in collect_experiments([folder])]
    assert [path for path in shipped if f"]({path})" not in text] == []


def test_the_table_of_results_names_each_shipped_experiment_by_its_title():
    _, _, rest = (ROOT / "README.md").read_text().partition(BEGIN)
    table, _, _ = rest.partition(END)
    shipped = collect_experiments([ROOT / "experiments"])
    rows = [f"[{load_experiment(path)[0].title}]({path.relative_to(ROOT).as_posix()})" for path in shipped]
    assert [row for row in rows if row not in table] == []
    assert table.count("](experiments/") == len(shipped)


def test_links_lead_somewhere():
    broken = [
        f"{document.name}: {link}"
        for document in DOCUMENTS
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text())
        if not link.startswith("http") and not (document.parent / link).exists()
    ]
    assert broken == []


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    return [
        found
        for name in command.list_commands(context)
        for found in every_command(command.get_command(context, name), (*path, name))
    ]


@pytest.mark.parametrize("path", every_command(cli), ids=" ".join)
def test_every_help_has_an_example(path: tuple[str, ...]):
    done = ran("-m", "chaos", *path, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout
    assert f"chaos {path[0]}" in done.stdout
