"""Each HTTP toxic on each form of message, and a conversation that stays in step whatever happens on its way."""

from __future__ import annotations

import pytest

from chaos.proxy.toxics import End
from tests.unit.proxy.http_streams import heads, understand
from tests.unit.proxy.one_message import BODY, FORMS, GET, One
from tests.unit.proxy.talk import Talk, toxic
from tests.unit.proxy.wire import FEEDINGS, START_S, byte_by_byte

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
every_form = pytest.mark.parametrize("form", FORMS)
every_feeding = pytest.mark.parametrize("feeding", FEEDINGS)


# each kind on each form of message, however it comes


@every_form
@every_feeding
def test_a_delay_holds_the_whole_message_and_changes_nothing(form, feeding):
    one = One(form, feeding, "http_delay", delay_ms=250)
    assert one.heard == one.raw
    assert {at_s for at_s, _ in one.out} == {1.25}


@every_form
@every_feeding
def test_a_throttled_message_takes_as_long_as_its_size_says(form, feeding):
    one = One(form, feeding, "http_throttle", rate_kb_per_s=1)
    assert one.heard == one.raw
    passed = 0
    for at_s, item in one.out:
        passed += len(item) if isinstance(item, bytes) else 0
        assert passed <= 1000 * (at_s - 1.0) + 0.01
    assert one.out[-1][0] == pytest.approx(1.0 + len(one.raw) / 1000)


@every_form
@every_feeding
def test_corruption_changes_a_byte_of_each_block_and_leaves_the_frame(form, feeding):
    one = One(form, feeding, "http_corrupt", every_bytes=100)
    assert len(one.heard) == len(one.raw)
    differences = [at for at, (a, b) in enumerate(zip(one.body(), BODY, strict=True)) if a != b]
    assert [at // 100 for at in differences] == [0, 1, 2, 3]
    assert sum(a != b for a, b in zip(one.heard, one.raw, strict=True)) == 4


@every_form
@every_feeding
@pytest.mark.parametrize("after_bytes", [0, 1, 150, 399])
def test_an_abort_comes_after_so_many_bytes_of_the_body(form, feeding, after_bytes):
    one = One(form, feeding, "http_abort", after_bytes=after_bytes)
    assert one.end is End.RESET
    if after_bytes == 0:
        assert one.heard == b""
    else:
        assert one.raw.startswith(one.heard)
        assert one.body() == BODY[:after_bytes]


@every_form
@every_feeding
def test_an_abort_beyond_the_body_never_comes(form, feeding):
    one = One(form, feeding, "http_abort", after_bytes=401)
    assert one.heard == one.raw
    assert one.end in {None, End.EOF}


@every_form
@every_feeding
def test_a_header_is_dropped_and_nothing_else(form, feeding):
    one = One(form, feeding, "http_drop_header", drop="a")
    assert one.heard == one.raw.replace(b"A: b\r\n", b"", 1)


@every_form
@every_feeding
def test_a_status_stands_in_for_the_message_and_nothing_of_it_passes(form, feeding):
    one = One(form, feeding, "http_status", status=502, body="gone")
    assert one.talk.server_heard == (GET if one.stream == "downstream" else b"")
    found = understand([one.talk.caller_heard], methods=["GET"])
    assert (heads(found), found.messages[0][1]) == (["502"], b"gone")
    assert (b"Connection: close" in one.talk.caller_heard) == ("until" in form)


@every_form
@every_feeding
def test_a_receipt_counts_all_bytes_of_the_message_and_nothing_else(form, feeding):
    one = One(form, feeding, "http_delay", first=1)
    one.talk.caller(GET, at_s=5.0)
    meter = one.toxic.life.meter
    assert (meter.connections, meter.requests, meter.bytes) == (1, 1, len(one.raw))
    assert (meter.first_s, meter.last_s) == (START_S + 1.0, START_S + 1.0)


# several at once


def test_an_abort_goes_before_an_answer_of_its_own():
    for stream in ("upstream", "downstream"):
        talk = Talk(toxic("http_status", name="s", stream=stream), toxic("http_abort", name="a", stream=stream))
        talk.caller(GET).server(*([OK] if stream == "downstream" else [])).finish()
        assert talk.caller_heard == b""
        assert End.RESET in talk.ends


def test_a_request_and_its_answer_may_both_be_troubled():
    talk = Talk(
        toxic("http_delay", name="a", delay_ms=100), toxic("http_delay", name="b", stream="downstream", delay_ms=50)
    )
    talk.caller(GET).until(0.1)
    assert talk.to_server == [(0.1, GET)]
    assert talk.server(OK, at_s=0.3).finish().to_caller[-1][0] == 0.35


def test_an_answer_of_its_own_is_not_one_of_the_servers_so_what_falls_on_answers_leaves_it_alone():
    talk = Talk(toxic("http_status", name="a"), toxic("http_delay", name="b", stream="downstream", delay_ms=50))
    assert talk.caller(GET).finish().to_caller[0][0] == 0.0


def test_what_waits_behind_a_held_message_keeps_its_order():
    talk = Talk(toxic("http_delay", path="/slow", delay_ms=300)).caller(b"GET /slow HTTP/1.1\r\n\r\n" + GET).finish()
    assert talk.server_heard == b"GET /slow HTTP/1.1\r\n\r\n" + GET
    assert {at_s for at_s, _ in talk.to_server} == {0.3}


def test_a_caller_that_is_let_on_sends_its_body_and_gets_the_answer():
    talk = Talk(toxic("http_delay", stream="downstream", delay_ms=100))
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    talk.caller(head).server(b"HTTP/1.1 100 Continue\r\n\r\n", at_s=0.1).caller(b"hi", at_s=0.2).server(OK, at_s=0.3)
    talk.finish()
    assert talk.server_heard == head + b"hi"
    assert talk.to_caller[0] == (0.1, b"HTTP/1.1 100 Continue\r\n\r\n")
    assert talk.to_caller[-1][0] == 0.4


def test_an_answer_before_the_end_of_its_request_is_the_answer_to_it():
    talk = Talk(toxic("http_status", path="/b"))
    talk.caller(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nx").server(OK).caller(b"yz")
    talk.caller(b"GET /b HTTP/1.1\r\n\r\n").caller(GET).server(OK)
    found = understand([talk.caller_heard], methods=["GET"] * 3)
    assert heads(found) == ["200", "503", "200"]
    assert not talk.conversation.lost


# what becomes something else

UPGRADE = b"GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
TUNNELS = pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 Connected\r\n\r\n"),
    ],
    ids=["upgrade", "connect"],
)


@TUNNELS
@every_feeding
def test_the_word_that_opens_a_tunnel_can_be_late_and_what_follows_it_is_left_alone(asked, granted, feeding):
    late = toxic("http_delay", stream="downstream", delay_ms=200)
    spoilt = toxic("http_corrupt", name="c", stream="downstream", every_bytes=1)
    talk = Talk(late, spoilt).caller(asked).server(*feeding(granted + GET), at_s=1.0).finish()
    assert talk.caller_heard == granted + GET
    assert {at_s for at_s, _ in talk.to_caller} == {1.2}
    talk.caller(*feeding(GET), at_s=2.0).server(b"anything", at_s=2.5)
    assert talk.server_heard == asked + GET
    assert talk.to_caller[-1] == (2.5, b"anything")
    assert late.life.meter.requests == 1


@TUNNELS
def test_a_tunnel_that_the_caller_does_not_hear_of_is_closed(asked, granted):
    talk = Talk(toxic("http_status", stream="downstream", status=503)).caller(asked).server(granted + b"hello").finish()
    assert heads(understand([talk.caller_heard], methods=["GET"])) == ["503"]
    assert b"hello" not in talk.caller_heard
    assert talk.ends == (None, End.CLOSE)


def test_an_upgrade_that_the_server_does_not_grant_is_an_answer_like_any_other():
    talk = Talk(toxic("http_status", path="/b")).caller(UPGRADE).server(OK).caller(b"GET /b HTTP/1.1\r\n\r\n")
    assert heads(understand([talk.caller_heard], methods=["GET"] * 2)) == ["200", "503"]


# where something is missing, the connection does not go on as if nothing had happened


def test_a_broken_request_that_was_half_swallowed_ends_the_connection():
    talk = Talk(toxic("http_status")).caller(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    talk.caller(b"nonsense\r\n").finish()
    assert talk.ends[1] is End.RESET


def test_a_server_that_speaks_no_http_leaves_no_caller_waiting_for_an_answer_of_a_toxics_own():
    talk = Talk(toxic("http_status", path="/b")).caller(GET + b"GET /b HTTP/1.1\r\n\r\n").server(b"220 hello\r\n")
    assert talk.caller_heard == b"220 hello\r\n"
    assert talk.ends[1] is End.RESET


def test_a_broken_answer_behind_one_that_was_replaced_ends_the_connection():
    talk = Talk(toxic("http_status", stream="downstream")).caller(GET)
    talk.server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n").finish()
    assert heads(understand([talk.caller_heard], methods=["GET"])) == ["503"]
    assert talk.ends[1] is End.RESET


# on a connection that is open already


def test_it_may_begin_in_the_middle_of_an_answer():
    talk = Talk(toxic("http_status", stream="downstream"), fresh=False)
    talk.server(b"the rest of a body").server(b" and more")
    assert talk.caller_heard == b"the rest of a body and more"
    talk.caller(GET).server(OK)
    assert heads(understand([talk.caller_heard[len(b"the rest of a body and more") :]], methods=["GET"])) == ["503"]


def test_a_caller_that_pipelines_into_the_middle_of_an_answer_gets_every_byte():
    talk = Talk(toxic("http_delay", stream="downstream", delay_ms=50), fresh=False)
    talk.server(b"one half ").caller(GET).server(b"the other half" + OK).finish()
    assert talk.caller_heard == b"one half the other half" + OK
    assert talk.server_heard == GET


def test_a_request_that_comes_in_tiny_parts_begins_nothing_and_passes():
    talk = Talk(toxic("http_status"), fresh=False).caller(*byte_by_byte(GET)).server(OK)
    assert (talk.server_heard, talk.caller_heard) == (GET, OK)
    assert heads(understand([talk.caller(GET).caller_heard], methods=["GET"] * 2)) == ["200", "503"]


# changes on the way


def test_to_remove_one_toxic_lets_go_of_what_it_holds_and_of_nothing_else():
    slow = toxic("http_delay", name="slow", path="/slow", delay_ms=10_000)
    other = toxic("http_status", name="other", path="/other")
    slower = toxic("http_delay", name="slower", path="/slow", stream="downstream", delay_ms=20_000)
    talk = Talk(slow, other, slower).caller(b"GET /slow HTTP/1.1\r\n\r\n").until(1.0)
    talk.conversation.remove(START_S + 1.0, "other")
    assert talk.until(1.0).to_server == []
    talk.conversation.remove(START_S + 2.0, "slow")
    assert talk.until(2.0).server_heard == b"GET /slow HTTP/1.1\r\n\r\n"
    talk.server(OK, at_s=3.0)
    talk.conversation.replace(START_S + 4.0, "slow", slow.toxic)
    assert talk.until(4.0).to_caller == []
    talk.conversation.remove(START_S + 5.0, "slower")
    assert talk.until(5.0).caller_heard == OK


def test_what_waited_only_behind_something_held_goes_on_with_it():
    slow = toxic("http_delay", name="slow", path="/slow", delay_ms=10_000)
    late = toxic("http_delay", name="late", path="/late", delay_ms=5_000)
    talk = Talk(slow, late).caller(b"GET /slow HTTP/1.1\r\n\r\n" + GET + b"GET /late HTTP/1.1\r\n\r\n" + GET)
    talk.conversation.remove(START_S + 1.0, "slow")
    talk.until(1.0)
    assert talk.server_heard == b"GET /slow HTTP/1.1\r\n\r\n" + GET
    talk.finish()
    assert talk.server_heard.endswith(b"GET /late HTTP/1.1\r\n\r\n" + GET)
    assert [at_s for at_s, _ in talk.to_server] == [1.0, 1.0, 5.0, 5.0]


def test_new_settings_let_go_of_what_was_held_and_hold_what_comes():
    talk = Talk(toxic("http_delay", delay_ms=10_000)).caller(GET).until(1.0)
    talk.conversation.replace(START_S + 1.0, "t", toxic("http_delay", delay_ms=500).toxic)
    talk.until(1.0).caller(GET)
    assert [at_s for at_s, _ in talk.finish().to_server] == [1.0, 1.5]


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_a_message_under_way_goes_on_untroubled_when_its_toxic_is_removed(stream):
    head = b"POST / HTTP/1.1\r\n" if stream == "upstream" else b"HTTP/1.1 200 OK\r\n"
    for kind, attributes in (("http_throttle", {"rate_kb_per_s": 1}), ("http_abort", {"after_bytes": 60}),
                             ("http_corrupt", {"every_bytes": 1})):  # fmt: skip
        talk = Talk(toxic(kind, stream=stream, **attributes))
        say = talk.caller if stream == "upstream" else talk.caller(GET).server
        say(head + b"Content-Length: 100\r\n\r\n" + bytes(50))
        talk.conversation.remove(START_S, "t")
        say(bytes(50))
        heard = talk.server_heard if stream == "upstream" else talk.caller_heard
        assert heard.endswith(bytes(50))
        assert len(heard) == len(head) + 23 + 100
        assert talk.ends == (None, None)


@pytest.mark.parametrize("half", [b"GET / HT", b"QUIT", b"PING"])
def test_half_a_head_that_may_be_none_does_not_wait_for_its_other_half_when_the_toxic_is_removed(half):
    talk = Talk(toxic("http_status")).caller(half)
    assert talk.server_heard == b""
    talk.conversation.remove(START_S, "t")
    assert talk.until(0.0).server_heard == half
    assert talk.conversation.over


def test_a_toxic_that_comes_back_while_others_bytes_are_on_their_way_works():
    talk = Talk(toxic("http_status")).caller(b"GET / HT")
    talk.conversation.remove(START_S, "t")  # the server does not read: nothing is popped
    talk.conversation.add(toxic("http_status", status=418).falling(1))
    talk.caller(b"TP/1.1\r\n\r\n").server(OK).caller(GET)
    assert heads(understand([talk.caller_heard], methods=["GET"] * 2)) == ["200", "418"]


@pytest.mark.parametrize(
    ("said", "over"),
    [
        ("", True),
        ("half a request", False),
        ("a request", False),
        ("a request and half its answer", False),
        ("a request and its answer", True),
        ("another protocol", True),
    ],
)
def test_a_conversation_is_over_when_nobody_would_notice(said, over):
    talk = Talk(toxic("http_delay", name="never", path="/never"))
    for text in said.split(" and "):
        match text:
            case "half a request":
                talk.caller(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nx")
            case "a request":
                talk.caller(GET)
            case "half its answer":
                talk.server(OK[:-1])
            case "its answer":
                talk.server(OK)
            case "another protocol":
                talk.caller(b"\x00\x01")
    assert not talk.conversation.over
    assert talk.conversation.has("never")
    talk.conversation.remove(START_S, "never")
    assert talk.until(0.0).conversation.over is over
