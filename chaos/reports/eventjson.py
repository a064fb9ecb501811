"""An event as one JSON object, and back: field names are keys, the kind is the key ``event`` in snake case."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

from chaos import events
from chaos.errors import suggest
from chaos.events import BreakerState, Event, MetricLabel, TargetShape


def _name_of(kind: type[Event]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


_KINDS: Mapping[str, type[Event]] = {
    _name_of(kind): kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}
_HINTS = {kind: typing.get_type_hints(kind) for kind in (*_KINDS.values(), BreakerState, MetricLabel, TargetShape)}


def is_kind(name: str) -> bool:
    """Return whether there is an event of that name."""
    return name in _KINDS


def event_to_json(event: Event) -> dict[str, object]:
    """Return the event as the object of one line; ``event`` names its kind in snake case."""
    return {"event": _name_of(type(event)), **_fields_of(event)}


def event_from_json(document: object) -> Event:
    """Return the event of one line's object. Raises ValueError, in words, for anything else.

    Fields that this version does not know are ignored, so that a later one may add some; a field that an earlier
    one did not have is its default.
    """
    if not isinstance(document, dict) or not isinstance(document.get("event"), str):
        raise ValueError(  # noqa: TRY004 - what is wrong is the line, whatever the type
            'expected an object with the key "event"'
        )
    kind = _KINDS.get(document["event"])
    if kind is None:
        raise ValueError(f"unknown event {document['event']!r}{suggest(document['event'], _KINDS)}")
    event = _record(kind, document)
    assert isinstance(event, Event)
    return event


def _fields_of(record: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(record)
    return {one.name: _plain(getattr(record, one.name)) for one in dataclasses.fields(record)}


def _plain(value: object) -> object:  # noqa: PLR0911 - one line for each form a field may have
    match value:
        case Enum():
            return value.value
        case float():
            return value if math.isfinite(value) else None  # JSON has no word for the others
        case None | bool() | int() | str():
            return value
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case Sequence():
            return [_plain(one) for one in value]
        case Path():
            return str(value)
    return _fields_of(value)


def _record(kind: type, document: Mapping[str, object]) -> object:
    values: dict[str, object] = {}
    for one in dataclasses.fields(kind):
        if one.name not in document:
            if one.default is not dataclasses.MISSING:
                continue
            raise ValueError(f"{_name_of(kind)} lacks the key {one.name!r}")
        try:
            values[one.name] = _value(_HINTS[kind][one.name], document[one.name])
        except ValueError as failure:
            raise ValueError(f"{one.name}: {failure}") from None
    return kind(**values)


def _value(hint: typing.Any, value: object) -> object:  # noqa: PLR0911 - one line for each form a field may have
    """Return ``value`` as the type that a field of an event is annotated with."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is object:
        return value
    if origin is types.UnionType:
        return None if value is None else _value(next(one for one in arguments if one is not types.NoneType), value)
    if origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_value(arguments[0], one) for one in value)
        if len(arguments) == len(value):
            return tuple(_value(one, item) for one, item in zip(arguments, value, strict=True))
    elif origin is not None and isinstance(value, dict):
        return {key: _value(arguments[1], one) for key, one in value.items()}
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _record(hint, value)
    elif hint in (str, int, bool) and type(value) is hint:
        return value
    raise ValueError(f"{value!r} is not a {getattr(hint, '__name__', hint)}")
