"""``--set key=value``: changes a file's tree before it is read, so that a wrong option is an error like a wrong line.

A key is a dotted path, with numbers for the items of lists: ``phases.fault=20s``, ``faults.0.pick=1``. The value is
read as YAML, so ``tags=[slow, nightly]`` gives a list.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import replace

from chaos.errors import Problem, UsageError
from chaos.yamlfile import MAX_DEPTH, Entry, Mapping, Node, Place, Scalar, Sequence, parse_yaml

MAX_KEY = 200
"""Characters of a key."""


def override(tree: Node, overrides: Map[str, str], problems: list[Problem]) -> Node:
    """Return the tree with every override put in; report those whose path does not exist."""
    for key, text in overrides.items():
        place = Place(source=f"--set {key}")
        parts = key.split(".")
        if not all(parts) or len(parts) > MAX_DEPTH or len(key) > MAX_KEY:
            _report(problems, place, "not a key; write a dotted path like phases.fault or faults.0.pick")
            continue
        try:
            value = parse_yaml(text, source=place.source, option=True) if text else _text(place, "")
        except UsageError as error:
            problems.extend(error.problems)
            continue
        tree = _put(tree, parts, value, place, problems)
    return tree


def _put(node: Node, parts: list[str], value: Node, place: Place, problems: list[Problem]) -> Node:
    """Return ``node`` with ``value`` at the path ``parts``; keys that are not there yet are made."""
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    match node:
        case Mapping():
            entry = node.get(head)
            if entry is None:
                below: Node = Mapping(place=place, entries=())
                made = Entry(place=place, key=head, value=_put(below, rest, value, place, problems))
                return replace(node, entries=(*node.entries, made))
            changed = replace(entry, value=_put(entry.value, rest, value, place, problems))
            return replace(node, entries=tuple(changed if one is entry else one for one in node.entries))
        case Sequence():
            last = len(node.items) - 1
            if not head.isdecimal() or len(head) > 4 or int(head) > last:
                allowed = f"0 to {last}" if last >= 0 else "nothing, the list is empty"
                _report(problems, place, f"{head!r} is no item of this list; allowed is {allowed}")
                return node
            items = list(node.items)
            items[int(head)] = _put(items[int(head)], rest, value, place, problems)
            return replace(node, items=tuple(items))
        case Scalar():
            _report(problems, place, f"there is nothing below a single value, so no {head!r}")
            return node


def _text(place: Place, text: str) -> Scalar:
    return Scalar(place=place, value=text, text=text)


def _report(problems: list[Problem], place: Place, message: str) -> None:
    problems.append(Problem(file=place.source, line=None, key="", message=message))
