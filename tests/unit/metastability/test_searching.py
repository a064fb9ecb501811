"""The search carried out: which probes share a start of the target, what is told, and how it is cut off."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from chaos.errors import Outcome
from chaos.events import MetastabilitySearched, ProbeEnded
from chaos.experiment.plan import plan
from chaos.jobs import Form, Job
from chaos.searching import search
from tests.unit.experiment.building import Project
from tests.unit.verdict.building import store_of
from tests.unit.verdict.test_judge import verdict_of

WELL = verdict_of(store_of(), recovered=0.0)
DOWN = verdict_of(store_of(fails=lambda moment_s: moment_s >= 12.0), recovered=None)
OVERLOADED = verdict_of(store_of(fails=lambda moment_s: True), recovered=None)
BROKEN = verdict_of(store_of(end_s=5.0), forced=Outcome.ERROR, forced_reason="Locust died", recovered=None)


class ScriptedSuite:
    """Answers as a system that is vulnerable from 50/s and overloaded from 100/s; keeps what it was asked."""

    def __init__(self, first, *, cut_off_at=None):
        self.asked = []
        self.verdicts = [(None, first)]
        self.cut_off_at = cut_off_at

    async def run_one(self, job):
        rate = job.experiment.load.rate_per_s
        if len(self.asked) == self.cut_off_at:
            raise asyncio.CancelledError
        self.asked.append(rate)
        return OVERLOADED if rate >= 100.0 else DOWN if rate >= 50.0 else WELL

    def renew(self):
        self.asked.append("renewed")

    def amend(self, verdict):
        self.verdicts[-1] = (None, verdict)


@pytest.fixture
def job(project: Project) -> Job:
    found, topology = project.load(metastability="metastability: {precision: 50%, trials: 1, hold: 8s}")
    return Job(
        experiment=found, topology=topology, plan=plan(found, topology, 7), disabled=(), replay="chaos run --seed 7"
    )


async def searched(job, first=WELL, **how):
    suite, events, lines = ScriptedSuite(first, **how), [], []
    try:
        await search(suite, job, first, emit=events.append, tell=lines.append)
    finally:
        suite.events, suite.lines = events, lines
    return suite


async def test_the_target_is_started_anew_after_every_probe_that_did_not_recover(job):
    suite = await searched(job)
    assert suite.asked == [60.0, "renewed", 42.43]
    (_, verdict) = suite.verdicts[-1]
    found = verdict.metastability
    assert (found.recovers_up_to_per_s, found.stays_down_from_per_s) == (42.43, 60.0)
    assert [one.own for one in found.probes] == [True, False, False]
    assert [type(event) for event in suite.events] == [ProbeEnded, ProbeEnded, MetastabilitySearched]
    assert suite.events[0].answer == "stayed_down"
    assert suite.events[-1].verdict["metastability"]["recovers_up_to_per_s"] == 42.43
    assert suite.lines[0].startswith("probe 2 (of at most 7): at 60/s stayed down: not steady again in the 12 s")


async def test_a_run_whose_recovery_was_shorter_than_the_hold_is_made_again_with_all_of_it(job):
    settings = replace(job.experiment.metastability, hold_s=20.0)
    longer = replace(job, experiment=replace(job.experiment, metastability=settings))
    suite = await searched(longer)
    assert suite.asked[0] == 30.0


async def test_a_run_that_did_not_recover_is_not_the_start_of_the_next(job):
    assert (await searched(job, DOWN)).asked[:2] == ["renewed", 15.0]


async def test_nothing_is_searched_for_after_a_run_that_broke_off(job):
    suite = await searched(job, BROKEN)
    assert (suite.asked, suite.events) == ([], [])
    assert suite.verdicts[-1][1] is BROKEN


async def test_what_was_found_until_an_interruption_is_kept_and_said_to_be_incomplete(job):
    suite = ScriptedSuite(WELL, cut_off_at=2)
    events = []
    with pytest.raises(asyncio.CancelledError):
        await search(suite, job, WELL, emit=events.append, tell=lambda line: None)
    found = suite.verdicts[-1][1].metastability
    assert [one.rate_per_s for one in found.probes] == [30.0, 60.0]
    assert found.unfinished == "it was interrupted"
    assert isinstance(events[-1], MetastabilitySearched)


def test_only_whole_runs_of_experiments_are_searched_behind(job):
    assert job.searches
    assert not replace(job, form=Form.BRIEF).searches
    assert not replace(job, form=Form.STANDING).searches
    assert not replace(job, control_of=job).searches
    assert not replace(job, probe=True).searches
    assert not replace(job, experiment=replace(job.experiment, metastability=None)).searches
