"""The emitter: services say what happened and go on at once; a background loop sends it to the events' server.

    emit --> bounded buffer --> batch --> EventStream.add --> acknowledged
                  |               ^            |
               is full            '-- again ---'  failed, or nobody knows: the same events with the same ids
                  v
        the oldest is dropped, and counted

An event is acknowledged when the server said that it is on disk, and from then on it is not lost. Until then it is one
of those that a crash of this process, or an outage longer than the buffer, may cost. A batch whose answer was lost is
sent again, so it may be in the stream twice; the pipeline counts it once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings
from targets.playback.activity import ActivityEvent, BadEvent, Kind
from targets.playback.event_stream import EventStream
from targets.playback.service import Context, json_response
from targets.playback.transport import FAILURES
from targets.playback.validation import Subscriber

LOG = logging.getLogger("playback")

FLUSH_EVERY_S = 0.05
BATCH_MAX = 200
WAITING_MAX = 10_000
_BATCHES_AT_ONCE = 20
_LAST_FLUSH_S = 0.25

_ADD_SETTINGS = CommandSettings(
    timeout_s=0.5, max_concurrent=2, breaker=BreakerSettings(minimum_calls=5, open_s=0.5, open_max_s=2.0)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityCounts:
    """What became of the events of this process."""

    emitted: int
    acknowledged: int
    waiting: int
    dropped: int
    """Thrown away, because the buffer was full or this process is told of no events' server."""
    invalid: int
    """Never taken, because a field was outside its limits."""


class Activity:
    """The emitter of a service; one for each process. Without ``events`` among what it calls it drops everything."""

    def __init__(self, context: Context, *, waiting_max: int = WAITING_MAX) -> None:
        loop = asyncio.get_running_loop()
        self._now_s = loop.time
        # A number that counts up is unique without chance, which would repeat itself after a restart.
        self._emitter = f"{context.config.instance}-{int(loop.time() * 1000):x}"
        self._emitted = self._acknowledged = self._dropped = self._invalid = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_max = waiting_max
        self._sending: list[bytes] = []
        servers = context.config.calls.get("events", ())
        self._stream = EventStream(servers[0].address) if servers else None
        if self._stream is not None:
            self._add = context.isolation.command("events.add", self._stream.add, settings=_ADD_SETTINGS)
            context.repeat(self._flush, period_s=FLUSH_EVERY_S)

    def emit(
        self,
        kind: Kind,
        subscriber: Subscriber,
        *,
        title: str | None = None,
        watched_s: float | None = None,
        reason: str | None = None,
        query: str | None = None,
        event_id: str | None = None,
    ) -> None:
        """Have an event sent soon. Never waits, never raises: see ``counts`` for what became of it.

        ``title`` is needed by plays, stalls and stops, ``watched_s`` (in seconds) by stops; see ``ActivityEvent``.
        ``event_id`` is for an event that has one already, because whoever reports it may report it twice.
        """
        try:
            event = ActivityEvent(
                id=event_id or f"{self._emitter}-{self._emitted + 1}",
                kind=kind,
                at_s=self._now_s(),
                subscriber=subscriber.id,
                country=subscriber.country,
                plan=subscriber.plan,
                title=title,
                watched_s=watched_s,
                reason=reason,
                query=query,
            ).to_bytes()
        except BadEvent as error:
            self._invalid += 1
            if self._invalid == 1:
                LOG.warning("an event was not taken, and others will not be named: %s", error)
            return
        self._emitted += 1
        if self._stream is None:
            self._dropped += 1
            return
        if len(self._waiting) >= self._waiting_max:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)

    @property
    def counts(self) -> ActivityCounts:
        """What became of the events so far."""
        return ActivityCounts(
            emitted=self._emitted,
            acknowledged=self._acknowledged,
            waiting=len(self._waiting) + len(self._sending),
            dropped=self._dropped,
            invalid=self._invalid,
        )

    def install(self, app: web.Application) -> None:
        """Show the counts at ``GET /activity``, and end with ``app``: what waits is sent once more, briefly."""

        async def show(_: web.Request) -> web.Response:
            counts = self.counts
            return json_response({name: getattr(counts, name) for name in ActivityCounts.__dataclass_fields__})

        async def close(_: web.Application) -> None:
            await self.close()

        app.router.add_get("/activity", show)
        app.on_cleanup.append(close)

    async def close(self) -> None:
        """Send what waits, for a quarter of a second at most, and close the connections."""
        if self._stream is None:
            return
        try:
            async with asyncio.timeout(_LAST_FLUSH_S):
                await self._flush()
        except TimeoutError:
            pass
        finally:
            await self._stream.close()

    async def _flush(self) -> bool:
        """Send what waits, batch by batch; a batch that failed stays as it is, for the next turn."""
        for _ in range(_BATCHES_AT_ONCE):
            if not self._sending:
                self._sending = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            if not self._sending:
                break
            try:
                await self._add(self._sending)
            except FAILURES:
                return False
            self._acknowledged += len(self._sending)
            self._sending = []
        return True
