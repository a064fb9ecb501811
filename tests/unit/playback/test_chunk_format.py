"""The form of a chunk: whatever is not exactly the chunk that was asked for is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.chunk_format import HEADER_BYTES, check, pack

TITLE, KBPS, NUMBER = "title-0042", 750, 3
CHUNK = pack(b"moving pictures", title=TITLE, kbps=KBPS, number=NUMBER)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 99_999), st.integers(0, 9_999))
def test_what_was_packed_is_right(payload, kbps, number):
    chunk = pack(payload, title=TITLE, kbps=kbps, number=number)

    assert len(chunk) == HEADER_BYTES + len(payload)
    assert chunk[HEADER_BYTES:] == payload
    assert check(chunk, TITLE, kbps, number) is None


def test_every_flipped_bit_is_noticed():
    for position in range(len(CHUNK) * 8):
        flipped = bytearray(CHUNK)
        flipped[position // 8] ^= 1 << position % 8
        assert check(bytes(flipped), TITLE, KBPS, NUMBER) is not None


def test_every_cut_is_noticed():
    for length in range(len(CHUNK)):
        assert check(CHUNK[:length], TITLE, KBPS, NUMBER) is not None
    assert check(CHUNK + b"\0", TITLE, KBPS, NUMBER) == "16 bytes of 15"


@pytest.mark.parametrize("asked", [("title-0043", 750, 3), ("title-0042", 235, 3), ("title-0042", 750, 4)])
def test_a_whole_chunk_that_is_not_the_one_asked_for_is_wrong(asked):
    assert check(CHUNK, *asked) == "another chunk"


def test_an_empty_answer_and_another_servers_answer_are_no_chunks():
    assert check(b"", TITLE, KBPS, NUMBER) == "a chunk of 0 bytes"
    assert check(b"<html>" * 20, TITLE, KBPS, NUMBER) == "no chunk"


@pytest.mark.parametrize("title", ["", "a title of 17 ...", "ti\u0301tle"])
def test_a_title_that_does_not_fit_is_refused(title):
    with pytest.raises(ValueError, match=r"title|ascii"):
        pack(b"x", title=title, kbps=KBPS, number=NUMBER)
