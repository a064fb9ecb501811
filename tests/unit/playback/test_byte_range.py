"""The Range header: the examples of RFC 9110, and what is not understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.byte_range import NotSatisfiable, asked_range, byte_range, content_range


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-499", range(500)),
        ("bytes=500-999", range(500, 1000)),
        ("bytes=-500", range(9500, 10000)),
        ("bytes=9500-", range(9500, 10000)),
        ("bytes=9500-20000", range(9500, 10000)),
        ("bytes=-20000", range(10000)),
        ("bytes=0-0", range(1)),
        (" bytes=0-0 ", range(1)),
    ],
)
def test_a_part_is_asked_for(header, part):
    assert byte_range(header, 10_000) == part


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=1-2,5-6", "lines=1-2", "bytes=a-b", "bytes=\uff11-2"],
)
def test_what_is_not_understood_is_ignored(header):
    assert byte_range(header, 10_000) is None


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0"])
def test_what_lies_outside_cannot_be_satisfied(header):
    with pytest.raises(NotSatisfiable):
        byte_range(header, 10_000)


def test_a_part_of_a_certain_version_is_not_promised():
    assert asked_range({"Range": "bytes=0-1"}, 10) == range(2)
    assert asked_range({"Range": "bytes=0-1", "If-Range": '"1"'}, 10) is None


def test_an_answer_says_which_part_it_is():
    assert content_range(range(2, 5), 10) == "bytes 2-4/10"
    assert content_range(None, 10) == "bytes */10"


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 1000))
def test_a_range_never_leaves_the_body(first, last, size):
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            part = byte_range(header, size)
        except NotSatisfiable:
            continue
        assert part is None or 0 <= part.start < part.stop <= size
