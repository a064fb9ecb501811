"""A tiny playback backend for the load's own tests: one process that is ELB and OCAs, on ports it chooses.

``python -m tests.e2e.tiny_playback [OCAS [CHUNKS]]``

It prints one line of JSON, ``{"elb": port, "ocas": [ports]}``, and serves until its end. Every play is allowed, except
that of titles whose number ends in 9, which are refused.
"""

import asyncio
import json
import sys

from aiohttp import web

from targets.playback.chunk_format import HEADER_BYTES, pack
from targets.playback.video import CHUNK_S, LADDER_KBPS, VideoScale

OCAS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
CHUNKS = int(sys.argv[2]) if len(sys.argv) > 2 else 4


async def serve() -> None:
    scale = VideoScale(60.0)

    async def probe(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1024)

    async def chunk(request: web.Request) -> web.Response:
        asked = request.match_info
        kbps, number = int(asked["kbps"]), int(asked["chunk"])
        payload = b"x" * (scale.chunk_bytes(kbps) - HEADER_BYTES)
        return web.Response(body=pack(payload, title=asked["title"], kbps=kbps, number=number))

    ports = []
    for _ in range(OCAS):
        oca = web.Application()
        oca.router.add_get("/probe", probe)
        oca.router.add_get("/titles/{title}/{kbps}/{chunk}", chunk)
        ports.append(await listen(oca))

    async def play(request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        assert int(request.headers["X-Chaos-Deadline-Ms"]) > 0
        title = (await request.json())["title"]
        if title.endswith("9"):
            return web.json_response({"refused": "plan"}, status=403)
        ocas = [{"id": f"oca-{i}", "url": f"http://127.0.0.1:{port}", "isp": "alpha"} for i, port in enumerate(ports)]
        ticket = {
            "session": "s",
            "title": title,
            "chunks": CHUNKS,
            "chunk_s": CHUNK_S,
            "ladder_kbps": LADDER_KBPS,
            "degraded": ["steering"] if title.endswith("8") else [],
            "ocas": ocas,
        }
        return web.json_response(ticket)

    elb = web.Application()
    elb.router.add_post("/play", play)
    sys.stdout.write(json.dumps({"elb": await listen(elb), "ocas": ports}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def listen(application: web.Application) -> int:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner.addresses[0][1]


if __name__ == "__main__":
    asyncio.run(serve())
