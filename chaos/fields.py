"""Tables that say what a file may contain: one table reads it, reports every mistake in it, and is its JSON Schema.

A ``Field`` is one key and the ``Kind`` of its value; a ``Table`` is a mapping with known fields. Reading a table gives
a ``Section``, which hands each field's value back with its type::

    RATE = Field("rate", Number(above=0, help="arrivals a second"), required=True)
    LOAD = Table(RATE, WORKERS)
    section = LOAD.read(node, Where(problems=problems))   # problems holds what is wrong, all of it
    section.get(RATE)                                     # float, or None when absent or wrong

Kinds never raise: what is wrong is reported and reads as None, so that reading goes on behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from chaos import yamlfile
from chaos.errors import Problem, suggest
from chaos.yamlfile import Node, Place, Scalar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Schema = dict[str, object]
"""A JSON Schema (draft 2020-12)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where reading is, and the list that problems go to."""

    problems: list[Problem]
    path: tuple[str, ...] = ()

    def inside(self, key: str | int) -> Where:
        """Return the place one key further down."""
        return replace(self, path=(*self.path, str(key)))

    def report(self, at: Node | Place, message: str) -> None:
        """Add a problem with what stands at this node or place."""
        place = at if isinstance(at, Place) else at.place
        key = ".".join(self.path)
        # An option names its key itself: "--set load.rate".
        said = place.line is None and place.source.endswith(f" {key}")
        self.problems.append(Problem(file=place.source, line=place.line, key="" if said else key, message=message))


class Kind(Protocol[T_co]):
    """What a value may be."""

    def read(self, node: Node, where: Where) -> T_co | None:
        """Return the value; report what is wrong with it and return None."""

    def schema(self) -> Schema:
        """Return the JSON Schema of such a value."""


@dataclass(frozen=True, slots=True, eq=False)
class Field(Generic[T_co]):
    """One key of a table."""

    key: str
    kind: Kind[T_co]
    help: str
    required: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A mapping that was read by its table."""

    node: Node
    where: Where
    values: Mapping[str, object]
    nodes: Mapping[str, Node]

    def get(self, one: Field[T]) -> T | None:
        """Return the field's value; None when it is absent or wrong."""
        # The table read this key with this field's kind, so the value has the kind's type.
        return self.values.get(one.key)  # type: ignore[return-value]

    def get_or(self, one: Field[T], default: T) -> T:
        """Return the field's value, or the default."""
        value = self.get(one)
        return default if value is None else value

    def has(self, one: Field[T]) -> bool:
        """Return whether the key was written, rightly or wrongly."""
        return one.key in self.nodes

    def at(self, one: Field[T]) -> Node:
        """Return the field's node, or the section's own when the key is absent."""
        return self.nodes.get(one.key, self.node)

    def report(self, one: Field[T] | str, message: str) -> None:
        """Report a problem with a field's value."""
        key = one if isinstance(one, str) else one.key
        self.where.inside(key).report(self.nodes.get(key, self.node), message)


class Table:
    """A mapping with known keys. Reading one gives a ``Section``."""

    def __init__(self, *fields: Field[object], hints: Mapping[str, str] | None = None) -> None:
        self.fields = {one.key: one for one in fields}
        self._hints = dict(hints or {})

    def with_fields(self, fields: Iterable[Field[object]], *, hints: Mapping[str, str] | None = None) -> Table:
        """Return a table with more fields; ``hints`` explain keys that one could expect and that are not there."""
        return Table(*self.fields.values(), *fields, hints={**self._hints, **(hints or {})})

    def read(self, node: Node, where: Where) -> Section | None:
        """Read every field; report unknown keys, missing ones and wrong values."""
        if not isinstance(node, yamlfile.Mapping):
            where.report(node, f"{found(node)}; write keys and values here: {', '.join(self.fields)}")
            return None
        values: dict[str, object] = {}
        nodes: dict[str, Node] = {}
        for entry in node.entries:
            inside = where.inside(entry.key)
            known = self.fields.get(entry.key)
            if known is None:
                inside.report(entry.place, self._unknown(entry.key))
                continue
            nodes[entry.key] = entry.value
            value = known.kind.read(entry.value, inside)
            if value is not None:
                values[entry.key] = value
        for one in self.fields.values():
            if one.required and one.key not in nodes:
                where.inside(one.key).report(node, f"missing; {one.help}")
        return Section(node=node, where=where, values=values, nodes=nodes)

    def _unknown(self, key: str) -> str:
        if key in self._hints:
            return f"not allowed here: {self._hints[key]}"
        return f"unknown key, allowed here: {', '.join(self.fields)}{suggest(key, self.fields)}"

    def schema(self) -> Schema:
        """Return the JSON Schema of the mapping."""
        schema: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {one.key: {"description": one.help, **one.kind.schema()} for one in self.fields.values()},
        }
        required = [one.key for one in self.fields.values() if one.required]
        return {**schema, "required": required} if required else schema


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf(Generic[T]):
    """A list of values of one kind. Wrong items are reported and left out."""

    item: Kind[T]
    least: int = 0
    most: int = 200
    unique: bool = False

    def read(self, node: Node, where: Where) -> tuple[T, ...] | None:
        """Read every item."""
        if not isinstance(node, yamlfile.Sequence):
            where.report(node, f"{found(node)}; write a list here, each item on a line of its own after '- '")
            return None
        if not self.least <= len(node.items) <= self.most:
            where.report(node, f"has {len(node.items)} items, allowed are {self.least} to {self.most}")
        items: list[T] = []
        for index, child in enumerate(node.items[: self.most]):
            value = self.item.read(child, where.inside(index))
            if value is None:
                continue
            if self.unique and value in items:
                where.inside(index).report(child, f"{value!s} stands in the list twice")
                continue
            items.append(value)
        return tuple(items)

    def schema(self) -> Schema:
        """Return the JSON Schema of the list."""
        schema: Schema = {"type": "array", "items": self.item.schema(), "maxItems": self.most}
        if self.least:
            schema["minItems"] = self.least
        if self.unique:
            schema["uniqueItems"] = True
        return schema


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf(Generic[T]):
    """A mapping from names of the user's own to values of one kind. Wrong entries are reported and left out."""

    value: Kind[T]
    least: int = 0
    most: int = 200
    pattern: str = r"[A-Za-z_][A-Za-z0-9_]{0,59}"
    pattern_help: str = "a name of letters, digits and _"

    def read(self, node: Node, where: Where) -> Mapping[str, T] | None:
        """Read every entry."""
        if not isinstance(node, yamlfile.Mapping):
            where.report(node, f"{found(node)}; write names and their values here, 'name: value'")
            return None
        if not self.least <= len(node.entries) <= self.most:
            where.report(node, f"has {len(node.entries)} entries, allowed are {self.least} to {self.most}")
        values: dict[str, T] = {}
        for entry in node.entries[: self.most]:
            inside = where.inside(entry.key)
            if not re.fullmatch(self.pattern, entry.key):
                inside.report(entry.place, f"not a name that is allowed here; write {self.pattern_help}")
                continue
            value = self.value.read(entry.value, inside)
            if value is not None:
                values[entry.key] = value
        return values

    def schema(self) -> Schema:
        """Return the JSON Schema of the mapping."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^{self.pattern}$"},
            "additionalProperties": self.value.schema(),
            "minProperties": self.least,
            "maxProperties": self.most,
        }


@dataclass(frozen=True, slots=True)
class Either(Generic[T]):
    """A value of one of two shapes: a list, or anything else."""

    otherwise: Kind[T]
    listed: Kind[T]

    def read(self, node: Node, where: Where) -> T | None:
        """Read by the shape of what is there."""
        return (self.listed if isinstance(node, yamlfile.Sequence) else self.otherwise).read(node, where)

    def schema(self) -> Schema:
        """Return the JSON Schema of both."""
        return {"anyOf": [self.otherwise.schema(), self.listed.schema()]}


def found(node: Node) -> str:
    """Say in words what stands in the file."""
    match node:
        case Scalar(value=None):
            return "nothing is given"
        case Scalar(text=text):
            return f"{shown(text)} is {_type_name(node.value)}"
        case yamlfile.Mapping():
            return "this is a mapping of keys and values"
        case yamlfile.Sequence():
            return "this is a list"


def shown(text: str) -> str:
    """Quote what the user wrote, shortened."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _type_name(value: yamlfile.Plain) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case _:
            return "a text"


def one_of(name: str, allowed: Sequence[str], *, noun: str) -> str:
    """Return the words for a name that is not among the allowed ones."""
    listed = ", ".join(allowed) if allowed else "none"
    return f"no {noun} {shown(name)}, there are: {listed}{suggest(name, allowed)}"
