"""A concurrent control group for real: a fault deep down, on one slice of the accounts, under Locust."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.running import chaos, read_json

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

SERVICES = """
import asyncio, signal

import aiohttp
from aiohttp import web

from chaos.resilience.web import Rejected, ServiceClient, ServiceFailed, group_middleware


def page(config):
    asyncio.run(serve(config, Page))


def rank(config):
    asyncio.run(serve(config, Rank))


class Page:
    def __init__(self, config, http):
        self.config, self.http = config, http

    async def answer(self, request):
        (called,) = self.config.calls["rank"]
        try:
            reply = await self.http.get(f"http://{called.address}/rank")
        except (Rejected, ServiceFailed, aiohttp.ClientError):
            if "fallback" in self.config.disabled:
                return web.Response(status=502)
            return web.json_response("the same for all")
        return web.json_response(reply.json())


class Rank:
    def __init__(self, config, http):
        pass

    async def answer(self, request):
        return web.json_response("for you")


async def serve(config, kind):
    async with aiohttp.ClientSession() as session:
        app = web.Application(middlewares=[group_middleware])
        app.router.add_get("/healthz", lambda request: asyncio.sleep(0, web.Response()))
        app.router.add_get("/{any}", kind(config, ServiceClient(session)).answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, config.host, config.port).start()
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        await stopping.wait()
        await runner.cleanup()
"""

TOPOLOGY = """
name: pages
clients: {visitors: {calls: [page]}}
services:
  page: {python: "pages:page", instances: 1, calls: [rank], health: {http: /healthz}}
  rank: {python: "pages:rank", instances: 1, health: {http: /healthz}}
metrics:
  availability: {title: availability, measure: share, of: visit}
protections: {fallback: "Pages are shown in an order that is the same for all when there is none of one's own."}
"""

EXPERIMENT = f"""
title: two of five accounts get no order of their own
target: target
phases: {{warm_up: 500ms, baseline: 1500ms, fault: 5s, recovery: 500ms}}
load: {{locustfile: {Path(__file__).with_name("grouped_visits.py")}, rate: 40/s, max_start_lag: 5s}}
control_group: 40%
faults: [{{kind: http_status, service: rank, from: page, status: 500}}]
steady_state: ["availability >= 98% of control_group", "availability >= 97%"]
control: {{disable: [fallback]}}
"""


def test_a_fault_on_one_group_is_seen_beside_the_other_and_only_without_its_protection(tmp_path):
    folder, document, journal = tmp_path / "project", tmp_path / "verdict.json", tmp_path / "run.jsonl"
    (folder / "target").mkdir(parents=True)
    (folder / "target" / "pages.py").write_text(SERVICES)
    (folder / "target" / "topology.yaml").write_text(TOPOLOGY)
    (folder / "a.yaml").write_text(EXPERIMENT)
    code, output = chaos(
        tmp_path / "tmp",
        "run",
        str(folder / "a.yaml"),
        "--control",
        "--json",
        str(document),
        "--seed",
        "5",
        "--journal",
        str(journal),
    )
    held = read_json(document)
    violated = held["control"]
    if any(phase["starved"] for one in (held, violated) for phase in one["machine"].values()):
        pytest.skip("others starved the machine: what happened on it tells nothing, as the verdict says itself")
    assert (code, held["outcome"], violated["outcome"]) == (0, "held", "violated"), output

    beside, fixed = held["steady_state"]
    assert (beside["measured"], beside["control_group"]) == (1.0, 1.0)
    assert beside["difference"][0] <= 0.0 <= beside["difference"][1]
    assert "100 % in the experiment group where >= 98 % was asked" in beside["explanation"]
    assert "in the experiment group" in fixed["explanation"]
    (receipt,) = held["receipts"]
    assert receipt["touched"], "deep behind the edge, requests of the experiment group were found by their header"

    beside, fixed = violated["steady_state"]
    assert {beside["outcome"], fixed["outcome"]} == {"violated"}
    assert beside["measured"] < 0.3, "the experiment group is judged, and not everybody"
    assert beside["control_group"] == 1.0, "nothing happened to the control group"
    assert beside["difference"][1] < -0.5
    ticks = [json.loads(line) for line in journal.read_text().splitlines() if '"event":"tick"' in line.replace(" ", "")]
    last = [one["groups"] for one in ticks if one["phase"] == "fault"][-1]
    assert last == {"experiment": {"availability": 0.0}, "control": {"availability": 1.0}}
    everybody = violated["metrics"]["fault"]["availability"]
    assert 0.4 < everybody < 0.8, "the fault fell on two of five accounts"
