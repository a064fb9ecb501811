"""Text in GitHub's Markdown, whatever is in it: as words, as code, in a row of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable


def words(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return " ".join(re.sub(r"[\\*_<`\[\]]", r"\\\g<0>", text).split())


def code(text: str) -> str:
    """Return text as code, on one line."""
    said = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", said)), default=0))
    return f"{fence} {said} {fence}" if "`" in said else f"{fence}{said}{fence}"


def table_row(cells: Iterable[str]) -> str:
    """Return a row of a table. A bar within a cell is escaped: it would begin the next one, also within code."""
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
