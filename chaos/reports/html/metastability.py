"""The section of a report on metastability: what the system did at each load that was tried."""

from __future__ import annotations

from chaos.metastability.model import Answer
from chaos.reports.html.documents import Document, number, record, records, shown, text
from chaos.reports.html.groups import Group
from chaos.reports.html.markup import Markup, element, joined, table


def metastability(group: Group) -> Markup:
    """Return every load that was tried, the lowest first, with its answers; nothing where it was not searched for."""
    found = record(group.run.verdict, "metastability")
    probes = records(found, "probes")
    if not probes:
        return Markup("")
    rates = sorted({rate for probe in probes if (rate := number(probe, "rate_per_s")) is not None})
    rows: list[list[object]] = []
    for rate in rates:
        there = [probe for probe in probes if number(probe, "rate_per_s") == rate]
        after = [shown(number(probe, "recovery_s"), "s") for probe in there]
        rows.append([shown(rate, "/s"), joined(_answer(probe) for probe in there), ", ".join(after)])
    heads = ["load", "after the faults were healed", "steady again after"]
    return joined(
        [
            element("h3", "Metastability: from which load on it no longer recovers by itself"),
            table(heads, rows, caption="Metastability: what became of each load", numeric=(2,)),
        ]
    )


def _answer(probe: Document) -> Markup:
    words, reason = text(probe, "answer").replace("_", " "), text(probe, "reason")
    down = text(probe, "answer") == Answer.STAYED_DOWN
    said = element("strong", words, class_="violated") if down else element("span", words)
    return element("div", said, element("span", reason, class_="explained") if reason else "")
