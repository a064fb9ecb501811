"""The client that Locust's users play with, on asyncio."""

from __future__ import annotations

import asyncio
import json
import random

import aiohttp
import pytest

from targets.playback.asyncio_player import AsyncioPlayer
from targets.playback.client import PlaybackClient
from targets.playback.client_order import ClientConfig, PlayOrder
from targets.playback.client_protocol import ClientEvent, Ended, Failed, Started
from targets.playback.client_viewing import Pause, Seek, Stop, Viewing
from tests.e2e.backend import SEED, backend, fetch

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


async def play(elb: int, *, config: ClientConfig | None = None, within_s: float = 20.0, **order) -> list[ClientEvent]:
    """Play a title at the load balancer on this port; return all that the client told."""
    events: list[ClientEvent] = []
    given = PlayOrder(
        elb=f"127.0.0.1:{elb}",
        title="title-0001",
        token="t",
        client_ip="10.0.0.1",
        scheduled_s=asyncio.get_running_loop().time(),
        **order,
    )
    client = PlaybackClient(given, config or ClientConfig(), rng=random.Random(SEED), tell=events.append)
    async with asyncio.timeout(within_s):
        await AsyncioPlayer(aiohttp.ClientSession).play(client)
    return events


async def test_the_same_client_plays_on_asyncio():
    async with backend() as target:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        events = await play(target.elb)
        took_s = loop.time() - began_s
    (started,) = [event for event in events if isinstance(event, Started)]
    (ended,) = [event for event in events if isinstance(event, Ended)]
    assert ended.completed
    assert ended.played_s == pytest.approx(4.0)
    assert started.play_delay_s + ended.played_s + ended.stalled_s == pytest.approx(took_s, abs=0.25)


async def test_a_viewer_on_asyncio_may_pause_seek_and_stop():
    viewing = Viewing(presses=(Pause(after=0.1, length_s=0.5), Seek(after=0.2, to=0.5), Stop(after=0.3)))
    async with backend() as target:
        events = await play(target.elb, viewing=viewing)
        shown = json.loads(await asyncio.to_thread(fetch, f"http://127.0.0.1:{target.elb}/seen"))
    ended = events[-1]
    assert isinstance(ended, Ended)
    assert ended.completed
    assert (ended.played_s, ended.paused_s) == pytest.approx((1.2, 0.5), abs=0.2)
    assert shown["seen"]["/activity"] == 1


async def test_a_play_on_asyncio_fails_in_time_when_nobody_answers():
    async with backend() as target:
        target.freeze()
        events = await play(target.elb, config=ClientConfig(retry=False, play_timeout_s=0.3), within_s=10.0)
    assert [type(event) for event in events] == [Failed]
