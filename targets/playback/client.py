"""The playback client: asks for a play, probes the OCAs, streams into a buffer, and moves on when an OCA lets it down.

It is sans-IO: `PlaybackClient.run` is a generator that yields what it wants done and is sent what came of it, clock
included (see `client_protocol`). So one client serves Locust (gevent), asyncio, and tests that never sleep::

    client = PlaybackClient(order, config, rng=random.Random(7), tell=print)
    steps = client.run(now_s)
    request = next(steps)
    while True:
        request = steps.send(carry_out(request))        # until StopIteration

While a request is under way the driver calls `PlaybackClient.report` about once a second, so that what is watched
becomes known while it happens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from targets.playback import chunk_format
from targets.playback.client_bitrate import next_kbps
from targets.playback.client_buffer import PlaybackBuffer
from targets.playback.client_choice import OcaChoice
from targets.playback.client_protocol import (
    Answer,
    Ended,
    Failed,
    HttpRequest,
    Oca,
    ProbeAll,
    Probed,
    Refused,
    Reply,
    Request,
    RequestKind,
    Started,
    Switched,
    Tell,
    Ticket,
    Wait,
    Watched,
)
from targets.playback.video import VideoScale

Steps = Generator[Request, Answer, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOrder:
    """One press of the play button: who wants to see what, from where, and since when.

    ``scheduled_s`` is the moment the play was due; the play delay counts from it.
    """

    elb: str
    """``host:port`` of the load balancer."""
    title: str
    token: str
    client_ip: str
    scheduled_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The client's limits, and which of its protections are on. All times in seconds."""

    scale: VideoScale = field(default_factory=VideoScale)
    retry: bool = True
    """Ask a second time, on another connection, when the first answer is none or an error."""
    probe: bool = True
    """Measure the OCAs before taking one; off: take the first of the list."""
    failover: bool = True
    """Move to another OCA when one stalls, dies or slows; off: stick with the first one."""
    checksum: bool = True
    """Go elsewhere when a chunk is not what it should be; off: show it, a second of broken picture."""
    play_timeout_s: float = 1.5
    """For one try of the play request."""
    retry_pause_s: float = 0.1
    """Before the second try, and between tries on one OCA; each time up to half more, at random."""
    probe_timeout_s: float = 0.4
    probe_grace_s: float = 0.05
    """Who answers a probe this much later than the first is not waited for."""
    probe_tolerance_s: float = 0.02
    """Who answers within this of the fastest is as fast."""
    chunk_timeout_max_s: float = 1.0
    chunk_timeout_min_s: float = 0.4
    """The timeout of a chunk is a third of the buffer between these two, so that there is time for two more OCAs."""
    slow_chunk_s: float = 0.5
    """Two chunks in a row that take longer than this, and the OCA is left."""
    reprobe_pause_max_s: float = 1.0
    start_limit_s: float = 5.0
    """A play without a first frame by then has failed; from the moment it was due."""
    give_up_s: float = 10.0
    """A viewer who sees the picture stand still for this long in a row goes away."""

    @classmethod
    def of(cls, settings: Mapping[str, str | int | float | bool], disabled: Sequence[str]) -> ClientConfig:
        """Return the configuration for a topology's settings and the protections that are switched off.

        Raises ValueError when the setting ``video_scale`` is not a number of 1 or more.
        """
        return cls(
            scale=VideoScale(float(settings.get("video_scale", VideoScale().factor))),
            retry="client_retry" not in disabled,
            probe="client_probe" not in disabled,
            failover="client_failover" not in disabled,
            checksum="client_checksum" not in disabled,
        )


class PlaybackClient:
    """One viewer's session, from the press of the button to the last frame. Use each object for one session."""

    def __init__(self, order: PlayOrder, config: ClientConfig, *, rng: random.Random, tell: Tell) -> None:
        self._order = order
        self._config = config
        self._rng = rng
        self._tell = tell
        self._now_s = order.scheduled_s
        self._buffer: PlaybackBuffer | None = None
        self._ticket: Ticket | None = None
        self._kbps: int | None = None
        self._rounds = 0  # times that all OCAs have failed
        self._slow_in_a_row = 0
        self._switches = 0
        self._played_s = self._stalled_s = self._kbit = 0.0
        self.reported_s = order.scheduled_s
        """The moment up to which what was watched has been told."""

    @property
    def started(self) -> bool:
        """Whether the first frame has been shown."""
        return self._buffer is not None and self._buffer.playing

    def run(self, now_s: float) -> Steps:
        """Play the session; a generator of requests. It ends in a bounded time, whatever the answers are."""
        self._now_s = now_s
        ticket = yield from self._ask()
        if ticket is None:
            return
        self._ticket = ticket
        self._buffer = PlaybackBuffer(total_s=ticket.chunks * ticket.chunk_s)
        choice = OcaChoice(ticket.ocas, tolerance_s=self._config.probe_tolerance_s, rng=self._rng)
        if self._config.probe:
            yield from self._probe(choice)
        for number in range(ticket.chunks):
            yield from self._wait_for_level(max(0.0, self._config.scale.buffer_cap_s - ticket.chunk_s))
            if not (yield from self._fetch(choice, number)):
                return
        yield from self._wait_for_level(0.0)
        self._end(completed=True)

    def report(self, now_s: float) -> None:
        """Tell what has been watched since the last time, up to ``now_s``. May be called at any moment."""
        account = self._buffer.read(now_s) if self._buffer is not None else None
        self.reported_s = max(self.reported_s, now_s)
        if account is None:
            return
        self._played_s += account.played_s
        self._stalled_s += account.stalled_s
        self._kbit += account.kbit
        self._tell(
            Watched(
                since_s=account.since_s,
                now_s=account.until_s,
                played_s=account.played_s,
                stalled_s=account.stalled_s,
                kbit=account.kbit,
            )
        )

    # ---- asking for a play

    def _ask(self) -> Generator[Request, Answer, Ticket | None]:
        problem = ""
        for attempt in range(2 if self._config.retry else 1):
            if attempt:
                yield from self._pause(self._config.retry_pause_s)
            timeout_s = min(self._config.play_timeout_s, self._start_limit_s - self._now_s)
            if timeout_s <= 0.0:
                problem = problem or "the load started it too late"
                break
            reply = yield from self._http(self._play_request(timeout_s))
            if reply.status == 200:
                try:
                    return Ticket.from_json(reply.body)
                except ValueError as error:
                    problem = str(error)
            elif reply.status == 403:
                self._tell(Refused(now_s=self._now_s, reason=_refusal(reply.body)))
                return None
            else:
                problem = f"play: {_problem(reply)}"
                if 400 <= reply.status < 500:
                    break  # our own mistake: asking again cannot help
        self._tell(Failed(now_s=self._now_s, reason=problem))
        return None

    def _play_request(self, timeout_s: float) -> HttpRequest:
        return HttpRequest(
            kind=RequestKind.PLAY,
            address=self._order.elb,
            method="POST",
            path="/play",
            headers={
                "Authorization": f"Bearer {self._order.token}",
                "Content-Type": "application/json",
                "X-Forwarded-For": self._order.client_ip,
                "X-Chaos-Deadline-Ms": str(round(timeout_s * 1000)),
            },
            body=json.dumps({"title": self._order.title}).encode(),
            timeout_s=timeout_s,
            fresh=True,
        )

    @property
    def _start_limit_s(self) -> float:
        return self._order.scheduled_s + self._config.start_limit_s

    # ---- streaming

    def _fetch(self, choice: OcaChoice, number: int) -> Generator[Request, Answer, bool]:
        """Bring chunk ``number`` into the buffer, from whichever OCA gives it; False when the session is over."""
        assert self._ticket is not None
        assert self._buffer is not None
        ticket, buffer, problem = self._ticket, self._buffer, ""
        while not self._is_over(problem):
            kbps = next_kbps(self._kbps, buffer.level_s, ticket.ladder_kbps, self._config.scale)
            asked_s = self._now_s
            reply = yield from self._http(
                HttpRequest(
                    kind=RequestKind.CHUNK,
                    address=choice.current.address,
                    method="GET",
                    path=f"/titles/{ticket.title}/{kbps}/{number}",
                    timeout_s=self._chunk_timeout_s(buffer),
                )
            )
            wrong = chunk_format.check(reply.body, ticket.title, kbps, number) if reply.status == 200 else None
            if reply.status == 200 and (wrong is None or not self._config.checksum):
                self._kbps = kbps
                self._take_chunk(ticket, buffer, kbps, intact=wrong is None)
                self._note_speed(choice, self._now_s - asked_s)
                return True
            problem = _problem(reply) if wrong is None else f"sent {wrong}"
            yield from self._move_on(choice, problem)
        return False

    def _is_over(self, problem: str) -> bool:
        """Return whether it is time to give up, and if so tell it."""
        assert self._buffer is not None
        if not self._buffer.playing:
            if self._now_s < self._start_limit_s:
                return False
            limit_s = self._config.start_limit_s
            self._tell(
                Failed(now_s=self._now_s, reason=f"no first frame within {limit_s:g} s ({problem or 'too slow'})")
            )
            return True
        self._buffer.advance(self._now_s)
        if self._buffer.stalled_in_a_row_s < self._config.give_up_s:
            return False
        self._end(completed=False)
        return True

    def _chunk_timeout_s(self, buffer: PlaybackBuffer) -> float:
        least_s = self._config.chunk_timeout_min_s
        most_s = self._config.chunk_timeout_max_s
        patient_s = min(most_s, least_s * 2.0 ** min(self._rounds, 10))  # when all fail, being hasty makes it worse
        timeout_s = max(patient_s, min(most_s, buffer.level_s / 3))
        if not buffer.playing:
            timeout_s = min(timeout_s, max(0.001, self._start_limit_s - self._now_s))
        return timeout_s

    def _take_chunk(self, ticket: Ticket, buffer: PlaybackBuffer, kbps: int, *, intact: bool) -> None:
        first = not buffer.playing
        buffer.add(self._now_s, seconds=ticket.chunk_s, kbps=kbps, intact=intact)
        if first:
            delay_s = self._now_s - self._order.scheduled_s
            self._tell(Started(now_s=self._now_s, play_delay_s=delay_s, degraded=ticket.degraded))
        self.report(self._now_s)

    def _note_speed(self, choice: OcaChoice, took_s: float) -> None:
        """Leave an OCA that is slow twice in a row; without a pause, because it does give us something."""
        self._slow_in_a_row = self._slow_in_a_row + 1 if took_s > self._config.slow_chunk_s else 0
        if self._slow_in_a_row >= 2 and self._config.failover:
            left = choice.current
            if not choice.leave():
                choice.start_over()
            self._note_switch(left, choice.current, "slow")

    def _move_on(self, choice: OcaChoice, reason: str) -> Steps:
        """Go to the next OCA; when all have let us down, pause, measure them again and begin at the best."""
        if not self._config.failover:
            yield from self._pause(self._config.retry_pause_s)
            return
        left = choice.current
        if not choice.leave():
            self._rounds += 1
            yield from self._pause(min(self._config.reprobe_pause_max_s, 0.1 * 2 ** min(self._rounds, 10)))
            if self._config.probe:
                yield from self._probe(choice)
            else:
                choice.start_over()
        self._note_switch(left, choice.current, reason)

    def _note_switch(self, left: Oca, taken: Oca, reason: str) -> None:
        self._slow_in_a_row = 0
        self._switches += 1
        self._tell(Switched(now_s=self._now_s, left=left.id, taken=taken.id, reason=reason))

    def _probe(self, choice: OcaChoice) -> Steps:
        addresses = tuple(oca.address for oca in choice.offered)
        answer = yield ProbeAll(
            addresses=addresses,
            path="/probe",
            timeout_s=self._config.probe_timeout_s,
            grace_s=self._config.probe_grace_s,
        )
        assert isinstance(answer, Probed), "a ProbeAll is answered by a Probed"
        self._now_s = answer.now_s
        choice.rank(answer.latencies_s)

    # ---- time

    def _http(self, request: HttpRequest) -> Generator[Request, Answer, Reply]:
        reply = yield request
        assert isinstance(reply, Reply), "an HttpRequest is answered by a Reply"
        self._now_s = reply.now_s
        if self._buffer is not None:
            self._buffer.advance(self._now_s)
        return reply

    def _pause(self, length_s: float) -> Steps:
        answer = yield Wait(until_s=self._now_s + length_s * (1.0 + 0.5 * self._rng.random()))
        self._now_s = answer.now_s

    def _wait_for_level(self, level_s: float) -> Steps:
        """Wait until the buffer has drained down to ``level_s``."""
        assert self._buffer is not None
        self._buffer.advance(self._now_s)
        while self._buffer.level_s > level_s:
            # A step that floats can tell from none at all, so that rounding cannot make us wait for ever.
            answer = yield Wait(until_s=self._now_s + max(1e-4, self._buffer.level_s - level_s))
            self._now_s = answer.now_s
            self._buffer.advance(self._now_s)

    def _end(self, *, completed: bool) -> None:
        assert self._buffer is not None
        self.report(self._now_s)
        self._tell(
            Ended(
                now_s=self._now_s,
                completed=completed,
                played_s=self._played_s,
                stalled_s=self._stalled_s,
                kbit=self._kbit,
                stalls=self._buffer.stalls,
                switches=self._switches,
            )
        )


def _problem(reply: Reply) -> str:
    return f"answered {reply.status}" if reply.status else (reply.error or "no answer")


def _refusal(body: bytes) -> str:
    try:
        return str(json.loads(body)["refused"])
    except (ValueError, KeyError, TypeError):
        return "unknown"
