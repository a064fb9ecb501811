"""What HTTP toxics do to requests and answers, which ones they fall on, and that nobody else feels anything."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.proxy.toxics import End
from chaos.proxy.toxics.http.conversation import OPEN_MAX
from tests.unit.proxy.talk import Talk, toxic
from tests.unit.proxy.wire import START_S

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def post(body: bytes = b"hello", *, path: str = "/a", headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer(body: bytes = b"ok") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def statuses(heard: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 (\d+) ", heard)


# what is done


def test_a_request_is_held_back():
    talk = Talk(toxic("http_delay", delay_ms=100)).caller(GET).finish()
    assert talk.to_server == [(0.1, GET)]
    assert talk.server(OK, at_s=0.2).to_caller == [(0.2, OK[:-2]), (0.2, b"ok")]


def test_an_answer_is_held_back():
    talk = Talk(toxic("http_delay", stream="downstream", delay_ms=100)).caller(GET).server(OK, at_s=0.5).finish()
    assert talk.to_server == [(0.0, GET)]
    assert {at_s for at_s, _ in talk.to_caller} == {0.6}
    assert talk.caller_heard == OK


def test_the_jitter_of_a_delay_stays_within_its_bounds():
    late = toxic("http_delay", delay_ms=100, jitter_ms=40)
    moments = [Talk(late, number=number).caller(GET).finish().to_server[0][0] for number in range(200)]
    assert 0.06 <= min(moments) < 0.07
    assert 0.13 < max(moments) <= 0.14


def test_a_request_is_answered_in_place_of_the_server_which_never_hears_of_it():
    talk = Talk(toxic("http_status", status=503, body="no", content_type="text/x")).caller(post()).finish()
    assert talk.to_server == []
    assert talk.caller_heard == (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nno"
    )
    assert talk.ends == (None, None)


def test_an_answer_is_replaced_when_the_server_has_done_its_work():
    talk = Talk(toxic("http_status", stream="downstream", status=500)).caller(GET).server(answer(b"x" * 1000)).finish()
    assert talk.server_heard == GET
    assert talk.caller_heard.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert talk.caller_heard.endswith(b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_an_answer_to_head_has_no_body_whoever_gives_it(stream):
    talk = Talk(toxic("http_status", stream=stream, status=503, body="no")).caller(b"HEAD / HTTP/1.1\r\n\r\n")
    talk.server(*([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"] if stream == "downstream" else [])).finish()
    assert talk.caller_heard.endswith(b"Content-Length: 2\r\n\r\n")


def test_an_answer_of_its_own_comes_when_the_request_is_whole_and_the_delay_is_over():
    talk = Talk(toxic("http_delay", name="d", delay_ms=50), toxic("http_status", name="s", status=503))
    talk.caller(post()[:-2]).until(1.0)
    assert talk.to_caller == []
    talk.caller(post()[-2:]).finish()
    assert talk.to_caller[0][0] == 1.0
    talk.caller(GET, at_s=2.0).finish()
    assert talk.to_caller[1][0] == 2.05


@pytest.mark.parametrize(
    "request_text", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"], ids=["1.0", "close"]
)
def test_after_its_own_answer_a_connection_that_was_to_end_ends(request_text):
    talk = Talk(toxic("http_status", status=503)).caller(request_text).finish()
    assert b"Connection: close\r\n" in talk.caller_heard
    assert talk.ends == (None, End.CLOSE)


def test_a_caller_that_waits_to_be_let_on_gets_its_answer_and_the_end():
    talk = Talk(toxic("http_status", status=413)).caller(post(headers="Expect: 100-continue\r\n")[:-5]).finish()
    assert talk.caller_heard.startswith(b"HTTP/1.1 413 ")
    assert talk.ends == (None, End.CLOSE)


@pytest.mark.parametrize(("after_bytes", "heard"), [(0, b""), (2, b"he"), (5, b"hello")])
def test_a_request_breaks_off(after_bytes, heard):
    talk = Talk(toxic("http_abort", after_bytes=after_bytes)).caller(post()).finish()
    assert talk.server_heard == (post()[:-5] + heard if after_bytes else b"")
    assert talk.ends == (End.RESET, None)


def test_an_answer_breaks_off_within_its_body():
    talk = Talk(toxic("http_abort", stream="downstream", after_bytes=3)).caller(GET).server(answer(b"hello")).finish()
    assert talk.caller_heard == answer(b"hello")[:-2]
    assert talk.ends == (None, End.RESET)


def test_a_message_passes_slowly_and_the_next_one_at_once():
    talk = Talk(toxic("http_throttle", stream="downstream", rate_kb_per_s=10, first=1)).caller(GET)
    talk.server(answer(b"x" * 3000)).finish()
    size = len(answer(b"x" * 3000))
    assert talk.to_caller[-1][0] == pytest.approx(size / 10_000)
    assert all(len(item) <= 1000 for _, item in talk.to_caller)
    before = len(talk.to_caller)
    talk.caller(GET, at_s=5.0).server(OK)
    assert {at_s for at_s, _ in talk.to_caller[before:]} == {5.0}


@pytest.mark.parametrize("size", [1, 10, 999, 5000])
def test_a_body_is_changed_here_and_there_and_keeps_its_length(size):
    body = bytes(size)
    talk = Talk(toxic("http_corrupt", stream="downstream", every_bytes=100)).caller(GET).server(answer(body)).finish()
    head = len(answer(body)) - size
    assert talk.caller_heard[:head] == answer(body)[:head]
    changed = [at for at, byte in enumerate(talk.caller_heard[head:]) if byte != 0]
    assert len(talk.caller_heard) == head + size
    assert [at // 100 for at in changed] == list(range(-(-size // 100)))


def test_what_frames_a_body_in_chunks_is_not_changed():
    text = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n4\r\nefgh\r\n0\r\n\r\n"
    talk = Talk(toxic("http_corrupt", every_bytes=4)).caller(text).finish()
    assert talk.server_heard != text
    differences = [at for at, (a, b) in enumerate(zip(talk.server_heard, text, strict=True)) if a != b]
    bodies = [text.index(part) + at for part in (b"abcd", b"efgh") for at in range(4)]
    assert len(differences) == 2
    assert set(differences) <= set(bodies)


def test_a_header_is_taken_out():
    dropping = toxic("http_drop_header", drop="ETag", stream="downstream")
    talk = Talk(dropping).caller(GET).server(b"HTTP/1.1 200 OK\r\nETag: 1\r\nContent-Length: 2\r\n\r\nok").finish()
    assert talk.caller_heard == OK


def test_what_toxics_do_adds_up():
    talk = Talk(
        toxic("http_delay", name="a", delay_ms=100),
        toxic("http_delay", name="b", delay_ms=50),
        toxic("http_status", name="c", status=503),
        toxic("http_status", name="d", status=404),
    )
    talk.caller(GET).finish()
    assert talk.to_caller[0][0] == 0.15
    assert talk.caller_heard.startswith(b"HTTP/1.1 503 ")


# whom it falls on


def answered(*toxics, texts: list[bytes], number: int = 1) -> list[bool]:
    """Say for each request whether the server was asked; the toxic answers the others."""
    talk = Talk(*toxics, number=number)
    asked = []
    for text in texts:
        before = len(talk.server_heard)
        talk.caller(text).until(talk.now_s)
        asked.append(len(talk.server_heard) > before)
        if asked[-1]:
            talk.server(OK)
    return asked


@pytest.mark.parametrize(
    ("attributes", "text", "falls"),
    [
        ({}, GET, True),
        ({"method": "get"}, GET, True),
        ({"method": "POST"}, GET, False),
        ({"path": "/a"}, b"GET /a?b=c HTTP/1.1\r\n\r\n", True),
        ({"path": "/plays/*"}, b"GET /plays/7/chunks HTTP/1.1\r\n\r\n", True),
        ({"path": "/plays/*"}, b"GET /play HTTP/1.1\r\n\r\n", False),
        ({"header": "x-account"}, b"GET / HTTP/1.1\r\nX-Account: 7\r\n\r\n", True),
        ({"header": "X-Account"}, GET, False),
        ({"header": "X-Account", "header_value": "test-*"}, b"GET / HTTP/1.1\r\nX-Account: test-7\r\n\r\n", True),
        ({"header": "X-Account", "header_value": "test-*"}, b"GET / HTTP/1.1\r\nX-Account: Test-7\r\n\r\n", False),
        ({"method": "POST", "path": "/b"}, post(), False),
        ({"share": 0.0}, GET, False),
    ],
)
def test_a_toxic_falls_on_the_requests_that_it_is_for(attributes, text, falls):
    assert answered(toxic("http_status", status=503, **attributes), texts=[text]) == [not falls]


def test_the_first_two_fail_and_then_all_is_well_whatever_connection_they_come_on():
    failing = toxic("http_status", status=503, first=2, method="POST")
    assert answered(failing, texts=[GET, post()], number=1) == [True, False]
    assert answered(failing, texts=[post(), post(), GET], number=2) == [False, True, True]


def test_each_third_fails():
    failing = toxic("http_status", status=503, every=3)
    assert answered(failing, texts=[GET] * 4) + answered(failing, texts=[GET] * 3, number=2) == [
        True, True, False, True, True, False, True,
    ]  # fmt: skip


def test_a_share_is_drawn_for_each_request_by_seed_and_connection():
    def drawn(seed: int, number: int) -> list[bool]:
        return answered(toxic("http_status", status=503, share=0.3, seed=seed), texts=[GET] * 300, number=number)

    assert drawn(1, 1) == drawn(1, 1)
    assert drawn(1, 1) != drawn(2, 1)
    assert drawn(1, 1) != drawn(1, 2)
    assert 50 < 300 - sum(drawn(1, 1)) < 135


# in step


def test_pipelined_requests_keep_their_order_when_some_are_answered_in_place():
    talk = Talk(toxic("http_status", status=503, path="/b"))
    talk.caller(GET + post(path="/b") + GET + post(path="/b"))
    assert talk.caller_heard == b""
    talk.server(answer(b"1") + answer(b"3"))
    assert statuses(talk.caller_heard) == [b"200", b"503", b"200", b"503"]
    assert talk.conversation.over is False
    assert not talk.conversation.open


def test_interim_answers_are_not_the_answer():
    talk = Talk(toxic("http_status", stream="downstream", status=500)).caller(GET)
    talk.server(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK).finish()
    assert talk.caller_heard.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 500 ")
    assert not talk.conversation.open


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 Connected\r\n\r\n"),
    ],
    ids=["upgrade", "connect"],
)
def test_what_becomes_something_else_passes_as_it_is(asked, granted):
    talk = Talk(toxic("http_status", stream="downstream", status=500, path="/never")).caller(asked)
    talk.server(granted + b"\x81\x05hello").caller(b"\x81\x85\x00GET / HTTP/1.1\r\n\r\n").server(b"more")
    assert talk.caller_heard == granted + b"\x81\x05hello" + b"more"
    assert talk.server_heard == asked + b"\x81\x85\x00GET / HTTP/1.1\r\n\r\n"
    assert talk.conversation.lost


def test_another_protocol_passes_as_it_is():
    talk = Talk(toxic("http_status", status=503)).caller(b"*1\r\n$4\r\nPING\r\n").server(b"+PONG\r\n")
    assert (talk.server_heard, talk.caller_heard) == (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")


def test_an_answer_that_nobody_asked_for_passes_as_it_is():
    talk = Talk(toxic("http_status", status=503)).server(b"HTTP/1.1 408 Request Timeout\r\n\r\n", End.EOF)
    assert talk.caller_heard == b"HTTP/1.1 408 Request Timeout\r\n\r\n"
    assert talk.ends == (None, End.EOF)


def test_on_an_open_connection_it_begins_with_the_next_request():
    talk = Talk(toxic("http_status", status=503), fresh=False)
    talk.server(b"the rest of an answer").caller(b"the rest of a request")
    assert talk.caller_heard == b"the rest of an answer"
    talk.caller(GET)
    assert talk.server_heard == b"the rest of a request"
    assert talk.caller_heard.startswith(b"the rest of an answerHTTP/1.1 503 ")


def test_half_a_head_is_let_go_with_the_end():
    talk = Talk(toxic("http_status", status=503)).caller(b"GET / HT", End.EOF)
    assert (talk.server_heard, talk.ends[0]) == (b"GET / HT", End.EOF)


# live changes


def test_what_is_held_goes_on_when_its_toxic_is_removed():
    talk = Talk(toxic("http_delay", stream="downstream", delay_ms=60_000)).caller(GET).server(answer(b"x" * 100)[:-50])
    talk.until(1.0)
    assert talk.caller_heard == b""
    talk.conversation.remove(START_S + 1.0, "t")
    talk.until(1.0).server(answer(b"x" * 100)[-50:])
    assert talk.caller_heard == answer(b"x" * 100)
    assert talk.conversation.over


def test_an_answer_of_its_own_that_is_held_goes_on_when_the_toxic_is_removed():
    talk = Talk(toxic("http_delay", name="d", delay_ms=60_000), toxic("http_status", name="s", status=503)).caller(GET)
    assert not talk.conversation.over
    talk.conversation.remove(START_S + 1.0, "d")
    assert talk.until(1.0).caller_heard.startswith(b"HTTP/1.1 503 ")


def test_the_rest_of_a_request_that_was_answered_goes_nowhere_even_when_its_toxic_is_removed():
    talk = Talk(toxic("http_status", status=503)).caller(post(b"x" * 100)[:-60])
    talk.conversation.remove(START_S, "t")
    assert not talk.conversation.over
    talk.caller(post(b"x" * 100)[-60:]).caller(GET)
    assert talk.server_heard == GET


def test_new_settings_are_for_the_requests_to_come():
    talk = Talk(toxic("http_status", status=503)).caller(GET)
    talk.conversation.replace(START_S, "t", toxic("http_status", status=404).toxic)
    talk.caller(GET)
    assert statuses(talk.caller_heard) == [b"503", b"404"]


def test_a_caller_that_pipelines_without_end_has_to_wait():
    talk = Talk(toxic("http_delay", stream="downstream", delay_ms=1))
    talk.caller(GET * (OPEN_MAX - 1))
    assert not talk.conversation.requests.full
    talk.caller(GET)
    assert talk.conversation.requests.full
    talk.server(OK)
    assert not talk.conversation.requests.full


# receipts


def test_a_toxic_counts_the_requests_it_fell_on():
    failing = toxic("http_status", status=503, path="/b")
    first, second = Talk(failing, number=1), Talk(failing, number=2)
    first.caller(GET, at_s=1.0).caller(post(path="/b"), at_s=2.0).caller(post(path="/b"), at_s=3.0)
    second.caller(post(path="/b"), at_s=4.0)
    meter = failing.life.meter
    assert (meter.connections, meter.requests, meter.bytes) == (2, 3, 3 * len(post(path="/b")))
    assert (meter.first_s, meter.last_s) == (START_S + 2.0, START_S + 4.0)


def test_a_toxic_on_answers_counts_when_there_is_one():
    slow = toxic("http_delay", stream="downstream", delay_ms=1)
    talk = Talk(slow).caller(GET)
    assert slow.life.meter.requests == 0
    talk.server(OK)
    assert (slow.life.meter.requests, slow.life.meter.bytes) == (1, len(OK))


# everybody else

MESSAGES = st.lists(
    st.sampled_from(
        [
            (GET, OK),
            (post(b"x" * 50), answer(b"y" * 90)),
            (b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", answer(b"")),
            (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
            (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: x\r\n\r\n"),
        ]
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(
    messages=MESSAGES,
    sizes=st.lists(st.integers(1, 80), min_size=1, max_size=80),
    stream=st.sampled_from(["upstream", "downstream"]),
)
def test_what_no_toxic_falls_on_passes_byte_for_byte(messages, sizes, stream):
    talk = Talk(toxic("http_status", stream=stream, status=500, path="/nowhere"))
    requests, answers = (b"".join(part) for part in (zip(*messages, strict=True) if messages else (b"", b"")))
    for text, say in ((requests, talk.caller), (answers, talk.server)):
        at = 0
        for size in [*sizes, len(text)]:
            if text[at : at + size]:
                say(text[at : at + size])
            at += size
    assert (talk.server_heard, talk.caller_heard) == (requests, answers)
    assert not talk.conversation.lost
    assert not talk.conversation.open
