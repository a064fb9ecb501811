"""Token buckets, for one connection and for many, on a fake clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.pacing import Pacing, TokenBucket, pieces


def test_a_burst_goes_out_at_once_and_then_the_rate_holds():
    bucket = TokenBucket(bytes_per_s=100.0, burst_bytes=300.0, now_s=0.0)

    assert [bucket.take(0.0, 100) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 1.0, 2.0])
    assert bucket.take(10.0, 300) == 0.0


def test_a_pause_saves_up_no_more_than_a_burst():
    bucket = TokenBucket(bytes_per_s=100.0, burst_bytes=300.0, now_s=0.0)

    assert bucket.take(1000.0, 400) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 500)), min_size=1, max_size=40))
def test_no_stretch_of_time_gets_more_than_a_burst_and_the_rate(turns):
    rate, burst = 100.0, 300.0
    bucket = TokenBucket(bytes_per_s=rate, burst_bytes=burst, now_s=0.0)
    now_s, sent = 0.0, []
    for pause_s, size in turns:
        now_s += pause_s
        now_s += bucket.take(now_s, size)
        sent.append((now_s, size))
    for begin in range(len(sent)):
        for end in range(begin + 1, len(sent)):
            # What went out after the moment `begin`: it fits the burst that was there then, and what came in since.
            total = sum(size for _, size in sent[begin + 1 : end + 1])
            assert total <= burst + rate * (sent[end][0] - sent[begin][0]) + 1e-6


def test_each_connection_has_a_bucket_of_its_own():
    pacing = Pacing(bytes_per_s=100.0, burst_bytes=100.0)

    assert pacing.take(0.0, "one", 200) == pytest.approx(1.0)
    assert pacing.take(0.0, "other", 100) == 0.0
    assert pacing.take(0.0, "one", 100) == pytest.approx(2.0)


def test_connections_that_are_idle_long_enough_are_forgotten_and_nobody_gains_by_it():
    pacing = Pacing(bytes_per_s=100.0, burst_bytes=100.0, connections_max=10)
    for number in range(10):
        pacing.take(0.0, number, 100)
    pacing.take(0.9, "busy", 100)
    assert len(pacing) <= 10

    pacing.take(1.5, "new", 100)
    for number in range(20, 40):
        pacing.take(1.5, number, 1)

    assert len(pacing) <= 11
    assert pacing.take(1.5, 39, 100) == pytest.approx(0.01)


def test_the_pieces_of_a_body_go_out_as_early_as_the_rate_allows():
    found = list(pieces(1000, 2.0, 250.0, piece_bytes=300))

    assert [(piece.start, piece.stop) for piece, _ in found] == [(0, 300), (300, 600), (600, 900), (900, 1000)]
    assert [after_s for _, after_s in found] == pytest.approx([0.0, 0.4, 1.6, 2.0])
