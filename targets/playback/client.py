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

OCAs are measured twice. The probe goes to all at once and counts to the last byte of its body, which is as long as two
chunks of the lowest bitrate: the near and the unburdened answer first. What it cannot see is a line that is fast for a
moment only, so the first chunk from an OCA is its second measurement: too slow, and the next OCA is taken at once. A
larger probe would tell that too, but from all ten for each viewer, nine times for nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator
from typing import assert_never

from targets.playback import chunk_format
from targets.playback.client_account import Account
from targets.playback.client_bitrate import next_kbps
from targets.playback.client_buffer import PlaybackBuffer
from targets.playback.client_choice import OcaChoice
from targets.playback.client_order import ClientConfig, PlayOrder
from targets.playback.client_play import ask_for_play
from targets.playback.client_protocol import (
    Answer,
    Ended,
    Failed,
    HttpRequest,
    Oca,
    ProbeAll,
    Probed,
    Reply,
    Request,
    RequestKind,
    SendAside,
    Started,
    Switched,
    Tell,
    Ticket,
    Wait,
    Watched,
)
from targets.playback.client_reports import PlayReports
from targets.playback.client_viewing import Pause, Press, Seek, Stop

__all__ = ["ClientConfig", "PlayOrder", "PlaybackClient", "Steps"]

Steps = Generator[Request, Answer, None]

_CRUMB_S = 1e-4
"""Moments closer than this are the same."""


class PlaybackClient:
    """One viewer's session, from the press of the button to the last frame. Use each object for one session.

    ``account`` is whose session it is, when the device can log in again; without it ``order.token`` has to do.
    """

    def __init__(
        self,
        order: PlayOrder,
        config: ClientConfig,
        *,
        rng: random.Random,
        tell: Tell,
        account: Account | None = None,
    ) -> None:
        self._order = order
        self._config = config
        self._rng = rng
        self._tell = tell
        self._account = account or Account(
            order.elb, client_ip=order.client_ip, config=config, rng=rng, token=order.token
        )
        self._now_s = order.scheduled_s
        self._buffer: PlaybackBuffer | None = None
        self._ticket: Ticket | None = None
        self._presses: deque[Press] = deque(order.viewing.presses)
        self._over = ""  # why, once it is
        self._reports: PlayReports | None = None
        self._kbps: int | None = None
        self._rounds = 0  # times that all OCAs have failed
        self._slow_in_a_row = 0
        self._trials = True  # until all OCAs have been slow: then it is our own line that is
        self._on_trial = True  # nothing has come from the current OCA yet
        self._switches = 0
        self._play_delay_s = self._played_s = self._stalled_s = self._kbit = 0.0
        self.reported_s = order.scheduled_s
        """The moment up to which what was watched has been told."""

    @property
    def started(self) -> bool:
        """Whether the first frame has been shown."""
        return self._buffer is not None and self._buffer.playing

    def run(self, now_s: float) -> Steps:
        """Play the session; a generator of requests. It ends in a bounded time, whatever the answers are."""
        asked = yield from ask_for_play(self._account, self._order, self._config, now_s)
        self._now_s = asked.now_s
        if not isinstance(asked.result, Ticket):
            self._tell(asked.result)
            return
        self._ticket = ticket = asked.result
        self._buffer = buffer = PlaybackBuffer(total_s=ticket.chunks * ticket.chunk_s)
        self._reports = reports = PlayReports(self._order, ticket)
        yield from self._stream(ticket, buffer, reports)
        stopped = reports.stopped(self._account.token, watched_s=buffer.watched_s, reason=self._over)
        yield from self._send_aside(stopped)

    def report(self, now_s: float) -> None:
        """Tell what has been watched since the last time, up to ``now_s``. May be called at any moment."""
        self.reported_s = max(self.reported_s, now_s)
        if self._buffer is None or self._over or (account := self._buffer.read(now_s)) is None:
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

    def farewell(self, now_s: float) -> HttpRequest | None:
        """Return the report of a session that is cut off, to be sent by whoever does so; None when there is none.

        A service that is not told counts the session's stream until its lease runs out.
        """
        if self._buffer is None or self._reports is None or self._over:
            return None
        self._buffer.advance(now_s)
        self._over = "cut off"
        return self._reports.stopped(self._account.token, watched_s=self._buffer.watched_s, reason=self._over)

    # ---- streaming

    def _stream(self, ticket: Ticket, buffer: PlaybackBuffer, reports: PlayReports) -> Steps:
        """Keep the buffer full, and do what the viewer presses, until the session is over."""
        choice = OcaChoice(ticket.ocas, tolerance_s=self._config.probe_tolerance_s, rng=self._rng)
        if self._config.probe:
            yield from self._probe(choice)
        room_s = max(0.0, self._config.scale.buffer_cap_s - ticket.chunk_s)
        stalls = 0
        while not self._over:
            buffer.advance(self._now_s)
            number = round(buffer.end_s / ticket.chunk_s)
            if (press := self._due(ticket, buffer)) is not None:
                self._do(press, ticket, buffer)
            elif buffer.finished:
                self._end(completed=True, reason="finished")
            elif number >= ticket.chunks:
                yield from self._wait(ticket, buffer, level_s=0.0)
            elif buffer.level_s > room_s:
                yield from self._wait(ticket, buffer, level_s=room_s)
            elif (yield from self._fetch(choice, number)) and buffer.stalls > stalls:
                stalls = buffer.stalls
                if (report := reports.stalled(self._account.token)) is not None:
                    yield from self._send_aside(report)

    def _due(self, ticket: Ticket, buffer: PlaybackBuffer) -> Press | None:
        """Return what the viewer presses now; nothing before the first frame, and nothing during a pause."""
        if not self._presses or not buffer.playing or buffer.resume_s is not None:
            return None
        after_s = self._presses[0].after * ticket.chunks * ticket.chunk_s
        return self._presses[0] if buffer.watched_s >= after_s - _CRUMB_S else None

    def _do(self, press: Press, ticket: Ticket, buffer: PlaybackBuffer) -> None:
        self._presses.popleft()
        match press:
            case Pause(length_s=length_s):
                buffer.pause(self._now_s, self._now_s + length_s)
            case Seek(to=to):
                buffer.seek(self._now_s, round(to * ticket.chunks) * ticket.chunk_s)
            case Stop():
                self._end(completed=True, reason="stopped")
            case _:
                assert_never(press)

    def _wait(self, ticket: Ticket, buffer: PlaybackBuffer, *, level_s: float) -> Steps:
        """Wait until the buffer has drained to ``level_s``; not beyond the next press, or the end of a pause."""
        until_s = buffer.resume_s
        if until_s is None:
            left_s = buffer.level_s - level_s
            if self._presses:
                after_s = self._presses[0].after * ticket.chunks * ticket.chunk_s
                left_s = min(left_s, after_s - buffer.watched_s)
            # A step that floats can tell from none at all, so that rounding cannot make us wait for ever.
            until_s = self._now_s + max(_CRUMB_S, left_s)
        answer = yield Wait(until_s=until_s)
        self._now_s = answer.now_s

    def _send_aside(self, request: HttpRequest) -> Steps:
        answer = yield SendAside(request=request)
        self._now_s = answer.now_s

    def _fetch(self, choice: OcaChoice, number: int) -> Generator[Request, Answer, bool]:
        """Bring chunk ``number`` into the buffer, from whichever OCA gives it.

        False when the session is over, or when the viewer presses something before it is there.
        """
        assert self._ticket is not None
        assert self._buffer is not None
        ticket, buffer, problem = self._ticket, self._buffer, ""
        while not self._is_over(problem) and self._due(ticket, buffer) is None:
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
            self._over = f"no first frame within {limit_s:g} s"
            self._tell(Failed(now_s=self._now_s, reason=f"{self._over} ({problem or 'too slow'})"))
            return True
        self._buffer.advance(self._now_s)
        if self._buffer.still_s < self._config.give_up_s:
            return False
        self._end(completed=False, reason="gave up")
        return True

    @property
    def _start_limit_s(self) -> float:
        return self._order.scheduled_s + self._config.start_limit_s

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
            self._play_delay_s = self._now_s - self._order.scheduled_s
            self._tell(Started(now_s=self._now_s, play_delay_s=self._play_delay_s, degraded=ticket.degraded))
        self.report(self._now_s)

    def _note_speed(self, choice: OcaChoice, took_s: float) -> None:
        """Leave an OCA whose first chunk is slow, or two in a row; without a pause, for it does give us something."""
        self._slow_in_a_row = self._slow_in_a_row + 1 if took_s > self._config.slow_chunk_s else 0
        borne, self._on_trial = 0 if self._on_trial else 1, False
        if self._slow_in_a_row > borne and self._config.failover:
            left = choice.current
            if not choice.leave():
                choice.start_over()
                self._trials = False
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
        self._on_trial = self._trials
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

    def _end(self, *, completed: bool, reason: str) -> None:
        assert self._buffer is not None
        self.report(self._now_s)
        self._over = reason
        self._tell(
            Ended(
                now_s=self._now_s,
                completed=completed,
                play_delay_s=self._play_delay_s,
                played_s=self._played_s,
                stalled_s=self._stalled_s,
                paused_s=self._buffer.paused_s,
                seek_s=self._buffer.seek_s,
                kbit=self._kbit,
                stalls=self._buffer.stalls,
                switches=self._switches,
            )
        )


def _problem(reply: Reply) -> str:
    return f"answered {reply.status}" if reply.status else (reply.error or "no answer")
