"""Cache control: takes the OCAs' health reports and shows the map of those that are not silent.

    POST /reports   an OCA's report -> {"wants_titles": bool}
    GET  /map       {"ocas": [...]}; with an ETag, so that a reader who has this version gets 304 and no body

With the protection ``health_filtering`` off, the silent are never forgotten.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from targets.playback.oca_directory import OcaDirectory, Taken
from targets.playback.oca_map import OcaReport, map_to_json
from targets.playback.service import Context, application, json_response, unavailable

FORGET_AFTER_S = 3.0
"""Three reports missed."""


def build(context: Context) -> web.Application:
    """Return cache control's application."""
    loop = asyncio.get_running_loop()
    forget_after_s = context.number("oca_forget_after_s", FORGET_AFTER_S)
    directory = OcaDirectory(forget_after_s=forget_after_s if context.on("health_filtering") else None)
    # Versions count from 0 again after a restart; the moment of the start keeps their tags apart.
    start = f"{context.config.instance}/{loop.time():.3f}"
    app = application(context)

    async def reports(request: web.Request) -> web.Response:
        try:
            report = OcaReport.from_json(json.loads(await request.read()))
        except ValueError as error:
            return json_response({"error": str(error)}, status=400)
        taken = directory.take(loop.time(), report)
        if taken is Taken.FULL:
            return unavailable("more OCAs than this directory may hold")
        return json_response({"wants_titles": taken is Taken.WANTS_TITLES})

    async def show_map(request: web.Request) -> web.Response:
        ocas = directory.map(loop.time())
        headers = {"ETag": f'"{start}/{directory.version}"'}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return json_response({"ocas": map_to_json(ocas)}, headers=headers)

    app.router.add_post("/reports", reports)
    app.router.add_get("/map", show_map)
    return app
