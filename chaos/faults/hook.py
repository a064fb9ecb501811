"""The fault that an application commits itself: it is asked to, through an endpoint that it offers for that.

    apply    evidence? --> request          undo    undo          at each victim's own address, past all proxies
    receipt  evidence?  (by how much has the number grown?)       (of several workers: each one's own)

For what neither the wire nor the process can show from outside: a full disk, an expired key, a batch of garbage to be
eaten. What the request does must live in the process, and end with it: a victim that was ended or started anew in the
meantime has lost it, and so have all when the target's processes end with the run, however it ends. That is why
nothing is written down for the guardian. What has no undo (``undo: none``) ends in the same way: the next run then gets
a target started anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from chaos.errors import EnvironmentFailure
from chaos.faults.base import Applied, Layer, Receipt, Request, World
from chaos.faults.settings import CheckedSettings, setting
from chaos.faults.together import count, everywhere, take_back

NO_UNDO = "none"
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
TIMEOUT_S_MAX = 30
_SETTING = re.compile(r"\{settings\[([^\]{}]+)\]\}")
_KEYS_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook(CheckedSettings):
    """Asks the application itself to misbehave, through an endpoint that it offers for that."""

    kind: ClassVar[str] = "hook"
    layer: ClassVar[Layer] = Layer.HOST

    request: str = setting("the request that starts it, like 'PUT /admin/disk', at each victim's own address")
    json: str = setting("the body of the request, like '{\"full\": true}'", "")
    undo: str = setting("the request that ends it, like 'DELETE /admin/disk'; none: there is nothing to end")
    undo_json: str = setting("the body of that one", "")
    evidence: str = setting(
        "path and key of a number in a JSON answer, like '/admin/disk writes.refused': by how much it grows is the "
        "receipt; without it, must_break has to show that something happened",
        "",
    )
    authorization: str = setting(
        "the header of this name, like 'Bearer {settings[admin_token]}' with a setting of the target", ""
    )
    timeout_s: float = setting("how long each request may take", 2.0, least=0.05, most=TIMEOUT_S_MAX)

    @property
    def proves_itself(self) -> bool:
        """Only by a number that grows: that the application said yes is no evidence."""
        return bool(self.evidence)

    @property
    def leaves_traces(self) -> bool:
        """What is never ended stays for as long as the process."""
        return self.undo == NO_UNDO

    @property
    def holds(self) -> str:
        """What its undo ends, whoever began it."""
        return "" if self.undo == NO_UNDO else f"what {' '.join(filter(None, (self.undo, self.undo_json)))} ends"

    def target_settings(self) -> Sequence[tuple[str, str]]:
        """Return those in braces."""
        texts = {name: text for name, text in self._texts().items() if not name.endswith("json")}
        return [(name, inside) for name, text in texts.items() for inside in _SETTING.findall(text)]

    def check_together(self) -> Sequence[tuple[str, str]]:
        """Requests must be requests, and bodies JSON."""
        problems = [
            (name, "has a line break or another control character")
            for name, text in self._texts().items()
            if not text.isprintable()
        ]
        if problems:
            return problems
        for name in ("request", "undo"):
            text = self._texts()[name]
            if not _is_request(text) and (name, text) != ("undo", NO_UNDO):
                otherwise = ", or none" if name == "undo" else ""
                said = (
                    f"{text!r} is no request; write a method ({', '.join(METHODS)}) and a path, like 'PUT /admin/disk'"
                )
                problems.append((name, f"{said}{otherwise}"))
        if self.evidence and not re.fullmatch(r"/\S* [^\s.]+(\.[^\s.]+)*", self.evidence):
            said = f"{self.evidence!r} is not understood; write a path and a key, like '/admin/disk writes.refused'"
            problems.append(("evidence", said))
        problems += [
            (name, f"is no JSON: {wrong}")
            for name in ("json", "undo_json")
            if (wrong := _not_json(self._texts()[name]))
        ]
        if self.undo_json and self.undo == NO_UNDO:
            problems.append(("undo_json", "is the body of a request that is not made, as undo is none"))
        return problems

    async def apply(self, world: World, victims: Sequence[str], name: str) -> Applied:  # noqa: ARG002 - needs no name
        """Ask every victim, after a look at the evidence."""
        applied = AppliedHook(hook=self, world=world, victims=tuple(victims))
        applied.before.update(await applied.evidence())
        try:
            await everywhere(applied.begin(victim) for victim in victims)
        except BaseException as cause:  # a cancelled apply takes back what it did, too
            await take_back(applied, cause)
            raise
        return applied

    def asking(self, text: str, body: str = "") -> Request:
        """Return the request written as ``METHOD /path``."""
        method, path = text.split(" ", 1)
        return Request(method=method, path=path, json=body, authorization=self.authorization, timeout_s=self.timeout_s)

    def _texts(self) -> Mapping[str, str]:
        names = ("request", "json", "undo", "undo_json", "evidence", "authorization")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedHook:
    """Applications that were asked to misbehave."""

    hook: Hook
    world: World
    victims: tuple[str, ...]
    asked: dict[str, int | None] = field(default_factory=dict)
    """The victims that misbehave, each with the process that was asked; undone ones are taken out."""
    said_yes: dict[str, int] = field(default_factory=dict)
    """How many processes of each victim said yes: one, or all of its workers."""
    before: dict[str, tuple[int | None, tuple[float, ...]]] = field(default_factory=dict)
    """For each victim its process, and the evidence's number in it (in each of its workers) before the request."""

    async def begin(self, victim: str) -> None:
        """Ask one victim."""
        self.asked[victim] = self.world.pid_of(victim)  # before the answer: it may come too late for us to see it
        self.said_yes[victim] = len(await self.world.ask(victim, self.hook.asking(self.hook.request, self.hook.json)))

    async def receipt(self) -> Receipt:
        """Say by how much the evidence grew in the processes that were asked."""
        asked = count(sum(self.said_yes.values()), "process")
        if not self.hook.evidence:
            said = f"{asked} said yes to {self.hook.request}; whether that did anything is for must_break to show"
            return Receipt(connections=sum(self.said_yes.values()), bytes=0, evidence=said)
        now = await self.evidence()
        same = [victim for victim, (pid, _) in self.before.items() if victim in now and now[victim][0] == pid]
        pairs = [pair for victim in same for pair in zip(self.before[victim][1], now[victim][1], strict=True)]
        grown = sum(max(0.0, after - before) for before, after in pairs)
        key = self.hook.evidence.split(" ", 1)[1]
        lost = sum(self.said_yes.values()) - len(pairs)
        gone = f"; {count(lost, 'process')} gone since" if lost else ""
        said = f"{asked} said yes to {self.hook.request}, {key} grew by {grown:g}{gone}"
        return Receipt(connections=max(round(grown), int(grown > 0)), bytes=0, evidence=said)

    async def undo(self) -> None:
        """Ask the victims to stop; those that were started anew since have stopped by that."""
        if self.hook.undo == NO_UNDO:
            return
        await everywhere(self._end(victim) for victim in tuple(self.asked))

    async def _end(self, victim: str) -> None:
        pid = self.world.pid_of(victim)
        if pid is not None and pid == self.asked[victim]:
            try:
                await self.world.ask(victim, self.hook.asking(self.hook.undo, self.hook.undo_json))
            except EnvironmentFailure:
                if self.world.pid_of(victim) == pid:  # it did not end while it was being asked
                    raise
        self.asked.pop(victim, None)

    async def evidence(self) -> dict[str, tuple[int | None, tuple[float, ...]]]:
        """Return process and numbers of every victim that has a process."""
        found: dict[str, tuple[int | None, tuple[float, ...]]] = {}
        if self.hook.evidence:
            await everywhere(self._look(victim, found) for victim in self.victims)
        return found

    async def _look(self, victim: str, found: dict[str, tuple[int | None, tuple[float, ...]]]) -> None:
        path, key = self.hook.evidence.split(" ", 1)
        pid = self.world.pid_of(victim)
        if pid is None:
            return
        try:
            bodies = await self.world.ask(victim, self.hook.asking(f"GET {path}"))
        except EnvironmentFailure:
            if self.world.pid_of(victim) == pid:
                raise
            return
        found[victim] = (pid, tuple(_number_in(body, key, f"GET {path} of {victim}") for body in bodies))


def _number_in(body: bytes, key: str, source: str) -> float:
    """Return the number at the dotted ``key`` of a JSON answer; raise EnvironmentFailure when there is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EnvironmentFailure(f"the evidence cannot be read: {source} did not answer in JSON ({error})") from error
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            there = ", ".join(list(value)[:_KEYS_SHOWN]) if isinstance(value, dict) else "no keys"
            raise EnvironmentFailure(
                f"the evidence is not there: {source} has no {key!r}; at {part!r} there are: {there}"
            )
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EnvironmentFailure(f"the evidence is no number: {source} has {value!r} at {key!r}")
    return value


def _is_request(text: str) -> bool:
    method, _, path = text.partition(" ")
    return method in METHODS and re.fullmatch(r"/\S*", path) is not None


def _not_json(text: str) -> str:
    """Return what is wrong with a body; nothing when it is empty or JSON."""
    try:
        json.loads(text or "0")
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""
