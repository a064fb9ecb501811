"""A figure over the whole run as a row of blocks, one column for each part of the run's time.

All of them share one axis with the time line above them: column c of W stands for the time from c/W to (c+1)/W of
the run, so that a dip stands under the fault that made it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

LEVELS = "▁▂▃▄▅▆▇█"
NOTHING = "·"
"""A second in which nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One second: the time it ended, its value, and its style."""

    t_s: float
    value: float | None
    style: str


def columns_of(
    points: Sequence[Point], width: int, duration_s: float, worst: Callable[[list[Point]], Point]
) -> list[Point | None]:
    """Return what each of ``width`` columns shows; None where no second was measured yet.

    Where a column stands for several seconds it shows the worst of them: a short dip must not be averaged away.
    """
    columns: list[Point | None] = []
    step_s = duration_s / width if width > 0 else 0.0
    for column in range(width):
        start_s, end_s = column * step_s, (column + 1) * step_s
        # A second ends at t and covers [t - 1, t): it belongs to a column that begins in it, or that it begins in.
        inside = [one for one in points if one.t_s - 1.0 < end_s and one.t_s > start_s]
        if step_s >= 1.0:
            inside = [one for one in inside if start_s <= one.t_s - 0.5 < end_s]
        measured = [one for one in inside if one.value is not None]
        columns.append(worst(measured) if measured else inside[-1] if inside else None)
    return columns


def sparkline(columns: Sequence[Point | None], low: float, high: float, *, rows: int = 1) -> list[Text]:
    """Return ``rows`` lines of blocks, the top one first, for values between ``low`` and ``high``."""
    lines = [Text(no_wrap=True) for _ in range(rows)]
    # Neighbours of one style are written at once: a line then has a few spans to render, not one for each column.
    for style, run in itertools.groupby(columns, key=_style_of):
        cells = [_cells(point, low, high, rows) for point in run]
        for number, line in enumerate(lines):
            line.append("".join(cell[number] for cell in cells), style=style)
    return lines


def _style_of(point: Point | None) -> str:
    return "dim" if point is None or point.value is None else point.style


def _cells(point: Point | None, low: float, high: float, rows: int) -> list[str]:
    """Return one column, the top cell first."""
    if point is None or point.value is None:
        return [" "] * (rows - 1) + [" " if point is None else NOTHING]
    share = 1.0 if high <= low else min(1.0, max(0.0, (point.value - low) / (high - low)))
    filled = max(1, round(share * rows * len(LEVELS)))  # the least still shows that something was measured
    levels = [filled - below * len(LEVELS) for below in reversed(range(rows))]
    return [" " if level <= 0 else LEVELS[min(level, len(LEVELS)) - 1] for level in levels]
