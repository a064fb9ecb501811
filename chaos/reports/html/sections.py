"""The parts of one experiment's section that are written out: verdict, rules, receipts, phases, what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.reports.deviation import deviation
from chaos.reports.html.data import OUTCOMES, Detail, control_label, metric_label
from chaos.reports.html.documents import (
    Document,
    interval,
    interval_in_words,
    number,
    outcome,
    record,
    records,
    shown,
    text,
    texts,
)
from chaos.reports.html.graph import NODE_HEIGHT, NODE_WIDTH
from chaos.reports.html.graphdata import Ways
from chaos.reports.html.groups import Group
from chaos.reports.html.markup import MARKS, Markup, chip, element, joined, ruler, table
from chaos.reports.html.record import Fault, RunRecord
from chaos.verdict.units import figure, plural

_MACHINE = {
    "left_share": "processor time left over",
    "steal_share": "taken by the hypervisor",
    "foreign_share": "used by other processes",
    "waiting_share": "seconds in which somebody waited for a processor",
    "queue_delay_share": "how long all waited",
    "canary_s": "slowest answer of an edge without a fault",
}
_VICTIMS_SHOWN = 6
_NAME_LETTERS = 17
"""So many letters of a service's name are in its box."""
_GRAPH_WIDTH_LEAST = 760
"""A narrower screen scrolls the call graph, so that it stays readable."""


def verdict(group: Group) -> Markup:
    """Return the verdict: the question, the answer in big letters, the sentence, the reasons, the facts."""
    name = group.outcome.value if group.outcome is not None else "cut-off"
    mark = element("span", MARKS[group.outcome], class_="mark", aria_hidden="true")
    told = {
        text(rule, "explanation") for key in ("steady_state", "must_break") for rule in records(group.run.verdict, key)
    }
    reasons = [one for one in texts(group.run.verdict, "reasons") if one not in told and one not in group.sentence]
    return element(
        "div",
        element("h2", group.title),
        element("p", mark, group.headline, class_="outcome"),
        element("p", group.sentence, class_="sentence"),
        element("ul", *(element("li", f"{one[:1].upper()}{one[1:]}") for one in reasons), class_="reasons")
        if reasons
        else "",
        _parts(group.run),
        _facts(group),
        class_=f"verdict {name}",
    )


def _parts(run: RunRecord) -> Markup:
    """Return what a run of several experiments at the same time says about each of them."""
    if not run.parts:
        return Markup("")
    rows = [
        [
            joined([text(one, "experiment"), element("span", text(one, "file"), class_="explained")]),
            chip(outcome(one), text(one, "outcome")),
            joined(
                element("span", f"{said[:1].upper()}{said[1:]}.", class_="explained")
                for said in texts(one, "reasons")[:1]
            ),
        ]
        for one in run.parts
    ]
    heads = ["experiment", "what the run says about it", "why"]
    return element("div", table(heads, rows, caption="Each experiment"), class_="parts")


def replay(group: Group, name: str) -> Markup:
    """Return the command that repeats the run, with a button that copies it."""
    started = group.run.started
    command = text(group.run.verdict, "replay") or (started.replay if started is not None else "")
    if not command:
        return Markup("")
    if group.control is not None and "--control" not in command.split():
        command += " --control"
    button = element("button", "Copy", type="button", class_="copy", data_copy=f"{name}-replay")
    return element(
        "div",
        element("h3", "Run it again"),
        element("div", element("code", command, id=f"{name}-replay"), button, class_="replay"),
    )


def rules(group: Group) -> Markup:
    """Return every rule with what was measured, its interval and its limit; beside it the control's value."""
    control = group.control
    rows = []
    for key, what in (("steady_state", ""), ("must_break", "the faults had to break this: ")):
        theirs = {text(one, "rule"): one for one in records(control.verdict, key)} if control is not None else {}
        rows += [_rule(rule, what, theirs.get(text(rule, "rule"))) for rule in records(group.run.verdict, key)]
    if not rows:
        asked = group.run.started.rules if group.run.started is not None else ()
        said = f" Asked was: {'; '.join(asked)}." if asked else ""
        return element("p", f"No rule was judged.{said}", class_="quiet")
    heads = ["rule", "verdict", "measured", "limit", "interval", ""]
    if control is None:
        rows = [row[:6] for row in rows]
    else:
        heads.append(f"control, {control_label(control)}")
    alphas = {alpha for rule in records(group.run.verdict, "steady_state") if (alpha := number(rule, "alpha"))}
    said = f"Each end of an interval is wrong in {shown(min(alphas), '%')} of runs." if len(alphas) == 1 else ""
    rules_table = table(heads, rows, caption="Every rule, in the fault phase", numeric=(2, 3, 4))
    return joined([rules_table, element("p", said, class_="quiet note")]) if said else rules_table


def _rule(rule: Document, what: str, theirs: Document | None) -> list[object]:
    unit = text(rule, "unit")
    measured, limit = number(rule, "measured"), number(rule, "limit")
    ends = interval(rule)
    said = f"{what}{text(rule, 'explanation').rstrip('.')}."
    needs_s = number(rule, "needs_s")
    more = f"{figure(needs_s, 's')} more would tell" if needs_s is not None and needs_s > 0 else ""
    beside = number(rule, "control_group")
    also = element("span", f"control group {shown(beside, unit)}", class_="explained") if beside is not None else ""
    row: list[object] = [
        joined([element("code", text(rule, "rule")), element("span", said, class_="explained")]),
        joined([chip(outcome(rule), text(rule, "outcome")), element("span", more, class_="explained") if more else ""]),
        joined([shown(measured, unit, apart_from=limit), also]),
        shown(limit, unit),
        interval_in_words(ends, unit),
        ruler(measured, limit, ends),
    ]
    if theirs is None:
        return [*row, "-"]
    value = shown(number(theirs, "measured"), unit, apart_from=number(theirs, "limit"))
    return [*row, joined([element("span", value, class_="value"), " ", chip(outcome(theirs), text(theirs, "outcome"))])]


def graph(ways: Ways, name: str) -> Markup:
    """Return the call graph as an SVG; its lines can be pointed at and reached by keyboard; the script says more."""
    layout = ways.layout
    if not layout.lines:
        said = "The journal does not tell who calls whom: it was written before journals did. A new run's does."
        return element("p", said, class_="quiet")
    parts = []
    pairs = ways.data(listed=False)
    for at, (line, pair) in enumerate(zip(layout.lines, pairs, strict=True)):
        faulted, edges = pair["faulted"], plural("edge", int(str(pair["edges"])))
        said = f"{line.pair[0]} to {line.pair[1]}: {edges}, {faulted} with a fault"
        parts.append(
            element(
                "g",
                element("path", class_="way", d=line.path),
                class_="pair faulted" if faulted else "pair",
                tabindex=0,
                role="button",
                aria_label=said,
                data_pair=at,
            )
        )
    parts += [_node(ways, one.name, one.x, one.y) for one in layout.nodes]
    drawn = element(
        "svg",
        *parts,
        viewBox=f"0 0 {layout.width} {layout.height}",
        width=layout.width,
        height=layout.height,
        style=f"min-width: {min(layout.width, _GRAPH_WIDTH_LEAST):g}px",
        role="group",
        aria_label="Who calls whom",
    )
    many = sum(int(str(pair["edges"])) for pair in pairs)
    hit = sum(int(str(pair["faulted"])) for pair in pairs)
    caption = (
        f"{len(layout.nodes)} services and clients, {plural('edge', many)}" if many else "As far as calls were seen"
    )
    caption += f"; faults lay on {hit} of them or on what they lead to." if hit else "."
    caption += " A line stands for all edges from one service to another: point at it, or take Tab and the arrow keys."
    return element(
        "figure",
        element("div", drawn, class_="scroll", tabindex=0, role="region", aria_label="Call graph"),
        element("figcaption", caption),
        element("div", class_="graph-detail", aria_live="polite", id=f"{name}-graph"),
        class_="graph",
    )


def _node(ways: Ways, name: str, x: float, y: float) -> Markup:
    instances = ways.instances.get(name)
    hit = ways.faulted_instances(name)
    kind = "client" if name in ways.clients else "hit" if hit else "service"
    small = (
        "outside the target"
        if kind == "client"
        else f"\N{MULTIPLICATION SIGN} {instances}"
        if instances and instances > 1
        else ""
    )
    small = f"{hit} of {instances or '?'} hit" if hit else small
    box = element(
        "rect",
        x=x - NODE_WIDTH / 2,
        y=y - NODE_HEIGHT / 2,
        width=NODE_WIDTH,
        height=NODE_HEIGHT,
        rx=20 if kind == "client" else 7,
    )
    label = element(
        "text",
        name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…",
        x=x,
        y=y + (-2 if small else 4),
        class_="name",
    )
    more = element("text", small, x=x, y=y + 12, class_="small") if small else ""
    return element(
        "g",
        element("title", name) if len(name) > _NAME_LETTERS else "",
        box,
        label,
        more,
        class_=f"node {kind}",
        data_service=name,
    )


def receipts(group: Group) -> Markup:
    """Return what was done to the system and the evidence that it bit, in the experiment and in its control."""
    if not any(run.faults for run in group.runs):
        return element("p", "No fault was applied.", class_="quiet")
    names = list(dict.fromkeys(name for run in group.runs for name in run.faults))
    rows = []
    for name in names:
        found = [run.faults.get(name) for run in group.runs]
        first = next(fault for fault in found if fault is not None)
        more = len(first.victims) - _VICTIMS_SHOWN
        victims = ", ".join(first.victims[:_VICTIMS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        span = f"{first.start_s:.1f} to {'the end' if first.end_s is None else f'{first.end_s:.1f}'}"
        what = joined([element("code", name), element("span", first.description, class_="explained")])
        rows.append(
            [what, element("span", victims or "-", class_="victims"), span, *(_touched(fault) for fault in found)]
        )
    heads = ["fault", "on", "seconds", "what it touched"]
    if group.control is not None:
        heads.append(f"control, {control_label(group.control)}")
    return table(heads, rows, caption="Faults and what they touched")


def _touched(fault: Fault | None) -> object:
    if fault is None:
        return "-"
    if fault.touched is None:
        return "still in place when the journal ends"
    if fault.touched:
        return fault.evidence or "yes"
    return element("strong", f"nothing{f': {fault.evidence}' if fault.evidence else ''}", class_="violated")


def phases(group: Group) -> Markup:
    """Return each metric over each phase, the experiment's and the control's."""
    tables = []
    for run in group.runs:
        done = records(run.verdict, "phases")
        metrics = {text(one, "name"): record(record(run.verdict, "metrics"), text(one, "name")) for one in done}
        if not metrics:
            continue
        names = dict.fromkeys(name for values in metrics.values() for name in values)
        rows = _attempts(done)
        for name in names:
            label = metric_label(group, name)
            cells = [shown(number(values, name), label.unit) for values in metrics.values()]
            if any(cell != "-" for cell in cells):
                rows.append([label.title, *cells])
        heads = ["", *(phase.replace("_", " ") for phase in metrics)]
        which = f"Each phase, {deviation(run.disabled, run.changed)}" if run.is_control else "Each phase"
        title = element("h4", which) if group.control is not None else ""
        tables += [title, table(heads, rows, caption=which, numeric=range(1, len(heads)))]
    if not tables:
        return Markup("")
    return element("details", element("summary", "Every metric in every phase"), *tables)


def happenings(group: Group, detail: Detail) -> Markup:
    """Return what else happened, in the order of time, and how much of it there is no room for."""
    parts = []
    for run in group.runs:
        if not run.happenings:
            continue
        told = run.happenings[: detail.happenings]
        items = [element("li", element("span", f"{one.t_s:.1f} s", class_="when"), one.text) for one in told]
        if left_out := run.happenings_left_out + len(run.happenings) - len(told):
            items.append(element("li", f"{f'and {left_out} more' if told else left_out}, in the journal"))
        if group.control is not None:
            parts.append(element("h4", "The control" if run is group.control else "The experiment"))
        parts.append(element("ol", *items, class_="happenings"))
    if not parts:
        return Markup("")
    return element("details", element("summary", "What else happened"), *parts)


def _attempts(phases: Sequence[Document]) -> list[list[object]]:
    """Return for each kind of attempt, and each answer, how many there were in each phase."""
    rows: list[list[object]] = []
    for kind in dict.fromkeys(kind for phase in phases for kind in record(phase, "outcomes")):
        numbers = [record(record(phase, "outcomes"), kind) for phase in phases]
        for said, words in OUTCOMES.items():
            cells = [number(one, said) or 0.0 for one in numbers]
            if any(cells):
                rows.append([f"{kind.replace('_', ' ')}: {words}", *(f"{cell:.0f}" for cell in cells)])
    return rows


def machine(group: Group) -> Markup:
    """Return how the machine itself was in each phase, and the load generator, where the verdict tells."""
    parts: list[object] = []
    for run in group.runs:
        told = record(run.verdict, "machine")
        phases = {name: record(told, name) for name in told if record(told, name)}
        rows = [
            [_MACHINE.get(key, key.replace("_", " ")), *(_machine_value(phase, key) for phase in phases.values())]
            for key in dict.fromkeys(key for phase in phases.values() for key in phase)
            if any(phase.get(key) is not None for phase in phases.values())
        ]
        lag = number(run.verdict, "start_lag_p99_s")
        if group.control is not None and (rows or lag is not None):
            parts.append(element("h4", "The control" if run is group.control else "The experiment"))
        if rows:
            heads = ["", *(name.replace("_", " ") for name in phases)]
            parts.append(table(heads, rows, caption="The machine", numeric=range(1, len(heads))))
        if lag is not None:
            said = f"The load generator began 99 of 100 arrivals at most {figure(lag, 's')} late."
            parts.append(element("p", said, class_="quiet note"))
    if not parts:
        return Markup("")
    return element("details", element("summary", "The machine and the load generator"), *parts)


def _machine_value(phase: Document, key: str) -> str:
    value = number(phase, key)
    if key.endswith("_share"):
        return shown(value, "%")
    if key.endswith("_s"):
        return shown(value, "s")
    flag = phase.get(key)
    return "yes" if flag is True else "no" if flag is False else shown(value, "")


def _facts(group: Group) -> Markup:
    run, control = group.run, group.control
    facts: dict[str, object] = {}
    if run.file and not run.parts:
        facts["experiment"] = element("code", run.file)
    if run.seed is not None:
        facts["seed"] = run.seed
    started = run.started
    backend = started.backend if started is not None else text(run.verdict, "backend")
    if backend:
        facts["proxy"] = backend
    if started is not None:
        facts["began"] = started.started_at.replace("T", " ")[:19]
    if run.is_control:
        facts["different"] = deviation(run.disabled, run.changed)
    if control is not None:
        facts["control"] = joined([deviation(control.disabled, control.changed), " ", chip(control.outcome)])
    if scaled := texts(run.verdict, "scaled"):
        facts["scaled"] = "; ".join(scaled)
    facts |= _recovery(run)
    if guard := text(run.verdict, "guard"):
        facts["aborted by"] = guard
    return _list(facts)


def _recovery(run: RunRecord) -> dict[str, object]:
    if run.cut_off or not any(text(one, "name") == "recovery" for one in records(run.verdict, "phases")):
        return {}
    took, within = number(run.verdict, "recovery_s"), number(run.verdict, "recover_within_s")
    allowed = "" if within is None else f" (allowed: {figure(within, 's')})"
    if took is None:
        return {"recovery": f"not seen to be steady again{allowed}"}
    return {"recovery": f"steady again {figure(took, 's') + ' after healing' if took else 'at once'}{allowed}"}


def _list(facts: Mapping[str, object]) -> Markup:
    pairs = [element("div", element("dt", key), element("dd", value)) for key, value in facts.items()]
    return element("dl", *pairs, class_="facts")
