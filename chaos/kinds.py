"""The kinds of single values in files: texts, numbers, durations, shares, rates, choices and paths.

Each is a ``chaos.fields.Kind``: it reads a scalar, reports what is wrong with it, and knows its JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from chaos import units
from chaos.errors import suggest
from chaos.fields import Schema, Where, found, shown
from chaos.yamlfile import Node, Scalar

E = TypeVar("E", bound=StrEnum)
PlainValue = str | int | float | bool
"""What a setting of a target may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text. ``pattern`` must match all of it; ``what`` says what is expected."""

    what: str = "a text"
    pattern: str | None = None
    longest: int = 4_000

    def read(self, node: Node, where: Where) -> str | None:
        """Return the text; a number or a truth value is not one."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            quotes = "" if not isinstance(node, Scalar) or node.value is None else " (in quotes, if it is meant so)"
            where.report(node, f"{found(node)}; write {self.what}{quotes}")
            return None
        if not node.value.strip() or len(node.value) > self.longest:
            where.report(node, f"has {len(node.value.strip())} characters, allowed are 1 to {self.longest}")
            return None
        if self.pattern is not None and not re.fullmatch(self.pattern, node.value):
            where.report(node, f"{shown(node.value)} is not allowed here; write {self.what}")
            return None
        return node.value

    def schema(self) -> Schema:
        """Return the JSON Schema of the text."""
        schema: Schema = {"type": "string", "minLength": 1, "maxLength": self.longest}
        return schema if self.pattern is None else {**schema, "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label's or a variable's value: any single value, taken as the text that was written."""

    def read(self, node: Node, where: Where) -> str | None:
        """Return the text."""
        if not isinstance(node, Scalar) or node.value is None or len(node.text) > 4_000:
            where.report(node, f"{found(node)}; write a single value")
            return None
        return node.text

    def schema(self) -> Schema:
        """Return the JSON Schema of a single value."""
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting's value: a text, a number, true or false."""

    def read(self, node: Node, where: Where) -> PlainValue | None:
        """Return the value."""
        if not isinstance(node, Scalar) or node.value is None or len(node.text) > 4_000:
            where.report(node, f"{found(node)}; write a single value: a text, a number, true or false")
            return None
        return node.value

    def schema(self) -> Schema:
        """Return the JSON Schema of a single value."""
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """true or false; with ``only``, just that one of the two."""

    only: bool | None = None

    def read(self, node: Node, where: Where) -> bool | None:
        """Return the truth value."""
        if isinstance(node, Scalar) and isinstance(node.value, bool) and self.only in {None, node.value}:
            return node.value
        where.report(node, f"{found(node)}; write {'true or false' if self.only is None else str(self.only).lower()}")
        return None

    def schema(self) -> Schema:
        """Return the JSON Schema of the switch."""
        return {"type": "boolean"} if self.only is None else {"const": self.only}


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer:
    """A whole number within limits. ``unit`` is the word for what it counts."""

    least: int
    most: int
    unit: str = ""

    def read(self, node: Node, where: Where) -> int | None:
        """Return the number."""
        allowed = f"a whole number{_of(self.unit)} from {self.least} to {self.most}"
        if isinstance(node, Scalar) and isinstance(node.value, int) and not isinstance(node.value, bool):
            if self.least <= node.value <= self.most:
                return node.value
            where.report(node, f"{node.value} is out of range, allowed is {allowed}")
            return None
        where.report(node, f"{found(node)}; write {allowed}{_without_unit(node)}")
        return None

    def schema(self) -> Schema:
        """Return the JSON Schema of the number."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number within limits. ``unit`` is the word for what it counts."""

    least: float
    most: float
    unit: str = ""

    def read(self, node: Node, where: Where) -> float | None:
        """Return the number."""
        allowed = f"a number{_of(self.unit)} from {self.least:g} to {self.most:g}"
        if isinstance(node, Scalar) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            if self.least <= node.value <= self.most:
                return float(node.value)
            where.report(node, f"{node.text} is out of range, allowed is {allowed}")
            return None
        where.report(node, f"{found(node)}; write {allowed}{_without_unit(node)}")
        return None

    def schema(self) -> Schema:
        """Return the JSON Schema of the number."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number with a unit (``3s``, ``99.5%``, ``30/s``), within limits; ``bare`` allows it without the unit too."""

    reader: Callable[[str], float]
    writer: Callable[[float], str]
    pattern: str
    what: str
    least: float
    most: float
    above: bool = False
    """Whether ``least`` itself is too little."""
    bare: bool = False

    def read(self, node: Node, where: Where) -> float | None:
        """Return the plain number: seconds, a share, events a second."""
        limit = "more than" if self.above else "at least"
        allowed = f"{self.what}, {limit} {self.writer(self.least)} and at most {self.writer(self.most)}"
        value = self._number(node)
        if value is None:
            text = isinstance(node, Scalar) and isinstance(node.value, str)
            what = f"{shown(node.text)} is not understood" if isinstance(node, Scalar) and text else found(node)
            where.report(node, f"{what}; write {allowed}")
            return None
        if value > self.most or value < self.least or (self.above and value == self.least):
            assert isinstance(node, Scalar)
            where.report(node, f"{node.text} is out of range, allowed is {allowed}")
            return None
        return value

    def _number(self, node: Node) -> float | None:
        match node:
            case Scalar(value=bool()):
                return None
            case Scalar(value=int() | float() as value) if self.bare:
                return float(value)
            case Scalar(value=str() as text):
                try:
                    return self.reader(text)
                except ValueError:
                    return None
            case _:
                return None

    def schema(self) -> Schema:
        """Return the JSON Schema: texts by pattern, bare numbers by limits."""
        text: Schema = {"type": "string", "pattern": self.pattern}
        if not self.bare:
            return text
        least = "exclusiveMinimum" if self.above else "minimum"
        return {"anyOf": [text, {"type": "number", least: self.least, "maximum": self.most}]}


def duration(*, least_s: float = 0.0, most_s: float = 3600.0, above: bool = False) -> Quantity:
    """Return the kind of durations between two limits, read as seconds."""
    return Quantity(
        reader=units.read_duration_s,
        writer=units.format_duration,
        pattern=units.DURATION_PATTERN,
        what="a duration like 3s, 500ms or 2m",
        least=least_s,
        most=most_s,
        above=above,
    )


def share() -> Quantity:
    """Return the kind of shares, written ``30%`` or 0.3, read as 0.3."""
    return Quantity(
        reader=units.read_percent,
        writer=units.format_percent,
        pattern=units.PERCENT_PATTERN,
        what="a share like 30% or 0.3",
        least=0.0,
        most=1.0,
        above=True,
        bare=True,
    )


def rate(*, most_per_s: float) -> Quantity:
    """Return the kind of rates, written ``30/s`` or 30, read as events a second."""
    return Quantity(
        reader=units.read_rate_per_s,
        writer=lambda value: f"{units.format_number(value)}/s",
        pattern=units.RATE_PATTERN,
        what="a rate like 30/s",
        least=0.0,
        most=most_per_s,
        above=True,
        bare=True,
    )


@dataclass(frozen=True, slots=True)
class Choice(Generic[E]):
    """One word of a closed set."""

    choices: type[E]

    def read(self, node: Node, where: Where) -> E | None:
        """Return the member."""
        names = [str(one) for one in self.choices]
        if not isinstance(node, Scalar) or node.value is None:
            where.report(node, f"{found(node)}; write one of: {', '.join(names)}")
            return None
        if node.text not in names:
            allowed = ", ".join(repr(name) if not name.isidentifier() else name for name in names)
            where.report(node, f"{shown(node.text)} is none of: {allowed}{suggest(node.text, names)}")
            return None
        return self.choices(node.text)

    def schema(self) -> Schema:
        """Return the JSON Schema of the choice."""
        return {"enum": [str(one) for one in self.choices]}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A path, as it was written."""

    what: str

    def read(self, node: Node, where: Where) -> Path | None:
        """Return the path."""
        text = Text(what=self.what, longest=1_000).read(node, where)
        return None if text is None else Path(text)

    def schema(self) -> Schema:
        """Return the JSON Schema of a path."""
        return {"type": "string", "minLength": 1, "maxLength": 1_000}


def _of(unit: str) -> str:
    return f" of {unit}" if unit else ""


def _without_unit(node: Node) -> str:
    """Explain what people most often do wrong with a number whose unit is in its name."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and re.match(r"\d+(\.\d+)? ?[a-zA-Zµ%]+$", node.text):
        return "; its unit stands in its name, so write the number alone"
    return ""
