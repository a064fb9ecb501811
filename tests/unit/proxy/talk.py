"""HTTP on one connection without a connection: both directions of a conversation on a fake clock."""

from __future__ import annotations

from math import inf

from chaos.proxy.toxics import KINDS, Conversation, Direction, End, InstalledToxic, Item, Life
from chaos.proxy.toxics.chain import Stage
from tests.unit.proxy.wire import START_S


def toxic(
    kind: str, *, stream: str = "upstream", name: str = "t", seed: int = 1, drop: str = "", **attributes: object
) -> InstalledToxic:
    """An HTTP toxic in its place; ``drop`` is the attribute ``name`` of ``http_drop_header``."""
    made = KINDS[kind]().with_attributes({**attributes, **({"name": drop} if drop else {})})
    assert made.problems() == []
    return InstalledToxic(
        name=name,
        direction=Direction(stream),
        stream=stream,
        toxicity=1.0,
        toxic=made,
        life=Life(since_s=START_S, seed=f"{seed}/p/{name}/1"),
    )


class Talk:
    """A caller and a server, with a conversation between them; moments are relative to START_S."""

    def __init__(self, *toxics: InstalledToxic, number: int = 1, fresh: bool = True) -> None:
        self.conversation = Conversation(START_S, fresh=fresh)
        self.now_s = 0.0
        self.to_server: list[tuple[float, Item]] = []
        self.to_caller: list[tuple[float, Item]] = []
        for each in toxics:
            falling = each.falling(number)
            assert falling is not None
            self.conversation.add(falling)

    def caller(self, *said: Item, at_s: float | None = None) -> Talk:
        """The caller says something."""
        return self._feed(self.conversation.requests, said, at_s)

    def server(self, *said: Item, at_s: float | None = None) -> Talk:
        """The server says something."""
        return self._feed(self.conversation.answers, said, at_s)

    def until(self, at_s: float) -> Talk:
        """Let time pass."""
        for stage, out in ((self.conversation.requests, self.to_server), (self.conversation.answers, self.to_caller)):
            while stage.due_s <= START_S + at_s + 1e-9:
                due_s, item = stage.pop()
                out.append((round(max(due_s - START_S, self.now_s), 6), item))
        self.now_s = at_s
        return self

    def finish(self) -> Talk:
        """Let out all that will ever come out by itself."""
        while min(self.conversation.requests.due_s, self.conversation.answers.due_s) < inf:
            last_s = max(
                due_s for due_s in (self.conversation.requests.due_s, self.conversation.answers.due_s) if due_s < inf
            )
            self.until(max(self.now_s, last_s - START_S))
        return self

    @property
    def server_heard(self) -> bytes:
        return _bytes_of(self.to_server)

    @property
    def caller_heard(self) -> bytes:
        return _bytes_of(self.to_caller)

    @property
    def ends(self) -> tuple[End | None, End | None]:
        """How the server's and the caller's side ended."""
        return _end_of(self.to_server), _end_of(self.to_caller)

    def _feed(self, stage: Stage, said: tuple[Item, ...], at_s: float | None) -> Talk:
        if at_s is not None:
            self.until(at_s)
        for item in said:
            stage.push(START_S + self.now_s, item)
        return self.until(self.now_s)


def _bytes_of(out: list[tuple[float, Item]]) -> bytes:
    return b"".join(item for _, item in out if isinstance(item, bytes))


def _end_of(out: list[tuple[float, Item]]) -> End | None:
    return next((item for _, item in out if isinstance(item, End)), None)
