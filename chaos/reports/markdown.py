"""The results of many experiments as one Markdown table: part by part, what happened to it and what users saw.

It is made from the document that ``chaos run --json`` writes (see `chaos.reports.document`), so that a table in a
README says what the last runs measured and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from chaos.reports.document import VERSION
from chaos.reports.gfm import code, table_row, words
from chaos.topology.model import Unit
from chaos.verdict.units import NOTHING, figure

BEGIN = "<!-- chaos table: from here to the next mark everything is made by `chaos table` -->"
END = "<!-- chaos table: end -->"

_INSTANCE = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One experiment in the table."""

    part: str
    """The services whose instances, or the ways to them, were hit."""
    title: str
    file: str
    faults: str
    outcome: str
    figures: Mapping[str, tuple[str, str]]
    """For each metric that a rule was about, what was measured with and without the protections."""
    recovery: str


def results_table(*documents: object, metrics: Sequence[str] = (), file_prefix: str = "") -> str:
    """Return the table for ``--json`` documents, rows of one part together, in the order of their first one.

    Of an experiment that is in several documents the last one counts.

    The figures are those of ``metrics``; without any, of those that every experiment has a rule about. ``file_prefix``
    stands before each file in its link. Raises ValueError for another document, or a metric that no rule is about.
    """
    rows = list({row.file: row for document in documents for row in map(_row, _results(document))}.values())
    known = dict.fromkeys(name for row in rows for name in row.figures)
    if unknown := [name for name in metrics if name not in known]:
        raise ValueError(f"no rule is about {unknown[0]!r}; there are rules about {', '.join(known)}")
    shown = metrics or [name for name in known if all(name in row.figures for row in rows)]
    headings = [heading for name in shown for heading in (_words(name), "without protections")]
    lines = [table_row(["part", "what happens to it", "faults", "outcome", *headings, "normal again after"])]
    lines.append(table_row(["---"] * (5 + len(headings))))
    order = list(dict.fromkeys(row.part for row in rows))
    last = ""
    for row in sorted(rows, key=lambda row: order.index(row.part)):
        cells = [cell for name in shown for cell in row.figures.get(name, (NOTHING, NOTHING))]
        link = f"[{words(row.title)}]({quote(file_prefix + row.file)})"
        part = row.part if row.part != last else ""
        lines.append(table_row([part, link, row.faults, row.outcome, *cells, row.recovery]))
        last = row.part
    return "\n".join(lines)


def put_into(text: str, table: str) -> str:
    """Return ``text`` with ``table`` between the marks ``BEGIN`` and ``END``. Raises ValueError where they are not."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place for the table: put these two lines where it is to stand\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _results(document: object) -> Sequence[object]:
    match document:
        case {"version": int(version)} if version != VERSION:
            raise ValueError(f"its version is {version}; this chaos reads version {VERSION}")
        case {"version": int(), "results": [first, *more]}:
            return [first, *more]
        case {"version": int(), "experiment": str()}:
            return [document]
        case _:
            raise ValueError("it is no document of `chaos run --json`: it has no version with an experiment or results")


def _row(result: object) -> Row:
    match result:
        case {
            "experiment": str(title),
            "file": str(file),
            "outcome": str(outcome),
            "steady_state": [*rules],
            "receipts": [*receipts],
            "recovery_s": recovery_s,
            "control": control,
        }:
            return Row(
                part=", ".join(dict.fromkeys(part for receipt in receipts for part in _parts(receipt))) or NOTHING,
                title=title,
                file=PurePosixPath(file).as_posix(),
                faults=_faults(receipts),
                outcome=outcome,
                figures=_figures(rules, control),
                recovery=_recovery(recovery_s),
            )
        case _:
            raise ValueError("one of its results is no verdict")


def _figures(rules: Sequence[object], control: object) -> Mapping[str, tuple[str, str]]:
    without: Mapping[str, str] = {}
    match control:
        case {"steady_state": [*others]}:
            without = dict(_measured(others))
    return {name: (value, without.get(name, NOTHING)) for name, value in _measured(rules)}


def _measured(rules: Sequence[object]) -> Iterator[tuple[str, str]]:
    for rule in rules:
        match rule:
            case {"metric": str(name), "measured": int() | float() | None as value, "unit": str(unit)}:
                yield name, figure(value, Unit(unit))
            case _:
                raise ValueError("one of its rules has no metric, no value or no unit")


def _parts(receipt: object) -> Iterator[str]:
    match receipt:
        case {"victims": [*victims]}:
            for victim in victims:
                yield code(_INSTANCE.sub("", str(victim).rpartition(".")[2]))
        case _:
            raise ValueError("one of its receipts names no victims")


def _faults(receipts: Sequence[object]) -> str:
    kinds = dict.fromkeys(str(receipt["kind"]) for receipt in receipts if isinstance(receipt, dict))
    return ", ".join(kind.replace("_", " ") for kind in kinds) or NOTHING


def _recovery(seconds: object) -> str:
    match seconds:
        case int() | float():
            return "at once" if seconds == 0 else figure(seconds, Unit.SECONDS)
        case _:
            return NOTHING


def _words(metric: str) -> str:
    return metric.removesuffix("_s").replace("_", " ")
