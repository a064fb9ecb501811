"""The events' Valkey server as its callers see it: a stream, and counts that change in one step with its messages.

    emitter --add--> stream "activity" --read, claim--> consumer --apply: all of this in one script, or none of it:
                                                                   nothing was changed since the consumer looked
                                                                   the events' bits are set: they are counted
                                                                   viewings, counts and rows due are written
                                                                   the messages are acknowledged and deleted

A message may be delivered many times: its sender got no answer and sent it again, or its consumer died. It is counted
once all the same, for a bit per event says whether it was. The bits of 65 536 events of one emitter take 8 KiB; a play,
whose events have names of their own, takes 190 bytes for as long as it is remembered that it was counted: a week.

The stream holds what is not counted yet, and no more than `STREAM_MAX` messages: then `add` is refused. It is never
trimmed, for what was acknowledged to an emitter must not be lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redis.exceptions import ResponseError

from targets.playback import event_scripts
from targets.playback.activity import ActivityEvent
from targets.playback.coviewing import Viewing
from targets.playback.effects import AGE_MAX_S
from targets.playback.events_server import connect, failures

STREAM = "activity"
DEAD_LETTERS = "activity.dead"
GROUP = "pipeline"
DUE = "due"
TOTALS = "figures/totals"
STREAM_MAX = 200_000
DEAD_LETTERS_MAX = 10_000
VIEWING_TTL_S = 30 * 86_400
"""Who has not watched anything for so long begins anew: so there are as many viewings as active subscribers."""

_FIELD = b"event"
_BLOCK_BITS = 65_536
_SCORES_MAX = 400
"""Members of a sorted set; the lower half of one that has more is forgotten."""

_DEAD_BYTES_MAX = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One entry of the stream: its id there, and the event's bytes."""

    id: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that nobody can count, and why."""

    message: Message
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a consumer must know before it counts: the viewings as they are, and which events are counted already."""

    viewings: Mapping[str, str | None]
    """By subscriber, as JSON; None where there is none."""
    counted: frozenset[str]
    """Ids of events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What `EventStream.apply` does at once, or not at all when ``events`` or ``unchanged`` are not as they were."""

    events: Sequence[ActivityEvent] = ()
    unchanged: Mapping[str, str | None] = field(default_factory=dict)
    viewings: Mapping[str, Viewing] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    scores: Mapping[tuple[str, str], int] = field(default_factory=dict)
    rows: Mapping[str, float] = field(default_factory=dict)
    counted: Sequence[str] = ()
    duplicates: Sequence[str] = ()
    dead_letters: Sequence[DeadLetter] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits in the stream: all of it, and the part that was delivered and not acknowledged."""

    messages: int
    pending: int


class EventStream:
    """The server at ``address``. Every method raises CallFailed, whatever the client library calls its trouble."""

    def __init__(self, address: str) -> None:
        self._redis = connect(address)
        self._add = self._redis.register_script(event_scripts.ADD)
        self._apply = self._redis.register_script(event_scripts.APPLY)
        self._settle = self._redis.register_script(event_scripts.SETTLE)
        self._lease = self._redis.register_script(event_scripts.LEASE)

    async def add(self, events: Sequence[bytes], *, stream_max: int = STREAM_MAX) -> None:
        """Append events, all or none. When this returns they are on disk."""
        with failures():
            await self._add(keys=[STREAM], args=[stream_max, *events])

    async def open_group(self) -> None:
        """Make the consumer group, which begins with the stream's first message, unless it is there."""
        with failures():
            try:
                await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def read(self, consumer: str, *, count: int, block_s: float) -> list[Message]:
        """Return messages that no consumer has got yet; wait ``block_s`` for the first (0: do not). Raises NoGroup."""
        with failures():
            answer = await self._redis.xreadgroup(
                GROUP, consumer, {STREAM: ">"}, count=count, block=int(block_s * 1000) or None
            )
        return _messages(answer[0][1]) if answer else []

    async def claim(self, consumer: str, *, count: int, idle_s: float) -> list[Message]:
        """Take over messages that some consumer, this one included, got ``idle_s`` ago and did not acknowledge."""
        with failures():
            answer = await self._redis.xautoclaim(
                STREAM, GROUP, consumer, min_idle_time=int(idle_s * 1000), count=count
            )
        return _messages(answer[1])

    async def deliveries(self, message: Message) -> int:
        """Return how often a message was delivered; 0 when it was acknowledged."""
        with failures():
            found = await self._redis.xpending_range(STREAM, GROUP, message.id, message.id, 1)
        return int(found[0]["times_delivered"]) if found else 0

    async def look(self, events: Sequence[ActivityEvent]) -> Look:
        """Return what must be known before these are counted."""
        subscribers = sorted({event.subscriber for event in events})
        with failures():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for event in events:
                    pipeline.getbit(*_bit(event))
                pipeline.mget([viewing_key(subscriber) for subscriber in subscribers])
                *bits, texts = await pipeline.execute()
        return Look(
            viewings={
                subscriber: None if text is None else text.decode()
                for subscriber, text in zip(subscribers, texts, strict=True)
            },
            counted=frozenset(event.id for event, bit in zip(events, bits, strict=True) if bit),
        )

    async def apply(self, step: Step) -> int | None:
        """Do the step. Return its version; None when something was not as it was looked at, and nothing was done."""
        batch = {
            "unchanged": [
                (viewing_key(subscriber), False if text is None else text)
                for subscriber, text in step.unchanged.items()
            ],
            "bits": [_bit(event) for event in step.events],
            "texts": [(viewing_key(subscriber), viewing_text(one)) for subscriber, one in step.viewings.items()],
            # Lua would write a large number with an exponent, so numbers go as text.
            "counts": [(key, name, str(by)) for (key, name), by in step.counts.items()],
            "scores": [(key, name, str(by)) for (key, name), by in step.scores.items()],
            "due": [(row, repr(at_s)) for row, at_s in step.rows.items()],
            "counted": list(step.counted),
            "duplicates": list(step.duplicates),
            "remember_s": int(AGE_MAX_S),
            "viewing_s": VIEWING_TTL_S,
            "scores_max": _SCORES_MAX,
            "dead_max": DEAD_LETTERS_MAX,
        }
        dead = [
            part
            for letter in step.dead_letters
            for part in (letter.message.id, letter.message.data[:_DEAD_BYTES_MAX], letter.reason)
        ]
        with failures():
            version = await self._apply(
                keys=[STREAM, DEAD_LETTERS, DUE, TOTALS], args=[GROUP, json.dumps(batch), *dead]
            )
        return int(version) or None

    async def due(self, cursor: int, *, count: int) -> tuple[int, dict[str, str]]:
        """Return about ``count`` rows that are to be made anew, with their marks, and the cursor to go on from."""
        with failures():
            following, found = await self._redis.hscan(DUE, cursor, count=count)
        return int(following), {row.decode(): mark.decode() for row, mark in found.items()}

    async def marks(self, rows: Sequence[str]) -> dict[str, str]:
        """Return the marks of those rows that are due."""
        with failures():
            marks = await self._redis.hmget(DUE, list(rows))
        return {row: mark.decode() for row, mark in zip(rows, marks, strict=True) if mark is not None}

    async def settle(self, rows: Mapping[str, str]) -> None:
        """Note that these rows were made anew, unless they have another mark by now."""
        with failures():
            await self._settle(keys=[DUE], args=[part for pair in rows.items() for part in pair])

    async def viewings(self, subscribers: Sequence[str]) -> dict[str, Viewing]:
        """Return the viewings of those subscribers who have one."""
        if not subscribers:
            return {}
        with failures():
            texts = await self._redis.mget([viewing_key(subscriber) for subscriber in subscribers])
        return {
            subscriber: viewing_of(text)
            for subscriber, text in zip(subscribers, texts, strict=True)
            if text is not None
        }

    async def scores(self, keys: Sequence[str], *, members_max: int) -> dict[str, dict[str, int]]:
        """Return the highest members of sorted sets, with their scores."""
        with failures():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.zrevrange(key, 0, members_max - 1, withscores=True)
                found = await pipeline.execute()
        return {
            key: {member.decode(): int(score) for member, score in members}
            for key, members in zip(keys, found, strict=True)
        }

    async def counts(self, *keys: str) -> list[dict[str, int]]:
        """Return hashes of counts."""
        with failures():
            async with self._redis.pipeline(transaction=True) as pipeline:
                for key in keys:
                    pipeline.hgetall(key)
                found = await pipeline.execute()
        return [{name.decode(): int(count) for name, count in one.items()} for one in found]

    async def backlog(self) -> Backlog:
        """Return what waits. Raises NoGroup."""
        with failures():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.xlen(STREAM)
                pipeline.xpending(STREAM, GROUP)
                messages, pending = await pipeline.execute()
        return Backlog(messages=messages, pending=pending["pending"])

    async def dead_letters(self, *, count: int) -> list[DeadLetter]:
        """Return the newest dead letters, the newest first."""
        with failures():
            entries = await self._redis.xrevrange(DEAD_LETTERS, count=count)
        return [
            DeadLetter(
                message=Message(id=name.decode(), data=fields[_FIELD]),
                reason=fields[b"reason"].decode(errors="replace"),
            )
            for name, fields in entries
        ]

    async def began_s(self, now_s: float) -> float:
        """Return the moment from which all consumers count the date: ``now_s`` of whoever asked first."""
        with failures():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.set("began_s", repr(now_s), nx=True)
                pipeline.get("began_s")
                _, text = await pipeline.execute()
        return float(text)

    async def lease(self, name: str, holder: str, *, for_s: float) -> bool:
        """Return whether ``holder`` has the lease ``name``, which it then has for ``for_s`` from now."""
        with failures():
            return bool(await self._lease(keys=[f"lease/{name}"], args=[holder, int(for_s * 1000)]))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def viewing_key(subscriber: str) -> str:
    """Key of a subscriber's viewing."""
    return f"viewing/{subscriber}"


def viewing_text(viewing: Viewing) -> str:
    """Return a viewing as it is stored."""
    return " ".join(viewing)


def viewing_of(text: str | bytes | None) -> Viewing:
    """Read what ``viewing_text`` wrote; None is an empty viewing."""
    if text is None:
        return ()
    return tuple((text if isinstance(text, str) else text.decode()).split())


def _bit(event: ActivityEvent) -> tuple[str, int]:
    """Return the key and the position of the bit that says whether an event was counted."""
    block, position = divmod(event.number, _BLOCK_BITS)
    return f"counted/{event.emitter}/{block}", position


def _messages(entries: Sequence[tuple[bytes | None, dict[bytes, bytes] | None]]) -> list[Message]:
    """Return entries as messages. Those that were deleted meanwhile are left out."""
    return [
        Message(id=name.decode(), data=fields.get(_FIELD, b""))
        for name, fields in entries
        if name is not None and fields is not None
    ]
