"""What players report of their streams, on its way from the Play API to Playback Apps: nobody ever waits for it.

    stop, stall --> bounded buffer --every half a second--> POST /streams at one Playback Apps --> leases

News that cannot be told are dropped: a lease ends by itself.
"""

from __future__ import annotations

import contextlib

from chaos.resilience import BreakerSettings, CommandSettings, Replicas
from chaos.resilience.shedding import Priority, set_priority
from chaos.resilience.web import Rejected, Reply
from targets.playback.activity import Kind
from targets.playback.service import Context
from targets.playback.streams import Fate, NewsBuffer, Stream, news_to_json
from targets.playback.transport import FAILURES
from targets.playback.validation import Subscriber

TELL_EVERY_S = 0.5
WAITING_MAX = 5_000
_BATCHES_AT_ONCE = 4

_SETTINGS = CommandSettings(timeout_s=0.4, max_concurrent=2, breaker=BreakerSettings(open_s=1.0))


class StreamNews:
    """Gathers what became of streams, and tells it. With the protection ``stream_limits`` off it has nothing to do."""

    def __init__(self, context: Context, apps: Replicas[str]) -> None:
        self._http = context.http
        self._apps = apps
        self._buffer = NewsBuffer(streams_max=WAITING_MAX)
        self._counted = context.on("stream_limits")
        self._tell = context.isolation.command("playback_apps.streams", self._post, settings=_SETTINGS)
        if self._counted:
            context.repeat(self._flush, period_s=TELL_EVERY_S)

    def reported(self, subscriber: Subscriber, session: str, kind: Kind) -> None:
        """Note that a player has reported of its session: a stop frees the stream, anything else keeps it alive."""
        if self._counted:
            fate = Fate.ENDED if kind is Kind.STOPPED else Fate.RENEWED
            self._buffer.add(Stream(subscriber.id, session), fate)

    async def _flush(self) -> bool:
        set_priority(Priority.BULK)  # of this background loop's requests, and no other's
        for _ in range(_BATCHES_AT_ONCE):
            if not (news := self._buffer.take()):
                break
            with contextlib.suppress(Rejected, *FAILURES):
                await self._tell(news)
        return True

    async def _post(self, news: dict[Stream, Fate]) -> Reply:
        body = news_to_json(news)

        async def ask(address: str) -> Reply:
            return await self._http.post(f"http://{address}/streams", json=body)

        return await self._apps.call(ask, attempts=1)
