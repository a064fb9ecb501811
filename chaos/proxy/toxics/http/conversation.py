"""HTTP on one connection, sans-IO: requests one way, their answers the other, and toxics on those they fall on.

    caller --> RequestStage --> other toxics --> server
    caller <-- other toxics <-- AnswerStage  <-- server

Both stages are the first of their chains and share a ``Conversation``: the requests that are not answered yet, in
order. An answer that a toxic gives itself takes its place in that order, so pipelined requests stay in step. What no
toxic falls on passes byte for byte.

A conversation can begin on a connection that is open already: it then waits for a chunk that begins with a request.
When a stream turns out not to be HTTP/1.1, or to become something else (``CONNECT``, ``Upgrade``), everything
passes as it is from there on.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.proxy.toxics.chain import End, Item, Stage
from chaos.proxy.toxics.http.framing import Body, Done, Frame, Head, NotHttp, Splitter, begins_request
from chaos.proxy.toxics.http.kinds import Answer, Count, HttpToxic, Treatment
from chaos.proxy.toxics.http.message import Message
from chaos.proxy.toxics.meter import Meter

OPEN_MAX = 256
"""With so many requests unanswered on one connection the caller has to wait."""


@dataclass(slots=True, kw_only=True)
class Falling:
    """An HTTP toxic at work on one connection."""

    name: str
    toxic: HttpToxic
    on_answers: bool
    """Whether it falls on answers; else on requests."""
    count: Count
    meter: Meter
    rng: random.Random
    met: bool = False

    def touch(self, at_s: float) -> None:
        """Count a request that feels it."""
        self.meter.touch(at_s, connections=0 if self.met else 1, requests=1)
        self.met = True


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """A request and the answer that it gets."""

    request: Head
    on_request: list[Falling]
    on_answer: list[Falling] = field(default_factory=list)
    stand_in: Answer | None = None
    """What is answered in place of the server."""
    ready_s: float = 0.0
    complete: bool = False
    """Whether the whole request is here."""


class Conversation:
    """What is said on one connection. ``fresh``: nothing was said before."""

    def __init__(self, now_s: float, *, fresh: bool) -> None:
        self.open: deque[_Exchange] = deque()
        self.toxics: list[Falling] = []
        self.in_step = fresh
        """Whether it is known where messages begin."""
        self.lost = False
        """Whether it is not HTTP, or not any more."""
        self.requests = RequestStage(self, now_s)
        self.answers = AnswerStage(self, now_s)

    @property
    def over(self) -> bool:
        """Whether the stages can be taken away without anybody noticing."""
        if self.toxics or self.requests.held_bytes or self.answers.held_bytes:
            return False
        return self.lost or not self.in_step or (self.requests.between and self.answers.between and not self.open)

    def has(self, name: str) -> bool:
        """Whether the toxic of this name is at work here."""
        return any(one.name == name for one in self.toxics)

    def add(self, falling: Falling) -> None:
        """Let a toxic fall on the requests to come."""
        self.toxics.append(falling)

    def replace(self, now_s: float, name: str, toxic: HttpToxic) -> None:
        """Let a toxic go on with other settings; what was held goes on at once."""
        for falling in self.toxics:
            if falling.name == name:
                falling.toxic = toxic
        self._hurry(now_s)

    def remove(self, now_s: float, name: str) -> None:
        """Take a toxic away; what was held goes on at once."""
        self.toxics = [falling for falling in self.toxics if falling.name != name]
        for exchange in self.open:
            exchange.on_answer = [falling for falling in exchange.on_answer if falling.name != name]
        self._hurry(now_s)

    def begin(self, request: Head) -> _Exchange:
        """Note a request, and which toxics fall on it and on its answer."""
        felt = [one for one in self.toxics if one.toxic.falls_on(request, one.count, one.rng)]
        exchange = _Exchange(
            request=request,
            on_request=[one for one in felt if not one.on_answers],
            on_answer=[one for one in felt if one.on_answers],
        )
        self.open.append(exchange)
        return exchange

    def settle(self, at_s: float) -> None:
        """Give the answers whose turn it is and that no server has to give."""
        while self.open and self.open[0].complete and self.open[0].stand_in is not None:
            exchange = self.open.popleft()
            last = not exchange.request.keeps_alive or "expect" in exchange.request.headers
            assert exchange.stand_in is not None
            self.answers.say(max(exchange.ready_s, at_s), exchange.stand_in.to_bytes(exchange.request, last=last))
            if last:
                self.answers.leave(exchange.ready_s, at_s, End.CLOSE)

    def lose(self, at_s: float) -> None:
        """Let everything pass as it is from here on."""
        self.lost = True
        self.open.clear()
        for stage in (self.requests, self.answers):
            stage.let_rest_pass(at_s)

    def _hurry(self, now_s: float) -> None:
        for exchange in self.open:
            exchange.ready_s = min(exchange.ready_s, now_s)
        for stage in (self.requests, self.answers):
            stage.hurry(now_s)


class _HttpStage(Stage, ABC):
    """What both directions share."""

    __slots__ = ("_felt", "_message", "_splitter", "conversation")

    def __init__(self, conversation: Conversation, now_s: float, splitter: Splitter) -> None:
        super().__init__(now_s)
        self.conversation = conversation
        self._splitter = splitter
        self._message: Message | None = None
        self._felt: list[Falling] = []  # by the message under way

    @property
    def between(self) -> bool:
        """Whether no message is under way."""
        return self._splitter.between

    def leave(self, due_s: float, arrived_s: float, item: Item) -> None:
        """Let a part of a message leave; after an end nothing does."""
        if self._ended:
            return
        if isinstance(item, End):
            self._ended = True
        elif not item:
            return
        self._leave(due_s, arrived_s, item)

    def let_rest_pass(self, at_s: float) -> None:
        """Let what was kept to be understood pass as it is."""
        self.leave(at_s, at_s, self._splitter.rest())

    def hurry(self, now_s: float) -> None:
        """Let what is held leave now, and what still comes of this message go untroubled."""
        self._queue = deque((min(due_s, now_s), arrived_s, item) for due_s, arrived_s, item in self._queue)
        self._last_due_s = min(self._last_due_s, now_s)
        if self._message is not None:
            self._message.calm(now_s)

    def _data(self, at_s: float, data: bytes) -> None:
        conversation = self.conversation
        if conversation.lost or not self._understood(data):
            self.leave(at_s, at_s, data)
            return
        try:
            for piece in self._splitter.feed(data):
                match piece:
                    case Head():
                        self._head(at_s, piece)
                    case Done():
                        self._message, self._felt = None, []
                        self._done(at_s)
                    case Body(part) | Frame(part):
                        self._part(at_s, part, is_body=isinstance(piece, Body))
                if conversation.lost:  # it has become something else with this message
                    self.let_rest_pass(at_s)
                    return
        except NotHttp as rest:
            self.leave(at_s, at_s, rest.rest)
            conversation.lose(at_s)

    def _end(self, at_s: float, end: End) -> None:
        rest = self._splitter.rest()
        if rest:
            self._leave(at_s, at_s, rest)
        self._leave(at_s, at_s, end)

    def _part(self, at_s: float, part: bytes, *, is_body: bool) -> None:
        for falling in self._felt:
            falling.meter.bytes += len(part)
            falling.meter.last_s = at_s
        if self._message is None:
            self.leave(at_s, at_s, part)
        elif is_body:
            self._message.body(at_s, part)
        else:
            self._message.frame(at_s, part)

    def _treat(self, at_s: float, head: Head, felt: Iterable[Falling]) -> tuple[Message, Treatment]:
        """Begin a message that some toxics fall on."""
        treatment = Treatment()
        self._felt = list(felt)
        for falling in self._felt:
            falling.touch(at_s)
            falling.meter.bytes += len(head.raw)
            falling.toxic.treat(treatment, falling.rng)
        self._message = Message(self, at_s, treatment, swallowed=treatment.answer is not None)
        return self._message, treatment

    @abstractmethod
    def _understood(self, data: bytes) -> bool:
        """Decide whether these bytes are to be cut into messages; else they pass as they are."""

    @abstractmethod
    def _head(self, at_s: float, head: Head) -> None:
        """Deal with the head of a message."""

    @abstractmethod
    def _done(self, at_s: float) -> None:
        """Deal with the end of a message."""


class RequestStage(_HttpStage):
    """The caller's direction."""

    __slots__ = ("_current",)

    def __init__(self, conversation: Conversation, now_s: float) -> None:
        super().__init__(conversation, now_s, Splitter())
        self._current: _Exchange | None = None

    @property
    def full(self) -> bool:
        """Whether the caller should wait."""
        return self.held_bytes > self.limit_bytes or len(self.conversation.open) >= OPEN_MAX

    def _understood(self, data: bytes) -> bool:
        if not self.conversation.in_step:
            self.conversation.in_step = begins_request(data)
        return self.conversation.in_step

    def _head(self, at_s: float, head: Head) -> None:
        self._current = exchange = self.conversation.begin(head)
        if not exchange.on_request:
            self.leave(at_s, at_s, head.raw)
            return
        message, treatment = self._treat(at_s, head, exchange.on_request)
        exchange.stand_in, exchange.ready_s = treatment.answer, message.ready_s
        message.head(at_s, head)
        if treatment.answer is not None and "expect" in head.headers:
            exchange.complete = True  # the caller waits for a word before it sends the body, and this is it
            self.conversation.settle(at_s)

    def _done(self, at_s: float) -> None:
        assert self._current is not None
        self._current.complete = True
        self.conversation.settle(at_s)


class AnswerStage(_HttpStage):
    """The server's direction."""

    __slots__ = ("_interim",)

    def __init__(self, conversation: Conversation, now_s: float) -> None:
        super().__init__(conversation, now_s, Splitter(self._request_method))
        self._interim = False

    def say(self, due_s: float, answer: bytes) -> None:
        """Give an answer that came from no server."""
        self.leave(due_s, due_s, answer)

    def _request_method(self) -> str:
        """Return the method of the request whose turn it is."""
        open_requests = self.conversation.open
        return open_requests[0].request.method if open_requests else ""

    def _understood(self, data: bytes) -> bool:  # noqa: ARG002 - it is the requests that show where it begins
        return self.conversation.in_step

    def _head(self, at_s: float, head: Head) -> None:
        conversation = self.conversation
        if not conversation.open:  # nobody has asked
            self.leave(at_s, at_s, head.raw)
            conversation.lose(at_s)
            return
        exchange = conversation.open[0]
        self._interim = 100 <= head.status < 200
        if self._interim or not exchange.on_answer:
            self.leave(at_s, at_s, head.raw)
            if head.status == 101 or (exchange.request.method == "CONNECT" and 200 <= head.status < 300):
                conversation.lose(at_s)
            return
        message, treatment = self._treat(at_s, head, exchange.on_answer)
        if treatment.answer is None or treatment.abort_after_bytes <= 0:
            message.head(at_s, head)
            return
        last = self._splitter.until_end or not (head.keeps_alive and exchange.request.keeps_alive)
        self.leave(message.ready_s, at_s, treatment.answer.to_bytes(exchange.request, last=last))

    def _done(self, at_s: float) -> None:
        if self._interim:
            self._interim = False
        elif self.conversation.open:
            self.conversation.open.popleft()
            self.conversation.settle(at_s)
