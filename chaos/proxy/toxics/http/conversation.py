"""HTTP on one connection, sans-IO: requests one way, their answers the other, and toxics on those they fall on.

    caller --> RequestStage --> other toxics --> server
    caller <-- other toxics <-- AnswerStage  <-- server

Both stages are the first of their chains and share a ``Conversation``: the requests that are not answered yet, in
order. An answer that a toxic gives itself takes its place in that order, so pipelined requests stay in step. What no
toxic falls on passes byte for byte.

A conversation can begin on a connection that is open already: it then waits for a chunk that begins with a request.
(A caller that does not pipeline has by then read all the answers to the requests before.) When a stream turns out not
to be HTTP/1.1, or to become something else (``CONNECT``, ``Upgrade``), everything passes as it is from there on.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chaos.proxy.toxics.chain import End, Item, Stage
from chaos.proxy.toxics.http.framing import Body, Done, Frame, Head, NotHttp, Splitter, begins_request
from chaos.proxy.toxics.http.kinds import Answer, Count, HttpToxic, Treatment
from chaos.proxy.toxics.http.message import Message
from chaos.proxy.toxics.meter import Meter

OPEN_MAX = 256
"""With so many requests unanswered on one connection the caller has to wait."""


@dataclass(slots=True, kw_only=True, eq=False)
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
        """Let a toxic go on with other settings; what it held goes on at once."""
        for falling in self.toxics:
            if falling.name == name:
                falling.toxic = toxic
                self._hurry(now_s, falling)

    def remove(self, now_s: float, name: str) -> None:
        """Take a toxic away; what it held goes on at once."""
        gone = [falling for falling in self.toxics if falling.name == name]
        self.toxics = [falling for falling in self.toxics if falling.name != name]
        for exchange in self.open:
            exchange.on_answer = [falling for falling in exchange.on_answer if falling.name != name]
        for falling in gone:
            self._hurry(now_s, falling)
        if not (self.toxics or self.open or self._owes()):
            self.in_step = False  # half a head need not wait for its other half any more; it may be none
            self._let_pass(now_s)

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
            answer = exchange.stand_in.to_bytes(exchange.request, last=last)
            self.answers.say(max(exchange.ready_s, at_s), answer, exchange.on_request)
            if last:
                self.answers.leave(at_s, at_s, End.CLOSE)

    def lose(self, at_s: float) -> None:
        """Let everything pass as it is from here on; where something is missing by then, break the connection off."""
        self.lost = True
        if self._owes():
            self.answers.leave(at_s, at_s, End.RESET)
        self._let_pass(at_s)

    def _owes(self) -> bool:
        """Whether something was swallowed that the other side has not got a substitute for, or half of it."""
        swallowing = self.requests.swallows or self.answers.swallows
        return swallowing or any(exchange.stand_in is not None for exchange in self.open)

    def _let_pass(self, at_s: float) -> None:
        self.open.clear()
        for stage in (self.requests, self.answers):
            stage.let_rest_pass(at_s)

    def _hurry(self, now_s: float, falling: Falling) -> None:
        for exchange in self.open:
            if falling in exchange.on_request:
                exchange.ready_s = min(exchange.ready_s, now_s)
        for stage in (self.requests, self.answers):
            stage.hurry(now_s, falling)


class _HttpStage(Stage, ABC):
    """What both directions share."""

    __slots__ = ("_causes", "_felt", "_message", "_splitter", "conversation")

    def __init__(self, conversation: Conversation, now_s: float, splitter: Splitter) -> None:
        super().__init__(now_s)
        self.conversation = conversation
        self._splitter = splitter
        self._message: Message | None = None
        self._felt: Sequence[Falling] = ()  # by the message under way
        # For each thing that is held, when it would leave if nothing was before it, and the toxics that say so.
        self._causes: deque[tuple[float, Sequence[Falling]]] = deque()

    @property
    def between(self) -> bool:
        """Whether no message is under way."""
        return self._splitter.between

    @property
    def swallows(self) -> bool:
        """Whether the message under way goes nowhere."""
        return self._message is not None and self._message.swallowed

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
        """Let what was kept to be understood pass as it is, and expect the beginning of a message."""
        self._message, self._felt = None, ()
        self.leave(at_s, at_s, self._splitter.rest())

    def hurry(self, now_s: float, falling: Falling) -> None:
        """Let leave now what this toxic holds, and go untroubled what still comes of the message that it fell on."""
        held = list(zip(self._queue, self._causes, strict=True))
        self.rest()
        self._last_due_s = min(self._last_due_s, now_s)
        for (_, arrived_s, item), (due_s, felt) in held:
            self._leave_for(felt, min(due_s, now_s) if falling in felt else due_s, arrived_s, item)
        if self._message is not None and falling in self._felt:
            self._message.calm(now_s)

    def pop(self) -> tuple[float, Item]:
        self._causes.popleft()
        return super().pop()

    def rest(self) -> list[tuple[float, Item]]:
        self._causes.clear()
        return super().rest()

    def _leave(self, due_s: float, arrived_s: float, item: Item) -> None:
        self._leave_for(self._felt, due_s, arrived_s, item)

    def _leave_for(self, felt: Sequence[Falling], due_s: float, arrived_s: float, item: Item) -> None:
        self._causes.append((due_s, felt))
        super()._leave(due_s, arrived_s, item)

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
                        self._message, self._felt = None, ()
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
        """Whether the caller should wait: also when its requests make answers faster than it reads them.

        A server that answers is made to wait by itself; only answers that stand in have nobody else to stop.
        """
        if self.held_bytes > self.limit_bytes or len(self.conversation.open) >= OPEN_MAX:
            return True
        last = self._current
        return last is not None and last.stand_in is not None and self.conversation.answers.full

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
        exchange.ready_s = message.ready_s
        if treatment.abort_after_bytes > 0:
            exchange.stand_in = treatment.answer
        message.head(at_s, head)
        if exchange.stand_in is not None and "expect" in head.headers:
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

    def say(self, due_s: float, answer: bytes, felt: Sequence[Falling]) -> None:
        """Give an answer that came from no server, but from toxics."""
        if not self._ended:
            self._leave_for(felt, due_s, due_s, answer)

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
        tunnel = head.status == 101 or (exchange.request.method == "CONNECT" and 200 <= head.status < 300)
        self._interim = 100 <= head.status < 200
        if exchange.on_answer and (tunnel or not self._interim):
            self._troubled_head(at_s, head, exchange, tunnel=tunnel)
        else:
            self.leave(at_s, at_s, head.raw)
        if tunnel:
            conversation.lose(at_s)

    def _troubled_head(self, at_s: float, head: Head, exchange: _Exchange, *, tunnel: bool) -> None:
        message, treatment = self._treat(at_s, head, exchange.on_answer)
        if treatment.answer is None or treatment.abort_after_bytes <= 0:
            message.head(at_s, head)
            return
        keeps_alive = head.keeps_alive and exchange.request.keeps_alive
        last = tunnel or self._splitter.until_end or not keeps_alive
        self.leave(message.ready_s, at_s, treatment.answer.to_bytes(exchange.request, last=last))
        if tunnel:  # the server thinks that there is one now, and the caller that there is none
            self.leave(message.ready_s, at_s, End.CLOSE)

    def _done(self, at_s: float) -> None:
        if self._interim:
            self._interim = False
        elif self.conversation.open:
            self.conversation.open.popleft()
            self.conversation.settle(at_s)
