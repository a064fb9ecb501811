"""The queue of transcoding jobs, on a real server: leases run out, failed jobs wait, hopeless ones are dead."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from targets.playback.jobs import DUE, JobRules, Jobs, JobState
from targets.playback.transport import CallFailed
from tests.ports import dead_address
from tests.unit.playback.pipeline_fixtures import client

TITLE = "title-0031"


@contextlib.asynccontextmanager
async def queue(address, **rules):
    """An empty queue."""
    with client(address) as valkey:
        valkey.flushall()
    jobs = Jobs(address, JobRules(**{"lease_s": 5.0, "pause_s": 0.01, **rules}))
    try:
        yield jobs
    finally:
        await jobs.close()


async def only(jobs):
    (job,) = await jobs.show()
    return job


async def test_a_job_is_claimed_by_one_worker_and_done(events_server):
    async with queue(events_server) as jobs:
        assert await jobs.claim("one") is None
        assert await jobs.add(TITLE, 12)
        claim = await jobs.claim("one")

        assert claim is not None
        assert (claim.title, claim.chunks, claim.attempt) == (TITLE, 12, 1)
        assert await jobs.claim("other") is None
        assert ((await only(jobs)).state, (await only(jobs)).worker) == (JobState.RUNNING, "one")
        assert await jobs.finish(claim)
        assert (await only(jobs)).state is JobState.DONE
        assert not await jobs.finish(claim)
        assert await jobs.claim("one") is None


async def test_asking_twice_is_one_job_and_asking_for_one_that_is_over_begins_it_anew(events_server):
    async with queue(events_server) as jobs:
        assert await jobs.add(TITLE, 12)
        assert not await jobs.add(TITLE, 13)
        claim = await jobs.claim("one")
        assert claim is not None
        assert not await jobs.add(TITLE, 13)
        await jobs.finish(claim)

        assert await jobs.add(TITLE, 14)
        again = await jobs.claim("one")
        assert again is not None
        assert (again.chunks, again.attempt) == (14, 1)


async def test_a_lease_that_is_kept_lasts_and_one_that_is_not_runs_out(events_server):
    async with queue(events_server, lease_s=60.0) as jobs:
        await jobs.add(TITLE, 12)
        first = await jobs.claim("one")
        assert first is not None
        with client(events_server) as valkey:
            claimed_until_ms = valkey.zscore(DUE, TITLE)
            for _ in range(4):
                valkey.zincrby(DUE, -30_000, TITLE)  # half of the lease is over
                assert await jobs.keep(first)
                assert claimed_until_ms <= valkey.zscore(DUE, TITLE) < claimed_until_ms + 30_000
                assert await jobs.claim("other") is None
            valkey.zincrby(DUE, -100_000, TITLE)  # and now all of it

        second = await jobs.claim("other")
        assert second is not None
        assert second.attempt == 2
        for lost in (jobs.keep, jobs.finish):
            assert not await lost(first)
        assert not await jobs.fail(first, "too late")
        assert await jobs.finish(second)


async def test_a_failed_job_waits_before_its_next_try_and_keeps_its_error(events_server):
    async with queue(events_server, pause_s=60.0) as jobs:
        await jobs.add(TITLE, 12)
        claim = await jobs.claim("one")
        assert claim is not None
        assert await jobs.fail(claim, "the origin is gone")

        job = await only(jobs)
        assert (job.state, job.attempts, job.error) == (JobState.QUEUED, 1, "the origin is gone")
        assert await jobs.claim("other") is None
        with client(events_server) as valkey:
            valkey.zincrby(DUE, -60_000, TITLE)  # the pause is over
        assert await jobs.claim("other") is not None


async def test_a_job_that_fails_again_and_again_is_dead_with_its_error_until_it_is_added_anew(events_server):
    async with queue(events_server, attempts_max=3, pause_s=0.001) as jobs:
        await jobs.add(TITLE, 12)
        for attempt in (1, 2, 3):
            await asyncio.sleep(0.01)
            claim = await jobs.claim("one")
            assert claim is not None
            assert claim.attempt == attempt
            await jobs.fail(claim, f"error {attempt} " + "x" * 1000)

        await asyncio.sleep(0.02)
        assert await jobs.claim("one") is None
        job = await only(jobs)
        assert (job.state, job.attempts) == (JobState.DEAD, 3)
        assert job.error.startswith("error 3 x")
        assert len(job.error) == 500
        assert await jobs.add(TITLE, 12)
        assert await jobs.claim("one") is not None


async def test_a_job_that_kills_its_workers_is_dead_as_well(events_server):
    async with queue(events_server, attempts_max=2, lease_s=0.02) as jobs:
        await jobs.add(TITLE, 12)
        for _ in range(2):
            assert await jobs.claim("one") is not None
            await asyncio.sleep(0.03)

        assert await jobs.claim("one") is None
        job = await only(jobs)
        assert (job.state, job.attempts, job.error) == (JobState.DEAD, 2, "no worker lived to finish it")


async def test_many_workers_that_come_and_go_do_every_job_and_no_two_hold_one_lease(events_server):
    rng = random.Random(3)
    titles = [f"title-{number:04d}" for number in range(1, 41)]
    holders: dict[str, str] = {}
    async with queue(events_server, lease_s=2.0, attempts_max=50, pause_s=0.001) as jobs:
        for title in titles:
            await jobs.add(title, 1)

        async def work(name):
            for _ in range(400):
                claim = await jobs.claim(name)
                if claim is None:
                    if all(job.state is JobState.DONE for job in await jobs.show()):
                        return
                    await asyncio.sleep(0.002)
                    continue
                assert claim.title not in holders
                holders[claim.title] = name
                await asyncio.sleep(0)
                assert holders.pop(claim.title) == name
                assert await (jobs.fail(claim, "chance") if rng.random() < 0.3 else jobs.finish(claim))

        await asyncio.gather(*(work(f"worker-{number}") for number in range(4)))
        shown = await jobs.show()

    assert [job.title for job in shown] == titles
    assert {job.state for job in shown} == {JobState.DONE}
    assert {job.error for job in shown} == {""}
    assert sum(job.attempts for job in shown) > len(titles)


def test_pauses_double_up_to_a_limit():
    rules = JobRules()

    assert [rules.pause_after_s(attempt) for attempt in range(1, 9)] == [0.25, 0.5, 1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize("rules", [{"lease_s": 0}, {"pause_s": 0}, {"attempts_max": 0}])
def test_impossible_rules_are_refused(rules):
    with pytest.raises(ValueError, match="longer than 0"):
        JobRules(**rules)


async def test_a_server_that_is_gone_is_a_failed_call():
    jobs = Jobs(dead_address(), JobRules())
    with pytest.raises(CallFailed, match="events"):
        await jobs.claim("one")
    await jobs.close()
