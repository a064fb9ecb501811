"""What mutation testing found, for people: a line for each mutant, the score, the survivors with their reasons."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from chaos.mutation.model import Fate, Judged, Mutant, MutantList, score
from chaos.reports.styles import table

VERSION = 1
_STYLES = {Fate.KILLED: "green", Fate.SURVIVED: "bold red", Fate.UNDECIDED: "yellow", Fate.BROKEN: "bold magenta"}


def print_list(console: Console, mutants: Sequence[Mutant], *, listed: MutantList) -> None:
    """Print each of these mutants of a list, and who should notice it."""
    rows = table("without", "noticed by", "what is lost")
    for mutant in mutants:
        lost = Text(mutant.title, no_wrap=True, overflow="ellipsis")
        noticed_by = ",\n".join(path.stem for path in mutant.noticed_by) or "nothing"
        rows.add_row(" +\n".join(mutant.disable), noticed_by, lost)
    for column in rows.columns[:2]:  # a narrow terminal shortens the sentences alone
        column.no_wrap = True
    console.print(rows)
    total = len(listed.mutants)
    count = f"{len(mutants)} of the {total}" if len(mutants) < total else f"{total}"
    console.print(Text(f"{count} mutants in {listed.file}"))


def line_of(judged: Judged, number: int, total: int) -> Text:
    """Return the line that is printed when a mutant's fate is known."""
    text = Text(f"[{number:>{len(str(total))}}/{total}] ")
    text.append(f"{judged.fate.value:<9}", style=_STYLES[judged.fate])
    text.append(f" {judged.mutant.name}")
    if judged.fate is Fate.KILLED:
        text.append(f"  by {judged.by}: {judged.reason}", style="dim")
    elif judged.reason:
        text.append(f"  {judged.reason}", style="dim")
    return text


def print_score(console: Console, judged: Sequence[Judged], total: int) -> None:
    """Print the score, and each mutant that was not killed with why not, as far as that is known."""
    if not judged:
        console.print("no mutant was judged")
        return
    killed = sum(one.fate is Fate.KILLED for one in judged)
    cut_off = f"; {total - len(judged)} were not tried" if len(judged) < total else ""
    console.print(Text(f"Mutation score {score(judged):.1%}: {killed} of {len(judged)} killed{cut_off}", style="bold"))
    for one in judged:
        if one.fate is not Fate.KILLED:
            console.print(Text(f"  {one.mutant.name} {one.fate.value}: {explanation(one)}"))


def explanation(judged: Judged) -> str:
    """Say why a mutant was not killed."""
    if judged.mutant.survives:
        return judged.mutant.survives
    if not judged.mutant.noticed_by:
        return "no experiment is meant to notice it"
    return judged.reason or "every experiment held that should have noticed it, and nobody has said why"


def mutation_document(judged: Sequence[Judged], total: int) -> dict[str, object]:
    """Return what ``--json`` writes: the score (a share; null without mutants), and every mutant with its fate."""
    return {
        "version": VERSION,
        "score": score(judged) if judged else None,
        "mutants_listed": total,
        "mutants": [
            {
                "disable": list(one.mutant.disable),
                "title": one.mutant.title,
                "noticed_by": [str(path) for path in one.mutant.noticed_by],
                "fate": one.fate.value,
                "killed_by": one.by or None,
                "reason": one.reason or None,
                "survives": one.mutant.survives or None,
                "runs": one.runs,
            }
            for one in judged
        ],
    }


def mutation_markdown(judged: Sequence[Judged]) -> str:
    """Return the table of mutants in Markdown."""
    lines = ["| without | fate | by | why |", "|---|---|---|---|"]
    for one in judged:
        why = one.reason if one.fate is Fate.KILLED else explanation(one)
        lines.append(f"| {_cell(one.mutant)} | {one.fate.value} | {one.by or '-'} | {why.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def _cell(mutant: Mutant) -> str:
    return " + ".join(f"`{name}`" for name in mutant.disable)
