"""The scale between real video and ours."""

import pytest

from targets.playback.chunk_format import HEADER_BYTES
from targets.playback.video import CHUNK_BYTES_MIN, LADDER_KBPS, VideoScale


def test_a_chunk_at_the_default_scale_is_a_sixtieth_of_the_real_second():
    assert VideoScale().chunk_bytes(5800) == round(5_800_000 / 8 / 60)


def test_the_buffers_are_the_papers_divided_by_the_factor():
    scale = VideoScale(60.0)
    assert (scale.buffer_cap_s, scale.reservoir_s, scale.cushion_s) == pytest.approx((4.0, 1.5, 2.1))


def test_the_ladder_rises_in_five_steps():
    assert list(LADDER_KBPS) == sorted(set(LADDER_KBPS))
    assert (len(LADDER_KBPS), LADDER_KBPS[0], LADDER_KBPS[-1]) == (5, 235, 5800)


def test_the_smallest_chunk_has_room_for_its_header():
    assert VideoScale(1e9).chunk_bytes(235) == CHUNK_BYTES_MIN > HEADER_BYTES


@pytest.mark.parametrize("factor", [0.0, 0.5, -60.0, float("nan"), float("inf")])
def test_a_scale_that_makes_no_sense_is_refused(factor):
    with pytest.raises(ValueError, match="video scale"):
        VideoScale(factor)
