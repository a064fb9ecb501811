"""The parts of the live view: each is a function of the run's state and a width, and gives lines of text.

Every line has two halves: words on the left, and on the right the run's time as one common axis, on which phases,
faults and figures stand under each other::

    SPS                     49 /s    50 /s  ▅▅▅▆▅▅▅▂▂▄▅▅▅
    '------------- words ----------------'  '--- axis ---'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.text import Text

from chaos.events import BreakerState
from chaos.experiment.model import PhaseName, Rule
from chaos.reports.deviation import deviation
from chaos.reports.progress import FaultSpan, Progress, limit_beside
from chaos.reports.sparkline import Point, columns_of, sparkline
from chaos.reports.styles import OUTCOME_STYLES
from chaos.topology.model import Measure, Metric
from chaos.verdict.rules import is_upward
from chaos.verdict.units import figure

PHASE_STYLES = {
    PhaseName.WARM_UP: "bright_black",
    PhaseName.BASELINE: "cyan",
    PhaseName.FAULT: "yellow",
    PhaseName.RECOVERY: "green",
}
_SHORT_NAMES: Mapping[str, tuple[str, ...]] = {
    PhaseName.WARM_UP: ("warm", "w"),
    PhaseName.BASELINE: ("base", "b"),
    PhaseName.FAULT: ("f",),
    PhaseName.RECOVERY: ("recov", "r"),
}
BROKEN_STYLE = "bold red"

_FIGURE_WIDTH = 9
_WIDE = 110
_SHARE_FLOOR = 0.95
"""Shares are drawn from here to 100 %, or from the lowest value seen: near 100 % every point counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The widths of a view: ``left`` columns of words, one blank, ``axis`` columns of time."""

    width: int
    left: int
    title: int

    @classmethod
    def of(cls, progress: Progress, width: int) -> Frame:
        """Return the frame for a terminal of ``width`` columns; a narrow one shortens titles first."""
        longest = max((len(metric.title) for metric in progress.metrics), default=10)
        title = max(8, min(longest, width * 3 // 10))
        least = title + 2 * (_FIGURE_WIDTH + 1) + 2
        wide = width * 2 // 5 if width >= _WIDE else 0  # a wide terminal has room for what the faults say
        return cls(width=width, left=min(max(least, wide), width - 8), title=title)

    @property
    def axis(self) -> int:
        """Columns of the time axis."""
        return max(1, self.width - self.left - 1)

    def line(self, left: Text, right: Text | None = None) -> Text:
        """Join both halves to one line of at most the frame's width."""
        left = left.copy()
        left.truncate(self.left, overflow="ellipsis", pad=right is not None)
        if right is not None:
            left.append(" ")
            left.append_text(right)
        return left

    def whole(self, text: Text) -> Text:
        """Return a line without an axis, cut to the width."""
        text = text.copy()
        text.truncate(self.width, overflow="ellipsis")
        return text


def header(progress: Progress, frame: Frame) -> list[Text]:
    """Return the title with the time, and what the run is made of."""
    title = Text(progress.experiment.title, style="bold")
    clock = Text(f"{_minutes(progress.now_s)} / {_minutes(progress.duration_s)}")
    title.truncate(max(1, frame.width - len(clock) - 1), overflow="ellipsis", pad=True)
    title.append(" ")
    title.append_text(clock)
    made_of = Text()
    if progress.started is not None:
        made_of.append(f"seed {progress.started.seed}, {progress.started.backend}")
        if progress.started.disabled or progress.started.changed:
            how = deviation(progress.started.disabled, progress.started.changed)
            made_of.append(", ")
            made_of.append(f"CONTROL {how}", style="bold magenta")
    state = _state(progress)
    made_of.truncate(max(1, frame.width - len(state) - 1), overflow="ellipsis", pad=True)
    made_of.append(" ")
    made_of.append_text(state)
    return [title, frame.whole(made_of)]


def time_line(progress: Progress, frame: Frame) -> list[Text]:
    """Return the names of the phases over a bar that fills as the run goes on."""
    names, bar = Text(no_wrap=True), Text(no_wrap=True)
    duration_s = progress.duration_s or 1.0
    cursor = _column(progress.now_s, duration_s, frame.axis)
    edges = [_column(start_s, duration_s, frame.axis) for start_s, _ in progress.phases.values()] + [frame.axis]
    for name, start, end in zip(progress.phases, edges, edges[1:], strict=False):
        style = PHASE_STYLES.get(PhaseName(name), "") if name in set(PhaseName) else ""
        current = name == progress.phase
        names.append(_fitting(name, end - start).ljust(end - start), style=f"bold {style}" if current else style)
        passed = min(max(cursor - start, 0), end - start)
        at_cursor = "●" if start <= cursor < end else ""
        bar.append("━" * passed + at_cursor + "─" * (end - start - passed - len(at_cursor)), style=style)
    done = min(1.0, max(0.0, progress.now_s / duration_s))
    left = Text(f"{done:4.0%} done").append(f"  {_remaining(progress)}", style="dim")
    return [frame.line(Text("time", style="dim"), names), frame.line(left, bar)]


def faults(progress: Progress, frame: Frame, rows: int) -> list[Text]:
    """Return one line for each fault: light where it is planned, solid where it is or was in place."""
    # When there is not room for all, those in place come first, then those to come.
    order = sorted(progress.faults, key=lambda one: (one.name not in progress.active, one.name in progress.applied))
    shown = order if len(order) <= rows else order[: max(0, rows - 1)]
    lines = [_fault_line(progress, frame, one) for one in progress.faults if one in shown]
    if len(shown) < len(order) and rows > 0:
        lines.append(frame.whole(Text(f"and {len(order) - len(shown)} more faults", style="dim")))
    return lines


def _fault_line(progress: Progress, frame: Frame, fault: FaultSpan) -> Text:
    active = fault.name in progress.active
    began_s, healed_s = progress.applied.get(fault.name, (None, None))
    duration_s = progress.duration_s or 1.0
    cells = ""
    for column in range(frame.axis):
        t_s = (column + 0.5) * duration_s / frame.axis
        real = began_s is not None and began_s <= t_s < (progress.now_s if healed_s is None else healed_s)
        planned = fault.start_s <= t_s < fault.end_s and healed_s is None
        cells += "█" if real else "░" if planned else " "
    number, _, kind = fault.name.partition("-")
    repeats = bool(kind) and fault.description.startswith(kind)  # "1-kill", "kill: oca-1": the kind once is enough
    left = Text(number if repeats else fault.name, style="bold red" if active else "")
    left.append(f" {fault.description}", style="" if active else "dim")
    return frame.line(left, Text(cells, style="red" if active else "bright_black", no_wrap=True))


def metrics(progress: Progress, frame: Frame, rows_each: int = 1, *, apart: bool = False) -> list[Text]:
    """Return a head line, and for each metric its figure now, that of the baseline, and its course.

    Each course is ``rows_each`` lines high; ``apart`` puts a blank line between two of them.
    """
    head = Text("".ljust(frame.title), style="dim")
    head.append(f"{'now':>{_FIGURE_WIDTH + 1}}{'baseline':>{_FIGURE_WIDTH + 1}}", style="dim")
    lines = [frame.line(head)]
    for number, metric in enumerate(progress.metrics):
        lines += [Text()] if apart and number else []
        lines += _metric_lines(progress, frame, metric, rows_each)
    return lines


def _metric_lines(progress: Progress, frame: Frame, metric: Metric, rows: int) -> list[Text]:
    baseline = progress.baseline(metric.name)
    rule = progress.rule_for(metric.name)
    points = []
    for second in progress.seconds:
        value = second.values.get(metric.name)
        style = PHASE_STYLES.get(PhaseName(second.phase), "") if second.phase in set(PhaseName) else ""
        broken = progress.broken(metric, value, baseline)
        points.append(Point(t_s=second.t_s, value=value, style=BROKEN_STYLE if broken else style))
    now = points[-1].value if points else None
    broken = progress.broken(metric, now, baseline)
    left = Text(no_wrap=True)
    title = Text(metric.title)
    title.truncate(frame.title, overflow="ellipsis", pad=True)
    left.append_text(title)
    left.append(f"{figure(now, metric.unit):>{_FIGURE_WIDTH + 1}}", style=BROKEN_STYLE if broken else "bold")
    left.append(f"{figure(baseline, metric.unit):>{_FIGURE_WIDTH + 1}}", style="dim")
    left.append(" !" if broken else "  ", style=BROKEN_STYLE)
    columns = columns_of(points, frame.axis, progress.duration_s or 1.0, _worst_of(metric, rule))
    values = [one.value for one in points if one.value is not None]
    low, high = _scale(metric, rule, values, baseline)
    drawn = sparkline(columns, low, high, rows=rows)
    words = [left, Text(f"  asked: {_asked(rule)}" if rule else "", style="dim")]
    return [frame.line(words[i] if i < len(words) else Text(), line) for i, line in enumerate(drawn)]


def _asked(rule: Rule) -> str:
    return rule.text.removeprefix(rule.metric).strip()


def _worst_of(metric: Metric, rule: Rule | None) -> Callable[[list[Point]], Point]:
    upward = is_upward(rule.comparison) if rule else metric.measure in (Measure.SHARE, Measure.RATE)
    pick = min if upward else max
    return lambda points: pick(points, key=lambda one: one.value if one.value is not None else 0.0)


def _scale(metric: Metric, rule: Rule | None, values: list[float], baseline: float | None) -> tuple[float, float]:
    if metric.measure is Measure.SHARE:
        return min([_SHARE_FLOOR, *values]), 1.0
    limit = (None if rule is None else limit_beside(rule, baseline)) or 0.0
    return 0.0, max([limit * 1.1, *values], default=0.0) or 1.0


def breakers(progress: Progress, frame: Frame, rows: int) -> list[Text]:
    """Return a dot for each breaker, and by name those that are not closed."""
    known = progress.breakers
    if not known or rows < 1:
        return []
    tally = Counter(one.state for one in known)
    head = Text("breakers ")
    if len(known) <= frame.width - 40:
        for one in sorted(known, key=lambda one: (one.command, one.instance)):
            head.append(*_dot(one.state))
        head.append("  ")
    head.append(f"{tally['closed']} closed", style="green")
    for state, style in (("open", "bold red"), ("half-open", "yellow")):
        if tally[state]:
            head.append(f", {tally[state]} {state}", style=style)
    lines = [frame.whole(head)]
    awake = _by_command(known)
    room = rows - 1
    shown = awake if len(awake) <= room else awake[: max(0, room - 1)]
    for state, command, instances in shown:
        line = Text("  ").append(*_dot(state)).append(f" {command}", style="bold")
        line.append(f" {state} at {', '.join(instances)}")
        lines.append(frame.whole(line))
    if len(shown) < len(awake) and room > 0:
        lines.append(frame.whole(Text(f"  and {len(awake) - len(shown)} more commands", style="dim")))
    return lines


def breaker_rows(progress: Progress) -> int:
    """Return how many lines it takes to name every breaker that is not closed."""
    return 1 + len(_by_command(progress.breakers)) if progress.breakers else 0


def _by_command(known: tuple[BreakerState, ...]) -> list[tuple[str, str, list[str]]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for one in known:
        if one.state != "closed":
            groups.setdefault((one.state, one.command), []).append(one.instance)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] != "open", item[0][1]))
    return [(state, command, sorted(instances)) for (state, command), instances in ordered]


def _dot(state: str) -> tuple[str, str]:
    match state:
        case "closed":
            return "•", "green"
        case "open":
            return "■", "bold red"
    return "◧", "yellow"


def notes(progress: Progress, frame: Frame, rows: int) -> list[Text]:
    """Return the last things that happened."""
    shown = progress.notes[-rows:] if rows > 0 else []
    return [frame.whole(Text(f"{t_s:6.1f} s  {line}", style="dim")) for t_s, line in shown]


def _state(progress: Progress) -> Text:
    if progress.outcome is not None:
        return Text(progress.outcome.value.upper(), style=OUTCOME_STYLES[progress.outcome])
    if progress.phase in set(PhaseName):
        phase = PhaseName(progress.phase)
        return Text(f"{phase.replace('_', ' ')} phase", style=f"bold {PHASE_STYLES[phase]}")
    return Text(progress.status, style="bold")


def _remaining(progress: Progress) -> str:
    span = progress.phases.get(progress.phase)
    if span is None or progress.outcome is not None:
        return ""
    return f"{max(0.0, span[1] - progress.now_s):.0f} s left in this phase"


def _fitting(phase: str, width: int) -> str:
    """Return the longest name of the phase that leaves a blank before the next one."""
    names = [phase.replace("_", " "), *_SHORT_NAMES.get(phase, ())]
    return next((name for name in names if len(name) < width), "")


def _column(t_s: float, duration_s: float, width: int) -> int:
    return min(width, max(0, round(t_s / duration_s * width)))


def _minutes(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}"
