"""Names of streams, and news of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.play_forms import STREAM_NAME
from targets.playback.streams import (
    NEWS_AT_ONCE,
    Fate,
    NewsBuffer,
    Stream,
    news_from_json,
    news_to_json,
    stream_name,
)

STREAMS = st.builds(Stream, st.text(max_size=80), st.from_regex(STREAM_NAME, fullmatch=True))


@given(account=st.text(), title=st.text(), key=st.text())
def test_every_key_makes_a_name_that_a_session_may_have(account, title, key):
    assert STREAM_NAME.fullmatch(stream_name(account, title, key))


def test_the_name_is_the_same_for_every_try_and_another_for_another_account_title_or_key():
    name = stream_name("a", "t", "k")

    assert stream_name("a", "t", "k") == name
    assert len({name, stream_name("b", "t", "k"), stream_name("a", "u", "k"), stream_name("a", "t", "l")}) == 4


@given(st.dictionaries(STREAMS, st.sampled_from(Fate), max_size=20))
def test_news_come_back_from_json_as_they_were(news):
    assert news_from_json(json.loads(json.dumps(news_to_json(news)))) == news


def test_the_last_word_of_a_stream_counts_and_an_end_is_the_last():
    buffer = NewsBuffer(streams_max=10)
    first, second = Stream("a", "1"), Stream("a", "2")
    for stream, fate in ((first, Fate.RENEWED), (second, Fate.ENDED), (first, Fate.ENDED), (second, Fate.RENEWED)):
        buffer.add(stream, fate)

    assert buffer.take() == {first: Fate.ENDED, second: Fate.ENDED}
    assert len(buffer) == 0


def test_a_full_buffer_drops_the_oldest_and_counts_it():
    buffer = NewsBuffer(streams_max=2)
    for name in "123":
        buffer.add(Stream("a", name), Fate.ENDED)

    assert (list(buffer.take()), buffer.dropped) == ([Stream("a", "2"), Stream("a", "3")], 1)


def test_one_message_holds_so_many_and_fits_into_a_request():
    buffer = NewsBuffer(streams_max=2_000)
    for number in range(NEWS_AT_ONCE + 1):
        buffer.add(Stream("x" * 40, f"s-{number:024x}"), Fate.ENDED)

    news = buffer.take()

    assert (len(news), len(buffer)) == (NEWS_AT_ONCE, 1)
    assert len(json.dumps(news_to_json(news))) < 64 * 1024


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (None, "the body must be"),
        ({"ended": []}, "the body must be"),
        ({"ended": [], "renewed": [], "lost": []}, "the body must be"),
        ({"ended": [["a", "1"]] * 300, "renewed": [["a", "1"]] * 201}, "news of 501 streams; 500 are allowed"),
        ({"ended": [["a"]], "renewed": []}, "ended: a stream is"),
        ({"ended": [], "renewed": [["a", "no name"]]}, "renewed: a stream is"),
        ({"ended": [["a" * 81, "1"]], "renewed": []}, "ended: a stream is"),
    ],
)
def test_what_are_no_news_is_refused(data, wrong):
    with pytest.raises(ValueError, match=wrong):
        news_from_json(data)
