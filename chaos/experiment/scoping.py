"""What ``control_group`` makes of an experiment: its faults fall on the experiment group alone, by a header.

Each fault gets the condition ``header: X-Chaos-Group`` with ``header_value: experiment``, so that everything behind
this (the plan, the receipts, the report) says on whom it fell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chaos.errors import suggest
from chaos.experiment import tables as t
from chaos.experiment.model import FaultEntry, Rule
from chaos.faults.registry import FAULTS
from chaos.faults.requests import HttpFault
from chaos.fields import Section
from chaos.groups import GROUP_HEADER, Group

KINDS = tuple(kind for kind, fault in FAULTS.items() if issubclass(fault, HttpFault))
"""The faults that can fall on one group and not on another: those that choose single requests."""


def scoped(section: Section, faults: Sequence[FaultEntry], rules: Sequence[Rule]) -> tuple[FaultEntry, ...]:
    """Return the faults as they fall: on everybody, or with a control group on the experiment group alone.

    ``rules`` are all those that are judged. Reports what does not go together: a rule of a control group that is not
    declared; a control group that no rule compares with, without a fault, or with one that cannot be scoped.
    """
    compared = any(rule.of_control_group for rule in rules)
    if not section.has(t.CONTROL_GROUP):
        if compared:
            section.report(
                t.STEADY_STATE,
                "compares with the control group, and there is none; write 'control_group: 10%' beside it",
            )
        return tuple(faults)
    if rules and not compared:
        section.report(
            t.CONTROL_GROUP,
            "no rule compares with it; write one, like 'playback_availability >= 99% of control_group'",
        )
    items = section.get_or(t.FAULTS_LIST, ())
    if not items:
        section.report(
            t.CONTROL_GROUP, "needs a fault, which falls on one of the two groups; a surge falls on everybody"
        )
    for item in items:
        kind = item.get_or(t.KIND, "")
        if kind not in KINDS:
            item.report(
                t.KIND,
                f"falls on everybody whose requests come by, and with a control_group it has to fall on one group "
                f"alone; allowed are {', '.join(KINDS)}{suggest(kind, KINDS)}",
            )
        for name in ("header", "header_value"):
            if name in item.values:
                item.report(name, f"is taken: with a control_group the framework itself writes {GROUP_HEADER} here")
    return tuple(_scoped(entry) for entry in faults)


def _scoped(entry: FaultEntry) -> FaultEntry:
    if not isinstance(entry.fault, HttpFault):
        return entry
    fault = replace(entry.fault, header=GROUP_HEADER, header_value=Group.EXPERIMENT.value)
    return replace(entry, fault=fault)
