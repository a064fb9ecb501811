"""The views of a running experiment, drawn from a made-up stream of events."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from chaos.errors import Outcome
from chaos.events import TargetStarting, Tick
from chaos.reports.live import LiveView, Picture, Summary
from chaos.reports.plain import PlainView, QuietView
from chaos.reports.progress import Progress, metrics_to_show
from chaos.reports.sparkline import LEVELS, Point, columns_of, sparkline
from chaos.topology.model import Topology
from tests.unit.reports import streaming
from tests.unit.verdict.building import METRICS, TOPOLOGY

SIZES = [(40, 12), (60, 20), (80, 24), (120, 40), (200, 60)]


def progress_at(until_s: float, *, disabled=(), topology: Topology = TOPOLOGY, faults=None) -> Progress:
    progress = Progress.begin(streaming.EXPERIMENT, topology, streaming.FAULTS if faults is None else faults)
    for event in streaming.events(until_s=until_s, disabled=disabled):
        progress.take(event)
    return progress


def lines_at(until_s: float, width: int = 80, height: int = 24, **options) -> list[str]:
    return [line.plain for line in Picture(progress_at(until_s, **options)).lines(width, height)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("until_s", [-2.0, -1.0, 0.5, 6.0, 15.0, 18.5, 33.0, 99.0])
def test_the_picture_always_fits_the_terminal(size, until_s):
    width, height = size
    lines = Picture(progress_at(until_s, disabled=("failover",))).lines(width, height)
    assert 0 < len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_eighty_by_twenty_four_shows_everything_that_matters():
    text = "\n".join(lines_at(16.5, disabled=("client_failover",)))
    for word in (
        streaming.TITLE,
        "0:16 / 0:44",
        "seed 421337, toxiproxy 2.12.0",
        "CONTROL without client_failover",
        "fault phase",
        "36% done",
        "16 s left in this phase",
        "1 kill: oca-1, oca-2",
        "2 pause: oca-5",
        "playback availability      80 %",
        "SPS                       20 /s     50 /s !",
        "rebuffer ratio                -",
        "4 closed, 1 open, 1 half-open",
        "■ steering.rank open at playback_apps-1",
        "fault 3-latency applied",
    ):
        assert word in text


def test_the_phases_the_faults_and_the_figures_stand_under_each_other():
    lines = lines_at(99.0, width=120, height=40)
    names = next(line for line in lines if line.startswith("time"))
    fault = next(line for line in lines if line.startswith("1 kill"))
    availability = next(line for line in lines if "asked: >= 99.5%" in line)  # bad from the first second of the fault
    delay = next(line for line in lines if "asked: <= 2s" in line)  # bad throughout the fault
    assert abs(names.index("fault") - fault.index("█")) <= 1
    assert abs(availability.index("▁") - fault.index("█")) <= 1
    assert abs(delay.index("█") - fault.index("█")) <= 1
    assert abs(delay.rindex("█") - fault.rindex("█")) <= 1


def test_more_faults_than_room_are_counted():
    faults = [(f"{i}-kill", f"kill: oca-{i}", 12.0, 32.0) for i in range(1, 30)]
    text = "\n".join(lines_at(16.5, faults=faults))
    assert "more faults" in text
    assert "1 kill: oca-1" in text


def test_a_target_without_breakers_has_no_line_about_them():
    progress = progress_at(10.0)
    progress.take(Tick(t_s=11.0, phase="baseline", values={}, counts={}, breakers=()))
    assert not any("breakers" in line.plain for line in Picture(progress).lines(80, 24))


def test_a_phase_that_begins_early_moves_the_rest_of_the_time_line():
    from chaos.events import PhaseStarted

    progress = progress_at(20.0)
    progress.take(PhaseStarted(t_s=21.0, phase="recovery"))
    assert progress.phases["fault"] == (12.0, 21.0)
    assert progress.phases["recovery"] == (21.0, 33.0)
    assert progress.duration_s == 33.0


def test_the_live_view_takes_the_alternate_screen_and_gives_it_back():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, height=24, highlight=False)
    with LiveView(streaming.EXPERIMENT, TOPOLOGY, streaming.FAULTS, console=console) as view:
        for event in streaming.events():
            view.handle(event)
    text = output.getvalue()
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    left = text.split("\x1b[?1049l")[1]
    assert "100% done" in left
    assert "VIOLATED" in left


def test_the_terminal_is_given_back_upon_an_exception():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, height=24)

    def break_off() -> None:
        with LiveView(streaming.EXPERIMENT, TOPOLOGY, streaming.FAULTS, console=console) as view:
            for event in streaming.events(until_s=16.0):
                view.handle(event)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        break_off()
    assert output.getvalue().rstrip().find("\x1b[?1049l") > 0
    assert "\x1b[?25h" in output.getvalue()


def test_no_color_leaves_no_colour_and_marks_what_is_broken():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, no_color=True, width=80, height=24)
    console.print(Picture(progress_at(16.5)))
    assert "\x1b[31m" not in output.getvalue()
    assert "\x1b[1;31m" not in output.getvalue()
    assert "50 /s !" in "".join(lines_at(16.5))


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("file", "size", "environment", "usable"),
    [
        (Tty, (80, 24), {}, True),
        (Tty, (30, 24), {}, False),
        (Tty, (80, 8), {}, False),
        (Tty, (80, 24), {"TERM": "dumb"}, False),
        (io.StringIO, (80, 24), {}, False),
        (io.StringIO, (80, 24), {"FORCE_COLOR": "1"}, False),
    ],
)
def test_the_live_view_needs_a_terminal_with_room(file, size, environment, usable):
    environment = {"TERM": "xterm", **environment}
    console = Console(file=file(), width=size[0], height=size[1], _environ=environment)
    assert LiveView.usable(console) is usable


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_summary_that_stays_has_every_figure(width):
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(Summary(progress_at(99.0)))
    text = console.export_text()
    assert "SPS" in text
    assert "100% done" in text
    assert "1 kill" in text


def test_plain_lines_tell_the_second_the_figures_the_faults_and_the_breakers():
    output = io.StringIO()
    with PlainView(streaming.EXPERIMENT, TOPOLOGY, streaming.FAULTS, output=output) as view:
        for event in streaming.events():
            view.handle(event)
    text = output.getvalue()
    second = next(line for line in text.splitlines() if line.startswith("[  15.0] fault"))
    assert "playback availability 80 % ! | SPS 20 /s ! | play delay p99 1.2 s |" in second
    assert "faults 1-kill, 2-pause" in second
    later = next(line for line in text.splitlines() if line.startswith("[  17.0] fault"))
    assert "open 1: playback_apps-1:steering.rank | half-open 1: playback_apps-2:steering.rank" in later
    for line in (
        "[  -1.4] starting playback: 29 instances, 124 proxied edges",
        "[  -0.2] target ready in 1.21 s",
        "[   0.0] run 'every OCA of [one] ISP dies': seed 421337, toxiproxy 2.12.0",
        "[  12.0] phase fault",
        "[  12.0] fault 1-kill applied: kill: oca-1, oca-2",
        "[  28.0] fault 2-pause healed: it touched NOTHING (214 connections cut)",
        "[  20.6] store-1 DIED by itself (exit status 1): no space left",
        "[  44.0] GUARD 'availability < 20%' tripped at 3.1 %: healing now",
        "[  44.2] run ended: violated",
    ):
        assert line in text.splitlines()
    assert "\x1b" not in text


def test_a_scaled_target_is_named_so_when_it_starts():
    output = io.StringIO()
    scaled = ("playback_apps: 4 instances instead of 2",)
    with PlainView(streaming.EXPERIMENT, TOPOLOGY, streaming.FAULTS, output=output) as view:
        view.handle(TargetStarting(t_s=-1.4, target="playback", instances=31, edges=140, scaled=scaled))
    line = "starting playback: 31 instances, 140 proxied edges (playback_apps: 4 instances instead of 2)"
    assert line in output.getvalue()


def test_a_detail_is_shown_only_where_a_rule_is_about_it():
    detailed = {name: dataclasses.replace(metric, detail=True) for name, metric in METRICS.items()}
    topology = dataclasses.replace(TOPOLOGY, metrics=detailed)
    assert len(METRICS) > 3

    shown = metrics_to_show(streaming.EXPERIMENT, topology)

    assert list(shown) == ["availability", "sps", "delay_p99"]
    assert list(metrics_to_show(streaming.EXPERIMENT, TOPOLOGY))[:3] == list(shown)
    assert metrics_to_show(streaming.EXPERIMENT, TOPOLOGY).keys() == METRICS.keys()
    assert [metric.name for metric in progress_at(5.0, topology=topology).metrics] == list(shown)


def test_the_quiet_view_says_nothing(capsys):
    with QuietView() as view:
        for event in streaming.events():
            view.handle(event)
    assert capsys.readouterr().out == ""


def test_the_baseline_of_a_view_is_its_typical_second():
    progress = progress_at(14.0)
    assert progress.baseline("sps") == 50.0
    assert progress.baseline("rebuffering") is None
    assert progress.broken(METRICS["sps"], 20.0, 50.0) is True
    assert progress.broken(METRICS["sps"], 40.0, 50.0) is False
    assert progress.broken(METRICS["sps"], 20.0, None) is None
    assert progress.broken(METRICS["degraded"], 0.5, None) is None


# -- sparklines


def points(*values: float | None) -> list[Point]:
    return [Point(t_s=i + 1.0, value=value, style="green") for i, value in enumerate(values)]


def worst(inside: list[Point]) -> Point:
    return min(inside, key=lambda point: point.value)


def test_a_column_of_several_seconds_shows_the_worst_of_them():
    columns = columns_of(points(1, 1, 0, 1, 1, 1), 3, 6.0, worst)
    assert [column.value for column in columns] == [1, 0, 1]


def test_a_second_fills_several_columns_where_there_is_room():
    columns = columns_of(points(1, 2), 6, 3.0, worst)
    assert [column.value if column else None for column in columns] == [1, 1, 2, 2, None, None]


def test_blocks_rise_from_the_least_to_the_full_one_and_gaps_are_dots():
    [line] = sparkline(columns_of(points(0, None, 5, 10), 4, 4.0, worst), 0.0, 10.0)
    assert line.plain == f"{LEVELS[0]}·{LEVELS[3]}{LEVELS[-1]}"
    assert [span.style for span in line.spans] == ["green", "dim", "green"]


def test_a_tall_sparkline_spreads_over_its_rows():
    top, bottom = sparkline(columns_of(points(2, 10), 2, 2.0, worst), 0.0, 10.0, rows=2)
    assert (top.plain, bottom.plain) == (" █", "▃█")


def test_a_flat_line_is_drawn_full():
    [line] = sparkline(columns_of(points(1, 1), 2, 2.0, worst), 1.0, 1.0)
    assert line.plain == "██"


def test_the_outcome_is_in_the_header_when_the_run_is_over():
    assert progress_at(99.0).outcome is Outcome.VIOLATED
    assert "VIOLATED" in lines_at(99.0)[1]
