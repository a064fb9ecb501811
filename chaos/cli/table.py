"""``chaos table``: what the last runs measured, as a Markdown table, printed or put into a document."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from chaos.errors import Problem, UsageError
from chaos.reports.markdown import put_into, results_table


@click.command(short_help="Make a Markdown table from what `chaos run --json` wrote.")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    help="Put the table into this Markdown file, between two marks, instead of printing it.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="A metric to show. May be repeated. Default: those that every experiment has a rule about.",
)
def table(results: tuple[Path, ...], into: Path | None, metrics: tuple[str, ...]) -> None:
    """Make a Markdown table from what `chaos run --json` wrote: each part, what happened to it, what users saw.

    Of an experiment that is in several files the last one counts.

    \b
    Examples:
      chaos run experiments/ --control --json results.json
      chaos table results.json
      chaos table results.json --metric playback_availability --into README.md
    """
    documents = [_document(path) for path in results]
    try:
        made = results_table(*documents, metrics=metrics, file_prefix=_way_to_files(into))
    except ValueError as error:
        raise _problem(results[-1], str(error)) from error
    if into is None:
        click.echo(made)
        return
    try:
        text = put_into(_bytes(into).decode("utf-8"), made)
    except ValueError as error:
        raise _problem(into, str(error)) from error
    into.write_text(text, encoding="utf-8")
    click.echo(f"{into}: the table of {', '.join(map(str, results))} stands in it")


def _document(path: Path) -> object:
    """Return a file's document. Each is made a table of its own first, so that an error names its file."""
    try:
        document = json.loads(_bytes(path))
    except ValueError as error:
        raise _problem(path, f"it is not JSON ({error}); `chaos run ... --json FILE` writes what is needed") from error
    try:
        results_table(document)
    except ValueError as error:
        raise _problem(path, f"no table can be made of it: {error}") from error
    return document


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _problem(file, f"it cannot be read ({error.strerror})") from error


def _problem(file: Path, message: str) -> UsageError:
    return UsageError([Problem(file=str(file), line=None, key="", message=message)])


def _way_to_files(into: Path | None) -> str:
    """Return what leads from the document's folder to the current one, from which the files are named."""
    way = os.path.relpath(Path.cwd(), into.resolve().parent) if into is not None else "."
    return "" if way == "." else f"{Path(way).as_posix()}/"
