"""The whole page: runs in, one self-contained HTML file out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from chaos import __version__
from chaos.errors import EnvironmentFailure, UsageError
from chaos.reports.html import overview, sections
from chaos.reports.html.data import (
    DETAILS,
    Detail,
    embed,
    group_data,
    thin,
)
from chaos.reports.html.graphdata import Ways
from chaos.reports.html.groups import Group, pair
from chaos.reports.html.markup import Markup, element, escaped
from chaos.reports.html.metastability import metastability
from chaos.reports.html.reading import read_entries
from chaos.reports.html.record import RunReader
from chaos.verdict.units import figure, plural

PAGE_BYTES_MAX = 1_400_000
"""A report is below 1.5 MB."""
_THINNED_BYTES = 500
"""Room for the sentences on what is shown."""
_UP = element("p", element("a", "↑ all experiments", href="#main"), class_="back")

Part = tuple[Group, str, Ways]
"""An experiment with its control, the name of its section, and who calls whom in it."""


def read_runs(paths: Iterable[Path]) -> RunReader:
    """Read journals. Raises UsageError, in words that say what to do, for one that is none or has no run in it."""
    reader = RunReader()
    for path in paths:
        reader.begin(str(path))
        before = len(reader.runs) + reader.left_out
        for entry in read_entries(path):
            reader.take(entry)
        reader.finish()
        if len(reader.runs) + reader.left_out == before:
            raise UsageError(
                f"{path}: no run in it: the process that wrote it ended before its run began; run it again with "
                f"--journal {path.name}"
            )
    return reader


def write_page(path: Path, page: str) -> int:
    """Write the page, as a whole or not at all; return its bytes. Raises EnvironmentFailure when the disk refuses."""
    data = page.encode("utf-8", "backslashreplace")
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as failure:
        with contextlib.suppress(OSError):  # what cannot be written may be no file that can be removed either
            beside.unlink(missing_ok=True)
        raise EnvironmentFailure(
            f"{path}: the report cannot be written: {failure.strerror}; name another file with --html"
        ) from failure
    return len(data)


def check_writable(path: Path) -> None:
    """Raise UsageError when the report could not be written there: better before a run than after it."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file for the report, for example {path / 'report.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it, or name a file elsewhere")


def make_page(reader: RunReader) -> str:
    """Return the page for all runs that were read; it shows less of each until it is below ``PAGE_BYTES_MAX``.

    Where the least of each is too much, some runs have no more than their verdict.
    """
    groups = pair(reader.runs)
    names = [f"run-{at}" for at in range(1, len(groups) + 1)]
    parts = list(zip(groups, names, [Ways(group.runs) for group in groups], strict=True))
    told = overview.accounts(groups, names)
    pieces = {
        "title": escaped(overview.title(groups, told)),
        "version": escaped(__version__),
        "style": _asset("report.css"),
        "script": "\n".join(_asset(name) for name in ("plots.js", "table.js", "report.js")),
        "overview": overview.listing(groups, told, reader.left_out),
    }
    template = _asset("report.html")
    room = PAGE_BYTES_MAX - _bytes(template, *pieces.values()) - _THINNED_BYTES
    whole = parts
    for detail in DETAILS:
        written = [_section(*part, detail, single=len(groups) == 1) for part in parts]
        data = _data(parts, detail)
        while _bytes(*written, data) > room and thin(groups, detail.buckets_least):
            data = _data(parts, detail)
        if _bytes(*written, data) <= room:
            break
    else:
        whole, written = _with_brief_ones(parts, written, detail, room)
        data = _data(whole, detail)
    pieces |= {"groups": "".join(written), "data": data, "thinned": _thinned(groups, detail, len(parts) - len(whole))}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: pieces[found[1]], template)


def _with_brief_ones(
    parts: Sequence[Part], written: Sequence[Markup], detail: Detail, room: int
) -> tuple[list[Part], list[Markup]]:
    """Return the experiments that are shown whole, as many as there is room for, and the sections of all."""
    brief = [_brief_section(group, name, single=len(parts) == 1) for group, name, _ in parts]
    room -= _bytes(*brief, _data((), detail))
    whole, sections_made = [], []
    for part, section, short in zip(parts, written, brief, strict=True):
        more = _bytes(section, embed(group_data(*part, detail)), ",") - _bytes(short)
        fits = more <= room
        room -= more if fits else 0
        whole += [part] if fits else []
        sections_made.append(section if fits else short)
    return whole, sections_made


def _data(parts: Sequence[Part], detail: Detail) -> str:
    return embed({"groups": [group_data(*part, detail) for part in parts]})


def _bytes(*pieces: str) -> int:
    return sum(len(piece.encode("utf-8", "backslashreplace")) for piece in pieces)


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _section(group: Group, name: str, ways: Ways, detail: Detail, *, single: bool) -> Markup:
    control = group.control is not None
    runs = [element("figure", class_="timeline", data_run=at) for at in range(len(group.runs))]
    return element(
        "section",
        sections.verdict(group),
        _troubles(group),
        element("h3", "What was asked of it"),
        sections.rules(group),
        element("h3", "What happened, and when"),
        *runs,
        element("h3", "What users and services saw"),
        element("p", _hint(control=control), class_="quiet hint"),
        element("div", class_="plots"),
        element("details", element("summary", "Other figures"), element("div", class_="plots"), class_="more"),
        element("h3", "Who calls whom") if detail.graph else "",
        sections.graph(ways, name) if detail.graph else "",
        element("h3", "What the faults touched"),
        sections.receipts(group),
        metastability(group),
        sections.replay(group, name),
        sections.phases(group) if detail.phases else "",
        sections.happenings(group, detail),
        sections.machine(group),
        "" if single else _UP,
        class_="group",
        id=name,
        aria_label=group.title,
    )


def _brief_section(group: Group, name: str, *, single: bool) -> Markup:
    return element(
        "section",
        sections.verdict(group),
        element("p", "This page has no room for the rest, which is in the journal.", class_="quiet"),
        sections.replay(group, name),
        "" if single else _UP,
        class_="group",
        id=name,
        aria_label=group.title,
    )


def _hint(*, control: bool) -> str:
    said = "Point at a plot to read every plot at that second. Drag to look closer, double click to see all again. "
    said += "By keyboard: arrow keys, + and -, Escape."
    return f"Broken lines are the control, under the same faults. {said}" if control else said


def _troubles(group: Group) -> Markup:
    """Return what was wrong with the journals that this comes from."""
    said = []
    for run in group.runs:
        whose = "The control's journal" if run is group.control else "The journal"
        if run.cut_off:
            said.append(
                f"{whose} ({run.source}) ends before its run does: the process was killed, or the disk was full."
            )
        if run.troubles_count:
            first = "; ".join(f"line {one.line} {one.message}" for one in run.troubles[:3])
            lines = plural("line", run.troubles_count)
            said.append(f"{whose} ({run.source}) has {lines} that could not be used, and are left out: {first}.")
        if run.timeline.left_out:
            said.append(f"{whose} ({run.source}) has more series than a report shows; some are left out.")
        if run.breakers.left_out:
            said.append(f"{whose} ({run.source}) has more changes of breakers than a report shows.")
    if not said:
        return Markup("")
    return element("div", *(element("p", one) for one in said), class_="trouble", role="note")


def _thinned(groups: Sequence[Group], detail: Detail, brief: int) -> Markup:
    """Return in a sentence how much of the journals is on the page."""
    left_out = [
        what
        for shown, what in (
            (detail.other_figures, "figures that no rule is near"),
            (detail.phases, "tables of the phases"),
            (detail.edges, "lists of edges"),
            (detail.graph, "call graphs"),
        )
        if not shown
    ]
    if brief:
        left_out.append(f"all but the verdict of {plural('experiment', brief)}")
    more = f" For want of room left out: {', '.join(left_out)}; a report of fewer runs has them." if left_out else ""
    width_s = max((run.timeline.width_s for group in groups for run in group.runs), default=1)
    if width_s == 1:
        return Markup(f"Every point is one second.{more}")
    said = f"Points are up to {figure(width_s, 's')} wide: the line is their mean, the band behind it their least and "
    return Markup(f"{said}greatest second.{more}")
