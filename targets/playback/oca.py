"""An Open Connect Appliance: serves chunks of video to clients, and reports its health to cache control.

    GET /titles/{title}/{kbps}/{chunk}   the chunk; 404 when the title is not held, 503 and Retry-After when full
    GET /probe                           1 KiB, for clients who compare OCAs

It stands in an Internet provider's network (label ``isp``) or at an exchange point (``isp: ixp``). Its health report
goes every second to each replica of cache control; one that does not answer just misses it.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings
from chaos.resilience.web import ServiceClient
from chaos.topology.model import InstanceConfig
from targets.playback.oca_map import ANY_NETWORK, OcaReport
from targets.playback.seed_data import ISPS, IXP, SeedData, title_index
from targets.playback.service import Context, application, json_response, unavailable
from targets.playback.transport import FAILURES, json_of
from targets.playback.video import LADDER_KBPS, VideoScale

CLIENT = "client"
"""The caller whose way to this OCA is advertised."""

REPORT_EVERY_S = 1.0
PROBE_BYTES = 1024
CAPACITY_MBPS = 2_000.0
"""What one OCA can send, in real-world Mbit/s, where the setting ``oca_capacity_mbps`` does not say otherwise."""

_CHUNKS_MAX = 10_000
_ACCEPTING_BELOW = 0.95
_BYTES_PER_MBIT = 1_000_000 / 8

_REPORT_SETTINGS = CommandSettings(timeout_s=0.5, max_concurrent=2, breaker=BreakerSettings(open_s=1.0))


class Admission:
    """How much an OCA can send: a bucket of bytes that fills at its capacity and holds one second's worth. Pure.

    A request that does not fit is refused at once, while it still costs nothing.
    """

    def __init__(self, capacity_bytes_per_s: float, now_s: float) -> None:
        self._capacity = capacity_bytes_per_s
        self._left_bytes = capacity_bytes_per_s
        self._filled_s = now_s
        self._sent_bytes = 0
        self._measured_s = now_s

    def admit(self, now_s: float, size_bytes: int) -> bool:
        """Return whether ``size_bytes`` may be sent now, and count them if so."""
        self._left_bytes = min(self._capacity, self._left_bytes + (now_s - self._filled_s) * self._capacity)
        self._filled_s = now_s
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        self._sent_bytes += size_bytes
        return True

    def measure_load(self, now_s: float) -> float:
        """Return the share of the capacity used since this was asked last, or in the last second if that is longer."""
        elapsed_s = max(now_s - self._measured_s, REPORT_EVERY_S)
        share = self._sent_bytes / (self._capacity * elapsed_s)
        self._sent_bytes = 0
        self._measured_s = now_s
        return min(share, 1.0)


def routes_of(isp: str) -> dict[str, int]:
    """Return the routability of an OCA in network ``isp``: networks on the way to each network's clients.

    Its own clients are 0 away, an exchange is 1 from everybody, and another provider's network is 2 away.
    """
    if isp == IXP:
        return {ANY_NETWORK: 1}
    return {**dict.fromkeys(ISPS, 2), isp: 0, ANY_NETWORK: 2}


class Reporter:
    """Tells one replica of cache control about this OCA, and keeps what that one has been told."""

    def __init__(self, http: ServiceClient, address: str) -> None:
        self._http = http
        self._address = address
        self._titles_version: int | None = None

    async def report(self, report: OcaReport) -> None:
        """Send ``report``; without its titles when this replica has them. Raises what the call raises."""
        if await self._post(report, with_titles=report.titles_version != self._titles_version):
            await self._post(report, with_titles=True)
        self._titles_version = report.titles_version

    async def _post(self, report: OcaReport, *, with_titles: bool) -> bool:
        reply = await self._http.post(f"http://{self._address}/reports", json=report.to_json(with_titles=with_titles))
        return json_of(reply) == {"wants_titles": True}


class Health:
    """Makes this OCA's reports."""

    def __init__(self, config: InstanceConfig, titles: int, admission: Admission, now_s: float) -> None:
        self._config = config
        self._isp = config.labels.get("isp", IXP)
        self._titles = titles
        self._admission = admission
        self._incarnation = int(now_s * 1000)
        self._sequence = 0

    def report(self, now_s: float) -> OcaReport:
        """Return the report of this second."""
        self._sequence += 1
        load = self._admission.measure_load(now_s)
        return OcaReport(
            id=self._config.instance,
            incarnation=self._incarnation,
            sequence=self._sequence,
            url=f"http://{self._config.reached_by[CLIENT]}",
            isp=self._isp,
            load=load,
            accepting=load < _ACCEPTING_BELOW,
            routes=routes_of(self._isp),
            titles_version=1,
            titles=self._titles,
        )


def build(context: Context) -> web.Application:
    """Return the OCA's application, reporting."""
    loop = asyncio.get_running_loop()
    config = context.config
    scale = VideoScale(context.number("video_scale", VideoScale().factor))
    capacity = context.number("oca_capacity_mbps", CAPACITY_MBPS) * _BYTES_PER_MBIT / scale.factor
    admission = Admission(capacity, loop.time())
    held = SeedData.of(config).holdings(config.labels.get("isp", IXP), config.index)
    # One buffer for each bitrate, made once: a chunk costs no more than sending it.
    chunks = {str(kbps): bytes(scale.chunk_bytes(kbps)) for kbps in LADDER_KBPS}
    probe_body = bytes(PROBE_BYTES)

    async def chunk(request: web.Request) -> web.Response:
        asked = request.match_info
        body = chunks.get(asked["kbps"])
        title = title_index(asked["title"])
        if body is None or title is None or not held >> title & 1 or not _is_chunk(asked["chunk"]):
            return json_response({"error": "not held here"}, status=404)
        if not admission.admit(loop.time(), len(body)):
            return unavailable("at capacity")
        return web.Response(body=body)

    async def probe(_: web.Request) -> web.Response:
        return web.Response(body=probe_body)

    app = application(context, isolated=False)
    app.router.add_get("/titles/{title}/{kbps}/{chunk}", chunk)
    app.router.add_get("/probe", probe)

    health = Health(config, held, admission, loop.time())
    reports = [
        context.isolation.command(
            f"{called.instance}.report", Reporter(context.http, called.address).report, settings=_REPORT_SETTINGS
        )
        for called in config.calls["cache_control"]
    ]

    async def report_to_all() -> bool:
        report = health.report(loop.time())
        outcomes = await asyncio.gather(*(send(report) for send in reports), return_exceptions=True)
        mistakes = [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, FAILURES)]
        for mistake in mistakes:
            raise mistake
        return all(outcome is None for outcome in outcomes)

    context.repeat(report_to_all, period_s=REPORT_EVERY_S)
    return app


def _is_chunk(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < _CHUNKS_MAX
