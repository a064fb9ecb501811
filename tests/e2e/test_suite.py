"""Runs on a little target with real processes, of which some go wrong: each has one verdict, and the next is made."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from chaos import clock, runner
from chaos import suite as suite_module
from chaos.environment import Backend
from chaos.errors import NOT_HEALED, UNANSWERED, Outcome, UsageError
from chaos.events import Event, FaultApplied, FaultHealed, PhaseStarted, RunEnded, TargetReady, TargetStarting
from chaos.experiment.model import FaultEntry, PhaseName, Selector
from chaos.experiment.plan import plan
from chaos.faults.base import Fault
from chaos.faults.hook import Hook
from chaos.faults.host import Kill, Pause
from chaos.jobs import Job
from chaos.metastability.probing import not_healthy_again
from chaos.reports.plain import QuietView
from chaos.samples import LAG_KIND, Sample, SampleOutcome
from chaos.suite import Suite, SuiteOptions
from chaos.topology.tables import HEALTH_TIMEOUT
from tests.e2e.environments import Harness, address_of, ask, eventually
from tests.e2e.little_target import little_topology
from tests.unit.verdict.building import METRICS, experiment

pytestmark = pytest.mark.e2e

RATE = 50.0
SULK = Hook(request="GET /sulk", undo="none")
LOCUSTFILE = """
from locust import FastHttpUser, constant, task

class Somebody(FastHttpUser):
    wait_time = constant(0.05)

    @task
    def ask(self):
        self.client.get("/whoami")
"""


class Plays:
    """A load without Locust: plays on a schedule, each answered after 20 ms. ``on_start`` is what happens meanwhile."""

    made: ClassVar[list[Plays]]
    on_start: ClassVar[list[Callable[[], object]]]

    def __init__(self, *, duration_s: float, **_: object) -> None:
        self.duration_s = duration_s
        self._next_s = 0.0
        self.made.append(self)

    async def start(self) -> None:
        if self.on_start:
            await self.on_start.pop(0)()

    def go(self, start_at_s: float) -> None:
        self._next_s = start_at_s

    def read(self) -> list[Sample]:
        return list(self._due()) if self._next_s else []

    def _due(self) -> Iterator[Sample]:
        while self._next_s + 0.02 <= clock.monotonic_s():
            for kind, values in ((LAG_KIND, {"lag_s": 0.0}), ("play", {"delay_s": 0.02})):
                yield Sample(
                    kind=kind,
                    scheduled_s=self._next_s,
                    ended_s=self._next_s + 0.02,
                    outcome=SampleOutcome.OK,
                    values=values,
                )
            self._next_s += 1.0 / RATE

    def calm(self) -> None:
        pass

    def failure(self) -> str | None:
        return None

    async def finish(self, *, drain_s: float) -> None:
        pass

    async def stop(self) -> None:
        pass


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> type[Plays]:
    Plays.made, Plays.on_start = [], []
    monkeypatch.setattr(suite_module, "LoadDriver", Plays)
    return Plays


def job(harness: Harness, fault: Fault, *, seed: int = 1, locustfile: Path | None = None, fault_s: float = 0.4) -> Job:
    topology = little_topology(harness.folder, metrics=METRICS)
    phases = dict.fromkeys(PhaseName, 0.4) | {PhaseName.FAULT: fault_s}
    asked = experiment()
    asked = replace(
        asked,
        phases=phases,
        load=replace(asked.load, locustfile=locustfile or asked.load.locustfile, rate_per_s=0.0),
        faults=(FaultEntry(fault=fault, selector=Selector(service="back", pick=1)),),
    )
    return Job(
        experiment=asked, topology=topology, plan=plan(asked, topology, seed), disabled=(), replay=f"--seed {seed}"
    )


def with_faults(made: Job, *entries: FaultEntry) -> Job:
    asked = replace(made.experiment, faults=entries)
    return replace(made, experiment=asked, plan=plan(asked, made.topology, made.plan.seed))


def suite_of(harness: Harness, *sinks: Callable[[Event], None]) -> Suite:
    options = SuiteOptions(backend=Backend.EMBEDDED)
    return Suite(options, view_for=lambda _: QuietView(), sinks=[harness.events.append, *sinks])


def outcomes(suite: Suite) -> list[Outcome]:
    return [verdict.outcome for _, verdict in suite.verdicts]


async def test_a_launcher_that_is_killed_breaks_one_run_off_with_one_verdict_that_names_it(harness, tmp_path):
    """With Locust for real, which dies of it, too."""
    locustfile = tmp_path / "locustfile.py"
    locustfile.write_text(LOCUSTFILE)

    def kill_once(event: Event) -> None:
        if isinstance(event, FaultApplied) and len(harness.seen(FaultApplied)) == 1:
            os.kill(suite._environment.launcher.pid, signal.SIGKILL)

    suite = suite_of(harness, kill_once)
    await suite.run(
        [job(harness, SULK, locustfile=locustfile, fault_s=1.0), job(harness, Kill(), locustfile=locustfile)]
    )
    (_, first), (_, second) = suite.verdicts
    assert first.outcome is Outcome.ERROR
    assert "the launcher, which starts every process of a run, has ended" in first.reasons[0]
    assert second.outcome is not Outcome.ERROR, second.reasons
    assert [event.outcome for event in harness.seen(RunEnded)] == outcomes(suite), "one for each run"


async def test_living_instances_that_stay_silent_after_healing_are_not_healed(harness, plays, monkeypatch):
    monkeypatch.setattr(runner, "HEAL_LIMIT_S", 0.3)
    began_s = clock.monotonic_s()
    suite = suite_of(harness)
    await suite.run([job(harness, SULK)])
    ((_, verdict),) = suite.verdicts
    assert clock.monotonic_s() - began_s < 8.0, "a start may take 10 s here, and nothing was started"
    assert verdict.outcome is Outcome.ERROR
    assert verdict.reasons[0].startswith(NOT_HEALED)
    assert verdict.reasons[1].endswith(UNANSWERED)
    assert not_healthy_again(verdict), "what the search for metastability calls stayed down"


async def test_an_instance_that_dies_while_locust_starts_is_told_before_anything_is_measured(harness, plays):
    suite = suite_of(harness)

    async def lose_one() -> None:
        await eventually(lambda: harness.seen(TargetReady))
        with pytest.raises(ValueError, match="does not answer in HTTP"):
            await ask(address_of(suite._environment, "back-2"), "/exit")

    plays.on_start.append(lose_one)
    await suite.run(job(harness, Kill()) for _ in range(2))
    (_, first), (_, second) = suite.verdicts
    assert first.outcome is Outcome.ERROR
    assert "now that the run is to begin: back-2 is dead" in first.reasons[0]
    assert first.reasons[1:] == ("back-2: exit status 5", "back-2 serves", "leaving by myself")
    assert second.outcome is not Outcome.ERROR, second.reasons
    assert len(harness.seen(PhaseStarted)) == len(PhaseName), "of the second run"


async def test_a_mistake_of_the_user_that_is_found_in_a_run_is_the_verdict_of_that_run_alone(harness, plays):
    async def refuse() -> None:
        raise UsageError("load.settings.users is 'many'")

    plays.on_start.append(refuse)
    suite = suite_of(harness)
    await suite.run(job(harness, Kill()) for _ in range(2))
    (_, first), (_, second) = suite.verdicts
    assert (first.outcome, first.reasons) == (Outcome.ERROR, ("load.settings.users is 'many'",))
    assert second.outcome is not Outcome.ERROR, second.reasons


async def test_the_load_goes_on_for_as_long_as_services_may_take_to_start_and_each_seed_has_a_start_of_its_own(
    harness, plays
):
    jobs = [job(harness, Kill(), seed=seed) for seed in (1, 1, 2)]
    suite = suite_of(harness)
    await suite.run(jobs)
    assert Outcome.ERROR not in outcomes(suite)
    assert len(harness.seen(TargetStarting)) == 2
    undone_and_healed_s = 2 * HEALTH_TIMEOUT.kind.most
    assert all(load.duration_s > jobs[0].plan.duration_s + undone_and_healed_s for load in plays.made)


async def test_a_fault_that_begins_when_another_ends_on_its_victim_waits_until_that_is_undone(harness, plays):
    back = Selector(service="back")
    entries = (
        FaultEntry(fault=Kill(), selector=back, for_s=0.4),
        FaultEntry(fault=Pause(), selector=back, at_s=0.4, for_s=0.4),
        FaultEntry(fault=Kill(), selector=back, at_s=0.8),
    )
    only_one = job(harness, Kill(), fault_s=1.6)
    topology = little_topology(harness.folder, backs=1, metrics=METRICS)
    suite = suite_of(harness)
    await suite.run([with_faults(replace(only_one, topology=topology), *entries)])
    steps = [event for event in harness.events if isinstance(event, FaultApplied | FaultHealed)]
    assert [(type(step), step.fault) for step in steps] == [
        (FaultApplied, "1-kill"),
        (FaultHealed, "1-kill"),
        (FaultApplied, "2-pause"),
        (FaultHealed, "2-pause"),
        (FaultApplied, "3-kill"),
        (FaultHealed, "3-kill"),
    ]
    assert Outcome.ERROR not in outcomes(suite)
