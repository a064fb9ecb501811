"""The cutting of a stream into HTTP messages: the same pieces whatever the cuts, and not a byte lost or changed."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.proxy.toxics.http.framing import (
    HEAD_MAX_BYTES,
    Body,
    Done,
    Frame,
    Head,
    NotHttp,
    Splitter,
    begins_request,
    read_head,
    without_header,
)
from tests.unit.proxy.http_streams import CUTS, answers, chunked, cut, heads, requests, understand
from tests.unit.proxy.wire import FEEDINGS, byte_by_byte, whole

every_feeding = pytest.mark.parametrize("feeding", FEEDINGS)


# what is understood

REQUESTS = {
    "no body": (b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", [("GET /a", b"")]),
    "no headers": (b"GET / HTTP/1.1\r\n\r\n", [("GET /", b"")]),
    "content-length": (b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", [("POST /a", b"hello")]),
    "content-length 0": (b"POST /a HTTP/1.1\r\ncontent-length:0\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
                         [("POST /a", b""), ("GET /b", b"")]),
    "content-length said twice": (b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
                                  [("POST /", b"ok")]),
    "chunked": (b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n",
                [("POST /c", b"abc0123456789")]),
    "chunked with extensions and trailers": (
        (b"POST /c HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n3;a=b\r\nabc\r\n1 ; q=\"x\"\r\nd\r\n0;last\r\n"
        b"X-Sum: 7\r\nX-Other: 8\r\n\r\n"),
        [("POST /c", b"abcd")],
    ),
    "chunked goes before content-length": (
        b"POST /c HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        [("POST /c", b"x")],
    ),
    "pipelined": (b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\n\r\n",
                  [("GET /1", b""), ("POST /2", b"x"), ("GET /3", b"")]),
    "lines that end with LF alone": (b"POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nab\n0\n\n",
                                     [("POST /", b"ab")]),
    "empty lines before a request": (b"\r\n\nGET /1 HTTP/1.1\r\n\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
                                     [("GET /1", b""), ("GET /2", b"")]),
    "HTTP/1.0": (b"POST /old HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", [("POST /old", b"hi")]),
    "a target that is not ASCII": ("GET /café HTTP/1.1\r\n\r\n".encode(), [("GET /caf\xc3\xa9", b"")]),
    "a method of no letters": (b"!1 /a HTTP/1.1\r\n\r\n", [("!1 /a", b"")]),
    "CONNECT": (b"CONNECT host:443 HTTP/1.1\r\n\r\n", [("CONNECT host:443", b"")]),
    "a body like a request": (b"POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                              [("POST /", b"GET / HTTP/1.1\r\n\r\n")]),
}  # fmt: skip

ANSWERS = {
    "content-length": (["GET"], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", [("200", b"ok")]),
    "no reason": (["GET"], b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", [("200", b"ok")]),
    "chunked": (["GET"], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
                [("200", b"x")]),
    "HEAD": (["HEAD", "GET"],
             b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
             [("200", b""), ("200", b"x")]),
    "204 and 304": (["GET", "GET", "GET"],
                    (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
                     b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
                    [("204", b""), ("304", b""), ("404", b"")]),
    "interim answers": (["POST"],
                        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                         b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
                        [("100", b""), ("103", b""), ("200", b"x")]),
    "LF alone": (["GET"], b"HTTP/1.0 200 OK\nContent-Length: 1\n\nx", [("200", b"x")]),
}  # fmt: skip


@every_feeding
@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_cut_where_they_end(name, feeding):
    data, expected = REQUESTS[name]
    found = understand(list(feeding(data)))
    assert list(zip(heads(found), [body for _, body, _, _ in found.messages], strict=True)) == expected
    assert all(complete for _, _, _, complete in found.messages)
    assert found.raw == data
    assert not found.not_http


@every_feeding
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_cut_where_they_end(name, feeding):
    methods, data, expected = ANSWERS[name]
    found = understand(list(feeding(data)), methods=methods)
    assert list(zip(heads(found), [body for _, body, _, _ in found.messages], strict=True)) == expected
    assert all(complete for _, _, _, complete in found.messages)
    assert found.raw == data


@every_feeding
@pytest.mark.parametrize("coding", [b"", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, gzip\r\n"])
def test_an_answer_without_a_length_lasts_until_the_connection_ends(feeding, coding):
    data = b"HTTP/1.0 200 OK\r\n" + coding + b"\r\nHTTP/1.1 is no head here\r\n\r\n and so on"
    splitter = Splitter(lambda: "GET")
    pieces = [piece for chunk in feeding(data) for piece in splitter.feed(chunk)]
    assert isinstance(pieces[0], Head)
    assert b"".join(piece.data for piece in pieces[1:]) == b"HTTP/1.1 is no head here\r\n\r\n and so on"
    assert {type(piece) for piece in pieces[1:]} == {Body}
    assert splitter.until_end
    assert not splitter.between


def test_the_parts_of_a_body_come_as_they_are_fed_and_not_later():
    splitter = Splitter()
    head = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
    assert [type(piece) for piece in splitter.feed(head + b"ab")] == [Head, Body]
    assert list(splitter.feed(b"c")) == [Body(b"c")]
    assert list(splitter.feed(b"de")) == [Body(b"de"), Done.MESSAGE]
    assert splitter.between


def test_what_frames_the_chunks_is_told_from_the_body():
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = list(Splitter().feed(head + b"3;x\r\nabc\r\n0\r\nA: b\r\n\r\n"))
    assert pieces[1:] == [
        Frame(b"3;x\r\n"), Body(b"abc"), Frame(b"\r\n"), Frame(b"0\r\n"), Frame(b"A: b\r\n"), Frame(b"\r\n"),
        Done.MESSAGE,
    ]  # fmt: skip


@pytest.mark.parametrize("at", range(1, len(b"GET / HTTP/1.1\r\n\r\n")))
def test_between_is_false_as_soon_as_a_message_has_begun(at):
    splitter = Splitter()
    assert splitter.between
    assert list(splitter.feed(b"GET / HTTP/1.1\r\n\r\n"[:at])) == []
    assert not splitter.between
    assert splitter.rest() == b"GET / HTTP/1.1\r\n\r\n"[:at]
    assert splitter.between


def test_headers_are_found_whatever_their_case_and_joined_when_there_are_several():
    head = read_head(b"GET / HTTP/1.1\r\nX-A:  1 \r\nx-a: 2\r\nEMPTY:\r\n\r\n", answer=False)
    assert dict(head.headers) == {"x-a": "1, 2", "empty": ""}


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        (1, b"", True),
        (1, b"Connection: close\r\n", False),
        (1, b"Connection: x, Close\r\n", False),
        (1, b"Connection: upgrade\r\n", True),
        (0, b"", False),
        (0, b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_who_keeps_the_connection(version, connection, keeps):
    assert read_head(b"GET / HTTP/1.%d\r\n%s\r\n" % (version, connection), answer=False).keeps_alive is keeps
    assert read_head(b"HTTP/1.%d 200 OK\r\n%s\r\n" % (version, connection), answer=True).keeps_alive is keeps


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/b?c=/d", "/a/b"),
        ("/", "/"),
        ("*", "*"),
        ("http://host:80/a/b?c", "/a/b"),
        ("http://host", "/"),
        ("HTTP://host?x", "/"),
        ("host:443", "host:443"),
        ("/a//b://c", "/a//b://c"),
    ],
)
def test_the_path_is_that_of_the_target_in_each_of_its_forms(target, path):
    assert read_head(f"GET {target} HTTP/1.1\r\n\r\n".encode(), answer=False).path == path


def test_a_header_is_taken_out_and_all_others_stay_as_they_are():
    raw = b"GET / HTTP/1.1\r\nX-A: 1\r\nx-ab: 2\nX-a:3\r\nB: X-A\r\n\r\n"
    assert without_header(raw, "x-A") == b"GET / HTTP/1.1\r\nx-ab: 2\nB: X-A\r\n\r\n"
    assert without_header(raw, "nothing") == raw


# whatever the cuts


@settings(max_examples=150)
@given(stream=st.lists(requests(), min_size=1, max_size=5), cuts=CUTS)
def test_requests_are_the_same_whatever_the_cuts(stream, cuts):
    data = b"".join(said.raw for said in stream)
    pieces = understand(cut(data, cuts))
    assert pieces.raw == data
    assert pieces == understand([data]) == understand(list(byte_by_byte(data)))
    assert [(head, body) for head, (_, body, _, _) in zip(heads(pieces), pieces.messages, strict=True)] == [
        (said.head, said.body) for said in stream
    ]
    assert all(complete for _, _, _, complete in pieces.messages)


@settings(max_examples=150)
@given(data=st.data(), methods=st.lists(st.sampled_from(["GET", "HEAD", "POST"]), min_size=1, max_size=5), cuts=CUTS)
def test_answers_are_the_same_whatever_the_cuts(data, methods, cuts):
    stream = []
    for number, method in enumerate(methods):
        stream.append(data.draw(answers(method=method, may_last=number == len(methods) - 1)))
        if data.draw(st.booleans()):
            stream[-1:-1] = [type(stream[-1])(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", b"", "100")]
    sent = b"".join(said.raw for said in stream)
    pieces = understand(cut(sent, cuts), methods=methods)
    assert pieces.raw == sent
    assert pieces == understand([sent], methods=methods) == understand(list(byte_by_byte(sent)), methods=methods)
    assert [(head, body) for head, (_, body, _, _) in zip(heads(pieces), pieces.messages, strict=True)] == [
        (said.head, said.body) for said in stream
    ]
    assert [complete for _, _, _, complete in pieces.messages] == [not said.until_end for said in stream]


@settings(max_examples=150)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from([b"GET / HTTP/1.1", b"HTTP/1.1 200 OK", b"\r\n", b"\n", b"\r", b"0", b"5", b";", b": ",
                             b"Content-Length", b"Transfer-Encoding", b"chunked", b" ", b"abc", b"\x00"]),
            max_size=25,
        ).map(b"".join),
    ),
    cuts=CUTS,
    answering=st.booleans(),
)  # fmt: skip
def test_whatever_comes_not_a_byte_is_lost_and_the_cuts_decide_nothing(data, cuts, answering):
    methods = ["GET"] if answering else None
    found = understand(cut(data, cuts), methods=methods)
    assert found.raw == data
    once = understand([data], methods=methods)
    assert (found.messages, found.not_http) == (once.messages, once.not_http)


# what is not HTTP

NOT_REQUESTS = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "RESP": b"*1\r\n$4\r\nPING\r\n",
    "an inline command": b"PING\r\n",
    "SMTP": b"EHLO client.example\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n\r\n",
    "AMQP": b"AMQP\x00\x00\x09\x01",
    "a length that is a letter": b"A\x00\x00\x00" + bytes(61),
    "a method that is too long": b"X" * 100,
    "a space too many": b"GET  / HTTP/1.1\r\n\r\n",
    "folded headers": b"GET / HTTP/1.1\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
    "a space before the colon": b"GET / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
    "a header without a colon": b"GET / HTTP/1.1\r\nnonsense\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a carriage return in a header": b"GET / HTTP/1.1\r\nA: b\rContent-Length: 3\r\n\r\nabc",
    "carriage returns that look like an empty line": b"GET / HTTP/1.1\r\n\r\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two lengths in one": b"POST / HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\nabcd",
    "a negative length": b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc",
    "a length with a sign": b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
    "a length in hexadecimal": b"POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\nabc",
    "an empty length": b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\nabc",
    "an absurd length": b"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\nabc",
    "a coding that does not end": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\nabc",
    "a chunk without a size": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc",
    "a chunk with a sign": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "spaces behind a chunk": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na  \r\n0\r\n\r\n",
    "a size of a chunk that never ends": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 20_000,
    "a size of a chunk that is too long": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 20_000 + b"\r\na\r\n0\r\n\r\n"
    ),
    "a head that never ends": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 15_000,
    "a head that is too long": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 15_000 + b"\r\n",
    "a line that is too long": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "something else after a request": b"GET / HTTP/1.1\r\n\r\n\x16\x03\x01\x02\x00",
}  # fmt: skip
NOT_ANSWERS = {
    "SMTP": b"220 mail.example ESMTP\r\n",
    "RESP": b"+PONG\r\n",
    "MySQL": b"\x4a\x00\x00\x00\x0a8.0.36\x00",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2 settings": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "another protocol of this form": b"ICY 200 OK\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n",
    "too much after an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
}


@every_feeding
@pytest.mark.parametrize("name", NOT_REQUESTS)
def test_what_is_not_http_is_told_and_not_a_byte_is_lost(name, feeding):
    found = understand(list(feeding(NOT_REQUESTS[name])))
    assert found.not_http
    assert found.raw == NOT_REQUESTS[name]


@every_feeding
@pytest.mark.parametrize("name", NOT_ANSWERS)
def test_what_is_no_answer_is_told_and_not_a_byte_is_lost(name, feeding):
    found = understand(list(feeding(NOT_ANSWERS[name])), methods=["GET", "GET"])
    assert found.not_http
    assert found.raw == NOT_ANSWERS[name]


@pytest.mark.parametrize("name", ["a TLS hello", "AMQP", "a length that is a letter"])
def test_other_protocols_are_not_held_until_a_line_ends_that_never_does(name):
    splitter = Splitter()
    with pytest.raises(NotHttp):
        list(splitter.feed(NOT_REQUESTS[name][:8]))


@pytest.mark.parametrize("name", NOT_ANSWERS)
def test_the_greeting_of_another_protocol_is_told_at_its_first_bytes(name):
    if not NOT_ANSWERS[name].startswith(b"HTTP/1."):
        with pytest.raises(NotHttp):
            list(Splitter(lambda: "GET").feed(NOT_ANSWERS[name][:8]))


def test_a_head_of_the_greatest_length_is_one_still():
    start, end = b"GET / HTTP/1.1\r\nA: ", b"\r\n\r\n"
    fits = start + b"x" * (HEAD_MAX_BYTES - len(start) - len(end)) + end
    for feeding in (whole, byte_by_byte):
        assert not understand(list(feeding(fits))).not_http
        assert understand(list(feeding(fits.replace(b"A: ", b"AA: ")))).not_http


@pytest.mark.parametrize(
    ("data", "begins"),
    [
        (b"GET / HTTP/1.1\r\nHo", True),
        (b"POST /x HTTP/1.0\n", True),
        (b"GET / HTTP/1.1", False),
        (b"x GET / HTTP/1.1\r\n", False),
        (b"{}\r\nGET / HTTP/1.1\r\n", False),
        (b"", False),
    ],
)
def test_what_begins_a_request(data, begins):
    assert begins_request(data) is begins


# time


def seconds_for(data: bytes, size: int, methods: list[str] | None = None) -> float:
    """CPU time; the wide limits below are a hundred times what a linear way takes, and quadratic ones take longer."""
    splitter = Splitter(None if methods is None else lambda: "GET")
    start_s = time.process_time()
    total = 0
    for at in range(0, len(data), size):
        for piece in splitter.feed(data[at : at + size]):
            total += len(piece.raw) if isinstance(piece, Head) else 0 if isinstance(piece, Done) else len(piece.data)
    assert total + len(splitter.rest()) == len(data)
    return time.process_time() - start_s


@pytest.mark.parametrize("size", [1, 1000, 10**9])
def test_many_tiny_chunks_take_no_quadratic_time(size):
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = bytes(random.Random(1).randrange(256) for _ in range(20_000))
    assert seconds_for(head + chunked(body, [1]), size) < 20.0


@pytest.mark.parametrize("size", [1, 1000, 10**9])
def test_long_heads_take_no_quadratic_time(size):
    head = b"GET / HTTP/1.1\r\n" + b"Header-Name: v\r\n" * 4000 + b"\r\n"
    assert len(head) < HEAD_MAX_BYTES
    assert seconds_for(head * 3, size) < 20.0
    line = b"GET /" + b"x" * 60_000 + b" HTTP/1.1\r\n\r\n"
    assert seconds_for(line * 3, size) < 20.0


def test_very_many_pipelined_messages_in_one_piece_take_no_quadratic_time():
    assert seconds_for(b"GET / HTTP/1.1\r\n\r\n" * 20_000, 10**9) < 20.0
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    assert seconds_for(answer * 20_000, 10**9, ["GET"]) < 20.0
