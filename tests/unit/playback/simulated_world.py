"""A backend and OCAs on a fake clock, for tests of the playback client: no sockets, no sleeping."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from targets.playback.chunk_format import HEADER_BYTES, pack
from targets.playback.client import PlaybackClient
from targets.playback.client_order import ClientConfig, PlayOrder
from targets.playback.client_protocol import (
    Answer,
    ClientEvent,
    HttpRequest,
    ProbeAll,
    Probed,
    Reply,
    Request,
    RequestKind,
    SendAside,
    Wait,
    Watched,
    Woken,
)
from targets.playback.client_viewing import Viewing
from targets.playback.video import CHUNK_S, LADDER_KBPS, VideoScale

SCALE = VideoScale(60.0)
START_S = 1000.0


@dataclass(frozen=True)
class State:
    """How something answers: ``delay_s`` None is not at all; ``bytes_per_s`` makes long answers slow."""

    status: int = 200
    delay_s: float | None = 0.005
    bytes_per_s: float = 1e9
    corrupt: bool = False
    """One bit of each chunk is not as it should be."""


UP = State()
DEAD = State(status=0, delay_s=0.001)
PAUSED = State(delay_s=None)
FULL = State(status=503)
CORRUPT = State(corrupt=True)


@dataclass
class Timeline:
    """The states of one OCA: each from its second (of the session) on."""

    states: list[tuple[float, State]] = field(default_factory=lambda: [(0.0, UP)])

    def at(self, now_s: float) -> State:
        return [state for since_s, state in self.states if now_s >= START_S + since_s][-1]


def always(state: State) -> Timeline:
    return Timeline([(0.0, state)])


def up_until(second: float, then: State, until: float | None = None) -> Timeline:
    states = [(0.0, UP), (second, then)]
    return Timeline(states if until is None else [*states, (until, UP)])


def oca_address(number: int) -> str:
    return f"127.0.0.1:{7000 + number}"


def ticket(chunks: int = 12, ocas: int = 10, degraded: Sequence[str] = ()) -> bytes:
    return json.dumps(
        {
            "session": "s-1",
            "title": "title-0042",
            "chunks": chunks,
            "chunk_s": CHUNK_S,
            "ladder_kbps": LADDER_KBPS,
            "degraded": list(degraded),
            "ocas": [
                {"id": f"oca-{n}", "url": f"http://{oca_address(n)}", "isp": "alpha" if n < 3 else "beta"}
                for n in range(ocas)
            ],
        }
    ).encode()


@dataclass
class Run:
    """One session as it went: every event and every request."""

    events: list[ClientEvent]
    requests: list[tuple[float, Request]]
    began_s: float
    ended_s: float
    least_level_s: float
    farewell: HttpRequest | None

    def all(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type):
        (event,) = self.all(kind)
        return event

    @property
    def played_s(self) -> float:
        return sum(event.played_s for event in self.all(Watched))

    @property
    def stalled_s(self) -> float:
        return sum(event.stalled_s for event in self.all(Watched))

    def chunks(self) -> list[HttpRequest]:
        return [r for _, r in self.requests if isinstance(r, HttpRequest) and r.kind is RequestKind.CHUNK]

    def reports(self) -> list[dict]:
        """The bodies of the reports to the service of activities."""
        asides = [r.request for _, r in self.requests if isinstance(r, SendAside)]
        assert all(r.path == "/activity" and r.fresh for r in asides)
        return [json.loads(r.body) for r in asides]

    def kbps(self) -> list[int]:
        return [int(request.path.split("/")[3]) for request in self.chunks()]


def simulate(
    ocas: Mapping[int, Timeline] | None = None,
    *,
    plays: Sequence[tuple[State, bytes]] | None = None,
    config: ClientConfig | None = None,
    chunks: int = 12,
    late_s: float = 0.0,
    seed: int = 7,
    report_every_s: float = 0.5,
    others: Timeline | None = None,
    steps_max: int = 5000,
    viewing: Viewing | None = None,
    device: str = "tv",
    key: str = "",
    cut_off_s: float = math.inf,
) -> Run:
    """Play one session; OCAs that are not named behave as ``others`` (up). ``plays`` are the answers of the backend.

    It is cut off as soon as it has gone on for ``cut_off_s``.
    """
    clock = Clock(START_S + late_s, report_every_s)
    events: list[ClientEvent] = []
    order = PlayOrder(
        elb="127.0.0.1:6000",
        title="title-0042",
        token="t",
        client_ip="10.0.0.1",
        scheduled_s=START_S,
        device=device,
        key=key,
        viewing=viewing or Viewing(),
    )
    client = PlaybackClient(order, config or ClientConfig(scale=SCALE), rng=random.Random(seed), tell=events.append)
    timelines = {oca_address(n): (ocas or {}).get(n, others or Timeline()) for n in range(10)}
    answers = list(plays or [(UP, ticket(chunks))])
    requests: list[tuple[float, Request]] = []
    levels: list[float] = [0.0]

    def tick() -> None:
        client.report(clock.now_s)
        if client._buffer is not None:
            levels.append(client._buffer.level_s)

    clock.tick = tick
    steps = client.run(clock.now_s)
    try:
        request = next(steps)
        for _ in range(steps_max):
            if clock.now_s - START_S >= cut_off_s:
                break
            requests.append((clock.now_s, request))
            request = steps.send(carry_out(request, clock, timelines, answers))
            if client._buffer is not None:
                levels.append(client._buffer.level_s)
        else:
            raise AssertionError(f"the client made {steps_max} requests and has not ended")
    except StopIteration:
        pass
    farewell = client.farewell(clock.now_s)
    assert client.farewell(clock.now_s) is None
    return Run(events, requests, START_S, clock.now_s, min(levels), farewell)


@dataclass
class Clock:
    """A clock that stands still, and calls ``tick`` every ``every_s`` while it is moved on, as a driver does."""

    now_s: float
    every_s: float
    tick: Callable[[], None] = lambda: None
    ticked_s: float = 0.0

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while (due_s := max(self.now_s, self.ticked_s + self.every_s)) < end_s:
            self.now_s = self.ticked_s = due_s
            self.tick()
        self.now_s = end_s


def carry_out(
    request: Request, clock: Clock, timelines: Mapping[str, Timeline], plays: list[tuple[State, bytes]]
) -> Answer:
    match request:
        case Wait(until_s=until_s):
            clock.advance(max(0.0, until_s - clock.now_s))
            return Woken(now_s=clock.now_s)
        case SendAside():
            return Woken(now_s=clock.now_s)
        case ProbeAll():
            return probe(request, clock, timelines)
    assert isinstance(request, HttpRequest)
    if request.kind is RequestKind.PLAY:
        state, body = plays.pop(0) if len(plays) > 1 else plays[0]
        length = len(body)
    else:
        state = timelines[request.address].at(clock.now_s)
        body = chunk(request.path, state)
        length = len(body)
    took_s = None if state.delay_s is None else state.delay_s + length / state.bytes_per_s
    if took_s is None or took_s > request.timeout_s:
        clock.advance(request.timeout_s)
        return Reply(now_s=clock.now_s, error="timed out")
    clock.advance(took_s)
    return Reply(now_s=clock.now_s, status=state.status, body=body, error="" if state.status else "connection refused")


def chunk(path: str, state: State) -> bytes:
    _, _, title, kbps, number = path.split("/")
    payload = bytes(SCALE.chunk_bytes(int(kbps)) - HEADER_BYTES)
    body = bytearray(pack(payload, title=title, kbps=int(kbps), number=int(number)))
    if state.corrupt:
        body[-1] ^= 1
    return bytes(body)


def probe(request: ProbeAll, clock: Clock, timelines: Mapping[str, Timeline]) -> Probed:
    states = [timelines[address].at(clock.now_s) for address in request.addresses]
    answered = [None if one.delay_s is None else one.delay_s + 1024 / one.bytes_per_s for one in states]
    good = [at_s for one, at_s in zip(states, answered, strict=True) if one.status == 200 and at_s is not None]
    limit_s = min([request.timeout_s, *(at_s + request.grace_s for at_s in good)])
    last_s = max(limit_s if at_s is None else at_s for at_s in answered)
    clock.advance(min(limit_s, last_s))
    in_time = [
        at_s if one.status == 200 and at_s is not None and at_s <= limit_s else None
        for one, at_s in zip(states, answered, strict=True)
    ]
    return Probed(now_s=clock.now_s, latencies_s=tuple(in_time))
