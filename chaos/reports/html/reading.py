"""A journal read line by line for a report: whatever can be read is given out, and what cannot is told of.

Where ``journal.read_journal`` insists on a whole journal, a report shows what there is of one that was cut off, or
that a newer chaos has written further events into. Ticks, nearly all of a journal, are not made into records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chaos.errors import UsageError
from chaos.events import Event, Tick
from chaos.reports.eventjson import event_from_json, event_to_json, is_kind
from chaos.reports.html.timeline import SECONDS_MAX
from chaos.reports.journal import LINE_BYTES_MAX, check_head, is_head

MACHINE = "machine_measured"
"""The event that says how the machine was; read as what numbers it has."""
HEAD_START = b'{"journal": "chaos"'


class Breaker(NamedTuple):
    """A circuit breaker in one second; the numbers are counted since its process began."""

    instance: str
    command: str
    state: str
    calls: int
    errors: int


class Second(NamedTuple):
    """One tick, as far as a report is concerned."""

    t_s: float
    phase: str
    values: Mapping[str, float]
    """What was measured; a metric without a value is left out."""
    counts: Mapping[str, Mapping[str, int]]
    breakers: Sequence[Breaker]
    groups: Mapping[str, Mapping[str, float]]
    """What was measured in each group of accounts; empty where there are none."""


class Machine(NamedTuple):
    """How the machine itself was in one second: shares of its processors' time, and how slow an unharmed edge was."""

    t_s: float
    values: Mapping[str, float]


class Trouble(NamedTuple):
    """A line that could not be used."""

    line: int
    message: str


class End(NamedTuple):
    """A process that wrote the journal has written its last line; another may follow."""

    torn: bool
    """Whether that last line is torn."""


Entry = Event | Second | Machine | Trouble | End
"""What a journal consists of."""


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield everything in a journal, in order, with one line in memory at a time.

    Raises UsageError, with what to do about it, for a file that cannot be read, is empty, is no journal or is one of
    a newer form.
    """
    try:
        with path.open("rb") as file:
            yield from _entries(path, iter(lambda: file.readline(LINE_BYTES_MAX), b""))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such file; a journal is made by `chaos run EXPERIMENT --journal {path.name}`"
        ) from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; name the journals in it, for example {path / '*.jsonl'}") from None
    except OSError as failure:
        raise UsageError(f"{path}: cannot be read: {failure.strerror}; look at its permissions") from failure


def second_of(tick: Tick) -> Second:
    """Return a tick as it is read from a journal."""
    return Second(
        tick.t_s,
        tick.phase,
        _measured(tick.values),
        tick.counts,
        [Breaker(one.instance, one.command, one.state, one.calls, one.errors) for one in tick.breakers],
        {group: _measured(values) for group, values in (tick.groups or {}).items()},
    )


def _measured(values: Mapping[Any, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def entry_of(event: Event) -> Entry:
    """Return an event as it is read from a journal."""
    if isinstance(event, Tick):
        return second_of(event)
    document = event_to_json(event)
    return _machine(document) if document["event"] == MACHINE else event


def _entries(path: Path, lines: Iterator[bytes]) -> Iterator[Entry]:
    first = next(lines, b"")
    _check_first(path, first)
    torn: Trouble | None = None
    for number, line in enumerate(lines, start=2):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            document = None
        if is_head(line) and document is not None:
            check_head(path, line, number)
            yield End(torn=torn is not None)
            torn = None
            continue
        if torn is not None:  # torn, and neither at the end nor in front of a head
            yield torn
        torn = Trouble(number, "is not a line of JSON") if document is None else None
        if torn is not None:
            continue
        yield from _entry(document, number)
    yield End(torn=torn is not None)


def _check_first(path: Path, line: bytes) -> None:
    if not line.strip():
        raise UsageError(
            f"{path}: is empty: the run that was to write it never began; run it again with --journal {path.name}"
        )
    if not line.endswith(b"\n") and (HEAD_START.startswith(line) or line.startswith(HEAD_START)):
        try:
            json.loads(line)
        except ValueError:
            raise UsageError(
                f"{path}: was cut off in its first line, so that nothing of a run is in it; run it again with "
                f"--journal {path.name}"
            ) from None
    check_head(path, line)


def _entry(document: object, number: int) -> Iterator[Entry]:
    """Yield what a line's object says; one of a kind that this version does not know is a trouble."""
    kind = document.get("event") if isinstance(document, dict) else None
    try:
        if isinstance(document, dict) and kind == "tick":
            yield _second(document)
        elif isinstance(document, dict) and kind == MACHINE:
            yield _machine(document)
        elif isinstance(kind, str) and not is_kind(kind):
            yield Trouble(number, f"an event {kind!r:.60} that this version of chaos does not know")
        else:
            event = event_from_json(document)
            if not -SECONDS_MAX <= event.t_s <= SECONDS_MAX:
                raise ValueError("t_s: no moment of a run")  # noqa: TRY301 - told as what is read wrongly is
            yield event
    except (ValueError, OverflowError) as failure:
        yield Trouble(number, f"{failure!s:.200}")


def _machine(document: Mapping[str, object]) -> Machine:
    t_s = document.get("t_s")
    if not isinstance(t_s, (int, float)) or not -SECONDS_MAX <= t_s <= SECONDS_MAX:
        raise ValueError("t_s: no moment of a run")
    numbers = {name: value for name, value in document.items() if name != "t_s" and type(value) in (int, float)}
    return Machine(float(t_s), {name: float(value) for name, value in numbers.items() if math.isfinite(value)})  # type: ignore[arg-type]


def _second(document: Mapping[str, object]) -> Second:
    """Return a tick's line; raises ValueError for what is none."""
    match document:
        case {"t_s": int() | float() as t_s, "phase": str(phase), "values": dict(values), "counts": dict(counts)}:
            pass
        case _:
            raise ValueError("a tick needs t_s, phase, values and counts")
    if not 0 <= t_s <= SECONDS_MAX:
        raise ValueError("t_s: no moment of a run")
    breakers: Any = document.get("breakers", ())  # what it is not, is a TypeError below
    groups: Any = document.get("groups") or {}
    try:
        return Second(
            float(t_s),
            phase,
            _measured(values),
            {str(kind): {str(said): int(number) for said, number in one.items()} for kind, one in counts.items()},
            [
                Breaker(
                    str(one["instance"]), str(one["command"]), str(one["state"]), int(one["calls"]), int(one["errors"])
                )
                for one in breakers
            ],
            {str(group): _measured(measured) for group, measured in groups.items()},
        )
    except (TypeError, KeyError, AttributeError, OverflowError) as failure:
        raise ValueError(f"not a tick's values: {failure}") from None
