"""A viewer: one device that plays one title, and records what it sees."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import assert_never

from chaos import clock
from chaos.groups import Group, group_headers
from chaos.load.arrivals import Arrival
from chaos.samples import SampleOutcome
from locustfiles.playback_world import World
from targets.playback import client_protocol as client
from targets.playback.client import PlaybackClient
from targets.playback.client_account import Account
from targets.playback.client_order import PlayOrder

REPORT_EVERY_S = 0.7
"""A session whose last report is older than this reports at the dispatcher's next tick: so once a second at least."""

FIRST_PLAY = "first_play"
"""The kind of the plays of new customers. What they watch is in no figure: their number depends on sign-ups."""


class Viewer:
    """Drives one playback client, and records what it tells. A `chaos.load.dispatcher.Session`.

    ``kind`` is that of the play's sample; ``lag_s`` is how late the load began it (None: it was not scheduled);
    ``group`` is that of the account, of which its requests tell, and all its samples.
    """

    def __init__(
        self,
        world: World,
        order: PlayOrder,
        rng: random.Random,
        *,
        kind: str,
        lag_s: float | None,
        group: Group | None,
        account: Account | None = None,
    ) -> None:
        self.settled = False
        self._world = world
        self._kind = kind
        self._due_s = order.scheduled_s
        self._lag_s = lag_s
        self._group = group
        self._over = False
        self._client = PlaybackClient(order, world.config, rng=rng, tell=self._tell, account=account)

    @classmethod
    def arriving(cls, world: World, arrival: Arrival, due_s: float, lag_s: float) -> Viewer:
        """Return the viewer who comes as this arrival."""
        rng = random.Random(f"viewer/{world.seed}/{arrival.number}")
        subscriber = world.someone(arrival.number, rng)
        order = world.order(subscriber, arrival.number, due_s, rng)
        kind = "test_play" if subscriber is world.test_account else "play"
        return cls(world, order, rng, kind=kind, lag_s=lag_s, group=world.group_of(subscriber.id))

    def run(self) -> None:
        """Play from the press of the button to the last frame."""
        self._world.device(self._group).carry_through(self._client.run(clock.monotonic_s()))

    def tick(self, now_s: float) -> None:
        """Report what has been watched, when the client itself has not done so for a while."""
        if now_s - self._client.reported_s >= REPORT_EVERY_S:
            self._client.report(now_s)

    def end(self, now_s: float, reason: str | None) -> None:
        """Cut the session; a play that has not started by now has failed, or is dropped when no reason is given."""
        self._client.report(now_s)
        if not self.settled and reason is not None:
            self._tell(client.Failed(now_s=now_s, reason=reason))
        self._over = True
        if (farewell := self._client.farewell(now_s)) is not None:
            headers = {**farewell.headers, **group_headers(self._group)}
            self._world.farewells.append(replace(farewell, headers=headers))

    # ---- what the client tells

    def _tell(self, event: client.ClientEvent) -> None:
        if self._over:
            return
        match event:
            case client.Started():
                outcome = SampleOutcome.FALLBACK if event.degraded else SampleOutcome.OK
                self._settle(event.now_s, outcome, play_delay_s=event.play_delay_s)
            case client.Refused():
                self._settle(event.now_s, SampleOutcome.REFUSED)
            case client.Failed():
                self._settle(event.now_s, SampleOutcome.FAILED, reason=event.reason)
            case client.Watched() if self._kind != FIRST_PLAY:
                values = {"played_s": event.played_s, "stalled_s": event.stalled_s, "kbit": event.kbit}
                self._world.record("watch", event.since_s, event.now_s, SampleOutcome.OK, values, self._group)
            case client.Ended() if self._kind != FIRST_PLAY:
                self._record_session(event)
            case client.Switched() | client.Watched() | client.Ended():
                pass  # the session's last sample counts the switches
            case _:
                assert_never(event)

    def _record_session(self, ended: client.Ended) -> None:
        """Record the whole session at its end: that is when it was completed or given up, and not when it was due."""
        outcome = SampleOutcome.OK if ended.completed else SampleOutcome.FAILED
        values = {
            "sessions": 1.0,
            "play_delay_s": ended.play_delay_s,
            "played_s": ended.played_s,
            "stalled_s": ended.stalled_s,
            "paused_s": ended.paused_s,
            "seek_s": ended.seek_s,
            "kbit": ended.kbit,
            "rebuffer_ratio": ended.rebuffer_ratio,
            "mean_kbps": ended.mean_kbps,
            "stalls": float(ended.stalls),
            "switches": float(ended.switches),
        }
        self._world.record("session", ended.now_s, ended.now_s, outcome, values, self._group)

    def _settle(
        self, now_s: float, outcome: SampleOutcome, *, play_delay_s: float | None = None, reason: str | None = None
    ) -> None:
        values = {} if self._lag_s is None else {"lag_s": self._lag_s}
        if play_delay_s is not None:
            values["play_delay_s"] = play_delay_s
        self._world.record(self._kind, self._due_s, now_s, outcome, values, self._group)
        self._world.statistics.count("PLAY", "first frame", self._due_s, error=reason)
        self.settled = True
