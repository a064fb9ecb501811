"""The fault ``hook`` for real: a small aiohttp application that fills its disk when it is asked to."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from chaos.environment import Backend, Environment
from chaos.environment.probe import http_exchange
from chaos.errors import EnvironmentFailure
from chaos.faults.hook import Hook
from chaos.topology.model import HealthCheck, Service, Topology
from tests.e2e.little_target import assert_nothing_left
from tests.e2e.running import chaos, read_json

pytestmark = pytest.mark.e2e

SOURCE = """
import asyncio, signal, socket

from aiohttp import web


def main(config):
    asyncio.run(serve(config))


async def serve(config):
    disk = {"full": False, "writes": {"done": 0, "refused": 0}}

    async def write(request):
        disk["writes"]["refused" if disk["full"] else "done"] += 1
        return web.Response(status=507 if disk["full"] else 204)

    async def show(request):
        return web.json_response(disk)

    async def fill(request):
        if request.headers.get("Authorization") != "Bearer " + config.settings["key"]:
            return web.json_response({"error": "the admin token is missing or wrong"}, status=401)
        disk["full"] = (await request.json())["full"]
        return web.json_response(disk)

    async def empty(request):
        if not disk["full"]:
            return web.Response(status=409, text="it is not full")
        disk["full"] = False
        return web.Response(status=204)

    async def never(request):
        await asyncio.sleep(60)

    app = web.Application()
    app.router.add_get("/healthz", lambda request: asyncio.sleep(0, web.Response()))
    app.router.add_post("/write", write)
    app.router.add_get("/admin/disk", show)
    app.router.add_put("/admin/disk", fill)
    app.router.add_delete("/admin/disk", empty)
    app.router.add_post("/admin/{instance}/never", never)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, config.host, config.port).start()
    if config.shared_fd is not None:
        await web.SockSite(runner, socket.socket(fileno=config.shared_fd)).start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await runner.cleanup()
"""

TOPOLOGY = """
name: disks
settings: {key: secret}
clients: {users: {calls: [disk]}}
services:
  disk: {python: "disk_service:main", instances: 2, health: {http: /healthz}}
metrics:
  availability: {title: availability, measure: share, of: request}
"""

EXPERIMENT = """
title: disks that are full
target: target
phases: {warm_up: 500ms, baseline: 1s, fault: 1s, recovery: 500ms}
load: {locustfile: locustfile.py, settings: {users: 5, spawn_rate: 50}}
faults:
  - kind: hook
    service: disk
    request: PUT /admin/disk
    json: '{"full": true}'
    undo: none
    evidence: /admin/disk writes.refused
    authorization: "Bearer {settings[key]}"
steady_state: ["availability >= 0%"]
must_break: ["availability <= 10%"]
"""

LOCUSTFILE = """
from locust import FastHttpUser, constant_pacing, task


class Writer(FastHttpUser):
    wait_time = constant_pacing(0.05)

    @task
    def write(self):
        self.client.post("/write")
"""

FULL = Hook(
    request="PUT /admin/disk",
    json='{"full": true}',
    undo="DELETE /admin/disk",
    evidence="/admin/disk writes.refused",
    authorization="Bearer {settings[key]}",
)


@pytest.fixture
async def environment(tmp_path, monkeypatch, request):
    """Two disks behind their proxies, up, of as many workers as asked for; nothing may be left of them."""
    folder, temporary = tmp_path / "target", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    (folder / "disk_service.py").write_text(SOURCE)
    monkeypatch.setenv("CHAOS_TEST", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    disk = Service(
        name="disk",
        python="disk_service:main",
        instances=({}, {}),
        workers=getattr(request, "param", 1),
        health=HealthCheck(http_path="/healthz", timeout_s=10.0),
    )
    topology = Topology(
        name="disks",
        file=Path(folder / "topology.yaml"),
        services={"disk": disk},
        clients={"users": ("disk",)},
        preload="disk_service",
        settings={"key": "secret"},
    )
    async with Environment(topology, emit=lambda event: None, backend=Backend.EMBEDDED) as made:
        await made.start_target(seed=1)
        yield made
    assert_nothing_left(f"CHAOS_TEST={tmp_path}", temporary, within_s=0.0)


async def write(environment: Environment, instance: str) -> int:
    """Write once, as a user does: through the proxy. Return the status."""
    called = environment.client_config("users").calls["disk"]
    host, port = next(one.address for one in called if one.instance == instance).split(":")
    status, _ = await http_exchange(host, int(port), "POST", "/write", timeout_s=5.0)
    return status


async def test_the_application_misbehaves_for_its_users_until_it_is_told_to_stop(environment):
    applied = await FULL.apply(environment, ["disk-2"], "1-hook")
    assert [await write(environment, name) for name in ("disk-1", "disk-2", "disk-2")] == [204, 507, 507]
    receipt = await applied.receipt()
    assert receipt.connections == 2
    assert receipt.evidence == "1 process said yes to PUT /admin/disk, writes.refused grew by 2"
    await applied.undo()
    await applied.undo()  # a second DELETE would be a 409
    assert await write(environment, "disk-2") == 204


@pytest.mark.parametrize("environment", [3], indirect=True)
async def test_every_worker_of_an_instance_misbehaves_is_counted_and_told_to_stop(environment):
    applied = await FULL.apply(environment, ["disk-2"], "1-hook")
    for _ in range(30):  # the kernel chooses a worker for each
        assert await write(environment, "disk-2") == 507
    receipt = await applied.receipt()
    assert receipt.evidence == "3 processes said yes to PUT /admin/disk, writes.refused grew by 30"
    await applied.undo()
    assert {await write(environment, "disk-2") for _ in range(30)} == {204}


async def test_a_hook_goes_past_the_proxies_and_is_not_held_up_by_what_is_wrong_with_them(environment):
    await environment.set_edge_enabled("users.disk-1", enabled=False)
    applied = await FULL.apply(environment, ["disk-1"], "1-hook")
    assert not (await applied.receipt()).touched, "nobody could write"
    await applied.undo()


async def test_a_victim_that_was_killed_and_started_again_has_lost_it(environment):
    applied = await FULL.apply(environment, ["disk-1", "disk-2"], "1-hook")
    await environment.kill("disk-1")
    await environment.kill("disk-2")
    await environment.start("disk-1")
    receipt = await applied.receipt()
    assert not receipt.touched
    assert receipt.evidence.endswith("grew by 0; 2 processes gone since")
    await applied.undo()
    assert await write(environment, "disk-1") == 204


async def test_an_answer_that_is_no_success_says_what_was_asked_and_answered(environment):
    thief = Hook(request="PUT /admin/disk", json='{"full": true}', undo="none", authorization="Bearer guessed")
    with pytest.raises(EnvironmentFailure) as caught:
        await thief.apply(environment, ["disk-1"], "1-hook")
    said = 'PUT /admin/disk of disk-1 was answered with 401: {"error": "the admin token is missing or wrong"}'
    assert str(caught.value) == said
    assert await write(environment, "disk-1") == 204


async def test_what_is_not_answered_in_time_is_given_up_and_names_are_put_in(environment):
    slow = Hook(request="POST /admin/{instance}/never", undo="none", timeout_s=0.2)
    with pytest.raises(EnvironmentFailure, match=r"POST /admin/disk-1/never of disk-1 had no answer within 0\.2 s"):
        await slow.apply(environment, ["disk-1"], "1-hook")


async def test_of_two_victims_one_that_cannot_be_asked_takes_the_other_back(environment):
    await environment.kill("disk-2")
    hook = Hook(
        request="PUT /admin/disk", json='{"full": true}', undo="DELETE /admin/disk", authorization="Bearer secret"
    )
    with pytest.raises(EnvironmentFailure, match="PUT /admin/disk of disk-2 had no answer"):
        await hook.apply(environment, ["disk-1", "disk-2"], "1-hook")
    assert await write(environment, "disk-1") == 204


def test_what_a_hook_leaves_behind_is_gone_in_the_next_run_and_a_surge_that_nobody_makes_is_told(tmp_path):
    """Two runs in a row. The users of this locustfile wait for their answers: they know nothing of schedules."""
    folder, document = tmp_path / "project", tmp_path / "verdict.json"
    (folder / "target").mkdir(parents=True)
    (folder / "target" / "disk_service.py").write_text(SOURCE)
    (folder / "target" / "topology.yaml").write_text(TOPOLOGY)
    (folder / "locustfile.py").write_text(LOCUSTFILE)
    (folder / "a.yaml").write_text(EXPERIMENT)
    surge = EXPERIMENT.replace("locustfile.py,", "locustfile.py, rate: 5/s, surges: [{rate: 20/s}],")
    (folder / "b.yaml").write_text(surge.replace("undo: none", "undo: DELETE /admin/disk"))
    code, output = chaos(
        tmp_path / "tmp", "run", str(folder / "a.yaml"), str(folder / "b.yaml"), "--proxy", "embedded", "--json",
        str(document),
    )  # fmt: skip
    assert code == 4, output
    first, second = read_json(document)["results"]
    assert first["outcome"] == "held", output
    assert first["receipts"][0]["evidence"].startswith(
        "2 processes said yes to PUT /admin/disk, writes.refused grew by"
    )
    assert first["metrics"]["recovery"]["availability"] == 0.0, "nothing ends what has no undo"
    assert second["metrics"]["baseline"]["availability"] == 1.0, "the target was started anew"
    assert [(one["kind"], one["touched"]) for one in second["receipts"]] == [("hook", True), ("surge", False)]
    assert "the surge 2-surge did not come (0 of 15 more arrivals began in 1 s)" in second["reasons"][0]
