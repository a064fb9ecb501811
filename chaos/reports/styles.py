"""How the reports look: one colour for each outcome, one kind of table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType
from rich.padding import Padding
from rich.style import StyleType
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


class _Table(Table):
    """A table whose cells say what they are given: Rich would take ``[p99]`` in a plain text for a style."""

    def add_row(
        self, *renderables: RenderableType | None, style: StyleType | None = None, end_section: bool = False
    ) -> None:
        cells = (Text(one) if isinstance(one, str) else one for one in renderables)
        super().add_row(*cells, style=style, end_section=end_section)


def table(*headings: str) -> Table:
    """Return an empty table without lines; cells too long for the terminal are folded, never cut.

    A text is shown as it is, whatever is in it; a cell that is to have a style is a ``Text``.
    """
    made = _Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def bullet(sentence: str, style: str = "") -> Padding:
    """Return a sentence, wrapped and indented; its first letter made a capital."""
    return Padding(Text(sentence[:1].upper() + sentence[1:], style=style), (0, 0, 0, 2), expand=False)
