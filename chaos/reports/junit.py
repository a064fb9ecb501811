"""A gate as JUnit XML, in the dialect that CI servers read: what Maven Surefire writes and Jenkins' plugin expects.

A test suite for each folder, a test case for each experiment. Violated is a ``failure``, an environment that failed an
``error``, and inconclusive is ``skipped``, with the reasons: no evidence is no pass and no failure. The command that
repeats the run is in ``system-out``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from chaos.errors import Outcome
from chaos.reports.gate import GateReport, GateRow, recovery_in_words, rule_in_words, worst_rule

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no place for, not even escaped (its section 2.2)."""

_ELEMENTS = {
    Outcome.VIOLATED: "failure",
    Outcome.ERROR: "error",
    Outcome.INTERRUPTED: "error",
    Outcome.INCONCLUSIVE: "skipped",
}


def junit_xml(report: GateReport) -> str:
    """Return the report as an XML document. Pure; times are seconds."""
    folders: dict[str, list[GateRow]] = {}
    for row in report.rows:
        folders.setdefault(row.folder, []).append(row)
    totals = {**_totals(report.rows), "time": _seconds(report.duration_s)}
    totals.pop("skipped")  # Jenkins' schema of the root has no place for it
    root = ET.Element("testsuites", {"name": "chaos gate", **totals})
    for folder, rows in folders.items():
        totals = {**_totals(rows), "time": _seconds(sum(row.duration_s for row in rows))}
        suite = ET.SubElement(root, "testsuite", {"name": _clean(folder), **totals})
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", name="seed", value=str(report.seed))
        ET.SubElement(properties, "property", name="form", value=report.form)
        for row in rows:
            suite.append(_case(row, folder))
    # What became worse over all of them together belongs to no experiment, and fails the gate all the same.
    if report.worse:
        suite = ET.SubElement(
            root,
            "testsuite",
            name="resilience baseline",
            tests="1",
            failures="1",
            errors="0",
            skipped="0",
            time="0.000",
        )
        case = ET.SubElement(
            suite, "testcase", name="all experiments together", classname="resilience baseline", time="0.000"
        )
        _say(case, "failure", "violated", report.worse)
        root.set("tests", str(len(report.rows) + 1))
        root.set("failures", str(int(root.get("failures", "0")) + 1))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(row: GateRow, folder: str) -> ET.Element:
    case = ET.Element(
        "testcase", name=_clean(row.name), classname=_clean(folder.replace("/", ".")), time=_seconds(row.duration_s)
    )
    element = _ELEMENTS.get(row.outcome)
    if element is not None:
        _say(case, element, row.outcome.value, row.reasons)
    ET.SubElement(case, "system-out").text = _clean("\n".join(_output(row)))
    return case


def _say(case: ET.Element, element: str, kind: str, reasons: Sequence[str]) -> None:
    said = ET.SubElement(case, element, message=_clean(reasons[0] if reasons else kind))
    if element != "skipped":  # Surefire's schema gives it a message alone
        said.set("type", kind)
    said.text = _clean("\n".join(reasons))


def _output(row: GateRow) -> list[str]:
    verdict = row.verdict
    lines = [verdict.experiment, f"outcome: {row.outcome.value}", *row.reasons]
    lines.append(f"worst rule: {rule_in_words(worst_rule(verdict))}; steady again: {recovery_in_words(verdict)}")
    if row.why_not_quick:
        lines.append(f"not in the quick form: {row.why_not_quick}")
    lines += [f"journal: {journal}" for journal in row.journals]
    lines.append(f"replay: {verdict.replay}")
    return lines


def _totals(rows: Sequence[GateRow]) -> dict[str, str]:
    elements = [_ELEMENTS.get(row.outcome) for row in rows]
    return {
        "tests": str(len(rows)),
        "failures": str(elements.count("failure")),
        "errors": str(elements.count("error")),
        "skipped": str(elements.count("skipped")),
    }


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.3f}"


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
