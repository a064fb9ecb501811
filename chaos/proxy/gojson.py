"""Reads JSON the way Go's ``encoding/json`` does, so that bad input to the embedded proxy gets the same answers.

Go's decoder reads one value and ignores what follows it, matches field names without regard to case, skips fields it
does not know, takes ``null`` for "as it was", and has words of its own for every mistake. Clients compare those words.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

DEPTH_MAX = 200
_SPACE = b" \t\r\n"
_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ESCAPES = {
    b'"'[0]: '"',
    b"\\"[0]: "\\",
    b"/"[0]: "/",
    b"b"[0]: "\b",
    b"f"[0]: "\f",
    b"n"[0]: "\n",
    b"r"[0]: "\r",
    b"t"[0]: "\t",
}


_LITERALS: Mapping[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}
_SHOWN = {
    "'": "\\'",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}


class GoJsonError(ValueError):
    """The text is not JSON, or not of the wanted shape; the message is Go's."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written: Go decides by the target's type what it can hold."""

    text: str


JsonValue = None | bool | str | Number | list["JsonValue"] | dict[str, "JsonValue"]


class GoType(Enum):
    """The types of fields, with Go's names."""

    STRING = "string"
    BOOL = "bool"
    INT64 = "int64"
    INT = "int"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Struct:
    """A Go struct: the name that its own fields' errors carry, the type that a wrong value's error carries, its fields.

    ``fields`` keep their case; a field that is a ``Struct`` is read into a dict.
    """

    name: str
    type_name: str
    fields: Mapping[str, GoType | Struct]


Fields = dict[str, "str | bool | int | float | Fields"]
"""What was given, under the fields' names; what was not given, or ``null``, is absent."""


def parse(body: bytes) -> JsonValue:
    """Return the first JSON value in ``body``. GoJsonError when there is none."""
    return _Scanner(body).read()


def decode(value: JsonValue, shape: Struct) -> Fields:
    """Return the fields of ``value`` that ``shape`` knows. GoJsonError at the first that has a wrong type."""
    return _object(value, shape, f"Go value of type {shape.type_name}", shape.name, ())


def kind_of(value: JsonValue) -> str:
    """Return Go's word for the kind of this value."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case str():
            return "string"
        case Number():
            return "number"
        case list():
            return "array"
        case dict():
            return "object"


def _object(value: JsonValue, shape: Struct, where: str, owner: str, path: tuple[str, ...]) -> Fields:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise GoJsonError(f"json: cannot unmarshal {kind_of(value)} into {where}")
    by_folded_name = {name.casefold(): name for name in shape.fields}
    found: Fields = {}
    for key, given in value.items():
        name = key if key in shape.fields else by_folded_name.get(key.casefold())
        if name is None or given is None:
            continue
        wanted = shape.fields[name]
        here = (*path, name)
        if isinstance(wanted, Struct):
            place = f"Go struct field {owner}.{'.'.join(here)} of type {wanted.type_name}"
            found[name] = _object(given, wanted, place, wanted.name or owner, here)
        else:
            place = f"Go struct field {owner}.{'.'.join(here)} of type {wanted.value}"
            found[name] = _scalar(given, wanted, place)
    return found


def _scalar(value: JsonValue, wanted: GoType, where: str) -> str | bool | int | float:
    match value, wanted:
        case str(), GoType.STRING:
            return value
        case bool(), GoType.BOOL:
            return value
        case Number(text), GoType.INT | GoType.INT64:
            if re.fullmatch(r"-?[0-9]{1,19}", text) and -(2**63) <= int(text) < 2**63:
                return int(text)
            raise GoJsonError(f"json: cannot unmarshal number {text} into {where}")
        case Number(text), GoType.FLOAT64:
            return float(text)
        case Number(text), GoType.FLOAT32:
            try:
                return round_to_float32(float(text))
            except OverflowError:
                raise GoJsonError(f"json: cannot unmarshal number {text} into {where}") from None
        case _:
            raise GoJsonError(f"json: cannot unmarshal {kind_of(value)} into {where}")


def round_to_float32(number: float) -> float:
    """Return the number with the fewest digits that is the same 32-bit float. OverflowError when there is none."""
    packed = struct.pack("<f", number)
    number = float(struct.unpack("<f", packed)[0])
    for digits in range(1, 9):
        short = float(f"{number:.{digits}g}")
        if struct.pack("<f", short) == packed:
            return short
    return float(f"{number:.9g}")  # nine digits tell any two 32-bit floats apart


class _Scanner:
    """Reads one value, with Go's words for what is wrong."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def read(self) -> JsonValue:
        self._skip_space()
        if self._at == len(self._body):
            raise GoJsonError("EOF")
        return self._value(0)

    def _value(self, depth: int) -> JsonValue:  # noqa: RET503 - one line for each kind of value
        if depth > DEPTH_MAX:
            raise GoJsonError("exceeded max depth")
        byte = self._next_visible()
        if byte == ord("{"):
            return self._members(depth)
        if byte == ord("["):
            return self._elements(depth)
        if byte == ord('"'):
            return self._string()
        if byte in b"-0123456789":
            return self._number()
        for word, meaning in _LITERALS.items():
            if byte == word[0]:
                self._literal(word)
                return meaning
        self._wrong("looking for beginning of value")

    def _members(self, depth: int) -> dict[str, JsonValue]:
        members: dict[str, JsonValue] = {}
        self._at += 1
        if self._next_visible() == ord("}"):
            self._at += 1
            return members
        while True:
            if self._next_visible() != ord('"'):
                self._wrong("looking for beginning of object key string")
            key = self._string()
            if self._next_visible() != ord(":"):
                self._wrong("after object key")
            self._at += 1
            members[key] = self._value(depth + 1)
            if not self._goes_on(b"}", "after object key:value pair"):
                return members

    def _elements(self, depth: int) -> list[JsonValue]:
        elements: list[JsonValue] = []
        self._at += 1
        if self._next_visible() == ord("]"):
            self._at += 1
            return elements
        while True:
            elements.append(self._value(depth + 1))
            if not self._goes_on(b"]", "after array element"):
                return elements

    def _goes_on(self, closing: bytes, place: str) -> bool:
        byte = self._next_visible()
        if byte not in b"," + closing:
            self._wrong(place)
        self._at += 1
        return byte == ord(",")

    def _literal(self, word: bytes) -> None:
        for expected in word:
            if self._byte() != expected:
                self._wrong(f"in literal {word.decode()} (expecting '{chr(expected)}')")
            self._at += 1

    def _number(self) -> Number:
        start = self._at
        match = _NUMBER.match(self._body, start)
        if match is None:  # a lone minus sign
            self._at += 1
            self._byte()
            self._wrong("in numeric literal")
        self._at = match.end()
        rest = self._body[self._at : self._at + 3]
        if match.group(3) is None and rest[:1] in (b"e", b"E"):
            self._at += 2 if rest[1:2] in (b"+", b"-") else 1
            self._byte()
            self._wrong("in exponent of numeric literal")
        if match.group(2) is None and match.group(3) is None and rest[:1] == b".":
            self._at += 1
            self._byte()
            self._wrong("after decimal point in numeric literal")
        return Number(match.group().decode())

    def _string(self) -> str:
        self._at += 1
        parts: list[str] = []
        while (byte := self._byte()) != ord('"'):
            if byte < 0x20:
                self._wrong("in string literal")
            if byte == ord("\\"):
                parts.append(self._escape())
                continue
            start = self._at
            while self._at < len(self._body) and self._body[self._at] >= 0x20 and self._body[self._at] not in b'"\\':
                self._at += 1
            parts.append(self._body[start : self._at].decode("utf-8", "replace"))
        self._at += 1
        # Two escapes may make one character beyond the basic plane; half of one is no character.
        return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _escape(self) -> str:
        self._at += 1
        byte = self._byte()
        if byte != ord("u"):
            if byte not in _ESCAPES:
                self._wrong("in string escape code")
            self._at += 1
            return _ESCAPES[byte]
        digits = ""
        for _ in range(4):
            self._at += 1
            digit = self._byte()
            if digit not in b"0123456789abcdefABCDEF":
                self._wrong("in \\u hexadecimal character escape")
            digits += chr(digit)
        self._at += 1
        return chr(int(digits, 16))

    def _skip_space(self) -> None:
        while self._at < len(self._body) and self._body[self._at] in _SPACE:
            self._at += 1

    def _next_visible(self) -> int:
        self._skip_space()
        return self._byte()

    def _byte(self) -> int:
        if self._at >= len(self._body):
            raise GoJsonError("unexpected EOF")
        return self._body[self._at]

    def _wrong(self, place: str) -> NoReturn:
        character = chr(self._body[self._at])
        shown = _SHOWN.get(character, character)
        if len(shown) == 1 and not shown.isprintable():
            shown = f"\\x{ord(shown):02x}" if ord(shown) < 0x80 else f"\\u{ord(shown):04x}"
        raise GoJsonError(f"invalid character '{shown}' {place}")
