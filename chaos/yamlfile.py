"""A YAML file as a tree in which every key and value knows its line, read safely and within limits.

The parser of ``ruamel.yaml`` gives events; the tree is built from them here, so that nothing in a file can make an
object, run code, grow without bound or recurse. Tags are refused, keys are unique, an alias (``*name``) repeats what
its anchor (``&name``) holds and counts towards the limits as if it were written out. Plain words are read by the rules
of YAML 1.2: ``true`` and ``false`` are booleans, ``yes``, ``on`` and ``012`` are not special.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from chaos.errors import Problem, UsageError

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000
"""Values in one file, each alias counted with all that it repeats."""

Plain = str | int | float | bool | None
"""What a scalar holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was written: a line of a file, or (without a line) an option of the command line."""

    source: str
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A single value; ``text`` is what was written."""

    place: Place
    value: Plain
    text: str
    size: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One ``key: value`` of a mapping."""

    place: Place
    key: str
    value: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Keys and values, in the order of the file; keys are unique."""

    place: Place
    entries: tuple[Entry, ...]
    size: int = 1
    height: int = 1

    def get(self, key: str) -> Entry | None:
        """Return the entry of this key, if it is there."""
        return next((entry for entry in self.entries if entry.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A list."""

    place: Place
    items: tuple[Node, ...]
    size: int = 1
    height: int = 1


Node = Scalar | Mapping | Sequence


def load_yaml(path: Path) -> Node:
    """Return the one document of a file. Raises UsageError, with the line, for anything that is not plain YAML."""
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _error(Place(source=source), "no such file") from None
    except IsADirectoryError:
        raise _error(Place(source=source), "is a folder, not a file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _error(Place(source=source), f"cannot be read: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _error(Place(source=source), f"larger than {MAX_FILE_BYTES // 1024} KiB, the most a file may have")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(Place(source=source, line=line), "is not UTF-8 text; save the file as UTF-8") from None
    return parse_yaml(text, source=source)


def parse_yaml(text: str, *, source: str, option: bool = False) -> Node:
    """Return the document in ``text``. ``option`` marks a value of the command line, which has no lines.

    Raises UsageError with every repeated key and every tag found, or with the first mistake of syntax.
    """
    builder = _Builder(source=source, option=option)
    parser = YAML(typ="safe", pure=True)
    try:
        for event in parser.parse(io.StringIO(text)):
            builder.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = builder.place_at(mark.line if mark is not None else None)
        raise UsageError([*builder.problems, _problem(place, _syntax_message(error))]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) if isinstance(error.position, int) else None
        message = f"holds a character that YAML does not allow (code {error.character:#x})"
        raise _error(builder.place_at(line), message) from None
    except (YAMLError, ValueError, OverflowError) as error:
        raise _error(builder.place_at(None), f"is not YAML: {error}") from None
    if builder.problems:
        raise UsageError(builder.problems)
    if builder.root is None:
        raise _error(builder.place_at(None), "is empty")
    return builder.root


def is_there(path: Path) -> bool:
    """Return whether a path leads to something; one that is no path at all (too long, a null byte) leads nowhere."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


@dataclass(slots=True, kw_only=True)
class _Open:
    """A mapping or list whose end has not been read yet."""

    place: Place
    anchor: str | None
    mapping: bool
    entries: list[Entry] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    keys: dict[str, int | None] = field(default_factory=dict)
    key: Scalar | None = None


@dataclass(slots=True, kw_only=True)
class _Builder:
    """Builds the tree from events, on a stack of its own."""

    source: str
    option: bool
    problems: list[Problem] = field(default_factory=list)
    root: Node | None = None
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)
    documents: int = 0
    nodes: int = 0

    def place_at(self, line: int | None) -> Place:
        """Return the place of a line counted from 0."""
        return Place(source=self.source, line=None if line is None or self.option else line + 1)

    def take(self, event: Event) -> None:
        """Take the next event."""
        place = self.place_at(event.start_mark.line)
        match event:
            case DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise _error(place, "a second document begins here (---); one file holds one document")
            case AliasEvent():
                self._alias(place, str(event.anchor))
            case ScalarEvent():
                self._refuse_tag(place, event.tag)
                plain = event.style is None and event.implicit[0]
                if plain and not event.value and self.stack and self.stack[-1].key is not None:
                    place = self.stack[-1].key.place  # nothing after a key is found by the parser a line too late
                node = self._scalar(place, str(event.value), plain=plain)
                self._remember(event.anchor, node)
                self._add(node)
            case MappingStartEvent() | SequenceStartEvent():
                self._refuse_tag(place, event.tag)
                if len(self.stack) >= MAX_DEPTH:
                    raise _error(place, f"nested deeper than {MAX_DEPTH} levels")
                mapping = isinstance(event, MappingStartEvent)
                self.stack.append(_Open(place=place, anchor=event.anchor, mapping=mapping))
            case MappingEndEvent() | SequenceEndEvent():
                self._close()
            case _:
                pass

    def _scalar(self, place: Place, text: str, *, plain: bool) -> Scalar:
        bad = next((char for char in text if _UNPRINTABLE.match(char)), None)
        if bad is not None:
            self.problems.append(_problem(place, f"holds the unprintable character {ord(bad):#x}"))
            text = _UNPRINTABLE.sub("?", text)
        return Scalar(place=place, value=_resolve(text) if plain else text, text=text)

    def _alias(self, place: Place, name: str) -> None:
        if name in self.anchors:
            self._add(self.anchors[name], cost=self.anchors[name].size)
            return
        inside = any(one.anchor == name for one in self.stack)
        self.problems.append(
            _problem(place, f"*{name} repeats itself" if inside else f"*{name}: no anchor &{name} before it")
        )
        self._add(Scalar(place=place, value=None, text=""))

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self.anchors[str(anchor)] = node

    def _refuse_tag(self, place: Place, tag: object) -> None:
        if tag is not None:
            self.problems.append(_problem(place, f"the tag {tag} is not allowed; write the value without a tag"))

    def _add(self, node: Node, *, cost: int = 1) -> None:
        """Put a finished value where it belongs; ``cost`` is how many values it adds to the file, written out."""
        self.nodes += cost
        if self.nodes > MAX_NODES:
            raise _error(node.place, f"more than {MAX_NODES} values, aliases (*name) counted with what they repeat")
        if len(self.stack) + node.height > MAX_DEPTH:
            raise _error(node.place, f"nested deeper than {MAX_DEPTH} levels")
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if not top.mapping:
            top.items.append(node)
        elif top.key is None:
            top.key = self._as_key(node)
        else:
            self._entry(top, top.key, node)
            top.key = None

    def _as_key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self.problems.append(_problem(node.place, "a key must be a word, not a list or a mapping"))
        return Scalar(place=node.place, value="", text="")

    def _entry(self, top: _Open, key: Scalar, value: Node) -> None:
        if key.text in top.keys:
            before = top.keys[key.text]
            where = "" if before is None else f"; it stands in line {before} already"
            self.problems.append(_problem(key.place, f"the key {key.text!r} is given twice{where}"))
            return
        top.keys[key.text] = key.place.line
        top.entries.append(Entry(place=key.place, key=key.text, value=value))

    def _close(self) -> None:
        top = self.stack.pop()
        children = [entry.value for entry in top.entries] if top.mapping else top.items
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        node: Node
        if top.mapping:
            node = Mapping(place=top.place, entries=tuple(top.entries), size=size, height=height)
        else:
            node = Sequence(place=top.place, items=tuple(top.items), size=size, height=height)
        self._remember(top.anchor, node)
        self._add(node)


_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, Plain] = {"": None, "~": None, "null": None, "true": True, "false": False}


def _resolve(text: str) -> Plain:
    """Return what a plain word means (YAML 1.2 core schema, without octal, hexadecimal, infinity and nan)."""
    word = text.lower() if text in {text.lower(), text.upper(), text.capitalize()} else text
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if abs(number) != float("inf") else text
    return text


def _syntax_message(error: MarkedYAMLError) -> str:
    what = str(error.problem or error.context or "syntax error").strip()
    if "\\t" in what:
        return "a tab is used for indentation; YAML wants spaces"
    if "mapping values are not allowed" in what:
        return "is not YAML: a ': ' where no key may stand; put a text that contains it in quotes"
    context = f" {error.context}" if error.context and error.context != what else ""
    return f"is not YAML: {what}{context}"


def _problem(place: Place, message: str) -> Problem:
    return Problem(file=place.source, line=place.line, key="", message=message)


def _error(place: Place, message: str) -> UsageError:
    return UsageError([_problem(place, message)])
