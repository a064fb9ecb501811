"""The load for real: Locust, started by the driver, against a tiny playback backend on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos import clock
from chaos.errors import EnvironmentFailure, UsageError
from chaos.experiment.model import Load
from chaos.experiment.plan import PlannedSurge
from chaos.load.arrivals import arrivals
from chaos.load.driver import LoadDriver
from chaos.processes.client import Launcher
from chaos.samples import LAG_KIND, Sample, SampleOutcome
from chaos.topology.model import CalledInstance, InstanceConfig
from chaos.verdict.windows import SampleStore
from tests.e2e.backend import PLAYBACK, SEED, backend, fetch

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

RATE = 20.0
ROUNDING_S = 1e-6


@contextlib.asynccontextmanager
async def driver(
    folder: Path,
    elb: int,
    *,
    duration_s: float,
    locustfile: Path = PLAYBACK,
    workers: int = 0,
    surges: tuple[PlannedSurge, ...] = (),
    **settings: str | float,
) -> AsyncIterator[LoadDriver]:
    client = InstanceConfig(
        service="client",
        instance="client",
        index=1,
        host="127.0.0.1",
        port=0,
        labels={},
        calls={"elb": (CalledInstance(instance="elb-1", address=f"127.0.0.1:{elb}", labels={}),)},
        reached_by={},
        settings={"signing_key": "test", "video_scale": 60},
        disabled=(),
        seed=SEED,
        data_dir="",
    )
    load = Load(locustfile=locustfile, rate_per_s=RATE, workers=workers, settings=settings)
    launcher = await Launcher.open()
    made = LoadDriver(
        launcher=launcher,
        load=load,
        client=client,
        seed=SEED,
        duration_s=duration_s,
        folder=folder / "load",
        surges=surges,
    )
    try:
        yield made
    finally:
        await made.stop()
        await launcher.close()


async def run_whole(made: LoadDriver, duration_s: float, *, drain_s: float = 2.0) -> tuple[float, list[Sample]]:
    """Run the load from start to finish; return the start moment and all samples."""
    await made.start()
    start_s = clock.monotonic_s() + 0.1
    made.go(start_s)
    samples: list[Sample] = []
    while clock.monotonic_s() < start_s + duration_s:
        await asyncio.sleep(0.1)
        samples += made.read()
        assert made.failure() is None
    await made.finish(drain_s=drain_s)
    return start_s, samples + made.read()


def of_kind(kind: str, samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.kind == kind]


def assert_every_arrival_has_one_outcome(start_s: float, duration_s: float, samples: list[Sample]) -> None:
    due = [start_s + arrival.at_s for arrival in arrivals(SEED, RATE, duration_s)]
    for kind in ("play", LAG_KIND):
        seen = sorted(sample.scheduled_s for sample in of_kind(kind, samples))
        assert seen == pytest.approx(due, abs=ROUNDING_S), kind


async def test_every_scheduled_arrival_has_exactly_one_outcome(tmp_path):
    async with backend() as target, driver(tmp_path, target.elb, duration_s=4.0) as made:
        start_s, samples = await run_whole(made, 4.0)
    assert_every_arrival_has_one_outcome(start_s, 4.0, samples)
    outcomes = Counter(sample.outcome for sample in of_kind("play", samples))
    assert outcomes[SampleOutcome.OK] > 40
    assert outcomes[SampleOutcome.REFUSED] > 0
    assert outcomes[SampleOutcome.FALLBACK] > 0
    assert outcomes[SampleOutcome.FAILED] == 0
    good = [sample for sample in of_kind("play", samples) if "play_delay_s" in sample.values]
    assert all(
        sample.ended_s - sample.scheduled_s == pytest.approx(sample.values["play_delay_s"], abs=1e-6) for sample in good
    )
    watched = of_kind("watch", samples)
    played_s = sum(sample.values["played_s"] for sample in watched)
    stalled_s = sum(sample.values["stalled_s"] for sample in watched)
    assert played_s > 80.0
    assert stalled_s < 0.05 * played_s
    assert all(sample.ended_s - sample.scheduled_s < 2.0 for sample in watched), "told while it happens"


async def test_a_frozen_server_shows_as_late_answers_and_not_as_missing_samples(tmp_path):
    async with backend() as target, driver(tmp_path, target.elb, duration_s=4.0) as made:

        async def freeze_for_a_while() -> None:
            await asyncio.sleep(1.5)
            target.freeze()
            await asyncio.sleep(1.2)
            target.thaw()

        await made.start()
        start_s = clock.monotonic_s() + 0.1
        made.go(start_s)
        await asyncio.gather(freeze_for_a_while(), asyncio.sleep(4.1))
        await made.finish(drain_s=4.0)
        samples = made.read()
    assert_every_arrival_has_one_outcome(start_s, 4.0, samples)
    during = [s for s in of_kind("play", samples) if 1.6 < s.scheduled_s - start_s < 2.0]
    assert len(during) >= 4
    assert all(s.ended_s - s.scheduled_s > 0.5 for s in during), "latency counts from the scheduled moment"
    lags = sorted(sample.values["lag_s"] for sample in of_kind(LAG_KIND, samples))
    assert lags[len(lags) // 2] < 0.1, "the generator itself was not late"


MIX = {"browse_per_play": 0.5, "search_per_play": 0.3, "signup_per_play": 0.2, "login_per_play": 0.25}
VISITS = [(name.removesuffix("_per_play"), share) for name, share in MIX.items()]


@pytest.mark.parametrize("workers", [0, 2])
async def test_every_visit_of_the_mix_has_exactly_one_outcome_and_the_plays_are_the_same(tmp_path, workers):
    async with backend() as target, driver(tmp_path, target.elb, duration_s=3.0, workers=workers, **MIX) as made:
        start_s, samples = await run_whole(made, 3.0)
        shown = json.loads(await asyncio.to_thread(fetch, f"http://127.0.0.1:{target.elb}/seen"))
    assert_every_arrival_has_one_outcome(start_s, 3.0, samples)
    for kind, share in VISITS:
        due = [start_s + arrival.at_s for arrival in arrivals(f"{SEED}/{kind}", RATE * share, 3.0)]
        visits = of_kind(kind, samples)
        assert sorted(visit.scheduled_s for visit in visits) == pytest.approx(due, abs=ROUNDING_S), kind
        assert {visit.outcome for visit in visits} == {SampleOutcome.OK}, kind
        assert all(0.0 <= visit.values["lag_s"] <= visit.values["latency_s"] for visit in visits)
    seen, sign_ups = shown["seen"], len(of_kind("signup", samples))
    assert len(of_kind("first_play", samples)) == sign_ups
    assert seen["/signup"] == len(shown["emails"]) >= sign_ups, "who logs in when nobody is known signs up before"
    assert seen["/login"] == len(of_kind("login", samples)) + sign_ups
    assert seen["keys that came twice"] == 0
    begun = {SampleOutcome.OK, SampleOutcome.FALLBACK}
    played = [sample for sample in samples if sample.kind in {"play", "first_play"} and sample.outcome in begun]
    assert seen["stops"] == len(played), "also those that the end of the load cuts off"
    assert len(list((tmp_path / "load").glob("*.samples"))) == max(1, workers)


async def test_a_share_of_nothing_leaves_a_kind_of_visit_out(tmp_path):
    log_ins_alone = {**dict.fromkeys(MIX, 0), "login_per_play": 1.0}
    async with backend() as target, driver(tmp_path, target.elb, duration_s=1.0, **log_ins_alone) as made:
        start_s, samples = await run_whole(made, 1.0)
        shown = json.loads(await asyncio.to_thread(fetch, f"http://127.0.0.1:{target.elb}/seen"))
    assert_every_arrival_has_one_outcome(start_s, 1.0, samples)
    assert {sample.kind for sample in samples} - {"watch", "session"} == {"play", LAG_KIND, "login"}
    assert {log_in.outcome for log_in in of_kind("login", samples)} == {SampleOutcome.OK}
    assert 1 <= len(shown["emails"]) < RATE, "the first who come make accounts, which the others use"
    assert "/home" not in shown["seen"]


async def test_visits_to_a_dead_service_fail_and_disturb_no_play(tmp_path):
    mix = {"browse_per_play": 2.0, "search_per_play": 1.0, "signup_per_play": 0.5, "login_per_play": 0.5}
    async with backend() as target, driver(tmp_path, target.elb, duration_s=3.0, **mix) as made:
        await asyncio.to_thread(fetch, f"http://127.0.0.1:{target.elb}/hang", b"/home /search /signup /login /activity")
        start_s, samples = await run_whole(made, 3.0, drain_s=6.0)
    assert_every_arrival_has_one_outcome(start_s, 3.0, samples)
    plays = of_kind("play", samples)
    assert SampleOutcome.FAILED not in {play.outcome for play in plays}
    delays_s = sorted(play.values["play_delay_s"] for play in plays if "play_delay_s" in play.values)
    assert delays_s[len(delays_s) // 2] < 0.5
    for kind in ("browse", "search", "signup", "login"):
        visits = of_kind(kind, samples)
        assert len(visits) == 3.0 * RATE * mix[f"{kind}_per_play"]
        assert {visit.outcome for visit in visits} == {SampleOutcome.FAILED}
        assert max(visit.ended_s - visit.scheduled_s for visit in visits) < 6.0
    assert of_kind("first_play", samples) == []


async def test_a_surge_brings_more_arrivals_and_ends_early_when_it_is_told_to(tmp_path):
    surge = PlannedSurge(name="1-surge", at_s=0.5, until_s=2.5, rate_per_s=3 * RATE, base_per_s=RATE)
    async with backend() as target, driver(tmp_path, target.elb, duration_s=2.5, surges=(surge,)) as made:
        await made.start()
        start_s = clock.monotonic_s() + 0.1
        made.go(start_s)
        await clock.sleep_until(start_s + 1.5)
        made.calm()
        await clock.sleep_until(start_s + 2.6)
        await made.finish(drain_s=2.0)
        samples = made.read()
    store = SampleStore(start_s)
    store.add(samples)
    assert 38 <= store.surged(0.5, 1.5) <= 41, "40 were ordered by then; one may have been under way"
    assert store.surged(1.6, 2.5) == 0
    due = {round(arrival.at_s, 5) for arrival in arrivals(SEED, RATE, 2.5)}
    assert due <= {round(sample.scheduled_s - start_s, 5) for sample in of_kind("play", samples)}
    assert len(of_kind("play", samples)) == len(due) + store.surged(0.0, 2.5), "each has one outcome"


async def test_plays_that_are_still_open_at_the_end_of_the_drain_have_failed(tmp_path):
    async with backend() as target, driver(tmp_path, target.elb, duration_s=1.0) as made:
        target.freeze()
        start_s, samples = await run_whole(made, 1.0, drain_s=0.3)
        target.thaw()
    assert_every_arrival_has_one_outcome(start_s, 1.0, samples)
    assert {sample.outcome for sample in of_kind("play", samples)} == {SampleOutcome.FAILED}


async def test_a_load_that_is_stopped_keeps_its_samples_and_ends_soon(tmp_path):
    async with backend() as target, driver(tmp_path, target.elb, duration_s=60.0) as made:
        await made.start()
        start_s = clock.monotonic_s() + 0.1
        made.go(start_s)
        await asyncio.sleep(1.6)
        began_s = clock.monotonic_s()
        await made.stop()
        assert clock.monotonic_s() - began_s < 1.5
        samples = made.read()
    assert len(of_kind(LAG_KIND, samples)) >= RATE
    assert made.failure() is None


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_locust_that_is_killed_in_the_middle_is_reported_with_its_log(tmp_path, workers):
    async with backend() as target, driver(tmp_path, target.elb, duration_s=60.0, workers=workers) as made:
        await made.start()
        made.go(clock.monotonic_s() + 0.1)
        await asyncio.sleep(0.5)
        assert made.failure() is None
        one = next((tmp_path / "load").glob("ready-*"))
        os.kill(int(one.name.removeprefix("ready-")), signal.SIGKILL)
        for _ in range(100):
            await asyncio.sleep(0.02)
            if made.failure() is not None:
                break
        message = made.failure()
        with pytest.raises(EnvironmentFailure, match="middle of the run"):
            await made.finish(drain_s=1.0)
    assert message is not None
    assert "middle of the run" in message
    assert "Starting Locust" in message


async def test_a_locustfile_that_cannot_be_loaded_is_an_environment_failure(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nonsense_that_is_not_there\n")
    async with driver(tmp_path, 1, duration_s=1.0, locustfile=broken) as made:
        with pytest.raises(EnvironmentFailure, match="Locust ended with exit code 1") as caught:
            await made.start()
    assert any("nonsense_that_is_not_there" in line for line in caught.value.details)


@pytest.mark.parametrize("name", ["users", "spawn_rate"])
async def test_a_setting_that_is_no_number_is_the_users_mistake(tmp_path, name):
    async with driver(tmp_path, 1, duration_s=1.0, **{name: "many"}) as made:
        with pytest.raises(UsageError, match=f"load.settings.{name} is 'many'"):
            await made.start()


FOREIGN = """
from locust import FastHttpUser, constant, task

class Somebody(FastHttpUser):
    wait_time = constant(0.05)

    @task
    def probe(self):
        self.client.post("/play", json={"title": "title-0001"}, headers={
            "Authorization": "Bearer x", "X-Chaos-Deadline-Ms": "1000"})
        self.client.get("/nowhere")
"""


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_locustfile_that_knows_nothing_of_us_is_recorded_by_the_plugin(tmp_path, workers):
    foreign = tmp_path / "foreign.py"
    foreign.write_text(FOREIGN)
    settings = {"users": 4, "spawn_rate": 100}
    async with (
        backend() as target,
        driver(tmp_path, target.elb, duration_s=2.0, locustfile=foreign, workers=workers, **settings) as made,
    ):
        start_s, samples = await run_whole(made, 2.0)
    assert {sample.kind for sample in samples} == {"request"}
    outcomes = Counter(sample.outcome for sample in samples)
    assert outcomes[SampleOutcome.OK] > 20
    assert outcomes[SampleOutcome.FAILED] > 20, "404 is a failure to Locust"
    assert all(start_s <= sample.scheduled_s <= start_s + 2.5 for sample in samples), "users begin at the start moment"
    assert all(sample.values["latency_s"] > 0.0 for sample in samples)
