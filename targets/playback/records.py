"""One kind of record of the store, subscribers or titles, as a play needs it: at hand, in the cache, or asked for.

    at hand (a second, see `hot_copies`) -> cache -> store, asked once for all plays that miss it at the same moment

A record that the store gave goes into the cache; one that a fallback gave does not, and is never kept. With the
protection ``single_flight`` off each play asks the store for itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from chaos.resilience import Answer, Command
from targets.playback.cache_client import Cache
from targets.playback.hot_copies import HotCopies
from targets.playback.service import Context, json_bytes
from targets.playback.single_flight import SingleFlight
from targets.playback.validation import Subscriber, Title

A = TypeVar("A", bound=Hashable)
Record = TypeVar("Record", bound=Subscriber | Title)


class Records(Generic[A, Record]):
    """The records of a kind. They are asked for by an argument of ``ask``, and kept under the key that ``key`` gives.

    ``ask`` is the Command that asks the store; ``parse`` reads what lies in the cache, and raises ValueError for what
    is no record. Two arguments with one key are asked for apart, for ``ask`` may answer them in different ways.
    """

    def __init__(
        self,
        context: Context,
        cache: Cache,
        ask: Command[[A], Record],
        *,
        key: Callable[[A], str],
        parse: Callable[[object], Record],
    ) -> None:
        self._now_s = context.now
        self._cache = cache
        self._ask = ask
        self._parse = parse
        self._hot: HotCopies[Record] = HotCopies()
        self._flight: SingleFlight[A, Answer[Record]] | None = (
            SingleFlight(f"{ask.name} (shared)") if context.on("single_flight") else None
        )
        self.key = key
        self.name = ask.name
        """The command's name: what ``degraded`` says when a fallback answered."""

    def at_hand(self, asked: A) -> Record | None:
        """Return the record if this process has it."""
        return self._hot.read(self._now_s(), self.key(asked))

    def read(self, asked: A, cached: bytes | None) -> Record | None:
        """Return the record that lies in the cache; one that cannot be read is as good as none."""
        if cached is None:
            return None
        try:
            record = self._parse(json.loads(cached))
        except (ValueError, RecursionError):
            return None
        self._hot.offer(self._now_s(), self.key(asked), record)
        return record

    async def fetch(self, asked: A) -> Answer[Record]:
        """Return the store's answer or a fallback's. Raises what the Command raises."""
        if self._flight is None:
            return await self._fetch(asked)
        fresh = self._hot.peek(self._now_s(), self.key(asked))
        if fresh is not None:  # the store gave it to somebody else while we looked into the cache
            return Answer(value=fresh, fallback=False, cause=None, execution_s=None)
        return await self._flight(asked, lambda: self._fetch(asked))

    async def close(self) -> None:
        """End what is under way."""
        if self._flight is not None:
            await self._flight.close()

    async def _fetch(self, asked: A) -> Answer[Record]:
        answer = await self._ask.execute(asked)
        if not answer.fallback:
            key = self.key(asked)
            if self._flight is not None:
                self._hot.keep(self._now_s(), key, answer.value)
            self._cache.write_later(key, json_bytes(answer.value.to_json()))
        return answer
