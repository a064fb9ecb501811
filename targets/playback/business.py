"""The business figures: dated CSV files, made from what the pipeline has counted, as a data lake keeps them.

    <lake>/date=2026-01-01/hours_watched.csv    date,country,title,watched_s,hours
                           stream_starts.csv    date,minute,starts,sps
                           subscriptions.csv    date,plan,signed_up,cancelled,net
                           activity.csv         date,kind,events

``hours`` are hours of watching that ended on that date (``watched_s`` the same, in seconds). ``minute`` is UTC;
``starts`` are the plays that began in it and ``sps`` the same per second. ``net`` is sign-ups less cancellations: the
plan's churn is ``cancelled`` over its subscribers at the date's begin. ``events`` counts everything that was counted.

A file is always the whole of its date, made from counters and put in place in one move, so making it again does no
harm and readers never see half of one. One instance writes at a time, the one with the lease; should two believe that
they have it, both write the truth.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos.resilience import BreakerSettings, CommandSettings
from targets.playback.activity import Kind
from targets.playback.effects import DATES, kinds_key, plan_field, plans_key, starts_key, watched_key
from targets.playback.event_stream import EventStream
from targets.playback.service import Context
from targets.playback.transport import FAILURES
from targets.playback.validation import Plan

WRITE_EVERY_S = 2.0
LEASE_S = 6.0
"""Three turns: whoever misses them is taken for dead."""

_DATES_MAX = 400
_MINUTE_S = 60
_HOUR_S = 3600

_SETTINGS = CommandSettings(timeout_s=1.0, max_concurrent=2, breaker=BreakerSettings(open_s=1.0))

Table = Sequence[Sequence[str | int]]
"""A heading, then rows."""


class Lake:
    """Writes the figures into the folder of the setting ``lake_dir``, or else of this instance's own data."""

    def __init__(self, context: Context, stream: EventStream) -> None:
        folder = context.config.settings.get("lake_dir")
        self._folder = Path(str(folder)) if folder else Path(context.config.data_dir) / "lake"
        self._instance = context.config.instance
        self._stream = stream
        self._asking = context.isolation.guard("events.figures", settings=_SETTINGS)
        self._written: dict[str, int] = {}
        self.files_written = 0

    async def write(self) -> bool:
        """Write the files of every date that has changed, if the lease is ours; return False when it could not."""
        try:
            async with self._asking():
                if not await self._stream.lease("lake", self._instance, for_s=LEASE_S):
                    # Whoever writes now may write more than we have: when the lease comes back, everything is new.
                    self._written.clear()
                    return True
                (dates,) = await self._stream.counts(DATES)
            for date in sorted(dates)[-_DATES_MAX:]:
                if self._written.get(date) == dates[date]:
                    continue
                async with self._asking():
                    keys = (kinds_key(date), starts_key(date), watched_key(date), plans_key(date))
                    kinds, starts, watched_ms, plans = await self._stream.counts(*keys)
                for name, table in tables(date, kinds, starts, watched_ms, plans).items():
                    put(self._folder / f"date={date}" / name, csv_text(table), writer=self._instance)
                    self.files_written += 1
                self._written[date] = dates[date]
        except FAILURES:
            return False
        return True


def tables(
    date: str,
    kinds: Mapping[str, int],
    starts: Mapping[str, int],
    watched_ms: Mapping[str, int],
    plans: Mapping[str, int],
) -> Mapping[str, Table]:
    """Return the tables of a date by the names of their files, in an order that depends on nothing but the counts."""
    watched = [(*where.partition("/")[::2], ms / 1000) for where, ms in sorted(watched_ms.items())]
    subscriptions = [
        (plan, plans.get(plan_field(plan, Kind.SIGNED_UP), 0), plans.get(plan_field(plan, Kind.CANCELLED), 0))
        for plan in Plan
    ]
    return {
        "hours_watched.csv": [
            ("date", "country", "title", "watched_s", "hours"),
            *(
                (date, country, title, f"{watched_s:.3f}", f"{watched_s / _HOUR_S:.6f}")
                for country, title, watched_s in watched
            ),
        ],
        "stream_starts.csv": [
            ("date", "minute", "starts", "sps"),
            *((date, minute, count, f"{count / _MINUTE_S:.4f}") for minute, count in sorted(starts.items())),
        ],
        "subscriptions.csv": [
            ("date", "plan", "signed_up", "cancelled", "net"),
            *((date, plan, up, gone, up - gone) for plan, up, gone in subscriptions),
        ],
        "activity.csv": [
            ("date", "kind", "events"),
            *((date, kind, kinds.get(kind, 0)) for kind in Kind),
        ],
    }


def csv_text(table: Table) -> str:
    """Return a table as CSV: commas, a heading, lines that end in a newline."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def put(path: Path, text: str, *, writer: str) -> None:
    """Put a file in place in one move. Raises OSError when the folder cannot be used."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{writer}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
