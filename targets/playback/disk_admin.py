"""The admin endpoint of a disk: how a service's disk misbehaves, looked at and changed while it runs.

    GET    /admin/disk    faults and counts: {"slow_ms", "corrupt_share", "full", "failing", "reads", "reads_slowed",
                          "reads_corrupted", "reads_failed", "writes", "writes_refused"}
    PUT    /admin/disk    replaces the faults, those that are not named end: {"slow_ms": 300}
    DELETE /admin/disk    ends them all

Who may come in is said in `admin`. The counts begin with the process and never fall.
"""

from __future__ import annotations

from aiohttp import web

from targets.playback.admin import AdminGate
from targets.playback.disk import Disk, DiskFaults
from targets.playback.service import json_or_none, json_response


class DiskAdmin:
    """The endpoint of one disk, behind ``gate``."""

    def __init__(self, gate: AdminGate, disk: Disk) -> None:
        self._gate = gate
        self._disk = disk

    def add_to(self, app: web.Application) -> None:
        """Add its routes."""
        app.router.add_get("/admin/disk", self._gate.guard(self._show))
        app.router.add_put("/admin/disk", self._gate.guard(self._replace))
        app.router.add_delete("/admin/disk", self._gate.guard(self._end))

    async def _show(self, _: web.Request) -> web.Response:
        return json_response(self._disk.to_json())

    async def _replace(self, request: web.Request) -> web.Response:
        try:
            self._disk.faults = DiskFaults.from_json(json_or_none(await request.read()))
        except ValueError as error:
            return json_response({"error": str(error)}, status=400)
        return await self._show(request)

    async def _end(self, request: web.Request) -> web.Response:
        self._disk.faults = DiskFaults()
        return await self._show(request)
