"""The row maker: computes the rows that events have changed, and writes them to both zones of the cache.

Which rows are due stands in the events' server, written in the same step as the events were counted ("transactional
outbox"), and goes only when the row is in a zone of the cache. The instance that counted makes the row at once;
whatever it leaves undone, because it was killed or no cache was there, is found by the sweep of whichever instance
comes first.

One zone that is away does not hold up the other for longer than a write may take: whoever could not write a row to it
keeps that in mind, and makes the row anew for it when it is back. That is a promise for `LACKING_MAX` rows and for as
long as the instance lives. Beyond it the zone shows an old row until an event changes it, or for ``rows_ttl_s`` at
most; and so it may when two instances make the same row within milliseconds, and the older one arrives last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice

from chaos.resilience import BreakerSettings, CommandSettings
from chaos.resilience.latency import LatencyWindow
from targets.playback.cache_client import Entry, Zone
from targets.playback.coviewing import PAIRED_MAX, recommend, top
from targets.playback.effects import coviewing_key, home_key, popular_key
from targets.playback.event_stream import EventStream
from targets.playback.home_rows import ROW_TITLES_MAX, popular_to_bytes, recommendation_to_bytes
from targets.playback.service import Context
from targets.playback.transport import FAILURES

MAKE_EVERY_S = 0.05
SWEEP_EVERY_S = 1.0
ROWS_TTL_S = 3_600.0
LEFT_UNDONE_S = 1.0
"""How old an event is before any instance may make its row, and not only the one that counted it."""

LACKING_MAX = 5_000
"""Rows that are kept in mind for a zone that could not be written to."""

_AT_ONCE = 100
_BATCHES_AT_ONCE = 10
_DUE_MAX = 5_000
_NEIGHBOURS_READ = 50
_HOME, _POPULAR = home_key(""), popular_key("")

_READ_SETTINGS = CommandSettings(
    timeout_s=1.0, max_concurrent=4, breaker=BreakerSettings(minimum_calls=5, open_s=0.5, open_max_s=2.0)
)
_WRITE_SETTINGS = CommandSettings(timeout_s=0.5, max_concurrent=4, breaker=BreakerSettings(open_s=1.0))


class RowMaker:
    """Makes rows, and knows how long it took from an event to its row in the cache: ``delays``."""

    def __init__(self, context: Context, stream: EventStream) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._stream = stream
        self._reading = context.isolation.guard("events.rows", settings=_READ_SETTINGS)
        ttl_s = context.number("rows_ttl_s", ROWS_TTL_S)
        called = context.config.calls.get("cache", ())
        self.zones = [RowZone(Zone(one, ttl_s=ttl_s, rng=context.rng), context) for one in called]
        # One batch is made at a time: of two with the same row, the one written last is the one read last.
        self._making = asyncio.Lock()
        self._due: dict[str, str] = {}
        self._cursor = 0
        self.delays = LatencyWindow(60.0, buckets=12, samples_max=1_000)
        context.repeat(self._make_due, period_s=MAKE_EVERY_S)
        context.repeat(self._sweep, period_s=SWEEP_EVERY_S)
        context.repeat(self._complete, period_s=SWEEP_EVERY_S)

    def make_soon(self, rows: Mapping[str, float], version: int) -> None:
        """Have ``rows`` made, which step ``version`` has changed; those that are too many are left to the sweep."""
        for row, at_s in rows.items():
            if row in self._due or len(self._due) < _DUE_MAX:
                self._due[row] = f"{version} {at_s!r}"

    async def close(self) -> None:
        """Close the connections to the cache."""
        for zone in self.zones:
            await zone.close()

    async def _make_due(self) -> bool:
        for _ in range(_BATCHES_AT_ONCE):
            rows = [row for row, _ in zip(self._due, range(_AT_ONCE), strict=False)]
            if not rows:
                break
            # What fails now is left to the sweep, so that a dead cache does not hold up what comes after.
            if not await self._make({row: self._due.pop(row) for row in rows}):
                return False
        return True

    async def _sweep(self) -> bool:
        """Make rows that have been due for a while."""
        for _ in range(_BATCHES_AT_ONCE):
            try:
                async with self._reading():
                    self._cursor, found = await self._stream.due(self._cursor, count=_AT_ONCE)
            except FAILURES:
                return False
            before_s = self._now_s() - LEFT_UNDONE_S
            left = {row: mark for row, mark in found.items() if row not in self._due and _at_s(mark) < before_s}
            if left and not await self._make(left):
                return False
            if self._cursor == 0:
                break
        return True

    async def _complete(self) -> bool:
        """Make the rows that a zone lacks, for that zone alone."""
        for zone in self.zones:
            # The first one is a trial: a zone that is still away costs no more than that.
            for count in (1, *[_AT_ONCE] * _BATCHES_AT_ONCE):
                async with self._making:
                    rows = zone.take(count)
                    if not rows:
                        break
                    try:
                        async with self._reading():
                            values = await self._values(rows)
                    except FAILURES:
                        zone.lacks(rows)
                        return False
                    if not await zone.write(values):
                        break
        return True

    async def _make(self, marks: Mapping[str, str]) -> bool:
        """Make the rows with these marks; return whether they are in a zone of the cache now."""
        try:
            async with self._making:
                async with self._reading():
                    values = await self._values(list(marks))
                if not any(await asyncio.gather(*(zone.write(values) for zone in self.zones))):
                    return False
            now_s = self._now_s()
            for mark in marks.values():
                self.delays.record(now_s, now_s - _at_s(mark))
            async with self._reading():
                await self._stream.settle(marks)
        except FAILURES:
            return False
        return True

    async def _values(self, rows: Sequence[str]) -> list[Entry]:
        """Return the values of rows, from what is counted now."""
        subscribers = [row.removeprefix(_HOME) for row in rows if row.startswith(_HOME)]
        viewings = await self._stream.viewings(subscribers)
        titles = sorted({title for viewing in viewings.values() for title in viewing[:PAIRED_MAX]})
        popular = [row for row in rows if row.startswith(_POPULAR)]
        neighbours = await self._stream.scores([coviewing_key(title) for title in titles], members_max=_NEIGHBOURS_READ)
        by_title = {title: neighbours[coviewing_key(title)] for title in titles}
        values = [
            Entry(
                home_key(subscriber), recommendation_to_bytes(recommend(viewing, by_title, titles_max=ROW_TITLES_MAX))
            )
            for subscriber, viewing in viewings.items()
        ]
        scores = await self._stream.scores(popular, members_max=ROW_TITLES_MAX)
        return [*values, *(Entry(row, popular_to_bytes(top(scores[row], ROW_TITLES_MAX))) for row in popular)]


class RowZone:
    """A zone of the cache behind its guard, and the rows that could not be written to it."""

    def __init__(self, zone: Zone, context: Context) -> None:
        self._zone = zone
        self._writing = context.isolation.guard(f"cache.{zone.name}.write", settings=_WRITE_SETTINGS)
        self._lacking: dict[str, None] = {}
        self.close = zone.close

    @property
    def lacking(self) -> int:
        """How many rows are kept in mind for it."""
        return len(self._lacking)

    async def write(self, rows: Sequence[Entry]) -> bool:
        """Write rows; return whether they are there. Those that are not are kept in mind."""
        if not rows:
            return True
        try:
            async with self._writing():
                await self._zone.write(rows)
        except FAILURES:
            self.lacks([row.key for row in rows])
            return False
        return True

    def lacks(self, rows: Sequence[str]) -> None:
        """Keep in mind that it lacks these rows, as many as there is room for."""
        for row in rows:
            if row in self._lacking or len(self._lacking) < LACKING_MAX:
                self._lacking[row] = None

    def take(self, count: int) -> list[str]:
        """Take out the first rows that it lacks, before they are made: one that changes meanwhile is put in again."""
        rows = list(islice(self._lacking, count))
        for row in rows:
            del self._lacking[row]
        return rows


def _at_s(mark: str) -> float:
    """Return the moment of the event that made a row due."""
    return float(mark.partition(" ")[2])
