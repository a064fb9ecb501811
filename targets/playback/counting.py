"""What a consumer decides about a batch of messages: which to count, which are repetitions, which are dead. Pure.

messages --sort--> Batch --look at the server--> step_of --> Step, to be applied whole or not at all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from targets.playback.activity import ActivityEvent, BadEvent
from targets.playback.coviewing import Viewing
from targets.playback.dates import Calendar
from targets.playback.effects import Effects, effects_of, timely
from targets.playback.event_stream import DeadLetter, Look, Message, Step, viewing_of

EffectsOf = Callable[[Sequence[ActivityEvent], Mapping[str, Viewing], Calendar], Effects]
"""What computes the effects of events; see ``effects_of``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Messages, sorted by what is to become of them."""

    events: Sequence[ActivityEvent]
    messages: Mapping[str, str]
    """The message of each event, by the event's id."""
    repeated: Sequence[str]
    """Messages with an event that another one of these messages has, too."""
    dead_letters: Sequence[DeadLetter]


def sort(messages: Sequence[Message], now_s: float) -> Batch:
    """Read messages: events, repetitions of them, and those that can never be counted. Pure."""
    events: dict[str, ActivityEvent] = {}
    by_event: dict[str, str] = {}
    repeated: list[str] = []
    dead_letters: list[DeadLetter] = []
    for message in messages:
        try:
            event = ActivityEvent.from_bytes(message.data)
            reason = timely(event, now_s)
        except BadEvent as error:
            reason = str(error)
        if reason is not None:
            dead_letters.append(DeadLetter(message=message, reason=reason))
        elif event.id in events:
            repeated.append(message.id)
        else:
            events[event.id] = event
            by_event[event.id] = message.id
    return Batch(events=list(events.values()), messages=by_event, repeated=repeated, dead_letters=dead_letters)


def step_of(batch: Batch, look: Look, calendar: Calendar, *, effects: EffectsOf = effects_of) -> Step:
    """Return the step that deals with all messages of a batch, if the server still is as it was looked at.

    Raises what ``effects`` raises.
    """
    fresh = [event for event in batch.events if event.id not in look.counted]
    viewings = {subscriber: viewing_of(text) for subscriber, text in look.viewings.items()}
    changes = effects(fresh, viewings, calendar)
    return Step(
        events=fresh,
        unchanged={subscriber: look.viewings[subscriber] for subscriber in changes.viewings},
        viewings=changes.viewings,
        counts=changes.counts,
        scores=changes.scores,
        rows=changes.rows,
        counted=[batch.messages[event.id] for event in fresh],
        duplicates=[*batch.repeated, *(batch.messages[event] for event in sorted(look.counted))],
        dead_letters=batch.dead_letters,
    )
