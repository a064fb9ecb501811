"""The transcoder: makes the encodings of new titles from the studio's masters, and hands them to the origin.

    POST /sources   {"title": "title-0501", "chunks": 12}: 202, a job is queued (``chunks``: as long as a session)
    GET  /jobs      {"queued": [...], "running": [...], "done": [...], "dead": [...]}, with attempts and errors, and
                    "totals": how many of each there are, and of all together

Any number of instances share the jobs (see `jobs`), and each may be killed at any moment. A job goes like this:

    claim --> each bitrate: encode chunk by chunk, keeping the lease --> PUT the object --> PUT the manifest --> finish

A job that is done twice, or half and then again, leaves what one that is done once leaves: an encoder is a function of
the master, and the origin takes the same bytes under the same name. The manifest comes last, so that nobody fetches
half a title.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings
from chaos.resilience.web import Rejected, Reply
from targets.playback.jobs import Claim, JobRules, Jobs, JobState
from targets.playback.manifest import (
    CHUNKS_MAX,
    OBJECT_BYTES_MAX,
    Encoding,
    Manifest,
    digest_of,
    encoding_of,
    manifest_bytes,
)
from targets.playback.origin import DIGEST_HEADER
from targets.playback.seed_data import SeedData
from targets.playback.service import Context, application, json_or_none, json_response
from targets.playback.studio import Studio
from targets.playback.transport import FAILURES
from targets.playback.video import LADDER_KBPS, VideoScale

LOG = logging.getLogger("playback")

CLAIM_EVERY_S = 0.25
CHUNK_S = 0.02
"""How long encoding a chunk at one bitrate takes, where the setting ``transcode_chunk_s`` does not say otherwise.

A real encoder takes minutes for what our function does in microseconds; in no time nobody could kill one at work."""

_SHOWN_MAX = 100
_BREAKER = BreakerSettings(minimum_calls=5, open_s=0.5, open_max_s=2.0)
_QUEUE_SETTINGS = CommandSettings(timeout_s=1.0, max_concurrent=8, breaker=_BREAKER)
_PUT_SETTINGS = CommandSettings(timeout_s=5.0, max_concurrent=2, breaker=_BREAKER)


class LeaseLost(Exception):  # noqa: N818 - it names what happened
    """Somebody else may have the job by now."""


class Worker:
    """Does the jobs of one instance, one after the other."""

    def __init__(self, context: Context, jobs: Jobs) -> None:
        config = context.config
        (origin,) = config.calls["origin"]
        scale = VideoScale(context.number("video_scale", VideoScale().factor))
        self._name = config.instance
        self._now_s = context.now
        self._http = context.http
        self._base = f"http://{origin.address}"
        self._jobs = jobs
        self._studio = Studio(config.seed, scale)
        self._chunk_s = context.number("transcode_chunk_s", CHUNK_S)
        self._queue = context.isolation.guard("events.jobs", settings=_QUEUE_SETTINGS)
        self._put = context.isolation.command("origin.put", self._send, settings=_PUT_SETTINGS)
        self._keep_at_s = self._lease_until_s = 0.0

    async def step(self) -> bool:
        """Do the jobs that wait; return whether the events' server answered."""
        while True:
            try:
                async with self._queue():
                    claim = await self._jobs.claim(self._name)
                if claim is None:
                    return True
                await self._work(claim)
            except FAILURES:
                return False

    async def _work(self, claim: Claim) -> None:
        """Do a job, and tell the queue what came of it. Raises what telling raises: the lease then runs out."""
        try:
            await self._transcode(claim)
        except LeaseLost:
            LOG.warning("%s took too long, attempt %d: somebody else may have it", claim.title, claim.attempt)
        except Exception as error:  # whatever it is, one job must not stop the others
            if not isinstance(error, (*FAILURES, Rejected)):
                LOG.exception("%s failed, attempt %d", claim.title, claim.attempt)
            async with self._queue():
                await self._jobs.fail(claim, f"{type(error).__name__}: {error}")
        else:
            async with self._queue():
                await self._jobs.finish(claim)

    async def _transcode(self, claim: Claim) -> None:
        self._renewed(self._now_s())
        encodings: list[Encoding] = []
        for kbps in LADDER_KBPS:
            chunks = []
            for number in range(claim.chunks):
                chunks.append(self._studio.chunk(claim.title, kbps, number))
                await asyncio.sleep(self._chunk_s)
                await self._keep(claim)
            body = b"".join(chunks)
            await self._put(f"/objects/{claim.title}/{kbps}", body, {DIGEST_HEADER: digest_of(body)})
            encodings.append(encoding_of(kbps, chunks))
        manifest = Manifest(title=claim.title, chunks=claim.chunks, encodings=tuple(encodings))
        await self._put(f"/manifests/{claim.title}", manifest_bytes(manifest), {"Content-Type": "application/json"})

    async def _keep(self, claim: Claim) -> None:
        """Keep the lease, when a third of it is over. Raises LeaseLost when it is not ours any more, or may not be."""
        asked_s = self._now_s()
        if asked_s < self._keep_at_s:
            return
        try:
            async with self._queue():
                kept = await self._jobs.keep(claim)
        except FAILURES as error:
            if self._now_s() >= self._lease_until_s:
                raise LeaseLost from error
            return
        if not kept:
            raise LeaseLost
        self._renewed(asked_s)

    def _renewed(self, now_s: float) -> None:
        lease_s = self._jobs.rules.lease_s
        self._keep_at_s, self._lease_until_s = now_s + lease_s / 3, now_s + lease_s

    async def _send(self, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        return await self._http.request("PUT", self._base + path, data=body, headers=headers)


class Sources:
    """The requests of the transcoder."""

    def __init__(self, context: Context, jobs: Jobs) -> None:
        self._jobs = jobs
        self._titles = frozenset(title.id for title in SeedData.of(context.config).catalogue)
        scale = VideoScale(context.number("video_scale", VideoScale().factor))
        self._chunks_max = min(CHUNKS_MAX, OBJECT_BYTES_MAX // scale.chunk_bytes(LADDER_KBPS[-1]))
        self._chunks = int(context.number("session_chunks", 12))
        self._add = context.isolation.command("events.add_job", jobs.add, settings=_QUEUE_SETTINGS)
        self._show = context.isolation.command("events.show_jobs", jobs.show, settings=_QUEUE_SETTINGS)

    async def post(self, request: web.Request) -> web.Response:
        """Answer ``POST /sources``."""
        data = json_or_none(await request.read())
        title = data.get("title") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(title, str) or title not in self._titles:
            return json_response({"error": 'a title of the catalogue is needed: {"title": "title-0501"}'}, status=400)
        chunks = data.get("chunks", self._chunks)
        if isinstance(chunks, bool) or not isinstance(chunks, int) or not 1 <= chunks <= self._chunks_max:
            return json_response({"error": f"chunks is a number from 1 to {self._chunks_max}"}, status=400)
        queued = await self._add(title, chunks)
        return json_response({"title": title, "chunks": chunks, "queued": queued}, status=202)

    async def get_jobs(self, _: web.Request) -> web.Response:
        """Answer ``GET /jobs``; of each state the first hundred, by title."""
        shown: dict[str, list[dict[str, object]]] = {state.value: [] for state in JobState}
        jobs = await self._show()
        counted = Counter(job.state.value for job in jobs)
        totals = {**{state.value: counted[state.value] for state in JobState}, "all": len(jobs)}
        for job in jobs:
            if len(shown[job.state]) < _SHOWN_MAX:
                shown[job.state].append(
                    {
                        "title": job.title,
                        "chunks": job.chunks,
                        "attempts": job.attempts,
                        "worker": job.worker,
                        "error": job.error,
                    }
                )
        return json_response({**shown, "totals": totals})


def build(context: Context) -> web.Application:
    """Return the transcoder's application, at work."""
    (events,) = context.config.calls["events"]
    default = JobRules()
    rules = JobRules(
        lease_s=context.number("transcode_lease_s", default.lease_s),
        attempts_max=int(context.number("transcode_attempts", default.attempts_max)),
        pause_s=context.number("transcode_pause_s", default.pause_s),
    )
    jobs = Jobs(events.address, rules)
    sources = Sources(context, jobs)
    worker = Worker(context, jobs)
    app = application(context)
    app.router.add_post("/sources", sources.post)
    app.router.add_get("/jobs", sources.get_jobs)
    context.repeat(worker.step, period_s=CLAIM_EVERY_S)

    async def close(_: web.Application) -> None:
        await jobs.close()

    app.on_cleanup.append(close)
    return app
