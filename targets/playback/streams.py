"""An account's streams: how many a plan may have at the same time, what one is called, and what became of them. Pure.

A stream is a lease (see `stream_leases`). Its name is the session's, and the same for every try of the same play, so
that no play is refused because of itself: with an ``Idempotency-Key`` the name is made of the account, the title and
the key. A client that gives the same key to two plays of one title has one stream and one session of the two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from targets.playback.play_forms import STREAM_NAME
from targets.playback.validation import Plan

STREAMS_MAX: Final[Mapping[Plan, int]] = {Plan.BASIC: 1, Plan.STANDARD: 2, Plan.PREMIUM: 4}
"""Streams that an account of a plan may have at the same time."""

COMMANDS: Final = "streams."
"""How the names of the commands begin that count streams: in ``degraded`` they say that a count was a makeshift one."""

NEWS_AT_ONCE: Final = 500
"""Streams in one message of news: less than 64 KiB."""

_DIGEST_BYTES = 12
_ACCOUNT_LENGTH_MAX = 80


class Fate(StrEnum):
    """What became of a stream."""

    ENDED = "ended"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of an account."""

    account: str
    name: str


def stream_name(account: str, title: str, key: str) -> str:
    """Return the name of the stream of a play with an ``Idempotency-Key``."""
    said = f"{account}\n{title}\n{key}".encode("utf-8", "surrogateescape")
    return f"s-{blake2b(said, digest_size=_DIGEST_BYTES).hexdigest()}"


class NewsBuffer:
    """What became of streams and was not passed on yet: bounded, the last word of each stream, oldest first out."""

    def __init__(self, *, streams_max: int) -> None:
        self._streams_max = streams_max
        self._fates: OrderedDict[Stream, Fate] = OrderedDict()
        self.dropped = 0
        """Streams of which nobody will hear: their leases end by themselves."""

    def __len__(self) -> int:
        return len(self._fates)

    def add(self, stream: Stream, fate: Fate) -> None:
        """Note what became of a stream; one that has ended stays so."""
        if self._fates.get(stream) is Fate.ENDED:
            return
        self._fates[stream] = fate
        if len(self._fates) > self._streams_max:
            self._fates.popitem(last=False)
            self.dropped += 1

    def take(self) -> dict[Stream, Fate]:
        """Take out the oldest, as many as one message holds."""
        return dict(self._fates.popitem(last=False) for _ in range(min(NEWS_AT_ONCE, len(self._fates))))


def news_to_json(news: Mapping[Stream, Fate]) -> dict[str, list[tuple[str, str]]]:
    """Return the body of ``POST /streams``: account and name of each stream, by what became of it."""
    return {fate: [(one.account, one.name) for one, its in news.items() if its is fate] for fate in Fate}


def news_from_json(data: object) -> dict[Stream, Fate]:
    """Read what ``news_to_json`` wrote. Raises ValueError, which says what is wrong and what is allowed."""
    match data:
        case {"ended": [*ended], "renewed": [*renewed], **more} if not more:
            if len(ended) + len(renewed) > NEWS_AT_ONCE:
                raise ValueError(f"news of {len(ended) + len(renewed)} streams; {NEWS_AT_ONCE} are allowed at once")
            return {**_streams(renewed, Fate.RENEWED), **_streams(ended, Fate.ENDED)}
        case _:
            raise ValueError('the body must be {"ended": [["account", "stream"]], "renewed": []}')


def _streams(data: Sequence[object], fate: Fate) -> dict[Stream, Fate]:
    streams: dict[Stream, Fate] = {}
    for one in data:
        match one:
            case [str(account), str(name)] if len(account) <= _ACCOUNT_LENGTH_MAX and STREAM_NAME.fullmatch(name):
                streams[Stream(account, name)] = fate
            case _:
                raise ValueError(f'{fate}: a stream is ["account", "name"], not {one!r:.80}')
    return streams
