"""Markdown as a reader sees it: what the rows, headings and links of a text say once a parser has been through it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

TEXT = st.text(alphabet="ab|`*_<[](\\\n ", max_size=20)
"""What is not to be taken for markup."""
_PARSER = MarkdownIt("commonmark").enable("table")


def rows(text: str) -> list[list[str]]:
    """The words in each cell of each row of the tables, their heads included."""
    found: list[list[str]] = []
    tokens = _PARSER.parse(text)
    for token, following in pairwise(tokens):
        if token.type == "tr_open":
            found.append([])
        elif token.type in {"td_open", "th_open"}:
            found[-1].append(_words(following))
    return found


def all_of(kind: str, text: str) -> list[str]:
    """The words of each ``h3``, ``li`` and so on."""
    tokens = _PARSER.parse(text)
    found = [at for at, token in enumerate(tokens) if token.tag == kind and token.nesting == 1]
    return [_words(next(token for token in tokens[at:] if token.type == "inline")) for at in found]


def links(text: str) -> list[str]:
    """Where the links lead."""
    inline = [one for token in _PARSER.parse(text) for one in token.children or ()]
    return [str(one.attrs["href"]) for one in inline if one.type == "link_open"]


def _words(inline: Token) -> str:
    return "".join(one.content for one in inline.children or ())
