"""A conversation under everything at once: random requests, cuts, pauses and changes, against what must be so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.proxy.toxics.http.framing import Splitter
from tests.unit.proxy.http_streams import CUTS, Understood, chunked, cut, heads, understand
from tests.unit.proxy.one_message import FORMS, One
from tests.unit.proxy.talk import Talk, toxic
from tests.unit.proxy.wire import START_S, whole

PATHS = st.sampled_from(["/", "/fail", "/lost", "/slow", "/late"])
FALLS = {"/fail": "503", "/lost": "504"}


def exchange(number: int, path: str, size: int) -> bytes:
    form = [b"", b"Content-Length: %d\r\n" % size, b"Transfer-Encoding: chunked\r\n"][number % 3]
    body = [b"", b"b" * size, chunked(b"b" * size, [5])][number % 3]
    return b"POST %s HTTP/1.1\r\nX-Number: %d\r\n%s\r\n%s" % (path.encode(), number, form, body)


class Server:
    """Answers each request that it hears with its number, in order, a few bytes at a time."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self._heard = 0
        self._splitter = Splitter()
        self._to_say = b""

    def say(self, size: int) -> None:
        new = self.talk.server_heard[self._heard :]
        self._heard += len(new)
        for piece in self._splitter.feed(new):
            if hasattr(piece, "headers"):
                number = piece.headers["x-number"].encode()
                self._to_say += b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(number), number)
        said, self._to_say = self._to_say[:size], self._to_say[size:]
        if said:
            self.talk.server(said)


@settings(max_examples=150)
@given(
    asked=st.lists(st.tuples(PATHS, st.integers(0, 40)), min_size=1, max_size=8),
    cuts=CUTS,
    steps=st.lists(st.tuples(st.floats(0.0, 0.2), st.integers(0, 60)), max_size=30),
)
def test_pipelined_requests_get_their_answers_in_order_whoever_gives_them(asked, cuts, steps):
    talk = Talk(
        toxic("http_status", name="fail", path="/fail", status=503),
        toxic("http_status", name="lost", path="/lost", status=504, stream="downstream"),
        toxic("http_delay", name="slow", path="/slow", delay_ms=100, jitter_ms=50),
        toxic("http_delay", name="late", path="/late", delay_ms=100, jitter_ms=50, stream="downstream"),
    )
    server = Server(talk)
    stream = cut(b"".join(exchange(number, *what) for number, what in enumerate(asked)), cuts)
    for part, (pause_s, size) in zip(stream, [*steps, *[(0.0, 0)] * len(stream)], strict=False):
        talk.caller(part)
        server.say(size)
        talk.until(talk.now_s + pause_s)
    for _ in range(20):
        talk.finish()
        server.say(10**6)
    found = understand([talk.caller_heard], methods=["POST"] * len(asked))
    assert found.messages[-1][3]
    assert [(head, body.decode()) for head, (_, body, _, _) in zip(heads(found), found.messages, strict=True)] == [
        (FALLS[path], "") if path in FALLS else ("200", str(number)) for number, (path, _) in enumerate(asked)
    ]
    assert not talk.conversation.open
    assert not talk.conversation.lost


COMING_AND_GOING = ["fail", "lost", "slow", "late"]
STEPS = st.one_of(
    *[st.tuples(st.just("say"), st.integers(1, 30))] * 2,
    *[st.tuples(st.just("answer"), st.integers(1, 60))] * 2,
    st.tuples(st.just("wait"), st.floats(0.0, 0.2)),
    st.tuples(st.sampled_from(["add", "change", "remove"]), st.sampled_from(COMING_AND_GOING)),
)


def coming_and_going(name: str):
    stream = "downstream" if name in {"lost", "late"} else "upstream"
    if name in {"fail", "lost"}:
        return toxic("http_status", name=name, stream=stream, share=0.5, status=503)
    return toxic("http_delay", name=name, stream=stream, delay_ms=100, jitter_ms=100)


class Caller:
    """Says its requests a few bytes at a time; unless it pipelines, it waits for each answer before it goes on."""

    def __init__(self, talk: Talk, requests: list[bytes], *, pipelines: bool) -> None:
        self.talk = talk
        self.requests = requests
        self.pipelines = pipelines
        self._sent = self._complete = 0

    def understood(self) -> Understood:
        return understand([self.talk.caller_heard], methods=["POST"] * len(self.requests))

    def say(self, size: int) -> None:
        waits = not self.pipelines and sum(done for *_, done in self.understood().messages) < self._complete
        if waits or self._complete == len(self.requests):
            return
        part = self.requests[self._complete][self._sent : self._sent + size]
        self._sent += len(part)
        if self._sent == len(self.requests[self._complete]):
            self._complete, self._sent = self._complete + 1, 0
        self.talk.caller(part)


def change(talk: Talk, what: str, name: str) -> None:
    now_s = START_S + talk.now_s
    match what:
        case "add" if not talk.conversation.has(name):
            talk.conversation.add(coming_and_going(name).falling(1))
        case "change":
            talk.conversation.replace(now_s, name, coming_and_going(name).toxic)
        case "remove":
            talk.conversation.remove(now_s, name)


@settings(max_examples=150)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    steps=st.lists(STEPS, max_size=60),
    pipelines=st.booleans(),
    fresh=st.booleans(),
)
def test_every_request_gets_one_answer_in_order_whatever_toxics_come_change_and_go(sizes, steps, pipelines, fresh):
    """While one toxic stays, the caller may pipeline."""
    talk = Talk(*([toxic("http_delay", name="stays", path="/never")] if pipelines else []), fresh=fresh or pipelines)
    server = Server(talk)
    caller = Caller(talk, [exchange(number, "/", size) for number, size in enumerate(sizes)], pipelines=pipelines)
    for step in steps:
        match step:
            case ("say", size):
                caller.say(size)
            case ("answer", size):
                server.say(size)
            case ("wait", pause_s):
                talk.until(talk.now_s + pause_s)
            case (what, name):
                change(talk, what, name)
        talk.until(talk.now_s)
    for name in (*COMING_AND_GOING, "stays"):
        change(talk, "remove", name)
    for _ in range(2 * len(sizes) + 2):
        caller.say(10**6)
        talk.finish()
        server.say(10**6)
    found = caller.understood().messages
    assert [done for *_, done in found] == [True] * len(sizes)
    for number, (head, body, _, _) in enumerate(found):
        assert head.status == 503 or body == str(number).encode()
    assert talk.conversation.over
    assert talk.ends == (None, None)


TREATMENTS = [
    ("http_delay", {"delay_ms": 100}),
    ("http_throttle", {"rate_kb_per_s": 2}),
    ("http_drop_header", {"drop": "A"}),
]


@settings(max_examples=100)
@given(cuts=CUTS, treatment=st.sampled_from(TREATMENTS), form=st.sampled_from(list(FORMS)))
def test_a_message_is_treated_the_same_whatever_the_cuts(cuts, treatment, form):
    kind, attributes = treatment
    in_parts, at_once = One(form, lambda raw: cut(raw, cuts), kind, **attributes), One(form, whole, kind, **attributes)
    assert in_parts.heard == at_once.heard
    assert in_parts.out[-1][0] == pytest.approx(at_once.out[-1][0])
