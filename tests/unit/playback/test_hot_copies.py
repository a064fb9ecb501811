"""What a process keeps at hand: copies of hot keys, and of what it has just learnt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from targets.playback.hot_copies import COPIES_MAX, COUNTED_MAX, HOT_READS, LIFE_S, HotCopies


def read(copies, now_s, key="title/1", times=1):
    """Read a key so often, as it is read when there is no copy."""
    for _ in range(times):
        if copies.read(now_s, key) is None:
            copies.offer(now_s, key, f"{key} at {now_s}")


def test_a_key_that_is_read_often_is_copied_for_a_second_and_no_longer():
    copies = HotCopies()
    read(copies, 0.0, times=HOT_READS)

    assert copies.read(LIFE_S - 0.01, "title/1") == "title/1 at 0.0"
    assert copies.read(LIFE_S, "title/1") is None


def test_a_key_that_is_read_seldom_is_not_copied():
    copies = HotCopies()
    for now_s in range(100):
        read(copies, float(now_s), times=HOT_READS - 1)

    assert len(copies) == 0


def test_a_key_stays_hot_for_as_long_as_it_is_read_often_and_is_read_elsewhere_once_a_second():
    copies = HotCopies()
    elsewhere = 0
    for step in range(1_000):  # fifty reads a second for twenty seconds
        now_s = step * 0.02
        if copies.read(now_s, "title/1") is None:
            elsewhere += 1
            copies.offer(now_s, "title/1", "title")

    assert elsewhere <= HOT_READS + 20


def test_a_key_that_was_hot_a_while_ago_is_not_any_more():
    copies = HotCopies()
    read(copies, 0.0, times=HOT_READS)
    read(copies, 2.5)

    assert copies.peek(2.5, "title/1") is None


def test_what_is_kept_needs_no_reads():
    copies = HotCopies()
    copies.keep(5.0, "title/1", "fresh")

    assert copies.peek(5.9, "title/1") == "fresh"
    assert copies.peek(6.0, "title/1") is None


def test_the_oldest_copy_makes_room():
    copies = HotCopies()
    for number in range(COPIES_MAX + 1):
        copies.keep(0.0, f"title/{number}", "x")

    assert len(copies) == COPIES_MAX
    assert copies.peek(0.0, "title/0") is None
    assert copies.peek(0.0, "title/1") == "x"


def test_a_flood_of_keys_makes_none_of_those_hot_that_are_not_counted():
    copies = HotCopies()
    read(copies, 0.0, key="first", times=HOT_READS - 1)
    for number in range(COUNTED_MAX):
        read(copies, 0.0, key=f"title/{number}")
    read(copies, 0.0, key="late", times=HOT_READS)
    read(copies, 0.0, key="first")

    assert copies.peek(0.0, "late") is None
    assert copies.peek(0.0, "first") is not None


@given(
    st.lists(
        st.tuples(st.floats(0.0, 0.4), st.sampled_from("abc"), st.sampled_from(["read", "offer", "keep"])), max_size=200
    )
)
def test_no_copy_is_older_than_its_life(steps):
    copies, now_s, learnt_s = HotCopies(), 0.0, {}
    for pause_s, key, step in steps:
        now_s += pause_s
        if step == "read":
            value = copies.read(now_s, key)
            assert value is None or now_s - value < LIFE_S + 1e-9
            assert value is None or value == learnt_s[key]
        else:
            before = copies.peek(now_s, key)
            (copies.offer if step == "offer" else copies.keep)(now_s, key, now_s)
            if copies.peek(now_s, key) != before:
                learnt_s[key] = now_s
