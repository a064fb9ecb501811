"""The list in front of several runs: every experiment in a row, with what was said of it and a link to its run.

One run may tell of several experiments, and one experiment may have been asked about twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.errors import Outcome
from chaos.reports.html.data import metric_label, ruled_metrics, sparkline
from chaos.reports.html.documents import Document, outcome, records, text
from chaos.reports.html.groups import Group
from chaos.reports.html.markup import Markup, chip, element, joined, spark, table
from chaos.verdict.units import plural

_SPARKS = 2
"""Small pictures in each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one run says about one experiment."""

    group: Group
    link: str
    """Where the run is on the page."""
    title: str
    file: str
    outcome: Outcome | None
    verdict: Document
    asked_again: bool = False
    """Whether it does not tell, and a later run of the same experiment and seed was to tell."""


def accounts(groups: Sequence[Group], names: Sequence[str]) -> list[Account]:
    """Return what all runs say, in their order."""
    found: list[Account] = []
    later: set[tuple[str, int | None]] = set()
    for group, name in reversed(list(zip(groups, names, strict=True))):
        whole = (group.run.title, group.run.file, group.outcome, group.run.verdict)
        parts = [(text(one, "experiment"), text(one, "file"), outcome(one), one) for one in group.run.parts]
        for title, file, said, verdict in reversed(parts or [whole]):
            key = (file, group.run.seed)
            found.append(
                Account(
                    group=group,
                    link=f"#{name}",
                    title=title,
                    file=file,
                    outcome=said,
                    verdict=verdict,
                    asked_again=said is Outcome.INCONCLUSIVE and key in later,
                )
            )
            later.add(key)
    return found[::-1]


def title(groups: Sequence[Group], told: Sequence[Account]) -> str:
    """Return the title of a page of these runs."""
    return groups[0].title if len(groups) == 1 else plural("experiment", sum(not one.asked_again for one in told))


def listing(groups: Sequence[Group], told: Sequence[Account], left_out: int) -> Markup:
    """Return the list, and how many experiments ended how; nothing for a single run."""
    if len(groups) == 1:
        return Markup("")
    answers = [one for one in told if not one.asked_again]
    counts = Counter("cut off" if one.outcome is None else one.outcome.value for one in answers)
    ruled = [name for group in groups for name in ruled_metrics(group)]
    common = sorted(dict.fromkeys(ruled), key=lambda name: -ruled.count(name))[:_SPARKS]
    heads = ["experiment", "outcome", "rules held", "control"]
    heads += [metric_label(groups[0], name).title for name in common]
    more = element("p", f"{plural('run', left_out)} more in the journals: a page has no room for them.")
    return element(
        "section",
        element(
            "h2", f"{plural('experiment', len(answers))}: {', '.join(f'{n} {word}' for word, n in counts.items())}"
        ),
        _how_many_runs(told, len(groups)),
        table(heads, [_row(one, common) for one in told], caption="All experiments"),
        more if left_out else "",
        class_="overview",
        aria_label="All experiments",
    )


def _how_many_runs(told: Sequence[Account], runs: int) -> Markup:
    """Return in words why there are fewer runs than rows, or more rows than experiments, where it is so."""
    said = []
    if len(told) > runs:
        said.append(f"These are {runs} runs: some were of several experiments at the same time.")
    if again := sum(one.asked_again for one in told):
        said.append(f"{again} of them did not tell at first, and {'was' if again == 1 else 'were'} asked again.")
    return element("p", " ".join(said), class_="quiet note") if said else Markup("")


def _row(account: Account, metrics: Sequence[str]) -> list[object]:
    group = account.group
    rules = records(account.verdict, "steady_state")
    held = sum(text(rule, "outcome") == "held" for rule in rules)
    said = chip(account.outcome)
    if account.asked_again:
        said = joined([said, element("span", "asked again", class_="explained")])
    pictures = [
        spark(
            sparkline(group.run, ("value", metric)),
            f"{metric_label(group, metric).title} over the run",
            least=0.9 if metric_label(group, metric).unit == "%" else None,
        )
        for metric in metrics
    ]
    return [
        joined([element("a", account.title, href=account.link), element("span", account.file, class_="explained")]),
        said,
        f"{held} of {len(rules)}",
        chip(group.control.outcome) if group.control is not None else "-",
        *pictures,
    ]
