"""The playback buffer's books."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.client_buffer import PlaybackBuffer


def test_nothing_plays_or_stalls_before_the_first_chunk():
    buffer = PlaybackBuffer(total_s=10.0)
    buffer.advance(50.0)
    assert not buffer.playing
    assert buffer.read(60.0) is None


def test_video_drains_in_real_time_and_then_stalls():
    buffer = PlaybackBuffer(total_s=10.0)
    buffer.add(100.0, seconds=1.0, kbps=235)
    account = buffer.read(102.5)
    assert (account.played_s, account.stalled_s) == pytest.approx((1.0, 1.5))
    assert buffer.still_s == pytest.approx(1.5)
    assert account.kbit == pytest.approx(235.0)


def test_a_chunk_ends_a_stall_and_stalls_are_counted():
    buffer = PlaybackBuffer(total_s=10.0)
    buffer.add(100.0, seconds=1.0, kbps=235)
    buffer.add(102.0, seconds=1.0, kbps=235)
    assert buffer.still_s == 0.0
    buffer.advance(104.0)
    assert buffer.stalls == 2


def test_the_end_of_the_session_is_no_stall():
    buffer = PlaybackBuffer(total_s=2.0)
    buffer.add(100.0, seconds=1.0, kbps=235)
    buffer.add(100.1, seconds=1.0, kbps=5800)
    account = buffer.read(200.0)
    assert buffer.finished
    assert (account.played_s, account.stalled_s) == pytest.approx((2.0, 0.0))
    assert account.kbit == pytest.approx(6035.0)


def test_a_moment_that_has_passed_changes_nothing():
    buffer = PlaybackBuffer(total_s=10.0)
    buffer.add(100.0, seconds=5.0, kbps=235)
    buffer.advance(102.0)
    buffer.advance(101.0)
    assert buffer.level_s == pytest.approx(3.0)


@given(st.lists(st.tuples(st.floats(0.0, 4.0), st.booleans()), max_size=60))
def test_played_and_stalled_add_up_to_the_time_that_went_by(steps):
    buffer = PlaybackBuffer(total_s=1000.0)
    now_s = started_s = 100.0
    buffer.add(now_s, seconds=1.0, kbps=235)
    played_s = stalled_s = 0.0
    for pause_s, chunk in steps:
        now_s += pause_s
        if chunk:
            buffer.add(now_s, seconds=1.0, kbps=1050)
        account = buffer.read(now_s)
        assert buffer.level_s >= 0.0
        if account is not None:
            assert account.played_s + account.stalled_s == pytest.approx(account.until_s - account.since_s, abs=1e-6)
            played_s += account.played_s
            stalled_s += account.stalled_s
    assert played_s + stalled_s == pytest.approx(now_s - started_s, abs=1e-6)


def test_a_pause_ends_by_itself_and_drains_nothing_meanwhile():
    buffer = PlaybackBuffer(total_s=10.0)
    buffer.add(100.0, seconds=4.0, kbps=235)
    buffer.pause(101.0, 103.0)
    assert buffer.resume_s == 103.0
    buffer.advance(102.5)
    assert buffer.level_s == pytest.approx(3.0)
    account = buffer.read(104.0)
    assert buffer.resume_s is None
    assert (account.played_s, account.stalled_s, buffer.paused_s) == pytest.approx((2.0, 0.0, 2.0))


def test_a_seek_keeps_what_fits_and_the_bitrate_is_that_of_what_is_played():
    buffer = PlaybackBuffer(total_s=10.0)
    buffer.add(100.0, seconds=1.0, kbps=235)
    buffer.add(100.0, seconds=1.0, kbps=5800)
    buffer.seek(100.5, 1.0)
    assert (buffer.position_s, buffer.level_s, buffer.end_s) == pytest.approx((1.0, 1.0, 2.0))
    account = buffer.read(101.5)
    assert account.kbit == pytest.approx(0.5 * 235 + 5800)


@pytest.mark.parametrize("to_s", [0.0, 0.4, 2.5, 8.0])
def test_a_seek_to_where_there_is_no_video_empties_the_buffer_and_what_follows_is_no_stall(to_s):
    buffer = PlaybackBuffer(total_s=10.0)
    buffer.add(100.0, seconds=2.0, kbps=235)
    buffer.seek(100.5, to_s)
    buffer.advance(101.5)
    assert (buffer.level_s, buffer.end_s, buffer.stalls) == (0.0, to_s, 0)
    assert (buffer.seek_s, buffer.still_s) == pytest.approx((1.0, 1.0))
    buffer.add(101.5, seconds=1.0, kbps=235)
    buffer.advance(103.0)
    assert buffer.stalls == 1
    assert buffer.still_s == pytest.approx(0.5)


DOINGS = st.sampled_from(["nothing", "chunk", "pause", "back", "forward"])


@given(st.lists(st.tuples(st.floats(0.0, 4.0), DOINGS), max_size=60))
def test_whatever_is_pressed_every_second_is_played_stalled_paused_or_spent_on_a_seek(steps):
    buffer = PlaybackBuffer(total_s=1000.0)
    now_s = began_s = 100.0
    buffer.add(now_s, seconds=1.0, kbps=235)
    stalled_s = 0.0
    for wait_s, doing in steps:
        now_s += wait_s
        match doing:
            case "chunk":
                buffer.add(now_s, seconds=1.0, kbps=1050)
            case "pause":
                buffer.pause(now_s, now_s + 1.5)
            case "back":
                buffer.seek(now_s, max(0.0, buffer.position_s - 1.0))
            case "forward":
                buffer.seek(now_s, buffer.position_s + 0.7)
        account = buffer.read(now_s)
        stalled_s += account.stalled_s if account is not None else 0.0
        assert buffer.level_s >= 0.0
    parts_s = buffer.watched_s + stalled_s + buffer.paused_s + buffer.seek_s
    assert parts_s == pytest.approx(now_s - began_s, abs=1e-6)


def test_a_broken_chunk_takes_its_time_and_counts_as_stalled():
    buffer = PlaybackBuffer(total_s=3.0)
    for intact in (True, False, True):
        buffer.add(0.0, seconds=1.0, kbps=1000, intact=intact)

    account = buffer.read(2.5)

    assert account is not None
    assert (account.played_s, account.stalled_s, account.kbit) == pytest.approx((1.5, 1.0, 1500.0))
    assert buffer.level_s == pytest.approx(0.5)
    assert buffer.stalls == 0
