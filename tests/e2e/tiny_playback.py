"""A tiny playback backend for the load's own tests: one process that is ELB and OCAs, on ports it chooses.

``python -m tests.e2e.tiny_playback [OCAS [CHUNKS]]``

It prints one line of JSON, ``{"elb": port, "ocas": [ports]}``, and serves until its end. Every play is allowed, except
that of titles whose number ends in 9, which are refused. Anybody may sign up, log in with the password of their
sign-up, look around and search. ``GET /seen`` shows how often each path was asked for, how many sessions reported their
stop, how many keys of plays and sign-ups came twice, and the e-mail addresses that signed up. ``POST /hang`` names
paths that answer nothing from then on.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

from targets.playback.activity import Kind
from targets.playback.activity_api import Report
from targets.playback.chunk_format import HEADER_BYTES, pack
from targets.playback.video import CHUNK_S, LADDER_KBPS, VideoScale

OCAS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
CHUNKS = int(sys.argv[2]) if len(sys.argv) > 2 else 4


class Elb:
    def __init__(self, oca_ports: list[int]) -> None:
        self.oca_ports = oca_ports
        self.seen: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.passwords: dict[str, str] = {}
        self.hanging: set[str] = set()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.note])
        app.router.add_post("/play", self.play)
        app.router.add_post("/signup", self.enter)
        app.router.add_post("/login", self.enter)
        app.router.add_get("/home", self.home)
        app.router.add_get("/search", self.search)
        app.router.add_post("/activity", self.activity)
        app.router.add_get("/seen", self.show)
        app.router.add_post("/hang", self.hang)
        return app

    @web.middleware
    async def note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.seen[request.path] += 1
        key = request.headers.get("Idempotency-Key")
        if key is not None:
            self.seen["keys that came twice"] += key in self.keys
            self.keys.add(key)
        if request.path in self.hanging:
            await asyncio.Event().wait()
        return await handler(request)

    async def show(self, _: web.Request) -> web.Response:
        return web.json_response({"seen": self.seen, "emails": list(self.passwords)})

    async def hang(self, request: web.Request) -> web.Response:
        self.hanging = set((await request.text()).split())
        return web.Response()

    async def play(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        assert int(request.headers["X-Chaos-Deadline-Ms"]) > 0
        title = (await request.json())["title"]
        if title.endswith("9"):
            return web.json_response({"refused": "plan"}, status=403)
        ports = enumerate(self.oca_ports)
        ocas = [{"id": f"oca-{i}", "url": f"http://127.0.0.1:{port}", "isp": "alpha"} for i, port in ports]
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

    async def enter(self, request: web.Request) -> web.Response:
        form = await request.json()
        email, password = form["email"], form["password"]
        signing_up = request.path == "/signup"
        if signing_up and email in self.passwords:
            return web.json_response({"error": "taken"}, status=409)
        if signing_up:
            self.passwords[email] = password
        if self.passwords.get(email) != password:
            return web.json_response({"error": "wrong"}, status=401)
        return web.json_response({"token": f"token-of-{email}"}, status=201 if signing_up else 200)

    async def home(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        row = {"title": "Popular", "kind": "popular", "titles": ["title-0001"]}
        return web.json_response({"rows": [row], "degraded": []})

    async def search(self, request: web.Request) -> web.Response:
        return web.json_response({"titles": [f"{request.query['q']}1"]})

    async def activity(self, request: web.Request) -> web.Response:
        report = Report.from_body(await request.read())
        self.seen["stops"] += report.kind is Kind.STOPPED
        return web.json_response({"accepted": True}, status=202)


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
    sys.stdout.write(json.dumps({"elb": await listen(Elb(ports).app()), "ocas": ports}) + "\n")
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
