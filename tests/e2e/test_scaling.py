"""The playback target with other numbers of instances and workers: it answers plays, by all its processes."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from chaos.environment import Backend, Environment
from chaos.experiment.target import load_target
from targets.playback.seed_data import SeedData
from tests.e2e.running import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

PLAYS = 120


async def test_the_scaled_target_answers_plays_by_all_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    topology, settings = load_target(
        ROOT / "targets/playback",
        {"replicas.playback_apps": "4", "workers.play_api": "2", "settings.address_rate_per_s": "1000"},
    )
    async with Environment(topology, emit=lambda _: None, backend=Backend.EMBEDDED) as environment:
        await environment.start_target(seed=1, settings=settings)
        config = environment.client_config("client")
        data, key, rng = SeedData.of(config), str(config.settings["signing_key"]), random.Random(2)
        statuses: Counter[int] = Counter()
        sessions: list[str] = []

        async def play(http: aiohttp.ClientSession) -> None:
            subscriber, title = rng.choice(data.subscribers), rng.choice(data.titles)
            headers = {
                "Authorization": f"Bearer {data.token(subscriber, key)}",
                "X-Forwarded-For": data.client_ip(subscriber),
            }
            url = f"http://{config.calls['elb'][0].address}/play"
            async with http.post(url, json={"title": title.id}, headers=headers) as answer:
                statuses[answer.status] += 1
                body = await answer.json()
                if answer.status == 200:
                    sessions.append(body["session"])

        async with aiohttp.ClientSession() as http:
            for _ in range(PLAYS // 24):
                await asyncio.gather(*(play(http) for _ in range(24)))
        assert set(statuses) <= {200, 403}, statuses
        assert statuses[200] > 0.85 * PLAYS
        # No two processes give out the same name, and each of them gave out some.
        assert len(set(sessions)) == len(sessions)
        assert {session.rsplit("-", 2)[0] for session in sessions} == {
            f"play_api-{instance}-w{worker}" for instance in (1, 2) for worker in (1, 2)
        }
        grants = [state for state in await environment.isolation_states() if state.instance.startswith("playback_apps")]
        assert {state.instance for state in grants if state.calls} == {
            f"playback_apps-{index}" for index in range(1, 5)
        }
        zones = [one.labels["zone"] for one in topology.instances() if one.service == "playback_apps"]
        assert zones == ["a", "b", "a", "b"]
        assert await environment.unhealed() == ()
    assert environment.deaths == []
