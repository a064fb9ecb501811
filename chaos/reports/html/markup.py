"""Pieces of HTML and SVG that stand without a script: escaped text, tables, small pictures."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from chaos.errors import Outcome
from chaos.reports.html.documents import Interval

MARKS = {
    Outcome.HELD: "✓",
    Outcome.VIOLATED: "✕",
    Outcome.INCONCLUSIVE: "?",
    Outcome.ERROR: "!",
    Outcome.INTERRUPTED: "‖",
    None: "…",
}
"""A sign for each outcome, so that no colour is needed to tell them apart."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(value: object) -> str:
    """Return HTML for any value: itself when it is HTML already."""
    return value if isinstance(value, Markup) else html.escape(str(value))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element; ``class_`` is the attribute ``class``, ``data_run`` is ``data-run``, None leaves one out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>{''.join(escaped(one) for one in content)}</{name}>")


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Return several pieces as one."""
    return Markup(between.join(escaped(one) for one in parts))


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, numeric: Sequence[int] = ()
) -> Markup:
    """Return a table in a box that scrolls sideways where it must; ``numeric`` columns stand right."""

    def classes(column: int) -> str | None:
        return "number" if column in numeric else None

    head = joined(element("th", one, scope="col", class_=classes(at)) for at, one in enumerate(heads))
    body = joined(
        element(
            "tr",
            *(
                element("th", cell, scope="row") if at == 0 else element("td", cell, class_=classes(at))
                for at, cell in enumerate(row)
            ),
        )
        for row in rows
    )
    inner = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", head)),
        element("tbody", body),
    )
    return element("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def chip(outcome: Outcome | None, words: str | None = None) -> Markup:
    """Return an outcome as a small sign with its word."""
    name = outcome.value if outcome is not None else "cut off"
    mark = element("span", MARKS[outcome], class_="mark", aria_hidden="true")
    return element("span", mark, words if words is not None else name, class_=f"chip {name.replace(' ', '-')}")


def spark(values: Sequence[float | None], label: str, *, least: float | None = None) -> Markup:
    """Return a series as a small line, from 0 (or ``least``) to its greatest value."""
    known = [value for value in values if value is not None]
    if not known:
        return element("span", "-", class_="quiet")
    low = min(0.0, *known) if least is None else min(least, *known)
    high = max(known) if max(known) > low else low + 1.0
    step = 118.0 / max(1, len(values) - 1)
    stretches: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append(f"{1 + at * step:.1f},{26 - 24 * (value - low) / (high - low):.1f}")
    # A second between two that were not measured is no line, and would not be seen: it becomes a short one.
    drawn = (f"M{'L'.join(one)}" if len(one) > 1 else f"M{one[0]}h1" for one in stretches if one)
    line = element("path", d="".join(drawn))
    return element("svg", line, class_="spark", viewBox="0 0 120 28", role="img", aria_label=label)


def ruler(measured: float | None, limit: float | None, interval: Interval | None) -> Markup:
    """Return a small picture of where a measured value and its interval lie beside the limit."""
    if measured is None or limit is None:
        return Markup("")
    ends = [measured, limit, *(end for end in interval or () if end is not None)]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.12 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room

    def x(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.1f}"

    parts = [element("line", class_="axis", x1=0, x2=100, y1=8, y2=8)]
    if interval is not None:
        left, right = (low if interval[0] is None else interval[0]), (high if interval[1] is None else interval[1])
        parts.append(element("line", class_="interval", x1=x(left), x2=x(right), y1=8, y2=8))
    parts.append(element("line", class_="limit", x1=x(limit), x2=x(limit), y1=1, y2=15))
    parts.append(element("circle", class_="measured", cx=x(measured), cy=8, r=3.5))
    return element("svg", *parts, class_="ruler", viewBox="0 0 100 16", aria_hidden="true")
