"""YAML as a tree with lines: safe, limited, precise about mistakes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chaos.errors import UsageError
from chaos.yamlfile import MAX_FILE_BYTES, Mapping, Node, Scalar, Sequence, load_yaml, parse_yaml


def plain(node: Node) -> object:
    match node:
        case Scalar(value=value):
            return value
        case Mapping(entries=entries):
            return {entry.key: plain(entry.value) for entry in entries}
        case Sequence(items=items):
            return [plain(item) for item in items]


def problems(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse_yaml(text, source="f")
    return [str(problem) for problem in caught.value.problems]


READS = {
    "a: 1": {"a": 1},
    "a: -1.5e3": {"a": -1500.0},
    "a: .5": {"a": 0.5},
    "a: true\nb: False": {"a": True, "b": False},
    "a: yes\nb: on\nc: 012\nd: 0x10\ne: 1_000\nf: 1:30\ng: 2026-01-01": {
        "a": "yes",
        "b": "on",
        "c": 12,
        "d": "0x10",
        "e": "1_000",
        "f": "1:30",
        "g": "2026-01-01",
    },
    "a: .inf\nb: .nan\nc: 1e999": {"a": ".inf", "b": ".nan", "c": "1e999"},
    "a: '1'\nb: \"true\"": {"a": "1", "b": "true"},
    "a:\nb: ~\nc: null": {"a": None, "b": None, "c": None},
    "1: x\ntrue: y": {"1": "x", "true": "y"},
    "a: &x [1, 2]\nb: *x": {"a": [1, 2], "b": [1, 2]},
    "a: |\n  two\n  lines\n": {"a": "two\nlines\n"},
    "\ufeffa: b": {"a": "b"},
    "[a, {b: c}]": ["a", {"b": "c"}],
}


@pytest.mark.parametrize("text", READS)
def test_plain_yaml_is_read(text: str, tmp_path: Path):
    file = tmp_path / "f.yaml"
    file.write_text(text, encoding="utf-8")
    assert plain(load_yaml(file)) == READS[text]


def test_every_key_and_value_knows_its_line():
    tree = parse_yaml("# comment\na: 1\nb:\n  - x\n  - c:\n      y\nd:\ne: 2\n", source="f")
    assert isinstance(tree, Mapping)
    lines = {entry.key: (entry.place.line, entry.value.place.line) for entry in tree.entries}
    assert lines == {"a": (2, 2), "b": (3, 4), "d": (7, 7), "e": (8, 8)}
    below = tree.entries[1].value
    assert isinstance(below, Sequence)
    assert [item.place.line for item in below.items] == [4, 5]


WRONG = {
    "": ["f: is empty"],
    "# nothing": ["f: is empty"],
    "a: 1\na: 2\nb: {c: 1, c: 2}": [
        "f:2: the key 'a' is given twice; it stands in line 1 already",
        "f:3: the key 'c' is given twice; it stands in line 3 already",
    ],
    "a: !!python/name:os.system x": [
        "f:1: the tag tag:yaml.org,2002:python/name:os.system is not allowed; write the value without a tag"
    ],
    "a: !x [1]": ["f:1: the tag !x is not allowed; write the value without a tag"],
    "? [a]\n: b": ["f:1: a key must be a word, not a list or a mapping"],
    "a: 1\n---\nb: 2": ["f:2: a second document begins here (---); one file holds one document"],
    "a: *x": ["f:1: *x: no anchor &x before it"],
    "a: &x [*x]": ["f:1: *x repeats itself"],
    "a:\n\tb: 1": ["f:2: a tab is used for indentation; YAML wants spaces"],
    "a: b: c": ["f:1: is not YAML: a ': ' where no key may stand; put a text that contains it in quotes"],
    "a: \x00": ["f:1: holds a character that YAML does not allow (code 0x0)"],
    'a: "\\ud800"': ["f:1: holds the unprintable character 0xd800"],
    'a: "\\e[31m"': ["f:1: holds the unprintable character 0x1b"],
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_yaml_gets_these_lines(text: str):
    assert problems(text) == WRONG[text]


def test_a_bomb_of_aliases_is_refused_before_it_grows():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (line,) = problems("\n".join(levels))
    assert line == "f:4: more than 20000 values, aliases (*name) counted with what they repeat"


@pytest.mark.parametrize("text", ["[" * 500, "{a: " * 500, "- " * 500, "a: &x {b: 1}\n" + "c: " + "[" * 500])
def test_deep_nesting_is_refused(text: str):
    (line,) = problems(text)
    assert line == f"f:{text.count(chr(10)) + 1}: nested deeper than 20 levels"


def test_nesting_by_aliases_is_refused():
    levels = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 30))]
    (line,) = problems("\n".join(levels))
    assert "nested deeper than 20 levels" in line


def test_a_huge_file_is_refused_unread(tmp_path: Path):
    file = tmp_path / "f"
    file.write_bytes(b"a" * (MAX_FILE_BYTES + 1))
    with pytest.raises(UsageError, match="larger than 256 KiB"):
        load_yaml(file)


def test_what_is_no_text_file_is_said_so(tmp_path: Path):
    with pytest.raises(UsageError, match="is a folder, not a file"):
        load_yaml(tmp_path)
    file = tmp_path / "f"
    file.write_bytes(b"a: b\nc: \xff\n")
    with pytest.raises(UsageError, match=r"f:2: is not UTF-8 text"):
        load_yaml(file)


_SNIPPETS = st.sampled_from(
    [
        "a",
        ":",
        ": ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&x ",
        "*x",
        "!!int ",
        "'",
        '"',
        "|",
        "?",
        "#",
        "%",
        "---\n",
    ]
)


@settings(max_examples=300)
@given(st.lists(_SNIPPETS | st.text(max_size=3), max_size=25).map("".join))
@example('"\\UFFFFFFFF"')
@example("%YAML 9.9\n---\na")
@example("%TAG ! !\n%TAG ! !\n--- a")
def test_any_text_is_a_tree_or_a_usage_error(text: str):
    refused = None
    try:
        tree = parse_yaml(text, source="f")
    except UsageError as error:
        refused = error
    assert refused is None or refused.problems
    if refused is None:
        assert not isinstance(tree, Scalar) or not isinstance(tree.value, float) or math.isfinite(tree.value)
