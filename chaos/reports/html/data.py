"""What the page's script draws, as JSON: series of experiment and control, spans, and the edges behind each line.

Numbers are shortened to what an eye can tell apart, and series thinned until the page keeps to its size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaos.events import MetricLabel
from chaos.groups import Group as AccountGroup
from chaos.reports.deviation import deviation
from chaos.reports.html.documents import number, records, shown, text
from chaos.reports.html.graphdata import Ways
from chaos.reports.html.groups import Group
from chaos.reports.html.record import NOTES_MAX, RunRecord
from chaos.reports.html.timeline import Key, Series
from chaos.samples import SampleOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What a page has room for."""

    buckets_least: int
    """Series are not thinned further than that before something else is left out."""
    other_figures: bool = True
    phases: bool = True
    edges: bool = True
    """Whether the edges of each pair of services are listed."""
    graph: bool = True
    happenings: int = NOTES_MAX
    """So many of what else happened in each run are told."""


DETAILS = (
    Detail(buckets_least=240),
    Detail(buckets_least=120, happenings=60, other_figures=False),
    Detail(buckets_least=48, happenings=20, other_figures=False, phases=False),
    Detail(buckets_least=24, happenings=6, other_figures=False, phases=False, edges=False),
    Detail(buckets_least=12, happenings=0, other_figures=False, phases=False, edges=False, graph=False),
)
"""From a page of one run to one of a hundred: the first that keeps to a page's size is taken."""
PAIRS_SHOWN = 6
"""Lines in one plot of the errors between services."""
BREAKERS_SHOWN = 24
"""Rows of breakers; the ones that were not closed for longest."""
SPANS_SHOWN = 400
"""States in one row."""
OUTCOMES = {
    SampleOutcome.OK: "full",
    SampleOutcome.FALLBACK: "fallback",
    SampleOutcome.REFUSED: "refused",
    SampleOutcome.FAILED: "failed",
}
"""What the answers are called on the page."""


def group_data(group: Group, name: str, ways: Ways, detail: Detail) -> dict[str, object]:
    """Return what the script needs of one experiment."""
    return {
        "id": name,
        "runs": [
            _run(run, label, short, detail)
            for run, label, short in zip(group.runs, labels(group), ("experiment", "control"), strict=False)
        ],
        "plots": [plot for plot in _plots(group, ways) if plot["lines"] and (detail.other_figures or not plot["more"])],
        "pairs": ways.data(listed=detail.edges) if detail.graph else [],
    }


def labels(group: Group) -> tuple[str, ...]:
    """Return what experiment and control are called beside each other; nothing for a run alone."""
    if group.control is None:
        return ("",)
    how = "with the protections" if group.control.disabled else "as it is"
    return (f"experiment: {how}", f"control: {control_label(group.control)}")


def control_label(control: RunRecord) -> str:
    """Return in what a control differs, shortly."""
    said = deviation(control.disabled, control.changed)
    return said if len(said) <= 80 else f"{len(control.disabled) + len(control.changed)} things changed"


def embed(data: object) -> str:
    """Return JSON that may stand in a ``script`` element: nothing in it can end the element or begin a comment."""
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        said = said.replace(character, f"\\u{ord(character):04x}")
    return said.encode("utf-8", "backslashreplace").decode()


def thin(groups: Sequence[Group], least: int) -> bool:
    """Make the longest series of all half as long; return False when that is fewer than ``least`` points."""
    timelines = [run.timeline for group in groups for run in group.runs]
    longest = max((one.buckets for one in timelines), default=0)
    if longest < 2 * least:
        return False
    for one in timelines:
        if 2 * one.buckets > longest and one.buckets >= 2 * least:
            one.halve()
    return True


def ruled_metrics(group: Group) -> list[str]:
    """Return the metrics that rules are about, in their order."""
    rules = [rule for key in ("steady_state", "must_break") for rule in records(group.run.verdict, key)]
    named = [text(rule, "metric") for rule in rules]
    if not named and group.run.started is not None:  # no verdict: what was asked for is known all the same
        named = [rule.split()[0] for rule in group.run.started.rules if rule.split()]
    return list(dict.fromkeys(named))


def metric_label(group: Group, name: str) -> MetricLabel:
    """Return title and unit of a metric; guessed from its name in a journal that does not tell."""
    for run in group.runs:
        if run.started is not None and run.started.target is not None and name in run.started.target.metrics:
            return run.started.target.metrics[name]
    rules = [rule for key in ("steady_state", "must_break") for rule in records(group.run.verdict, key)]
    unit = next((text(rule, "unit") for rule in rules if text(rule, "metric") == name), None)
    if unit is None:
        ends = {"_s": "s", "availability": "%", "share": "%", "ratio": "%", "completion": "%"}
        unit = next((one for end, one in ends.items() if name.endswith(end)), "/s" if name == "sps" else "")
    return MetricLabel(title=name.replace("_", " ").capitalize(), unit=unit, of="")


def _run(run: RunRecord, label: str, short: str, detail: Detail) -> dict[str, object]:
    breakers = sorted(run.breakers.spans.items(), key=lambda one: -sum(end - start for start, end, _ in one[1]))
    return {
        "label": label,
        "short": short if label else "",
        "end": _short(run.end_s),
        "phases": [[name, _short(start_s), _short(end_s)] for name, start_s, end_s in run.spans()],
        "faults": [
            [
                fault.name,
                fault.description,
                _short(fault.start_s),
                _short(run.end_s if fault.end_s is None else fault.end_s),
                fault.touched,
            ]
            for fault in run.faults.values()
        ],
        "breakers": [
            [
                f"{command} at {instance}",
                [[_short(start), _short(end), state] for start, end, state in spans[:SPANS_SHOWN]],
            ]
            for (instance, command), spans in sorted(breakers[:BREAKERS_SHOWN], key=lambda one: one[1][0].start_s)
        ],
        "breakers_left_out": max(0, len(breakers) - BREAKERS_SHOWN),
        "happenings": [[_short(one.t_s), one.text] for one in run.happenings[: detail.happenings]],
    }


def _plots(group: Group, ways: Ways) -> Iterator[dict[str, object]]:
    ruled = ruled_metrics(group)
    seen = [key[1] for run in group.runs for key in run.timeline.series if key[0] == "value"]
    kinds = {metric_label(group, name).of for name in ruled} - {""}
    others = [name for name in dict.fromkeys(seen) if name not in ruled]
    known = all(run.started is not None and run.started.target is not None for run in group.runs)
    near = [name for name in others if not (known and kinds) or metric_label(group, name).of in kinds]
    near = [name for name in near if not metric_label(group, name).detail]
    for name in (*ruled, *near):
        yield _metric_plot(group, name, more=False)
    all_kinds = dict.fromkeys(key[1] for run in group.runs for key in run.timeline.series if key[0] == "count")
    primary = [kind for kind in all_kinds if kind in kinds] or list(all_kinds)[:1]
    for kind in primary:
        yield _outcomes_plot(group, kind, more=False)
    yield _calls_plot(group, ways, "errors", "Failed calls between services")
    for name in others:
        if name not in near:
            yield _metric_plot(group, name, more=True)
    for kind in all_kinds:
        if kind not in primary:
            yield _outcomes_plot(group, kind, more=True)
    yield _calls_plot(group, ways, "calls", "Calls between services")
    shares = {
        "steal_share": "taken by the hypervisor",
        "foreign_share": "used by others",
        "waiting_share": "waited for",
    }
    yield _machine_plot(group, "The machine: processor time", "%", shares)
    yield _machine_plot(group, "Slowest answer of an edge without a fault", "s", {"canary_s": "slowest answer"})


def _metric_plot(group: Group, name: str, *, more: bool) -> dict[str, object]:
    label = metric_label(group, name)
    titles = ("experiment", "control") if group.control is not None else (label.title,)
    lines = []
    for at, (run, title) in enumerate(zip(group.runs, titles, strict=True)):
        colour = "experiment" if at == 0 else "control"
        sides: list[tuple[Key, AccountGroup | None]] = [(("group", one.value, name), one) for one in AccountGroup]
        if not any(key in run.timeline.series for key, _ in sides):
            sides = [(("value", name), None)]
        for key, one in sides:
            series = run.timeline.series.get(key)
            if series is not None:
                said = title if one is None else _of_run(f"{one} group", group, at)
                tint = "pair2" if one is AccountGroup.CONTROL else colour
                lines.append(_line(run, at, said, tint, series, label.unit))
    return {"title": label.title, "unit": label.unit, "lines": lines, "limits": _limits(group, name), "more": more}


def _outcomes_plot(group: Group, kind: str, *, more: bool) -> dict[str, object]:
    lines = []
    for at, run in enumerate(group.runs):
        for outcome, title in OUTCOMES.items():
            series = run.timeline.series.get(("count", kind, outcome))
            if series is not None and series.total():
                lines.append(_line(run, at, _of_run(title, group, at), outcome, series, "/s"))
    title = f"What became of each {kind.replace('_', ' ')}, by the second it ended in"
    return {"title": title, "unit": "/s", "lines": lines, "limits": [], "more": more}


def _calls_plot(group: Group, ways: Ways, what: str, title: str) -> dict[str, object]:
    """Calls (or ``errors``) each second as the callers count them, between the services with most in either run."""
    lines = []
    for place, pair in enumerate(ways.most(what, PAIRS_SHOWN)):
        for at, run in enumerate(group.runs):
            series = run.timeline.series.get((what, ways.counted_by(pair), *pair))
            if series is not None and series.total():
                said = _of_run(f"{pair[0]} → {pair[1]}", group, at)
                lines.append(_line(run, at, said, f"pair{place}", series, "/s"))
    return {"title": title, "unit": "/s", "lines": lines, "limits": [], "more": what == "calls"}


def _machine_plot(group: Group, title: str, unit: str, names: Mapping[str, str]) -> dict[str, object]:
    lines = [
        _line(run, at, _of_run(said, group, at), f"pair{place}", series, unit)
        for at, run in enumerate(group.runs)
        for place, (name, said) in enumerate(names.items())
        if (series := run.timeline.series.get(("machine", name))) is not None
    ]
    return {"title": title, "unit": unit, "lines": lines, "limits": [], "more": True}


def _of_run(title: str, group: Group, at: int) -> str:
    return f"{title} (control)" if group.control is not None and at else title


def _limits(group: Group, name: str) -> list[list[object]]:
    """Return the limits that the experiment was judged by."""
    rules = [rule for rule in records(group.run.verdict, "steady_state") if text(rule, "metric") == name]
    return [
        [_short(limit), f"{text(rule, 'rule').removeprefix(name).strip()} ({shown(limit, text(rule, 'unit'))})"]
        if " of " in text(rule, "rule")
        else [_short(limit), text(rule, "rule").removeprefix(name).strip()]
        for rule in rules
        if (limit := number(rule, "limit")) is not None
    ]


def _line(run: RunRecord, at: int, title: str, colour: str, series: Series, unit: str) -> dict[str, object]:
    digits = 6 if unit == "%" else 4
    line: dict[str, object] = {
        "title": title,
        "colour": colour,
        "run": at,
        "width": run.timeline.width_s,
        "mean": _shortened(series.means(), digits),
    }
    if run.timeline.width_s > 1:  # in buckets of a second all three are one
        line["low"] = _shortened((low if low <= high else None for low, high in _ends(series)), digits)
        line["high"] = _shortened((high if low <= high else None for low, high in _ends(series)), digits)
    return line


def _ends(series: Series) -> Iterable[tuple[float, float]]:
    return zip(series.lows, series.highs, strict=True)


def _shortened(values: Iterable[float | None], digits: int) -> list[float | int | None]:
    return [None if value is None else _short(value, digits) for value in values]


def _short(value: float, digits: int = 6) -> float | int:
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def sparkline(run: RunRecord, key: Key) -> list[float | None]:
    """Return a series' means, for a small picture."""
    series = run.timeline.series.get(key)
    return list(series.means()) if series is not None else []
