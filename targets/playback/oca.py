"""An Open Connect Appliance: serves chunks of video to clients, fills itself from the origin, reports to cache control.

    GET /titles/{title}/{kbps}/{chunk}   the chunk, or a Range of it (206, 416); 404 when the title is not held,
                                         503 and Retry-After when full, 500 when the disk fails
    GET /probe                           1 KiB, for clients who compare OCAs
    GET /fill                            what was fetched from the origin, and what the fill is doing
    /admin/disk                          see `disk_admin`

It stands in an Internet provider's network (label ``isp``) or at an exchange point (``isp: ixp``). Its health report
goes every second to each replica of cache control; one that does not answer just misses it. What it sends on one
connection is a burst of one second's worth and then no more than ``oca_connection_mbps``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings
from targets.playback.admin import AdminGate
from targets.playback.admission import Admission
from targets.playback.byte_range import NotSatisfiable, asked_range, content_range
from targets.playback.disk import Disk
from targets.playback.disk_admin import DiskAdmin
from targets.playback.fill import FillPlan, FillRules
from targets.playback.filler import Filler
from targets.playback.library import Library
from targets.playback.oca_health import DiskTrial, Health, Reporter
from targets.playback.pacing import Pacing, TokenBucket, pieces
from targets.playback.seed_data import IXP, SeedData
from targets.playback.service import Context, application, json_response, unavailable
from targets.playback.studio import Studio
from targets.playback.transport import FAILURES
from targets.playback.video import VideoScale

REPORT_EVERY_S = 1.0
FILL_EVERY_S = 0.5
PROBE_BYTES = 1024
CAPACITY_MBPS = 2_000.0
"""What one OCA can send, in real-world Mbit/s, where the setting ``oca_capacity_mbps`` does not say otherwise."""

CONNECTION_MBPS = 40.0
"""What it sends on one connection in the long run (``oca_connection_mbps``): seven times the best bitrate."""

FILL_MBPS = 200.0
"""How fast it fetches titles (``fill_mbps``): a tenth of its capacity."""

_PIECE_BYTES = 4_096
_BYTES_PER_MBIT = 1_000_000 / 8
_WHOLE = {"Accept-Ranges": "bytes"}

_REPORT_SETTINGS = CommandSettings(timeout_s=0.5, max_concurrent=2, breaker=BreakerSettings(open_s=1.0))


class Chunks:
    """Answers requests for chunks: is it held, may it be sent, what does the disk give, how fast does it go out."""

    def __init__(self, library: Library, admission: Admission, pacing: Pacing, now_s: Callable[[], float]) -> None:
        self._library = library
        self._admission = admission
        self._pacing = pacing
        self._now_s = now_s

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET /titles/{title}/{kbps}/{chunk}``."""
        asked = request.match_info
        title, kbps, number = asked["title"], _whole(asked["kbps"]), _whole(asked["chunk"])
        size = self._library.chunk_bytes(title, kbps, number)
        if size is None:
            return json_response({"error": "not held here"}, status=404)
        try:
            part = asked_range(request.headers, size)
        except NotSatisfiable:
            return web.Response(status=416, headers={**_WHOLE, "Content-Range": content_range(None, size)})
        if not self._admission.admit(self._now_s(), size if part is None else len(part)):
            return unavailable("at capacity")
        try:
            body = await self._library.chunk(title, kbps, number)
        except OSError as error:
            return json_response({"error": f"disk: {error.strerror}"}, status=500)
        if part is None:
            return await self._send(request, web.Response(body=body, headers=_WHOLE), body)
        body = body[part.start : part.stop]
        headers = {**_WHOLE, "Content-Range": content_range(part, size)}
        return await self._send(request, web.Response(body=body, status=206, headers=headers), body)

    async def _send(self, request: web.Request, whole: web.Response, body: bytes) -> web.StreamResponse:
        """Return ``whole`` when its connection may have all of it now; else send it by the piece, in good time."""
        began_s = self._now_s()
        connection = None if request.transport is None else request.transport.get_extra_info("peername")
        delay_s = self._pacing.take(began_s, connection, len(body))
        if delay_s <= 0.0:
            return whole
        response = web.StreamResponse(status=whole.status, headers=whole.headers)
        response.content_length = len(body)
        await response.prepare(request)
        for piece, after_s in pieces(len(body), delay_s, self._pacing.bytes_per_s, piece_bytes=_PIECE_BYTES):
            if (left_s := began_s + after_s - self._now_s()) > 0.0:
                await asyncio.sleep(left_s)
            await response.write(body[piece])
        await response.write_eof()
        return response


def build(context: Context) -> web.Application:
    """Return the OCA's application, reporting and filling itself."""
    loop = asyncio.get_running_loop()
    config = context.config
    scale = VideoScale(context.number("video_scale", VideoScale().factor))

    def bytes_per_s(setting: str, default_mbps: float) -> float:
        mbps = context.number(setting, default_mbps)
        if mbps <= 0:
            raise ValueError(f"settings.{setting} is {mbps}; more than 0 is needed.")
        return mbps * _BYTES_PER_MBIT / scale.factor

    isp = config.labels.get("isp", IXP)
    data = SeedData.of(config)
    delivered = data.holdings(isp, config.index)
    disk = Disk(Path(config.data_dir) / "titles", random.Random(f"{config.seed}/{config.instance}/disk"))
    library = Library(disk, Studio(config.seed, scale), scale, delivered=delivered)
    admission = Admission(bytes_per_s("oca_capacity_mbps", CAPACITY_MBPS), loop.time())
    connection = bytes_per_s("oca_connection_mbps", CONNECTION_MBPS)
    chunks = Chunks(library, admission, Pacing(bytes_per_s=connection, burst_bytes=connection), loop.time)
    probe_body = bytes(PROBE_BYTES)

    async def probe(_: web.Request) -> web.Response:
        return web.Response(body=probe_body)

    app = application(context, isolated=False)
    app.router.add_get("/titles/{title}/{kbps}/{chunk}", chunks.answer, allow_head=False)
    app.router.add_get("/probe", probe)
    DiskAdmin(AdminGate.of(context), disk).add_to(app)

    trial = DiskTrial(disk)
    health = Health(config, library, admission, trial, loop.time())
    reports = [
        context.isolation.command(
            f"{called.instance}.report", Reporter(context.http, called.address).report, settings=_REPORT_SETTINGS
        )
        for called in config.calls["cache_control"]
    ]

    async def report_to_all() -> bool:
        await trial.read()
        report = health.report(loop.time())
        outcomes = await asyncio.gather(*(send(report) for send in reports), return_exceptions=True)
        mistakes = [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, FAILURES)]
        for mistake in mistakes:
            raise mistake
        return all(outcome is None for outcome in outcomes)

    context.repeat(report_to_all, period_s=REPORT_EVERY_S)

    if config.calls.get("origin"):
        rules = FillRules(
            every_s=context.number("fill_every_s", FillRules().every_s),
            below_load=context.number("fill_below_load", FillRules().below_load),
        )
        assigned = data.assigned(isp, config.index)
        plan = FillPlan(rules, assigned=assigned, delivered=delivered, rng=context.rng, now_s=loop.time())
        rate = bytes_per_s("fill_mbps", FILL_MBPS)
        bucket = TokenBucket(bytes_per_s=rate, burst_bytes=rate, now_s=loop.time())
        filler = Filler(context, library, disk, plan, bucket, lambda: admission.load)
        app.router.add_get("/fill", filler.show)
        context.repeat(filler.step, period_s=FILL_EVERY_S)
    return app


def _whole(text: str) -> int:
    """Return a short decimal number; -1 for any other text, which no chunk has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else -1
