"""How the reports look: one colour for each outcome, one kind of table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from chaos.errors import Outcome

OUTCOME_STYLES: Mapping[Outcome, str] = {
    Outcome.HELD: "bold green",
    Outcome.VIOLATED: "bold red",
    Outcome.INCONCLUSIVE: "bold yellow",
    Outcome.ERROR: "bold magenta",
    Outcome.INTERRUPTED: "bold yellow",
}


def table(*headings: str) -> Table:
    """Return an empty table without lines; cells too long for the terminal are folded, never cut."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def bullet(sentence: str, style: str = "") -> Padding:
    """Return a sentence, wrapped and indented; its first letter made a capital."""
    return Padding(Text(sentence[:1].upper() + sentence[1:], style=style), (0, 0, 0, 2), expand=False)
