"""The live view: a running experiment on one screen of a terminal, redrawn at every event.

It uses the terminal's alternate screen, which is given back as it was on every way out; what stays is the
picture of the finished run. Nothing here keeps time: a run gives a tick a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from chaos.events import Event
from chaos.experiment.model import Experiment
from chaos.reports import panels
from chaos.reports.progress import Progress
from chaos.topology.model import Topology

_WIDTH_MIN, _HEIGHT_MIN = 40, 12
_FAULT_ROWS_MIN, _BREAKER_ROWS_MIN, _NOTE_ROWS_MIN = 2, 2, 3
_NOTE_ROWS_COMFORT = 6
"""So many lines of notes are worth more than taller courses of the figures."""


class LiveView:
    """Shows one run on ``console``'s terminal. A context manager; ``handle`` is the sink for events.

    ``faults`` are (name, description, start_s, end_s) of the plan, in seconds of the run. Use ``PlainView`` where
    ``usable(console)`` says no.
    """

    def __init__(
        self,
        experiment: Experiment,
        topology: Topology,
        faults: Iterable[tuple[str, str, float, float]] = (),
        *,
        console: Console,
    ) -> None:
        self._console = console
        self._picture = Picture(Progress.begin(experiment, topology, faults))
        self._live = Live(
            self._picture,
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @staticmethod
    def usable(console: Console) -> bool:
        """Return whether the console is a terminal that can show this: block characters, and room for the least.

        A log that only asks for colours (FORCE_COLOR, as CI services set it) is no terminal.
        """
        if not console.is_terminal or console.is_dumb_terminal or not console.file.isatty():
            return False
        return not console.options.ascii_only and console.width >= _WIDTH_MIN and console.height >= _HEIGHT_MIN

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()
        if self._picture.progress.seconds:
            self._console.print(Summary(self._picture.progress))

    def handle(self, event: Event) -> None:
        """Take the event in and redraw."""
        self._picture.progress.take(event)
        if self._live.is_started:
            self._live.refresh()


class Picture:
    """The whole screen: as many lines as there are, each section with the room it is worth."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.size.height
        yield from self.lines(options.max_width, height)

    def lines(self, width: int, height: int) -> list[Text]:
        """Return at most ``height`` lines of at most ``width`` columns."""
        progress = self.progress
        frame = panels.Frame.of(progress, width)
        fixed = len(panels.header(progress, frame)) + len(panels.time_line(progress, frame)) + 1
        room = height - fixed - len(progress.metrics)
        # What is left after the figures goes round by worth: a little of everything, then what is named last.
        faults = _take(room - _BREAKER_ROWS_MIN - _NOTE_ROWS_MIN, len(progress.faults), _FAULT_ROWS_MIN)
        room -= faults
        breakers = _take(room - _NOTE_ROWS_MIN, panels.breaker_rows(progress), _BREAKER_ROWS_MIN)
        room -= breakers
        blanks = room >= _NOTE_ROWS_MIN + 4
        room -= 4 if blanks else 0
        number = len(progress.metrics)
        tall = room - number >= _NOTE_ROWS_COMFORT
        room -= number if tall else 0
        apart = tall and room - (number - 1) >= _NOTE_ROWS_COMFORT
        room -= number - 1 if apart else 0
        sections = [
            panels.header(progress, frame),
            panels.time_line(progress, frame) + panels.faults(progress, frame, faults),
            panels.metrics(progress, frame, 2 if tall else 1, apart=apart),
            panels.breakers(progress, frame, breakers),
            panels.notes(progress, frame, max(0, room)),
        ]
        lines: list[Text] = []
        for section in sections:
            if blanks and lines and section:
                lines.append(Text())
            lines += section
        return lines[:height]


class Summary:
    """What stays on the terminal when the run is over: the time line, the faults and the figures."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frame = panels.Frame.of(self._progress, options.max_width)
        yield from panels.header(self._progress, frame)
        yield from panels.time_line(self._progress, frame)
        yield from panels.faults(self._progress, frame, len(self._progress.faults))
        yield from panels.metrics(self._progress, frame)


def _take(room: int, wanted: int, least: int) -> int:
    """Return what a section gets of ``room`` lines: what it wants, and ``least`` even where there is hardly room."""
    return min(wanted, max(least, room))
