"""``chaos report``: journals in, one HTML file out."""

from __future__ import annotations

from pathlib import Path

import click

from chaos.errors import UsageError
from chaos.reports.html.page import check_writable, make_page, read_runs, write_page
from chaos.verdict.units import plural


@click.command(short_help="Make one HTML file of journals, to look at.")
@click.argument("journals", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--html", "html_path", type=click.Path(path_type=Path), metavar="FILE",
              help="Where to write it. Default: beside the first journal, with the ending .html.")  # fmt: skip
def report(journals: tuple[Path, ...], html_path: Path | None) -> None:
    """Make one HTML file of journals, to look at and to hand on: it needs no network and nothing beside it.

    It shows the verdict in a sentence, what happened when, what users and services saw second by second, the call
    graph with the faults, and the command that repeats the run. Each experiment has its control in the same plots;
    several journals, or several runs in one, come below each other with a list in front. A journal that was cut off
    is shown as far as it goes.

    \b
    Examples:
      chaos run experiments/oca_outage.yaml --control --journal outage.jsonl
      chaos report outage.jsonl                               writes outage.html
      chaos report monday.jsonl tuesday.jsonl --html both.html
    """
    for journal in journals:
        if journal.is_dir():
            raise UsageError(f"{journal}: is a folder; name the journals in it, for example {journal / '*.jsonl'}")
    target = html_path if html_path is not None else journals[0].with_suffix(".html")
    if any(target.resolve() == journal.resolve() for journal in journals):
        raise UsageError(f"{target}: is a journal itself; name another file with --html")
    check_writable(target)
    reader = read_runs(journals)
    size = write_page(target, make_page(reader))
    click.echo(f"{target}: {plural('run', len(reader.runs))}, {size / 1000:.0f} kB")
