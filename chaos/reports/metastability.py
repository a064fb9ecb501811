"""What a search for metastability found, for people and as data: a line for each probe, a table by load, a document.

In the document of ``chaos run --json`` it is the key ``metastability`` (null: not searched for):

===========================  =================================================================================
key                          value
===========================  =================================================================================
recovers_up_to_per_s         the highest load at which every probe recovered, as at all that are lower
stays_down_from_per_s        the lowest load that it carried before the trigger and never after it
overloaded_from_per_s        the lowest load at which it was not even steady before the trigger
                             (of these three null: there is none, or it was not tried)
outcome, sentences[]         whether the demand is met (null: none was made); what was found, in words
unfinished                   why there are no more probes, in words; empty when it was enough
required_per_s               up to which load it must recover by itself; null: nothing is asked
up_to_per_s, hold_s,         how far was searched, how long the load was held after healing, how close the edges may
precision, trials            be (a share), how often each is tried
probes[]                     in their order: rate_per_s, answer (recovered, stayed_down, overloaded, unknown),
                             recovery_s, reason, seed, replay, own (whether it is the experiment's own run)
===========================  =================================================================================
"""

from __future__ import annotations

import dataclasses

from rich.console import RenderableType
from rich.text import Text

from chaos.metastability.finding import Finding, rate_in_words
from chaos.metastability.model import Answer, Probe
from chaos.reports.styles import table
from chaos.verdict.units import NOTHING, figure

_STYLES = {
    Answer.RECOVERED: "green",
    Answer.STAYED_DOWN: "bold red",
    Answer.OVERLOADED: "magenta",
    Answer.UNKNOWN: "yellow",
}


def probe_in_words(probe: Probe) -> str:
    """Return one line: ``at 42.4/s stayed down: not steady again in the 15 s after healing``."""
    said = f"at {rate_in_words(probe.rate_per_s)} {probe.answer.words}"
    if probe.recovery_s is not None:
        return f"{said}, steady again {_after(probe.recovery_s)}"
    return f"{said}: {probe.reason}" if probe.reason else said


def finding_table(finding: Finding) -> RenderableType:
    """Return the probes by load, the lowest first, those at one load in a row."""
    rows = table("load", "answers", "steady again after")
    rows.columns[0].justify, rows.columns[0].no_wrap = "right", True
    for rate in sorted({probe.rate_per_s for probe in finding.probes}):
        probes = [probe for probe in finding.probes if probe.rate_per_s == rate]
        answers = Text(", ").join(Text(probe.answer.words, style=_STYLES[probe.answer]) for probe in probes)
        rows.add_row(f"{rate:g} /s", answers, steady_again(finding, probes))
    return rows


def steady_again(finding: Finding, probes: list[Probe]) -> str:
    """Return after how long the system was steady again in each of these probes."""
    return ", ".join(_again(finding, probe) for probe in probes)


def finding_document(finding: Finding) -> dict[str, object]:
    """Return the finding as data; see above."""
    settings = finding.settings
    return {
        "recovers_up_to_per_s": finding.recovers_up_to_per_s,
        "stays_down_from_per_s": finding.stays_down_from_per_s,
        "overloaded_from_per_s": finding.overloaded_from_per_s,
        "outcome": None if finding.outcome is None else finding.outcome.value,
        "sentences": list(finding.sentences()),
        "unfinished": finding.unfinished,
        "required_per_s": settings.recovers_up_to_per_s,
        "up_to_per_s": settings.up_to_per_s,
        "hold_s": settings.hold_s,
        "precision": settings.precision,
        "trials": settings.trials,
        "probes": [{**dataclasses.asdict(probe), "answer": probe.answer.value} for probe in finding.probes],
    }


def _again(finding: Finding, probe: Probe) -> str:
    match probe.answer:
        case Answer.RECOVERED if probe.recovery_s is not None:
            return figure(probe.recovery_s, "s") if probe.recovery_s else "at once"
        case Answer.STAYED_DOWN:
            held_s = finding.settings.hold_s
            return f"not within {figure(held_s, 's')}"
        case _:
            return NOTHING


def _after(recovery_s: float) -> str:
    return f"{figure(recovery_s, 's')} after healing" if recovery_s else "as soon as the trigger was gone"
