"""Cache control: takes the OCAs' health reports and shows the map of those that are not silent.

    POST /reports   an OCA's report -> {"wants_titles": bool}
    GET  /map, GET /title_sets   the map, in two parts: see `map_exchange`

With the protection ``health_filtering`` off, the silent are never forgotten.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from targets.playback.map_exchange import Page, show_map
from targets.playback.oca_directory import OcaDirectory, Taken
from targets.playback.oca_map import OcaReport
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

    app.router.add_post("/reports", reports)
    show_map(app, lambda: Page(directory.map(loop.time()), f"{start}/{directory.version}"))
    return app
