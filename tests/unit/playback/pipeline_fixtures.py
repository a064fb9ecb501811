"""What the tests of the pipeline share: events with defaults, and plain clients of Valkey."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from redis import Redis

from targets.playback.activity import ActivityEvent, Kind
from targets.playback.validation import Plan

_NUMBERS = itertools.count(1)


def event(kind: Kind = Kind.PLAY_STARTED, **fields: Any) -> ActivityEvent:
    """An event with an id of its own and all that its kind needs."""
    if kind in (Kind.PLAY_STARTED, Kind.CHUNK_STALLED, Kind.STOPPED):
        fields.setdefault("title", "title-0001")
    if kind is Kind.STOPPED:
        fields.setdefault("watched_s", 1.5)
    fields.setdefault("id", f"test-1-{next(_NUMBERS)}")
    if "at_s" not in fields:
        fields["at_s"] = asyncio.get_running_loop().time()
    fields.setdefault("subscriber", "subscriber-00001")
    fields.setdefault("country", "country-01")
    fields.setdefault("plan", Plan.BASIC)
    return ActivityEvent(kind=kind, **fields)


def client(address: str) -> Redis:
    """A plain client, to be used in a ``with``."""
    host, _, port = address.rpartition(":")
    return Redis(host=host, port=int(port), decode_responses=True)


def received(address: str) -> list[ActivityEvent]:
    """The events in the stream."""
    with client(address) as valkey:
        return [ActivityEvent.from_bytes(fields["event"].encode()) for _, fields in valkey.xrange("activity")]
